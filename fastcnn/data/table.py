"""Images as rows of a CSV file: ``label,pixel0,pixel1,...``, as in Kaggle's MNIST."""

import csv
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from fastcnn.data.arrays import as_image_sets, as_label_sets
from fastcnn.data.dataset import Dataset
from fastcnn.data.picture_sets import Reading
from fastcnn.data.picture_table import (
    PATHS,
    SEPARATORS,
    column_of,
    read_path_table,
    separator_of,
    targets_of,
)
from fastcnn.data.preprocessing import measure_normalisation
from fastcnn.data.reading import check_memory, regular_file
from fastcnn.data.split import held_out
from fastcnn.errors import DataError, counted

log = logging.getLogger("fastcnn.data")

#: Most characters of a row: enough for 1,000 x 1,000 pixels.
LONGEST_ROW = 10_000_000
#: Values read at a time.
BLOCK_VALUES = 500_000
LABEL = "label"
#: Between the values of a row that are given to numpy: no number contains it.
JOIN = "\x1f"


def read_csv(
    path: str | Path, seed: int = 0, reading: Reading | None = None
) -> tuple[Dataset, Dataset]:
    """Read training and test sets from a CSV file; about 15 % become the test set.

    Rows for testing are chosen by a hash of their pixels: added rows move no others, and equal
    images stay together, whatever their labels.

    Parameters
    ----------
    path : path
        Its first line names the columns, one of them ``label``; the others are the pixels of square
        grey images in row-major order, in 0..255 or 0..1. Or one is ``path`` (or ``file``,
        ``image``), relative to the file's folder, and optionally one ``split``: train, val or test.
        Labels are integers or text. If there is no comma in the first line, semicolons, tabs or
        vertical bars separate the columns.
    seed : int
        Seed of the choice of test rows.
    reading : Reading, optional
        Options for converting named pictures to samples.

    Raises
    ------
    DataError
        If the file is invalid.
    """
    path = regular_file(path)
    reading = reading or Reading()
    # A pixel with its comma has at least two characters, and becomes a byte or a float32.
    check_memory(str(path), 2 * path.stat().st_size)
    try:
        with path.open(encoding="utf-8-sig", newline=None) as file:
            first = _line(file, str(path))
            separator = separator_of(first)
            header = _quoted(first, f"{path}: line 1", separator)
            columns = [column.strip() for column in header]
            if separator != ",":
                log.warning("%s: columns are separated by %s", path, SEPARATORS[separator])
            if column_of(columns, PATHS) is not None:
                return read_path_table(path, seed, reading)
            reading.check_unused(path)
            columns = [column.lower() for column in columns]
            pixels, labels, names = _read(file, columns, str(path), separator)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text in UTF-8, and so not CSV") from None
    return pixel_sets(path, in_order(path, pixels, names), labels, seed)


def in_order(path: Path, pixels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Sort the columns of pixels (N, P) by the numbers in their names.

    Names that differ only by a number, such as ``pixel10``, give a pixel's position; a program that
    sorts columns as text puts ``pixel10`` before ``pixel2``. With two numbers, as in ``3x7``, it is
    unknown which is the row: such columns are reordered only if they were sorted as text. Others
    keep their order.

    Raises DataError if a column's name is of a different kind than most, as an index's is.
    """
    if not _check_names(path, names):
        return pixels
    numbers = [tuple(map(int, re.findall(r"\d+", name))) for name in names]
    if len(set(numbers)) < len(numbers):
        raise DataError(f"{path}: two columns of pixels have the same number")
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    by_text = len(numbers[0]) == 1 or list(names) == sorted(names)
    if order == list(range(len(numbers))) or not by_text:
        return pixels
    log.warning("%s: pixel columns are sorted by their numbers", path)
    return pixels[:, order]


def _check_names(path: Path, names: Sequence[str]) -> bool:
    """Whether columns of pixels have numbers; refuses one whose name is of another kind."""
    kinds = Counter(re.sub(r"\d+", "#", name) for name in names)
    usual, count = kinds.most_common(1)[0] if kinds else ("", 0)
    if "#" in usual and count < len(names):
        odd = next(name for name in names if re.sub(r"\d+", "#", name) != usual)
        raise DataError(
            f"{path}: column {odd!r} is not called like the other columns of pixels: leave it out"
        )
    return "#" in usual


def pixel_sets(
    path: Path, pixels: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[Dataset, Dataset]:
    """Training and test sets from pixels and text labels, split by a hash of each row's pixels.

    Raises DataError if they are not images and labels.
    """
    try:
        held = held_out([(row + np.float32(0.0)).tobytes() for row in pixels], seed)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    targets = targets_of(path, labels.tolist())
    names = (f"{path}: training rows", f"{path}: test rows")
    labels, _, classes = as_label_sets(targets, targets[held], (str(path), names[1]))
    train_x, test_x = as_image_sets(pixels[~held], pixels[held], names)
    preprocessing = measure_normalisation(train_x)
    return (
        Dataset(train_x, labels[~held], classes, preprocessing, path.stem),
        Dataset(test_x, labels[held], classes, preprocessing, path.stem),
    )


def _read(
    file: TextIO, columns: list[str], name: str, separator: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """All pixels, (N, H * W), the labels as text, and the names of the pixel columns."""
    if columns.count(LABEL) != 1:
        raise DataError(
            f"{name}: its first line must name the columns, one of them {LABEL} (as "
            f"{LABEL},pixel0,pixel1,...), got {','.join(columns)[:60]!r}"
        )
    count, place = len(columns) - 1, columns.index(LABEL)
    _check_names(Path(name), columns[:place] + columns[place + 1 :])
    if count == 0 or math.isqrt(count) ** 2 != count:
        raise DataError(f"{name}: {count} columns of pixels are not those of a square image")
    blocks, labels = [], []
    lines = _numbered_lines(file, name)
    while block := list(islice(lines, max(1, BLOCK_VALUES // count))):
        rows = []
        for number, line in block:
            if '"' in line:
                values = _quoted(line, f"{name}: line {number}", separator)
            else:
                values = line.split(separator)
            if len(values) != count + 1:
                raise DataError(
                    f"{name}: line {number} has {counted(len(values), 'value')}, the first "
                    f"{count + 1}"
                )
            labels.append(values.pop(place).strip())
            rows.append(JOIN.join(values))
        blocks.append(_values(rows, [number for number, _ in block], name))
    if not blocks:
        raise DataError(f"{name}: has no rows")
    whole = all(part.dtype == np.uint8 for part in blocks)
    pixels = np.concatenate([p if whole else p.astype(np.float32, copy=False) for p in blocks])
    return pixels, np.array(labels), columns[:place] + columns[place + 1 :]


def _quoted(line: str, name: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"{name}: {error}") from None


def _values(rows: list[str], numbers: Sequence[int], name: str) -> np.ndarray:
    try:
        values = np.loadtxt(rows, np.float64, delimiter=JOIN, comments=None, ndmin=2)
    except ValueError:
        raise DataError(_not_a_number(rows, numbers, name)) from None
    good = (values >= 0.0) & (values <= 255.0)
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise DataError(
            f"{name}: line {numbers[row]}: pixels must lie in 0..255, got {values[row, column]:g}"
        )
    made = values.astype(np.uint8)
    return made if (made == values).all() else values.astype(np.float32)


def _not_a_number(rows: list[str], numbers: Sequence[int], name: str) -> str:
    """The first pixel that is not a number, as a message."""
    for row, number in zip(rows, numbers, strict=True):
        for word in row.split(JOIN):
            try:
                np.loadtxt([word.strip() or "nothing"], np.float64, comments=None, ndmin=2)
            except ValueError:
                return f"{name}: line {number}: pixels must be numbers, got {word.strip()[:30]!r}"
    return f"{name}: pixels must be numbers"


def _numbered_lines(file: TextIO, name: str) -> Iterator[tuple[int, str]]:
    """Non-empty lines, from the second on."""
    number = 1
    while line := _line(file, name):
        number += 1
        if line.strip():
            yield number, line.strip()


def _line(file: TextIO, name: str) -> str:
    line = file.readline(LONGEST_ROW)
    if len(line) == LONGEST_ROW:
        raise DataError(f"{name}: has a line of more than {LONGEST_ROW:,} characters, not CSV")
    return line
