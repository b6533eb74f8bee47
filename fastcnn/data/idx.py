"""The IDX format of the MNIST files, plain and gzipped: reader and writer.

Two zero bytes, a type code, the number of dimensions, each size as a big-endian int32, then the
values in big-endian C order (http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastcnn.arguments import plain_array
from fastcnn.data.reading import GZIP_MAGIC, gunzip, read_bytes
from fastcnn.errors import DataError
from fastcnn.files import atomic_write, expanded

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name): code for code, name in _TYPES.items()}
#: Number of array dimensions supported by every numpy.
MOST_DIMENSIONS = 32


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file, gzipped or not (detected from its content, not its name).

    Parameters
    ----------
    path : path

    Returns
    -------
    ndarray
        In the file's type, native byte order; read-only if the file's bytes are used directly.

    Raises
    ------
    DataError
        If the file is missing, corrupt, truncated, has trailing bytes, is not IDX, or unpacks to a
        suspicious size.
    """
    return read_archive(path, gunzip)


def read_archive(path: str | Path, unpack: Callable[[bytes, str], bytearray]) -> np.ndarray:
    """As :func:`read_idx`, with a function that decompresses gzip data."""
    content = read_bytes(path)
    gzipped = content[:2] == GZIP_MAGIC
    return parse_idx(unpack(content, str(path)) if gzipped else content, str(path))


def parse_idx(content: bytes | bytearray, name: str) -> np.ndarray:
    """The array in the decompressed bytes of an IDX file; ``name`` is for messages."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or content[3] == 0:
        raise DataError(f"{name}: not an IDX file (it starts with {content[:4].hex(' ')})")
    ndim = content[3]
    if ndim > MOST_DIMENSIONS:
        raise DataError(f"{name}: its header says {ndim} dimensions, not an IDX file")
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(f"{name}: truncated within its header")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if 0 in shape:
        raise DataError(f"{name}: holds no values, its header says shape {shape}")
    dtype = np.dtype(_TYPES[content[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "longer than its header says"
        raise DataError(
            f"{name}: {state}: {len(content)} bytes, {expected} expected for shape {shape}"
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def write_idx(path: str | Path, array: np.ndarray) -> None:
    """Write an array as IDX, gzipped if the name ends in ``.gz``.

    Parameters
    ----------
    path : path
    array : ndarray
        Numeric, with at least one dimension.

    Raises
    ------
    DataError
        If IDX has no code for the array's type.
    """
    path = expanded(path)
    array = plain_array("write_idx: array", array)
    dtype = array.dtype.newbyteorder(">")
    if dtype not in _CODES or not 1 <= array.ndim <= MOST_DIMENSIONS:
        raise DataError(f"IDX cannot hold {array.dtype} of shape {array.shape}")
    header = bytes((0, 0, _CODES[dtype], array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(dtype).tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=6, mtime=0)
    atomic_write(path, content)
