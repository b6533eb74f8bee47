"""Folders of pictures as data sets, with one subfolder per class."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastcnn.arguments import is_unicode
from fastcnn.data.dataset import Dataset
from fastcnn.data.images import SUFFIXES
from fastcnn.data.picture_sets import PART_NAMES, Listed, Reading, picture_sets
from fastcnn.data.picture_table import INVISIBLE
from fastcnn.data.picture_tree import Node, Source, folder_node, opened_archive
from fastcnn.data.pictures import Pictures
from fastcnn.data.split import held_out, normalised_name
from fastcnn.errors import DataError, counted
from fastcnn.files import expanded

log = logging.getLogger("fastcnn.data")


@dataclass
class Found:
    """The pictures of a folder's classes, and what was skipped.

    Attributes
    ----------
    classes : dict of str to list of (str, Path or Member)
        The pictures of each class, each with its path within the class's folder.
    passed : Counter of str
        Numbers of skipped files and folders, by reason.
    """

    classes: dict[str, list[tuple[str, Source]]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)


#: Allowed excess of folders without pictures over the number of pictures: a whole disk has more.
MOST_EMPTY = 2_000


@dataclass
class _Walk:
    """A walk through folders that visits each once per class, wherever links lead.

    Links to a parent of the current folder are ignored.

    Attributes
    ----------
    folder : Path
        Starting folder.
    owner : str
        The current class, by its folder.
    owners : dict of Path to str
        The class of each folder read so far.
    reading : list of Path
        The stack of open folders, each within the previous one or linked from it.
    spare : int
        Number of further folders without pictures that are allowed.
    """

    folder: Path
    owner: str = ""
    owners: dict[Path, str] = field(default_factory=dict)
    reading: list[Path] = field(default_factory=list)
    spare: int = field(default_factory=lambda: MOST_EMPTY)

    def begin(self, key: Path | None) -> None:
        """Start with the folder of all classes, which belongs to none."""
        self.owner, self.reading = "", []
        if key is not None:
            self.reading.append(key)
            self.owners[key] = ""

    def enter(self, key: Path | None) -> str | None:
        """The other class that has read a folder, or ""; None if it must not be read."""
        if key is None:
            return ""
        other = self.owners.get(key)
        is_around = any(inner.is_relative_to(key) for inner in self.reading)
        if is_around or other in ("", self.owner):
            return None
        self.reading.append(key)
        self.owners[key] = self.owner
        return other or ""

    def leave(self, key: Path | None, pictures: int, other: str) -> None:
        """Leave a folder, and count its pictures.

        Raises DataError if another class also has them, or there were too many folders without
        pictures.
        """
        if key is not None:
            self.reading.pop()
        if pictures and other:
            raise DataError(
                f"{self.folder}: {other} and {self.owner} have the same pictures through links: "
                "remove one of them"
            )
        self.spare += pictures or -1
        if self.spare < 0:
            raise DataError(
                f"{self.folder}: more than {MOST_EMPTY:,} folders without a picture: give the "
                "folder of the pictures themselves"
            )


def read_folder(
    folder: str | Path,
    seed: int = 0,
    *,
    pictures: Pictures | None = None,
    image_size: int | tuple[int, int] | None = None,
    gray: bool | None = None,
) -> tuple[Dataset, Dataset]:
    """Read a folder of class subfolders, or a zip or tar archive of it, as training and test sets.

    ``folder/train/CLASS/*.png`` and ``folder/test/CLASS/*.png`` (or ``val``), or
    ``folder/CLASS/*.png``: then about 15 % become the test set, each picture by a hash of its path
    within the folder, so that added pictures do not move others. With ``train``, ``val`` and
    ``test``, the second is ``train.validation``. Pictures in deeper subfolders belong to the class.
    Hidden files, folders of tools (``__MACOSX``, ``@eaDir``, ...), other files and folders without
    pictures are skipped, counted and logged.

    Pictures are decoded on all cores, and stored as bytes at the network's input size: in memory,
    or in a temporary file if they would take more than half of it. Archives are not unpacked to
    disk, except for compressed tar archives, which are decompressed to a temporary file.

    Parameters
    ----------
    folder : path
    seed : int
        Seed of the split into training and test sets.
    pictures : Pictures, optional
        The rule for reading pictures, such as ``model.preprocessing.pictures`` of a trained model.
        By default all are resized to the size of the first, and read in grey if it is grey.
    image_size : int or (height, width), optional
        Size to which pictures are resized.
    gray : bool, optional
        Grey (True) or colour (False), regardless of the first picture.

    Returns
    -------
    train, test : Dataset

    Raises
    ------
    DataError
        If there are fewer than two classes, two class names differ only by case, a class occurs
        only in the test part, a picture cannot be read, or an archive is damaged or suspiciously
        compressed.
    """
    folder = expanded(folder)
    reading = Reading(pictures, image_size, gray)
    if folder.is_file():
        with opened_archive(folder) as root:
            return _read_tree(folder, without_outer(root), seed, reading)
    return _read_tree(folder, folder_node(folder), seed, reading)


def without_outer(root: Node) -> Node:
    """The folder that holds the data set, if an archive wraps it in another folder."""
    while True:
        used = [node for node in root.entries() if node.reason is None]
        inner = [node for node in used if node.is_folder]
        if len(inner) != 1 or _holds_pictures(root) or _holds_pictures(inner[0]):
            return root
        root = inner[0]


def _read_tree(folder: Path, root: Node, seed: int, reading: Reading) -> tuple[Dataset, Dataset]:
    found, split, classes = parts(folder, root)
    rule = reading.rule(found[0].classes[classes[0]][0][1])
    if split:
        used = [node.name for node in split.values()]
        others = [node.name for node in root.entries() if node.is_folder and node.reason is None]
        if unused := sorted(set(others) - set(used)):
            log.warning("%s: folders not used: %s", folder, ", ".join(unused))
        listed = {
            part: _listed(one, classes, f"{node.name}/")
            for (part, node), one in zip(split.items(), found, strict=True)
        }
        for part, pictures in listed.items():
            if not pictures:
                raise DataError(
                    f"{folder / split[part].name}: no pictures in folders of {', '.join(classes)}"
                )
    else:
        everything = _listed(found[0], classes, "")
        held = held_out([name for name, _, _ in everything], seed)
        listed = {
            part: [everything[index] for index in np.flatnonzero(chosen)]
            for part, chosen in (("training", ~held), ("test", held))
        }
    _report(folder, found, classes, listed)
    whole = folder.absolute()  # the current folder has no name in "."
    name = whole.name if folder.is_dir() else whole.name.split(".")[0]
    return picture_sets(name, str(folder), classes, listed, rule, reading.pictures)


def parts(folder: Path, root: Node) -> tuple[list[Found], dict[str, Node] | None, tuple[str, ...]]:
    """The content of each part of a data set, training first, their folders, and the classes.

    Without separate parts, the content of the whole folder, and None for the folders.

    Raises DataError if a folder cannot be listed, or there are fewer than two classes.
    """
    split = _split_folders(folder, root)
    walk = _Walk(folder)
    found = [scan(folder, part, walk) for part in (split or {"": root}).values()]
    return found, split, _classes(folder, found)


def scan(folder: Path, root: Node, walk: _Walk) -> Found:
    """The classes of a folder and their pictures, sorted by name.

    Raises DataError if the folder or one within it cannot be listed, or two classes have the same
    pictures.
    """
    found = Found()
    walk.begin(root.key)
    for node in root.entries():
        reason = node.reason
        if reason is None and not node.is_folder:
            reason = "outside the folders of classes"
        if reason is not None:
            found.passed[reason] += 1
            continue
        pictures: list[tuple[str, Source]] = []
        walk.owner = f"{root.name}/{node.name}" if root.name else node.name
        _collect(node, "", pictures, found.passed, walk)
        name = normalised_name(node.name)
        if not pictures:
            found.passed["with no picture inside"] += 1
        elif name in found.classes:
            raise DataError(f"{folder}: has two folders called {name}, in two forms of Unicode")
        elif INVISIBLE.search(name) or not is_unicode(name):
            raise DataError(f"{folder}: {name!r} cannot be the name of a class")
        else:
            found.classes[name] = pictures
    return found


def pictures_in(folder: str | Path, found: Found) -> list[Path]:
    """The pictures in a folder and its subfolders, sorted by name.

    ``found`` counts what is skipped. Raises DataError if there are none, or a folder cannot be
    listed.
    """
    folder = expanded(folder)
    pictures: list[tuple[str, Source]] = []
    _collect(folder_node(folder), "", pictures, found.passed, _Walk(folder))
    if not pictures:
        raise DataError(
            f"{folder}: no pictures ({', '.join(sorted(SUFFIXES))}){_and_passed([found])}"
        )
    return [path for _, path in pictures if isinstance(path, Path)]


def _collect(
    folder: Node, within: str, pictures: list[tuple[str, Source]], passed: Counter[str], walk: _Walk
) -> None:
    """Add the pictures of a folder and its subfolders, reading each folder once."""
    key = folder.key
    other = walk.enter(key)
    if other is None:
        passed["linked to a folder read already"] += 1
        return
    count = 0
    for node in folder.entries():
        reason = node.reason
        if reason is None and node.is_folder:
            _collect(node, f"{within}{node.name}/", pictures, passed, walk)
            continue
        suffix = Path(node.name).suffix.lower()
        if reason is None and suffix not in SUFFIXES:
            reason = f"of another kind ({suffix or 'no suffix'})"
        if reason is None:
            pictures.append((normalised_name(within + node.name), node.source))
            count += 1
        else:
            passed[reason] += 1
    walk.leave(key, count, other)


def _split_folders(folder: Path, root: Node) -> dict[str, Node] | None:
    """The folders of the training, validation and test parts, if the data set has them."""
    folders = {node.name.lower(): node for node in root.entries() if node.is_folder}
    train, validation, test = (
        [folders[name] for name in PART_NAMES[part] if name in folders]
        for part in ("training", "validation", "test")
    )
    if not train or not _holds_classes(train[0]):
        return None
    measured = test or validation
    # A class may be called train, next to car and plane: it then holds pictures itself.
    if _holds_pictures(train[0]) and not (measured and _holds_classes(measured[0])):
        return None
    if not measured:
        raise DataError(
            f"{folder}: has {train[0].name}/ but no test/ or val/: add one, or give "
            f"{folder / train[0].name} to hold out some of its pictures"
        )
    parts = {"training": train[0], "test": measured[0]}
    if test and validation:
        parts["validation"] = validation[0]
    return parts


def _holds_classes(folder: Node) -> bool:
    return any(
        node.reason is None and node.is_folder and _holds_pictures(node)
        for node in folder.entries()
    )


def _holds_pictures(folder: Node) -> bool:
    return any(
        Path(node.name).suffix.lower() in SUFFIXES and node.reason is None
        for node in folder.entries()
    )


def _classes(folder: Path, found: list[Found]) -> tuple[str, ...]:
    classes = tuple(found[0].classes)
    if len(classes) < 2:
        raise DataError(
            f"{folder}: needs a subfolder with pictures ({', '.join(sorted(SUFFIXES))}) for each "
            f"of at least two classes, found {', '.join(classes) or 'none'}{_and_passed(found)}"
            f"{_advice(folder, found[0])}"
        )
    folded: dict[str, str] = {}
    for name in classes:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(f"{folder}: classes {other} and {name} differ only by case")
    unknown = [name for one in found for name in one.classes if name not in found[0].classes]
    if unknown:
        raise DataError(
            f"{folder}: classes of the test part without training pictures: {', '.join(unknown)}"
        )
    _check_parts(folder, found[0])
    return classes


def _advice(folder: Path, found: Found) -> str:
    """The folder that was probably meant, if the given one contains only that."""
    for name, pictures in found.classes.items():
        inner = {path.split("/")[0] if "/" in path else "" for path, _ in pictures}
        if len(inner) > 1 and "" not in inner:
            return f"; did you mean {folder / name}?"
    return ""


def _check_parts(folder: Path, found: Found) -> None:
    """Refuse parts of a data set with other names than ``train`` and ``test`` as classes."""
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


def _listed(found: Found, classes: tuple[str, ...], prefix: str) -> list[Listed]:
    """Name, label and path of each picture."""
    return [
        (f"{prefix}{label}/{name}", index, path)
        for index, label in enumerate(classes)
        for name, path in found.classes.get(label, ())
    ]


def describe_passed(found: list[Found]) -> str:
    """Numbers of skipped items, by reason."""
    passed = sum((one.passed for one in found), Counter[str]())
    return ", ".join(f"{count:,} {reason}" for reason, count in passed.most_common()) or "nothing"


def _and_passed(found: list[Found]) -> str:
    """The end of a message that says what was skipped, if anything was."""
    return f"; {describe_passed(found)} skipped" if any(one.passed for one in found) else ""


def _report(
    folder: Path, found: list[Found], classes: tuple[str, ...], listed: dict[str, list[Listed]]
) -> None:
    used = sum(map(len, listed.values()))
    passed = any(one.passed for one in found)
    log.log(
        logging.WARNING if passed else logging.INFO,
        "%s: %s used; skipped: %s",
        folder,
        counted(used, "picture"),
        describe_passed(found),
    )
    for name, part in listed.items():
        missing = set(range(len(classes))) - {label for _, label, _ in part}
        if missing:
            names = ", ".join(classes[index] for index in sorted(missing))
            log.warning("%s: no %s picture of %s", folder, name, names)
