"""Arrays in memory or, if large, in a memory-mapped temporary file.

The system then pages parts in and out as needed, so that a data set may be larger than memory.
"""

import logging
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.reading import machine_memory
from fastcnn.errors import DataError
from fastcnn.files import cache_folder

log = logging.getLogger("fastcnn.data")

#: Share of the machine's memory that one array may use.
SHARE_OF_MEMORY = 0.5
#: Bytes copied at a time.
BLOCK_BYTES = 2**22


def allocate(shape: tuple[int, ...], dtype: Any, name: str) -> np.ndarray:
    """Allocate an array: in memory, or in a file if it takes more than half of the memory.

    The file is in the cache folder (``FASTCNN_CACHE_DIR``), and is deleted with the array. Raises
    DataError, prefixed with ``name``, if the disk has too little space.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= SHARE_OF_MEMORY * machine_memory():
        return np.empty(shape, dtype)
    folder = cache_folder() / "arrays"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if size > free:
            raise DataError(
                f"{name}: needs {size:,} bytes, more than half of the memory, and the disk of "
                f"{folder} has {free:,}: set FASTCNN_CACHE_DIR to a folder on a larger one"
            )
        handle, path = tempfile.mkstemp(dir=folder, suffix=".array")
        with os.fdopen(handle, "r+b") as file:
            file.truncate(size)
            made = np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise DataError(f"{name}: {folder} cannot hold {size:,} bytes ({error.strerror})") from None
    try:
        os.unlink(path)  # the mapping keeps the file alive
    except OSError:  # Windows
        weakref.finalize(made, _remove, path)
    log.warning(
        "%s: %s bytes are more than half of the memory: kept in a temporary file in %s",
        name,
        f"{size:,}",
        folder,
    )
    return made


def take_rows(array: np.ndarray, rows: Any, name: str) -> np.ndarray:
    """The rows with these indices: a view for a slice, otherwise a copy, in a file if large."""
    if isinstance(rows, slice):
        return array[rows]
    rows = np.asarray(rows)
    if rows.dtype == bool:
        rows = np.flatnonzero(rows)
    made = allocate((len(rows), *array.shape[1:]), array.dtype, name)
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(rows), step):
        made[start : start + step] = array[rows[start : start + step]]
    return made


def _remove(path: str) -> None:
    with suppress(OSError):
        Path(path).unlink()
