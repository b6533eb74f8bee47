"""Pictures, their paths or pixels as rows of a parquet file (extra ``parquet``)."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.dataset import Dataset
from fastcnn.data.picture_sets import Reading
from fastcnn.data.picture_table import LABELS, PARTS, PATHS, Content, column_of, table_sets
from fastcnn.data.picture_tree import Source
from fastcnn.data.reading import check_unpacked
from fastcnn.data.table import in_order, pixel_sets
from fastcnn.errors import DataError
from fastcnn.extras import require


def read_parquet(path: Path, seed: int, reading: Reading) -> tuple[Dataset, Dataset]:
    """Training and test sets from a parquet file with a column ``label``.

    The images are in a column ``image`` or ``path``: file contents as bytes, plain or as in Hugging
    Face's data sets; paths relative to the file's folder; or lists of pixels. Or there is a column
    per pixel, of square grey images in row-major order. A column ``split`` may contain train, val
    or test; otherwise about 15 % of the rows are for testing, by a hash of the path or the content.

    Raises DataError if the file is invalid; MissingExtraError if pyarrow is not installed.
    """
    table = _read(path)
    label, place = column_of(table.column_names, LABELS), column_of(table.column_names, PATHS)
    part = column_of(table.column_names, PARTS)
    if label is None:
        raise DataError(f"{path}: needs a column label, has {', '.join(table.column_names)[:60]}")
    if not table.num_rows:
        raise DataError(f"{path}: has no rows")
    labels = _named(table, label, table.column(label).to_pylist())
    if any(value is None for value in labels):
        raise DataError(f"{path}: {label}: some rows have none")
    odd = [value for value in labels if not isinstance(value, (str, int, float))]
    if odd:
        raise DataError(f"{path}: {label}: must be text or whole numbers, got {odd[0]!r:.80}")
    parts = None if part is None else table.column(part).to_pylist()
    if place is not None:
        pictures = _pictures(path, place, table.column(place))
        if pictures is not None:
            return table_sets(path, pictures, labels, parts, seed, reading)
    reading.check_unused(path)
    if parts is not None:
        raise DataError(f"{path}: {part}: parts of tables of pixels are not supported")
    names = [name for name in table.column_names if name != label]
    pixels = _pixels(path, table, place, names)
    if place is None:
        pixels = in_order(path, pixels, names)
    return pixel_sets(path, pixels, np.array(list(map(str, labels))), seed)


def parquet_pictures(path: Path) -> list[tuple[str, Source]] | None:
    """Names and bytes, or paths, of the pictures of a parquet file; None if it has pixels.

    Raises DataError if the file is damaged.
    """
    table = _read(path)
    place = column_of(table.column_names, PATHS)
    return None if place is None else _pictures(path, place, table.column(place))


def _read(path: Path) -> Any:
    """The table of a parquet file."""
    require("pyarrow", "parquet")
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            check_unpacked(
                str(path), path.stat().st_size, sum(group.total_byte_size for group in groups)
            )
            return file.read()
    except DataError:
        raise
    except Exception as error:  # pyarrow's errors of damaged files have no common base
        raise DataError(f"{path}: cannot be read as parquet ({error})") from None


def _pictures(path: Path, name: str, column: Any) -> list[tuple[str, Source]] | None:
    """The pictures of a column, or None if it holds pixels."""
    from pyarrow import types

    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind):
        return [(str(value), path.parent / str(value)) for value in column.to_pylist()]
    made: list[tuple[str, Source]] = []
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        rows = column.to_pylist()
        contents = [row and row["bytes"] for row in rows]
        names = [(row or {}).get("path") for row in rows]
    elif types.is_binary(kind) or types.is_large_binary(kind):
        contents, names = column.to_pylist(), [None] * len(column)
    else:
        return None
    for number, (content, known) in enumerate(zip(contents, names, strict=True)):
        if content is None:
            raise DataError(f"{path}: {name}: row {number} has no picture")
        title = f"{number}" if known is None else f"{number}/{known}"
        made.append((title, Content(f"{path}: row {number}", content)))
    return made


def _pixels(path: Path, table: Any, name: str | None, columns: list[str]) -> np.ndarray:
    """Pixels of shape (N, ...), from a column of lists or one column per pixel."""
    try:
        if name is not None:
            return np.array(table.column(name).to_pylist())
        return np.stack([table.column(one).to_numpy() for one in columns], axis=1)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: pixels must be numbers, the same number per row ({error})"
        ) from None


def _named(table: Any, label: str, labels: list[Any]) -> list[Any]:
    """Labels as class names, if the file has them as in Hugging Face's data sets."""
    try:
        kept = json.loads(table.schema.metadata[b"huggingface"])
        names = kept["info"]["features"][label]["names"]
        # -1 marks rows without a label, such as those of a test set that is kept secret.
        return [names[value] if value >= 0 else None for value in labels]
    except (KeyError, TypeError, ValueError, IndexError):
        return labels
