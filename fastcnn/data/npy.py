"""Arrays in ``.npz`` archives, read without trusting what the archive says of their sizes."""

import io
import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from fastcnn.data.reading import CHUNK, check_unpacked, regular_file
from fastcnn.errors import DataError

NPY_MAGIC = b"\x93NUMPY"
#: Bytes of an array's header: that of an array of numbers has 118.
MOST_HEADER_BYTES = 10_000
UNPACK = (
    "Data sets are .npz, .csv and .parquet files, and folders, zip or tar archives of pictures: "
    "convert or unpack others"
)
#: Types of arrays that may hold images or labels: booleans, numbers and text.
KINDS = "biufUS"


class Archive:
    """The arrays of an ``.npz`` file by name, each read when it is asked for.

    Raises
    ------
    DataError
        If the file is missing or is not such an archive.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = regular_file(path)
        self.size = self.path.stat().st_size
        try:
            self._zip = zipfile.ZipFile(self.path)
        except Exception as error:  # damaged directories raise errors of many kinds
            reason = error if zipfile.is_zipfile(self.path) else self._other_kind()
            raise DataError(f"{self.path}: cannot be read as .npz ({reason})") from None
        self._members = {info.filename: info for info in self._zip.infolist()}
        self.names = [name.removesuffix(".npy") for name in self._members if name.endswith(".npy")]
        if self._members and not self.names:
            raise DataError(f"{self.path}: holds no arrays. {UNPACK}")

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> np.ndarray:
        """One array.

        Raises
        ------
        DataError
            If it is damaged, larger than it can honestly be, or of Python objects.
        """
        where = f"{self.path}: {name}"
        member = self._members[f"{name}.npy"]
        if member.compress_size > self.size:
            raise DataError(f"{where}: damaged: it is larger than the file")
        check_unpacked(where, member.compress_size, member.file_size)
        try:
            with self._zip.open(member) as file:
                start, shape, fortran, dtype = _header(file.read(MOST_HEADER_BYTES), where)
                size = math.prod(shape) * dtype.itemsize
                if size == 0:
                    raise DataError(f"{where}: holds nothing: its shape is {shape}")
                if size != member.file_size - start:
                    raise DataError(
                        f"{where}: its header says {dtype} of shape {shape}, {size:,} bytes, but "
                        f"{member.file_size - start:,} follow"
                    )
                file.seek(start)
                values = np.empty(math.prod(shape), dtype)
                _fill(values, file)
        except DataError:
            raise
        except Exception as error:  # as above
            raise DataError(f"{where}: cannot be read ({error})") from None
        values = values.reshape(shape, order="F" if fortran else "C")
        return values.astype(dtype.newbyteorder("="), copy=False)

    def _other_kind(self) -> str:
        with self.path.open("rb") as file:
            if file.read(len(NPY_MAGIC)) == NPY_MAGIC:
                return (
                    "it is a single array, .npy: put images and labels into one file with "
                    "numpy.savez(x_train=..., y_train=..., x_test=..., y_test=...)"
                )
        return f"it is not a zip archive. {UNPACK}"


def _fill(values: np.ndarray, file: IO[bytes]) -> None:
    """Read an array's memory, a piece at a time: reading it at once would take it twice."""
    target, start = values.view(np.uint8).data, 0
    while part := file.read(CHUNK):
        target[start : start + len(part)] = part
        start += len(part)
    if start != len(target):
        raise EOFError("the file ends within the array")


def _header(content: bytes, where: str) -> tuple[int, tuple[int, ...], bool, np.dtype]:
    """Length of the header of an array in numpy's format; shape, order and type."""
    try:
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file, max_header_size=MOST_HEADER_BYTES)
    except Exception:  # numpy evaluates the header's text: damaged ones raise errors of many kinds
        raise DataError(f"{where}: not an array in numpy's format") from None
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise DataError(
            f"{where}: must be numbers or text, holds Python objects or records ({dtype})"
        )
    if any(not 0 <= size < 2**62 for size in shape) or len(shape) > 32:
        raise DataError(f"{where}: not an array in numpy's format: shape {shape}")
    return file.tell(), shape, fortran, dtype
