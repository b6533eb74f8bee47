"""Folders of pictures as data sets: a subfolder for each class."""

import logging
import os
import stat
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.dataset import Dataset
from fastcnn.data.images import SUFFIXES, picture_shape, read_picture
from fastcnn.data.pictures import Pictures
from fastcnn.data.preprocessing import measure_normalisation
from fastcnn.data.reading import check_memory
from fastcnn.data.split import held_out, normalised_name
from fastcnn.errors import DataError
from fastcnn.files import expanded

log = logging.getLogger("fastcnn.data")

#: Files and folders that operating systems, file servers and notebooks put among a user's.
OF_TOOLS = {
    "__macosx",
    "__pycache__",
    "@eadir",
    "@tmp",
    "#recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
}
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")


@dataclass
class Found:
    """The pictures of a folder's classes, and what else was there.

    Attributes
    ----------
    classes : dict of str to list of (str, Path)
        For each class its pictures, each with its path within the class's folder.
    passed : Counter of str
        Numbers of files and folders that were passed over, by reason.
    """

    classes: dict[str, list[tuple[str, Path]]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)


def read_folder(
    folder: str | Path, seed: int = 0, *, pictures: Pictures | None = None
) -> tuple[Dataset, Dataset]:
    """Read a folder of class subfolders as training and test sets.

    ``folder/train/CLASS/*.png`` and ``folder/test/CLASS/*.png`` (or ``val``), or
    ``folder/CLASS/*.png``: of these about 15 % become the test set, each picture by a hash of its
    path within the folder, so that further pictures move no other. Pictures in deeper subfolders
    belong to the class. Hidden files, folders of tools (``__MACOSX``, ``@eaDir``, ...), other files
    and folders without pictures are passed over, counted and logged.

    Parameters
    ----------
    folder : path
    seed : int
        Seed of the division into training and test set.
    pictures : Pictures, optional
        The rule by which pictures are read, such as ``model.preprocessing.pictures`` of a trained
        model. By default all are stretched to the size of the first, and grey if it is.

    Returns
    -------
    train, test : Dataset

    Raises
    ------
    DataError
        If there are fewer than two classes, two classes differ by case alone, a class occurs in
        the test part alone, or a picture cannot be read.
    """
    folder = expanded(folder)
    found, split, classes = parts(folder)
    rule = pictures or Pictures(picture_shape(found[0].classes[classes[0]][0][1]), "stretch")
    if split:
        listed = [
            _listed(one, classes, f"{root.name}/") for one, root in zip(found, split, strict=True)
        ]
        if not listed[1]:
            raise DataError(f"{split[1]}: no pictures in folders of {', '.join(classes)}")
    else:
        everything = _listed(found[0], classes, "")
        held = held_out([name for name, _, _ in everything], seed)
        listed = [[everything[index] for index in np.flatnonzero(part)] for part in (~held, held)]
    _report(folder, found, classes, listed)
    images = _read(folder, listed, rule)
    preprocessing = replace(
        measure_normalisation(images[0]),
        pictures=pictures or Pictures.like(images[0], from_files=True),
    )
    train, test = (
        Dataset(
            pixels,
            np.array([label for _, label, _ in part], np.int64),
            classes,
            preprocessing,
            folder.name,
            tuple(name for name, _, _ in part),
        )
        for pixels, part in zip(images, listed, strict=True)
    )
    return train, test


def parts(folder: Path) -> tuple[list[Found], tuple[Path, Path] | None, tuple[str, ...]]:
    """What is in the training part of a data set and in its test part, where these are, classes.

    Without such parts, what is in the whole folder, and None instead of their folders.

    Raises
    ------
    DataError
        If a folder cannot be listed, or there are fewer than two classes.
    """
    split = _split_folders(folder)
    found = [scan(part) for part in split or (folder,)]
    return found, split, _classes(folder, found)


def scan(folder: Path) -> Found:
    """The classes of a folder and their pictures, in the order of their names.

    Raises
    ------
    DataError
        If the folder or one within it cannot be listed.
    """
    found = Found()
    for entry in _entries(folder):
        reason = _reason(entry)
        if reason is None and not entry.is_dir():
            reason = "outside the folders of classes"
        if reason is not None:
            found.passed[reason] += 1
            continue
        pictures: list[tuple[str, Path]] = []
        _collect(Path(entry.path), "", pictures, found.passed, {folder.resolve()})
        name = normalised_name(entry.name)
        if not pictures:
            found.passed["folders without pictures"] += 1
        elif name in found.classes:
            raise DataError(f"{folder}: has two folders called {name}, in two forms of Unicode")
        elif not name.isprintable():
            raise DataError(f"{folder}: {name!r} cannot be the name of a class")
        else:
            found.classes[name] = pictures
    return found


def pictures_in(folder: str | Path, found: Found) -> list[Path]:
    """The pictures in a folder and in those within it, in the order of their names.

    Parameters
    ----------
    folder : path
    found : Found
        Counts what is passed over.

    Raises
    ------
    DataError
        If there is none, or a folder cannot be listed.
    """
    folder = expanded(folder)
    pictures: list[tuple[str, Path]] = []
    _collect(folder, "", pictures, found.passed, set())
    if not pictures:
        raise DataError(
            f"{folder}: no pictures ({', '.join(sorted(SUFFIXES))}); {describe_passed([found])} "
            "passed over"
        )
    return [path for _, path in pictures]


def _collect(
    folder: Path,
    within: str,
    pictures: list[tuple[str, Path]],
    passed: Counter[str],
    read: set[Path],
) -> None:
    """Add the pictures of a folder and of those in it; each folder is ``read`` once."""
    here = folder.resolve()
    if any(other.is_relative_to(here) for other in read):
        passed["links to folders read already"] += 1
        return
    read.add(here)
    for entry in _entries(folder):
        path = Path(entry.path)
        reason = _reason(entry)
        if reason is None and entry.is_dir():
            _collect(path, f"{within}{entry.name}/", pictures, passed, read)
            continue
        if reason is None and path.suffix.lower() not in SUFFIXES:
            reason = f"not pictures ({path.suffix.lower() or 'no suffix'})"
        if reason is None:
            pictures.append((normalised_name(within + entry.name), path))
        else:
            passed[reason] += 1


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: normalised_name(entry.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None


def _reason(entry: os.DirEntry[str]) -> str | None:
    """Why a file or folder is passed over, whatever it holds."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.name.lower() in OF_TOOLS:
        return "of tools"
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "broken links"
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "neither files nor folders"


def _split_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of the training and the test part, if the data set has such."""
    folders = {entry.name.lower(): Path(entry.path) for entry in _entries(folder) if entry.is_dir()}
    train = [folders[name] for name in TRAIN if name in folders]
    test = [folders[name] for name in TEST if name in folders]
    if not train or not _holds_classes(train[0]):
        return None
    # A class may be called train, as one of car and plane: it then holds pictures itself.
    if _holds_pictures(train[0]) and not (test and _holds_classes(test[0])):
        return None
    if not test:
        raise DataError(
            f"{folder}: has {train[0].name}/ but no test/ or val/: add one, or give "
            f"{train[0]} to hold out some of its pictures"
        )
    others = sorted(set(folders) - {train[0].name.lower(), test[0].name.lower()})
    others = [name for name in others if not name.startswith(".") and name not in OF_TOOLS]
    if others:
        log.warning("%s: folders not used: %s", folder, ", ".join(others))
    return train[0], test[0]


def _holds_classes(folder: Path) -> bool:
    return any(
        _reason(entry) is None and entry.is_dir() and _holds_pictures(Path(entry.path))
        for entry in _entries(folder)
    )


def _holds_pictures(folder: Path) -> bool:
    return any(
        Path(entry.name).suffix.lower() in SUFFIXES and _reason(entry) is None
        for entry in _entries(folder)
    )


def _classes(folder: Path, found: list[Found]) -> tuple[str, ...]:
    classes = tuple(found[0].classes)
    if len(classes) < 2:
        raise DataError(
            f"{folder}: needs a subfolder with pictures ({', '.join(sorted(SUFFIXES))}) for each "
            f"of at least two classes, found {', '.join(classes) or 'none'}; "
            f"{describe_passed(found)} passed over"
        )
    folded: dict[str, str] = {}
    for name in classes:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(f"{folder}: classes {other} and {name} differ by case alone")
    unknown = [name for name in found[-1].classes if name not in found[0].classes]
    if unknown:
        raise DataError(
            f"{folder}: classes of the test part without training pictures: {', '.join(unknown)}"
        )
    _check_parts(folder, found[0])
    return classes


def _check_parts(folder: Path, found: Found) -> None:
    """Refuse parts of a data set, called otherwise than ``train`` and ``test``, as classes."""
    inner = {
        label: {name.split("/")[0] for name, _ in pictures}
        for label, pictures in found.classes.items()
        if all("/" in name for name, _ in pictures)
    }
    for label, names in inner.items():
        if names <= found.classes.keys():
            raise DataError(
                f"{folder}: {label} holds folders called like classes, {', '.join(sorted(names))}: "
                "call the parts of a data set train and test"
            )
    shared = set.intersection(*inner.values()) if len(inner) == len(found.classes) else set()
    if shared:
        raise DataError(
            f"{folder}: each of {', '.join(found.classes)} holds folders "
            f"{', '.join(sorted(shared))}: call the parts train and test, or give a folder whose "
            "subfolders are the classes"
        )


def _listed(found: Found, classes: tuple[str, ...], prefix: str) -> list[tuple[str, int, Path]]:
    """Name, label and path of each picture."""
    return [
        (f"{prefix}{label}/{name}", index, path)
        for index, label in enumerate(classes)
        for name, path in found.classes.get(label, ())
    ]


def describe_passed(found: list[Found]) -> str:
    """Numbers of what was passed over, by reason."""
    passed = sum((one.passed for one in found), Counter[str]())
    return ", ".join(f"{count:,} {reason}" for reason, count in passed.most_common()) or "nothing"


def _report(
    folder: Path, found: list[Found], classes: tuple[str, ...], listed: list[list[Any]]
) -> None:
    used = sum(map(len, listed))
    passed = any(one.passed for one in found)
    log.log(
        logging.WARNING if passed else logging.INFO,
        "%s: %s pictures used; passed over: %s",
        folder,
        f"{used:,}",
        describe_passed(found),
    )
    for part, name in zip(listed, ("training", "test"), strict=True):
        missing = set(range(len(classes))) - {label for _, label, _ in part}
        if missing:
            names = ", ".join(classes[index] for index in sorted(missing))
            log.warning("%s: no %s picture of %s", folder, name, names)


def _read(
    folder: Path, listed: list[list[tuple[str, int, Path]]], rule: Pictures
) -> list[np.ndarray]:
    """The pictures of each part; what was done to some of them is logged."""
    channels, height, width = rule.shape
    count = sum(map(len, listed))
    check_memory(
        f"{folder}: {count:,} pictures of {width} x {height} pixels",
        count * channels * height * width,
    )
    parts, done = [], Counter[str]()
    for part in listed:
        images = np.empty((len(part), *rule.shape), np.uint8)
        for index, (_, _, path) in enumerate(part):
            picture = read_picture(path, rule)
            images[index] = picture.pixels
            done.update(picture.done)
        parts.append(images)
    if done:
        changes = "; ".join(f"{number:,}: {change}" for change, number in done.most_common())
        log.warning("%s: of %s pictures %s", folder, f"{count:,}", changes)
    return parts
