"""CIFAR-10 and CIFAR-100 in their binary and Python versions.

https://www.cs.toronto.edu/~kriz/cifar.html: records of a class byte (two for CIFAR-100: coarse and
fine) and 3 x 32 x 32 bytes of pixels; or pickled dictionaries of the same arrays.
"""

import gzip
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.arguments import plain_array
from fastcnn.data.dataset import Dataset
from fastcnn.data.pickled import read_pickled
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.data.reading import (
    GZIP_MAGIC,
    Bounded,
    allowed_bytes,
    check_memory,
    read_bytes,
    regular_file,
)
from fastcnn.errors import DataError
from fastcnn.files import atomic_write, expanded

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
RECORD = 1 + PIXELS
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE, META_FILE = "test_batch.bin", "batches.meta.txt"
CLASSES: tuple[str, ...] = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SUFFIXES = (".tar.gz", ".tgz", ".tar")


@dataclass(frozen=True)
class Form:
    """One of the formats in which a data set is published.

    Attributes
    ----------
    classes : int
    train : tuple of str
        Names of the training files.
    test, names : str
        Names of the test file, and of the file with the class names.
    key : str
        Key of the labels in pickled files; empty for binary records.
    folder, archive : str
        Names of the unpacked folder and of the archive.
    """

    classes: int
    train: tuple[str, ...]
    test: str
    names: str
    key: str
    folder: str
    archive: str

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the required files."""
        return (*self.train, self.test)


#: The formats of each data set; the first is downloaded.
FORMS = {
    "cifar10": (
        Form(
            *(10, TRAIN_FILES, TEST_FILE, META_FILE, ""),
            *("cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
        ),
        Form(
            *(10, tuple(name.removesuffix(".bin") for name in TRAIN_FILES)),
            *("test_batch", "batches.meta", "labels"),
            *("cifar-10-batches-py", "cifar-10-python.tar.gz"),
        ),
    ),
    "cifar100": (
        Form(
            *(100, ("train",), "test", "meta", "fine_labels"),
            *("cifar-100-python", "cifar-100-python.tar.gz"),
        ),
        Form(
            *(100, ("train.bin",), "test.bin", "fine_label_names.txt", ""),
            *("cifar-100-binary", "cifar-100-binary.tar.gz"),
        ),
    ),
}
#: Mean and standard deviation of each channel of the training images.
PREPROCESSING = {
    "cifar10": Preprocessing((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Preprocessing((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def is_cifar(path: str | Path, name: str | None = None) -> bool:
    """Whether a path is a folder of CIFAR-10 or CIFAR-100 files, or looks like their archive.

    With a name, it must be that data set; an archive's content is not examined.
    """
    path = expanded(path)
    if path.is_dir():
        return any(all((path / file).is_file() for file in one.files[-2:]) for one in _forms(name))
    return path.name.endswith(SUFFIXES) and path.exists()


def is_cifar_archive(path: Path) -> bool:
    """Whether an archive holds CIFAR's files, or has the name of a CIFAR archive."""
    if any(path.name == form.archive for form in _forms(None)):
        return True
    if not is_cifar(path):
        return False
    known = {file for form in _forms(None) for file in form.files}
    try:
        with tarfile.open(path) as archive:
            return any(member.isfile() and Path(member.name).name in known for member in archive)
    except (tarfile.TarError, OSError, EOFError, ValueError):
        return False


def read_cifar(path: str | Path, name: str | None = None) -> tuple[Dataset, Dataset]:
    """Read training and test sets of ``cifar10`` or ``cifar100`` from a folder or archive.

    Raises DataError if a file is missing, corrupt or truncated.
    """
    path = expanded(path)
    forms = _forms(name)
    wanted = {file for form in forms for file in (*form.files, form.names)}
    contents = _from_folder(path, wanted) if path.is_dir() else _from_archive(path, wanted)
    # Report the missing files of the most complete format.
    form = max(forms, key=lambda one: sum(file in contents for file in one.files) / len(one.files))
    missing = [file for file in form.files if file not in contents]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing")
    parts = {file: parse(contents[file], form, f"{path}: {file}") for file in form.files}
    classes = _class_names(contents.get(form.names), form, f"{path}: {form.names}")
    images = np.concatenate([parts[file][0] for file in form.train])
    labels = np.concatenate([parts[file][1] for file in form.train])
    name = f"cifar{form.classes}"
    return (
        Dataset(images, labels, classes, PREPROCESSING[name], name),
        Dataset(*parts[form.test], classes, PREPROCESSING[name], name),
    )


def _forms(name: str | None) -> tuple[Form, ...]:
    return FORMS[name] if name else (*FORMS["cifar10"], *FORMS["cifar100"])


def read_cifar10(path: str | Path) -> tuple[Dataset, Dataset]:
    """Read training and test sets from CIFAR-10's six files, or directly from their archive.

    Parameters
    ----------
    path : path
        The folder of ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or of the
        same without ``.bin`` (the Python version, which is read without unpickling), or the archive
        of either, which is read in memory without unpacking. Class names are read from
        ``batches.meta.txt`` or ``batches.meta``, if present.

    Raises
    ------
    DataError
        If a file is missing, corrupt or truncated.
    """
    return read_cifar(path, "cifar10")


def read_cifar100(path: str | Path) -> tuple[Dataset, Dataset]:
    """Read training and test sets of CIFAR-100 with its 100 fine classes.

    Parameters
    ----------
    path : path
        The folder of ``train``, ``test`` and ``meta`` (the Python version) or of ``train.bin``,
        ``test.bin`` and ``fine_label_names.txt``, or the archive of either.

    Raises
    ------
    DataError
        If a file is missing, corrupt or truncated.
    """
    return read_cifar(path, "cifar100")


def parse(content: bytes, form: Form, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one file."""
    if form.key:
        images, labels = _pickled(content, form, name)
    else:
        record = PIXELS + (2 if form.classes == 100 else 1)
        if not content or len(content) % record:
            raise DataError(
                f"{name}: {len(content):,} bytes are not a whole number of records of {record:,} "
                "bytes (truncated, or not CIFAR's binary format)"
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, record)
        images, labels = records[:, -PIXELS:], records[:, -PIXELS - 1]
    wrong = labels[(labels < 0) | (labels >= form.classes)]
    if len(wrong):
        raise DataError(
            f"{name}: class {wrong[0]} found, CIFAR-{form.classes} has 0 to {form.classes - 1}"
        )
    return images.reshape(-1, *SHAPE), labels.astype(np.int64)


def _pickled(content: bytes, form: Form, name: str) -> tuple[np.ndarray, np.ndarray]:
    values = read_pickled(content, name)
    images, labels = values.get("data"), values.get(form.key)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise DataError(f"{name}: has no array of bytes called data")
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{name}: has no list of whole numbers called {form.key}")
    if images.shape != (len(labels), PIXELS) or not labels:
        raise DataError(f"{name}: data of shape {images.shape}, {len(labels)} labels")
    return images, np.array(labels, object)  # may be too large for numpy's integers


def _class_names(content: bytes | None, form: Form, name: str) -> tuple[str, ...]:
    """The class names from a file, or else CIFAR-10's, or numbers."""
    given: list[Any] = []
    if content is not None and form.key:
        values = read_pickled(content, name)
        given = values.get("fine_label_names" if form.classes == 100 else "label_names", [])
    elif content is not None:
        given = content.decode("utf-8", "replace").split()
    if isinstance(given, list) and len(given) == form.classes:
        names = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in given]
        if all(isinstance(one, str) for one in names) and len(set(names)) == len(names):
            return tuple(names)
    if given:
        raise DataError(f"{name}: does not hold {form.classes} different names of classes")
    return CLASSES if form.classes == 10 else tuple(map(str, range(100)))


def write_cifar10(path: str | Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write one file of the format.

    Parameters
    ----------
    path : str or path
    images : ndarray of uint8, shape (N, 3, 32, 32)
    labels : ndarray of int, shape (N,), 0 to 9

    Raises
    ------
    DataError
        If the arrays are of another kind.
    """
    images, labels = plain_array("images", images), plain_array("labels", labels)
    if (
        labels.ndim != 1
        or images.dtype != np.uint8
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


def _from_folder(folder: Path, wanted: set[str]) -> dict[str, bytes]:
    return {name: read_bytes(folder / name) for name in sorted(wanted) if (folder / name).is_file()}


def _from_archive(path: Path, wanted: set[str]) -> dict[str, bytes]:
    contents = {}
    size = regular_file(path).stat().st_size
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            stream: Any = gzip.GzipFile(fileobj=file) if packed else file
            bounded: Any = Bounded(stream, allowed_bytes(size), str(path))
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for member in archive:
                    name = Path(member.name).name
                    if member.isreg() and name in wanted:
                        check_memory(f"{path}: {name}", member.size)
                        found = archive.extractfile(member)
                        contents[name] = b"" if found is None else found.read()
    except DataError:
        raise
    except Exception as error:  # damaged archives raise many kinds of errors
        raise DataError(f"{path}: cannot be read as CIFAR's archive ({error})") from None
    return contents
