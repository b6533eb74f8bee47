"""Where data sets come from: a local folder, the cache, mirrors on the network, or our own pen."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data import cifar
from fastcnn.data.archive import read_npz
from fastcnn.data.dataset import Dataset
from fastcnn.data.digits import digits_dataset
from fastcnn.data.folders import read_folder
from fastcnn.data.idx import read_idx
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import DataError, DataUnavailableError
from fastcnn.files import cache_folder

DATA_DIR_VARIABLE = "FASTCNN_DATA_DIR"
#: Seconds to wait for a mirror to answer.
NETWORK_TIMEOUT = 5.0
#: Images that TensorFlow 1's MNIST reader, and so the report, held out for validation.
VALIDATION_IMAGES = 5_000


@dataclass(frozen=True)
class Source:
    """A data set of four IDX archives: their hashes and mirrors.

    Attributes
    ----------
    archives : dict of str to str
        File name to the SHA-256 of the archive.
    contents : dict of str to str
        File name to the SHA-256 of the decompressed bytes, where known.
    """

    folder: str
    mirrors: tuple[str, ...]
    archives: dict[str, str]
    contents: dict[str, str]
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
        {
            TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        tuple(map(str, range(10))),
        Preprocessing((0.1307,), (0.3081,)),
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
        {},
        ("t-shirt", "trouser", "pullover", "dress", "coat",
         "sandal", "shirt", "sneaker", "bag", "ankle boot"),
        Preprocessing((0.2860,), (0.3530,)),
    ),
}  # fmt: skip

CIFAR10_URL = f"https://www.cs.toronto.edu/~kriz/{cifar.ARCHIVE}"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

NAMES = ("mnist", "mnist012", "fashion_mnist", "cifar10", "digits", "digits012")


def load(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    classes: Sequence[Any] | None = None,
    validation_split: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> tuple[Dataset, Dataset]:
    """Training and test sets by name or from a path.

    Parameters
    ----------
    name : str or path
        ``mnist``, ``mnist012`` (digits 0, 1, 2), ``fashion_mnist``, ``cifar10``, ``digits`` (drawn
        by the package), ``digits012``; or an ``.npz`` file, a folder of class subfolders, or a
        folder or archive of CIFAR-10's binary format.
    data_dir : path, optional
        Folder of the files, or one above it; by default the environment variable
        ``FASTCNN_DATA_DIR``. The network is tried only when neither it nor the cache has them.
    classes : sequence, optional
        Names of the classes to keep, relabelled 0, 1, ...
    validation_split : bool
        Leave out the first 5,000 training images, as the report's reader did.
    seed : int
        For drawn digits and for splitting a folder.
    progress : bool
        Show a bar while downloading.

    Raises
    ------
    DataError
        If the data cannot be had or are not what they should be; the message says what to do.
    """
    text = str(name)
    if text in ("mnist", "mnist012", "fashion_mnist"):
        train, test = _load_source(
            SOURCES[text.removesuffix("012")], data_dir, validation_split, progress
        )
        if text == "mnist012":
            train, test = (part.select_classes("012") for part in (train, test))
    elif text in ("digits", "digits012"):
        digits = (0, 1, 2) if text == "digits012" else tuple(range(10))
        train, test = digits_dataset(classes=digits, seed=seed)
    elif text == "cifar10":
        train, test = cifar.read_cifar10(
            find_cifar10(data_dir) or _download_cifar10(data_dir, progress)
        )
    elif cifar.is_cifar10(text):
        train, test = cifar.read_cifar10(text)
    elif Path(text).is_dir():
        train, test = read_folder(text, seed)
    elif text.endswith(".npz") or Path(text).is_file():
        train, test = read_npz(text)
    else:
        raise DataError(
            f"no data set named {text!r}: give one of {', '.join(NAMES)}, an .npz file, or a "
            "folder of class subfolders"
        )
    if classes is not None:
        train, test = train.select_classes(classes), test.select_classes(classes)
    return train, test


def load_default(data_dir: str | Path | None = None) -> tuple[Dataset, Dataset, str | None]:
    """``mnist012``, or drawn digits and one line that says so, where it cannot be had.

    Raises
    ------
    DataError
        If MNIST's files are there but corrupt.
    """
    try:
        return *load("mnist012", data_dir=data_dir), None
    except DataUnavailableError:
        line = (
            "MNIST is in no local folder and no mirror answered: using digits 0, 1, 2 drawn by "
            f"fastcnn (set {DATA_DIR_VARIABLE} or --data-dir to use MNIST)"
        )
        return *load("digits012"), line


def find_folder(source: Source, data_dir: str | Path | None = None) -> Path | None:
    """The local folder that holds a source's four files, if there is one.

    A ``data_dir`` that is given is the only place; else ``FASTCNN_DATA_DIR``, then the cache.
    """
    for root in _roots(data_dir):
        for folder in (root / source.folder, root):
            # Both sets use the same file names: only a folder's name tells Fashion-MNIST.
            if ("fashion" in folder.name) != ("fashion" in source.folder):
                continue
            if all(_local(folder, name) for name in source.archives):
                return folder
    return None


def find_cifar10(data_dir: str | Path | None = None) -> Path | None:
    """The local folder or archive of CIFAR-10, if there is one; places as for the others."""
    for root in _roots(data_dir):
        for path in (root / cifar.FOLDER, root / "cifar10", root, root / cifar.ARCHIVE):
            if cifar.is_cifar10(path):
                return path
    return None


def _roots(data_dir: str | Path | None) -> list[Path]:
    if data_dir is not None:
        return [Path(data_dir)]
    named = os.environ.get(DATA_DIR_VARIABLE)
    return [*([Path(named)] if named else []), cache_folder()]


def _download_cifar10(data_dir: str | Path | None, progress: bool) -> Path:
    advice = (
        f"put {cifar.ARCHIVE}, or what is in it, in a folder and give it with --data-dir or "
        f"{DATA_DIR_VARIABLE}"
    )
    if data_dir is not None:
        raise DataUnavailableError(f"{data_dir}: does not hold CIFAR-10: {advice}")
    target = cache_folder() / cifar.ARCHIVE
    try:
        _fetch(CIFAR10_URL, target, CIFAR10_SHA256, progress)
    except Exception as error:  # a server may fail in any way
        target.unlink(missing_ok=True)
        raise DataUnavailableError(
            f"cifar10 is in no local folder and cannot be downloaded from {CIFAR10_URL} "
            f"({type(error).__name__}): {advice}"
        ) from None
    return target


def _load_source(
    source: Source, data_dir: str | Path | None, validation_split: bool, progress: bool
) -> tuple[Dataset, Dataset]:
    folder = find_folder(source, data_dir)
    if folder is None and data_dir is not None:
        raise DataUnavailableError(
            f"{data_dir}: does not hold the four files of {source.folder} "
            f"({', '.join(source.archives)}, or without .gz)"
        )
    if folder is None:
        folder = _download(source, progress)
    with ThreadPoolExecutor(2) as pool:  # zlib releases the interpreter lock
        arrays = dict(
            zip(
                source.archives,
                pool.map(lambda name: read_idx(_require(folder, name)), source.archives),
                strict=True,
            )
        )
    start = VALIDATION_IMAGES if validation_split else 0
    train, test = (
        _dataset(source, arrays[images], arrays[labels], first)
        for images, labels, first in (
            (TRAIN_IMAGES, TRAIN_LABELS, start),
            (TEST_IMAGES, TEST_LABELS, 0),
        )
    )
    return train, test


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


def _local(folder: Path, archive: str) -> Path | None:
    for name in (archive, archive.removesuffix(".gz")):
        if (folder / name).is_file():
            return folder / name
    return None


def _require(folder: Path, archive: str) -> Path:
    path = _local(folder, archive)
    if path is None:
        raise DataError(f"{folder}: {archive} is missing")
    return path


def _download(source: Source, progress: bool) -> Path:
    """Fetch a source's files into the cache, each from the first mirror that has the right one."""
    folder = cache_folder() / source.folder
    for name, archive_hash in source.archives.items():
        failures = []
        for mirror in source.mirrors:
            try:
                _fetch(mirror + name, folder / name, archive_hash, progress)
                _check_content(source, folder / name)
                break
            except Exception as error:  # a mirror may fail in any way: the next one is tried
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


def _fetch(url: str, target: Path, archive_hash: str, progress: bool) -> None:
    import logging

    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    pooch.retrieve(
        url,
        known_hash=f"sha256:{archive_hash}",
        fname=target.name,
        path=target.parent,
        downloader=pooch.HTTPDownloader(timeout=NETWORK_TIMEOUT, progressbar=progress),
    )


def _check_content(source: Source, path: Path) -> None:
    import gzip

    expected = source.contents.get(path.name)
    if expected is None:
        return
    actual = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    if actual != expected:
        raise DataError(f"{path}: content has SHA-256 {actual}, expected {expected}")
