"""Tables of labelled picture files, as paths or contents."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.arrays import as_label_sets
from fastcnn.data.dataset import Dataset
from fastcnn.data.picture_sets import PART_NAMES, Listed, Reading, picture_sets
from fastcnn.data.picture_tree import Source
from fastcnn.data.reading import check_memory
from fastcnn.data.split import held_out, normalised_name
from fastcnn.errors import DataError, counted

#: Accepted names of columns of paths, of labels and of the part of the data set.
PATHS = ("path", "file", "filename", "file_name", "image", "image_path", "filepath")
LABELS = ("label", "class", "target", "category")
PARTS = ("split", "part", "subset", "set")
#: Words for a missing label, in lower case; the last two may be class names.
MISSING = ("", "nan", "null", "n/a", "none", "na")
#: Control characters, those of lines and directions among them, spaces of no width, and the mark of
#: a file's beginning, which concatenated files have inside. Joiners, which some scripts and emoji
#: need, are not among them.
INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060\u2066-\u2069\ufeff]")

#: Suffixes of tables that are text.
CSV = (".csv", ".tsv")
#: Separators of columns, and what they are called.
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class Content:
    """A picture's bytes from a table."""

    name: str
    content: bytes

    def read(self) -> bytes:
        """The bytes."""
        return self.content


def column_of(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of the names that a table has, regardless of case."""
    lower = {column.strip().lower(): column for column in columns}
    return next((lower[name] for name in names if name in lower), None)


def separator_of(header: str) -> str:
    """The first of the separators in a CSV file's first line, outside of quotes."""
    bare = re.sub('"[^"]*"', "", header)
    return next((sign for sign in SEPARATORS if sign in bare), ",")


def targets_of(path: Path, words: Sequence[str]) -> np.ndarray:
    """Labels as int64 if all are integers of at most nine digits, otherwise as text.

    Equal numbers are the same label, however they are written: 1, 1.0 and +1; so is equal text in
    Unicode's composed and decomposed forms.

    Raises DataError if a row has no label or one with a control character, which would be a class
    of its own that looks like another, or all labels are numbers and some have fractions.
    """
    words = [normalised_name(word) for word in words]
    numbers = all(_is_number(word) for word in words if word.lower() not in MISSING)
    missing = MISSING if numbers else MISSING[:-2]
    row = next((index for index, word in enumerate(words) if word.lower() in missing), None)
    if row is not None:
        raise DataError(f"{path}: row {row + 1} of {len(words):,} has no label")
    row = next((index for index, word in enumerate(words) if INVISIBLE.search(word)), None)
    if row is not None:
        raise DataError(
            f"{path}: row {row + 1} of {len(words):,}: label {words[row]!r:.80} contains a control "
            "character"
        )
    if numbers and not all(float(word).is_integer() for word in words):
        row = next(index for index, word in enumerate(words) if not float(word).is_integer())
        raise DataError(
            f"{path}: row {row + 1} of {len(words):,}: labels must be whole numbers or text, "
            f"got {words[row]}"
        )
    if numbers:
        words = [str(_whole(word)) for word in words]
    whole = all(word.isascii() and word.isdigit() and len(word) < 10 for word in words)
    return np.array([int(word) for word in words], np.int64) if whole else np.array(words)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word  # which Python ignores between digits


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        return int(float(word))


def table_sets(
    path: Path,
    pictures: Sequence[tuple[str, Source]],
    labels: Sequence[Any],
    parts: Sequence[Any] | None,
    seed: int,
    reading: Reading,
) -> tuple[Dataset, Dataset]:
    """Training and test sets of the pictures of a table, each with a name and bytes.

    Parts are words such as ``train``, ``val`` or ``test``; by default about 15 % are for testing,
    by a hash of the name. Raises DataError if the table is empty, a part or a label is unknown, or
    a picture cannot be read.
    """
    if not pictures:
        raise DataError(f"{path}: has no rows")
    chosen = _parts(path, [name for name, _ in pictures], parts, seed)
    targets = targets_of(path, [str(label).strip() for label in labels])
    rest = np.ones(len(targets), bool)
    rest[chosen["training"]] = False
    # A rare class may be drawn only for testing, but not if the table specifies the parts.
    known = targets if targets.dtype.kind == "i" or parts is None else targets[~rest]
    _, _, classes = as_label_sets(
        known, targets[rest], (f"{path}: training rows", f"{path}: other rows")
    )
    place = {word: index for index, word in enumerate(classes)}
    listed: dict[str, list[Listed]] = {
        part: [(pictures[row][0], place[str(targets[row])], pictures[row][1]) for row in rows]
        for part, rows in chosen.items()
    }
    if len(classes) < 2:
        raise DataError(f"{path}: needs at least two classes, has {', '.join(classes)}")
    rule = reading.rule(pictures[0][1])
    return picture_sets(path.stem, str(path), classes, listed, rule, reading.pictures)


def _parts(
    path: Path, names: Sequence[str], parts: Sequence[Any] | None, seed: int
) -> dict[str, np.ndarray]:
    """The rows of each part."""
    if parts is None:
        try:
            held = held_out(names, seed)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        return {"training": np.flatnonzero(~held), "test": np.flatnonzero(held)}
    words = [str(part).strip().lower() for part in parts]
    rows = {part: np.flatnonzero(np.isin(words, known)) for part, known in PART_NAMES.items()}
    unknown = sorted(set(words) - {word for known in PART_NAMES.values() for word in known})
    if unknown:
        raise DataError(
            f"{path}: parts must be train, val or test, got {', '.join(map(repr, unknown[:5]))}"
        )
    if not len(rows["test"]):
        rows["test"] = rows.pop("validation")
    rows = {part: found for part, found in rows.items() if len(found)}
    if not rows.keys() >= {"training", "test"}:
        raise DataError(f"{path}: needs rows of train, and of test or val")
    return rows


def path_rows(path: Path) -> list[tuple[str, Source]] | None:
    """Names and paths of the pictures of a CSV file; None if it does not name files.

    Raises DataError if the file is damaged.
    """
    table = _read(path)
    return None if table is None else table[0]


def read_path_table(path: Path, seed: int, reading: Reading) -> tuple[Dataset, Dataset]:
    """Training and test sets from a CSV file with a column of paths and one of labels.

    Paths are relative to the file's folder.
    """
    table = _read(path)
    assert table is not None
    pictures, labels, parts = table
    return table_sets(path, pictures, labels, parts, seed, reading)


def _read(path: Path) -> tuple[list[tuple[str, Source]], list[str], list[str] | None] | None:
    """Pictures, labels and parts of a CSV file."""
    check_memory(str(path), 4 * path.stat().st_size)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            reader = csv.reader(
                chain([first], file), delimiter=separator_of(first), skipinitialspace=True
            )
            header = next(reader, [])
            columns = {
                kind: column_of(header, names)
                for kind, names in (("path", PATHS), ("label", LABELS), ("part", PARTS))
            }
            if columns["path"] is None:
                return None
            rows = [row for row in reader if row]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not CSV in UTF-8 ({error})") from None
    if columns["label"] is None:
        raise DataError(f"{path}: needs a column label, has {', '.join(header)[:60]}")
    places = {kind: header.index(name) for kind, name in columns.items() if name is not None}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(
                f"{path}: row {number} has {counted(len(row), 'value')}, the first {len(header)}"
            )
    names = [row[places["path"]].strip() for row in rows]
    parts = [row[places["part"]] for row in rows] if "part" in places else None
    labels = [row[places["label"]] for row in rows]
    return [(name, path.parent / name) for name in names], labels, parts
