"""Sources of named data sets: a local folder, the cache, or download mirrors."""

import hashlib
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcnn.data import cifar
from fastcnn.data.dataset import Dataset
from fastcnn.data.idx import read_archive
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.data.reading import GZIP_MAGIC, gunzip, read_bytes
from fastcnn.data.unpacked import unpacked
from fastcnn.errors import DataError, DataUnavailableError
from fastcnn.files import cache_folder, expanded

DATA_DIR_VARIABLE = "FASTCNN_DATA_DIR"
#: Seconds to wait for a mirror to answer.
NETWORK_TIMEOUT = 5.0
#: Images that TensorFlow 1's MNIST reader, and thus the report, held out for validation.
VALIDATION_IMAGES = 5_000


@dataclass(frozen=True)
class Source:
    """A data set of four IDX archives: their hashes and mirrors.

    Attributes
    ----------
    archives : dict of str to str
        File name to the SHA-256 of the archive.
    test_labels : str
        SHA-256 of the decompressed test labels, which identifies the files in a local folder.
    """

    folder: str
    mirrors: tuple[str, ...]
    archives: dict[str, str]
    test_labels: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing


TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"

SOURCES = {
    "mnist": Source(
        "mnist",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            TRAIN_IMAGES: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            TRAIN_LABELS: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            TEST_IMAGES: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            TEST_LABELS: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        test_labels="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        classes=tuple(map(str, range(10))),
        preprocessing=Preprocessing((0.1307,), (0.3081,)),
    ),
    "fashion_mnist": Source(
        "fashion_mnist",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        {
            TRAIN_IMAGES: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            TRAIN_LABELS: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            TEST_IMAGES: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            TEST_LABELS: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        test_labels="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        classes=(
            *("t-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        preprocessing=Preprocessing((0.2860,), (0.3530,)),
    ),
}

#: Download location of CIFAR's archives, and their checksums.
CIFAR_MIRROR = "https://www.cs.toronto.edu/~kriz/"
CIFAR_HASHES = {
    "cifar10": "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar100": "md5:eb9058c3a382ffc7106e4002c42a8d85",
}
#: Subfolders in which programs store MNIST's and Fashion-MNIST's files.
PLACES = {
    "mnist": ("mnist", "MNIST/raw", "mnist/raw", "MNIST", "raw", "."),
    "fashion_mnist": (
        *("fashion_mnist", "FashionMNIST/raw", "fashion_mnist/raw"),
        *("FashionMNIST", "fashion-mnist", "fashion", "raw", "."),
    ),
}
#: Names of folders of other data sets with the same file names.
OTHERS = re.compile(r"(^|[^a-z])(k|e|q|not)mnist|kuzushiji")


def find_folder(source: Source, data_dir: str | Path | None = None) -> Path | None:
    """The local folder that holds a source's four files, if there is one.

    Only ``data_dir`` is searched if given; otherwise ``FASTCNN_DATA_DIR``, then the cache.

    Raises DataError if a given folder does not exist.
    """
    for root in _roots(data_dir):
        for place in PLACES[source.folder]:
            folder = root / place
            there = all(_local(folder, name).is_file() for name in source.archives)
            if there and _holds(folder, source):
                return folder
    return None


def find_cifar(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The local folder or archive of ``cifar10`` or ``cifar100``, if there is one."""
    forms = cifar.FORMS[name]
    for root in _roots(data_dir):
        folders = [root / form.folder for form in forms] + [root / name]
        for path in folders + [root / form.archive for form in forms] + [root]:
            if cifar.is_cifar(path, name):
                return path
    return None


def load_cifar(name: str, data_dir: str | Path | None, progress: bool) -> tuple[Dataset, Dataset]:
    """CIFAR-10 or CIFAR-100 from a local folder, or from the network.

    Raises DataError if it is unavailable or damaged.
    """
    path = find_cifar(name, data_dir) or _download_cifar(name, data_dir, progress)
    return cifar.read_cifar(path, name)


def load_source(
    source: Source, data_dir: str | Path | None, validation_split: bool, progress: bool
) -> tuple[Dataset, Dataset]:
    """A data set of four IDX files, from a local folder or from the network.

    Raises DataError if it is unavailable or damaged.
    """
    folder = find_folder(source, data_dir)
    if folder is None and data_dir is not None:
        others = [name for name, other in SOURCES.items() if find_folder(other, data_dir)]
        raise DataUnavailableError(
            f"{data_dir}: does not hold the four files of {source.folder} "
            f"({', '.join(source.archives)}, or without .gz)"
            + (f", but those of {others[0]}" if others else "")
        )
    if folder is None:
        folder = _download(source, progress)
    names = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
    with ThreadPoolExecutor(2) as pool:  # zlib releases the GIL
        train_x, train_y, test_x, test_y = pool.map(
            lambda name: read_archive(_local(folder, name), unpacked), names
        )
    start = VALIDATION_IMAGES if validation_split else 0
    return _dataset(source, train_x, train_y, start), _dataset(source, test_x, test_y, 0)


def _roots(data_dir: str | Path | None) -> list[Path]:
    """Folders to search; a given one must exist."""
    if data_dir is not None:
        return [_existing(data_dir, "data_dir (--data-dir)")]
    named = os.environ.get(DATA_DIR_VARIABLE)
    return [*([_existing(named, DATA_DIR_VARIABLE)] if named else []), cache_folder()]


def _existing(folder: str | Path, name: str) -> Path:
    folder = expanded(folder)
    if not folder.exists():
        raise DataError(f"{name}: {folder} does not exist")
    return folder


def _holds(folder: Path, source: Source) -> bool:
    """Whether four files belong to a source, rather than to another with the same names.

    Decided by content; for unknown content, by the nearest meaningful folder name.
    """
    path = _local(folder, TEST_LABELS)
    content: bytes | bytearray = read_bytes(path)
    if content[:2] == GZIP_MAGIC:
        try:
            content = gunzip(bytes(content), str(path))
        except DataError:
            content = b""  # reading the file later reports the problem
    digest = hashlib.sha256(content).hexdigest()
    for other in SOURCES.values():
        if digest == other.test_labels:
            return other.folder == source.folder
    for part in reversed(folder.resolve().parts[-2:]):
        word = part.lower()
        if "fashion" in word:
            return source.folder == "fashion_mnist"
        if OTHERS.search(word):
            return False
        if "mnist" in word:
            break
    return source.folder == "mnist"


def _download_cifar(name: str, data_dir: str | Path | None, progress: bool) -> Path:
    archive = cifar.FORMS[name][0].archive
    advice = (
        f"put {archive}, or what is in it, in a folder and give it with --data-dir or "
        f"{DATA_DIR_VARIABLE}"
    )
    if data_dir is not None:
        raise DataUnavailableError(f"{data_dir}: does not hold {name}: {advice}")
    target = cache_folder() / archive
    try:
        _fetch(CIFAR_MIRROR + archive, target, CIFAR_HASHES[name], progress)
    except Exception as error:  # any server failure
        target.unlink(missing_ok=True)
        raise DataUnavailableError(
            f"{name} is in no local folder and cannot be downloaded from {CIFAR_MIRROR} "
            f"({type(error).__name__}): {advice}"
        ) from None
    return target


def _dataset(source: Source, images: np.ndarray, labels: np.ndarray, start: int) -> Dataset:
    if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
        raise DataError(f"{source.folder}: images must be bytes (N, 28, 28), got {images.shape}")
    return Dataset(
        images[start:, None],
        labels[start:].astype(np.int64),
        source.classes,
        source.preprocessing,
        source.folder,
    )


def _local(folder: Path, archive: str) -> Path:
    """The existing file, out of the names that programs give it."""
    names = (archive, archive.removesuffix(".gz"))
    paths = [folder / form for name in names for form in (name, name.replace("-idx", ".idx"))]
    return next((path for path in paths if path.is_file()), paths[0])


def _download(source: Source, progress: bool) -> Path:
    """Download a source's files to the cache, each from the first mirror with the right one."""
    folder = cache_folder() / source.folder
    for name, archive_hash in source.archives.items():
        failures = []
        for mirror in source.mirrors:
            try:
                _fetch(mirror + name, folder / name, f"sha256:{archive_hash}", progress)
                break
            except Exception as error:  # any failure: try the next mirror
                (folder / name).unlink(missing_ok=True)
                failures.append(f"{mirror}: {type(error).__name__}")
        else:
            raise DataUnavailableError(
                f"{source.folder} is in no local folder and cannot be downloaded "
                f"({'; '.join(failures)}). Put {', '.join(source.archives)} in a folder and "
                f"give it with --data-dir or {DATA_DIR_VARIABLE}, or use the drawn digits "
                "(--data digits)"
            )
    return folder


def _fetch(url: str, target: Path, known_hash: str, progress: bool) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    bar = _DownloadBar(target.name) if progress else False
    pooch.retrieve(
        url,
        known_hash=known_hash,
        fname=target.name,
        path=target.parent,
        downloader=pooch.HTTPDownloader(timeout=NETWORK_TIMEOUT, progressbar=bar),
    )


class _DownloadBar:
    """A progress bar of rich with the interface that pooch expects."""

    total = 0

    def __init__(self, name: str) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._progress = Progress(TextColumn(name), BarColumn(), DownloadColumn(), transient=True)
        self._task = self._progress.add_task(name, total=None)

    def update(self, size: int) -> None:
        """Count bytes; the bar appears with the first."""
        self._progress.start()
        self._progress.update(self._task, total=self.total, advance=size)

    def reset(self) -> None:
        """Count from 0 again."""
        self._progress.reset(self._task, total=self.total)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()
