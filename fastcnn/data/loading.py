"""Data sets by name or from a path."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastcnn.arguments import as_flag
from fastcnn.data import cifar
from fastcnn.data.archive import read_npz
from fastcnn.data.dataset import Dataset
from fastcnn.data.digits import digits_dataset
from fastcnn.data.folders import read_folder
from fastcnn.data.images import SUFFIXES
from fastcnn.data.parquet import read_parquet
from fastcnn.data.picture_sets import Reading
from fastcnn.data.picture_table import CSV
from fastcnn.data.picture_tree import archive_kind
from fastcnn.data.pictures import Pictures
from fastcnn.data.reading import regular_file
from fastcnn.data.sources import DATA_DIR_VARIABLE, SOURCES, load_cifar, load_source
from fastcnn.data.table import read_csv
from fastcnn.errors import ConfigurationError, DataError, DataUnavailableError
from fastcnn.files import expanded

NAMES = ("mnist", "mnist012", "fashion_mnist", "cifar10", "cifar100", "digits", "digits012")


def load(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    classes: Sequence[Any] | None = None,
    validation_split: bool = False,
    layout: str | None = None,
    seed: int = 0,
    progress: bool = False,
    pictures: Pictures | None = None,
    image_size: int | tuple[int, int] | str | None = None,
    gray: bool | None = None,
) -> tuple[Dataset, Dataset]:
    """Training and test sets by name or from a path.

    Parameters
    ----------
    name : str or path
        ``mnist``, ``mnist012`` (digits 0, 1, 2), ``fashion_mnist``, ``cifar10``, ``cifar100``,
        ``digits`` (drawn by the package), ``digits012``; or an ``.npz`` file, a ``.csv`` file with
        columns ``label,pixel0,...`` or ``path,label``, a ``.parquet`` file of the same or of
        pictures, a folder of class subfolders or a zip or tar archive of one, or a folder or
        archive of CIFAR-10 or CIFAR-100. ``~`` is the home folder.
    data_dir : path, optional
        Folder of the files of a named set, or a parent of it; by default the environment variable
        ``FASTCNN_DATA_DIR``. Files are downloaded only if neither it nor the cache has them.
    classes : sequence, optional
        Names of the classes to keep, relabelled 0, 1, ...
    validation_split : bool
        Leave out the first 5,000 training images of MNIST or Fashion-MNIST, as the report's reader
        did.
    layout : {"NCHW", "NHWC"}, optional
        Position of the channels of an ``.npz`` file's images, if ambiguous from their shape.
    seed : int
        Seed for drawn digits and for splitting a folder or a CSV file.
    progress : bool
        Show a bar while downloading.
    pictures : Pictures, optional
        The rule for reading picture files, such as that of a trained model.
    image_size : int, or (height, width), or text such as "32x48", optional
        Size to which picture files are resized, instead of that of the first.
    gray : bool, optional
        Read picture files in grey (True) or colour (False), instead of as the first one is.

    Raises
    ------
    DataError
        If the data are unavailable or invalid; the message says what to do.
    ConfigurationError
        If an option has no effect for this data set.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ConfigurationError(f"a data set must be a name or a path, got {name!r}")
    text = os.fspath(name)
    named = text in NAMES and not text.startswith("digits")
    _check_options(text, named, data_dir, validation_split, layout)
    reading = Reading(pictures, image_size, gray)  # type: ignore[arg-type]
    if text in NAMES:
        reading.check_unused(text)
    if text in ("mnist", "mnist012", "fashion_mnist"):
        source = SOURCES[text.removesuffix("012")]
        train, test = load_source(source, data_dir, validation_split, progress)
        if text == "mnist012":
            parts = (part.select_classes("012") for part in (train, test))
            train, test = (replace(part, name=text) for part in parts)
    elif text in ("cifar10", "cifar100"):
        train, test = load_cifar(text, data_dir, progress)
    elif text in ("digits", "digits012"):
        digits = (0, 1, 2) if text == "digits012" else tuple(range(10))
        train, test = digits_dataset(classes=digits, seed=seed)
    else:
        train, test = _load_path(text, layout, seed, reading)
    if classes is not None:
        train, test = train.select_classes(classes), test.select_classes(classes)
    return train, test


def load_default(data_dir: str | Path | None = None) -> tuple[Dataset, Dataset, str | None]:
    """``mnist012``, or drawn digits and a message if MNIST is unavailable.

    Parameters
    ----------
    data_dir : path, optional
        Folder of MNIST's files.

    Raises
    ------
    DataError
        If MNIST's files exist but are corrupt, or ``data_dir`` is given and does not hold them.
    """
    try:
        return *load("mnist012", data_dir=data_dir), None
    except DataUnavailableError:
        if data_dir is not None:
            raise
        line = (
            "MNIST is in no local folder and no mirror answered: using digits 0, 1, 2 drawn by "
            f"fastcnn (set {DATA_DIR_VARIABLE} or --data-dir to use MNIST)"
        )
        return *load("digits012"), line


def _check_options(
    text: str, named: bool, data_dir: str | Path | None, validation_split: bool, layout: str | None
) -> None:
    """Refuse options that would have no effect."""
    if data_dir is not None and not named:
        raise ConfigurationError(f"data_dir is for data sets of files by name, not for {text!r}")
    if as_flag("load", "validation_split", validation_split) and not (named and "mnist" in text):
        raise ConfigurationError(
            f"validation_split is for mnist, mnist012 and fashion_mnist, not for {text!r}"
        )
    if layout is not None and (named or not text.endswith(".npz")):
        raise ConfigurationError(f"layout is for .npz files, not for {text!r}")


def _load_path(
    text: str, layout: str | None, seed: int, reading: Reading
) -> tuple[Dataset, Dataset]:
    path = expanded(text)
    if not os.path.lexists(path):  # accepts any text
        if len(path.parts) > 1:
            raise DataError(f"{text}: no such file or folder")
        raise DataError(
            f"no data set named {text!r}, and no such file: give one of {', '.join(NAMES)}, an "
            ".npz file, a .csv or .parquet file with columns label,pixel0,... or path,label, or a "
            "folder of class subfolders or a zip or tar archive of one"
        )
    if path.is_dir() and not cifar.is_cifar(path):
        return read_folder(path, seed, **vars(reading))
    if not path.is_dir():
        path = regular_file(path)
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            raise DataError(
                f"{path}: is one picture: give a folder with a subfolder of pictures for each class"
            )
        if suffix in CSV:
            return read_csv(path, seed, reading)
        if suffix == ".parquet":
            return read_parquet(path, seed, reading)
        if suffix != ".npz" and archive_kind(path) and not cifar.is_cifar_archive(path):
            return read_folder(path, seed, **vars(reading))
    reading.check_unused(path)
    known = cifar.is_cifar(path) if path.is_dir() else cifar.is_cifar_archive(path)
    return cifar.read_cifar(path) if known else read_npz(path, layout=layout)
