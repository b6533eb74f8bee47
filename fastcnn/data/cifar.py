"""The binary format of CIFAR-10: records of one byte of class and 3 x 32 x 32 bytes of pixels.

https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
"""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from fastcnn.data.dataset import Dataset
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import DataError
from fastcnn.files import atomic_write

SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE, META_FILE = "test_batch.bin", "batches.meta.txt"
FOLDER, ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
CLASSES: tuple[str, ...] = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
#: Mean and deviation of each channel of the training images.
PREPROCESSING = Preprocessing((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def is_cifar10(path: str | Path) -> bool:
    """Whether a path is a folder with CIFAR-10's files, or looks like their archive."""
    path = Path(path)
    if path.is_dir():
        return (path / TEST_FILE).is_file()
    return path.is_file() and path.name.endswith((".tar.gz", ".tgz", ".tar"))


def read_cifar10(path: str | Path) -> tuple[Dataset, Dataset]:
    """Training and test sets from CIFAR-10's six files, or from their archive as it is.

    Parameters
    ----------
    path : path
        The folder of ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or
        ``cifar-10-binary.tar.gz``, which is read in memory and not unpacked. Names of the classes
        come from ``batches.meta.txt``, where it is there.

    Raises
    ------
    DataError
        If a file is missing, corrupt or truncated.
    """
    path = Path(path)
    contents = _from_folder(path) if path.is_dir() else _from_archive(path)
    missing = [name for name in (*TRAIN_FILES, TEST_FILE) if name not in contents]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing")
    classes = CLASSES
    if META_FILE in contents:
        classes = tuple(contents[META_FILE].decode("utf-8", "replace").split()) or CLASSES
    parts = {
        name: parse_cifar10(contents[name], f"{path}: {name}") for name in (*TRAIN_FILES, TEST_FILE)
    }
    images = np.concatenate([parts[name][0] for name in TRAIN_FILES])
    labels = np.concatenate([parts[name][1] for name in TRAIN_FILES])
    return (
        Dataset(images, labels, classes, PREPROCESSING, "cifar10"),
        Dataset(*parts[TEST_FILE], classes, PREPROCESSING, "cifar10"),
    )


def parse_cifar10(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one file's bytes; ``name`` is for messages.

    Returns
    -------
    images : ndarray of uint8, shape (N, 3, 32, 32)
        Red, green, blue.
    labels : ndarray of int64, shape (N,)

    Raises
    ------
    DataError
        If the bytes are no whole records, or a class is above 9.
    """
    if not content or len(content) % RECORD:
        raise DataError(
            f"{name}: {len(content):,} bytes are no whole number of records of {RECORD:,} bytes "
            "(truncated, or not CIFAR-10's binary format)"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    if records[:, 0].max() > 9:
        raise DataError(f"{name}: class {records[:, 0].max()} found, CIFAR-10 has 0 to 9")
    return records[:, 1:].reshape(-1, *SHAPE).copy(), records[:, 0].astype(np.int64)


def write_cifar10(path: str | Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write one file of the format.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 3, 32, 32)
    labels : ndarray of int, shape (N,), 0 to 9

    Raises
    ------
    DataError
        If the arrays are not so.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if (
        images.dtype != np.uint8
        or images.shape != (len(labels), *SHAPE)
        or labels.dtype.kind not in "iu"
        or not ((labels >= 0) & (labels <= 9)).all()
    ):
        raise DataError(
            f"{path}: CIFAR-10 holds bytes (N, 3, 32, 32) and classes 0 to 9, got {images.dtype} "
            f"{images.shape} and {labels.dtype} {labels.shape}"
        )
    records = np.empty((len(labels), RECORD), np.uint8)
    records[:, 0] = labels
    records[:, 1:] = images.reshape(len(labels), -1)
    atomic_write(path, records.tobytes())


def _from_folder(folder: Path) -> dict[str, bytes]:
    wanted = (*TRAIN_FILES, TEST_FILE, META_FILE)
    try:
        return {name: (folder / name).read_bytes() for name in wanted if (folder / name).is_file()}
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None


def _from_archive(path: Path) -> dict[str, bytes]:
    contents = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and name in (*TRAIN_FILES, TEST_FILE, META_FILE):
                    contents[name] = file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as CIFAR-10's archive ({error})") from None
    return contents
