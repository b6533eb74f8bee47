"""Reading of untrusted files: sizes are checked before memory is allocated."""

import io
import os
import stat
import zlib
from pathlib import Path
from typing import IO

from fastcnn.errors import DataError
from fastcnn.files import expanded

GZIP_MAGIC = b"\x1f\x8b"
#: Bytes that any compressed file may unpack to, however small.
FREE_BYTES = 256 * 2**20
#: Largest expansion factor beyond that. MNIST expands 5 times, masks and drawings up to 200 times;
#: decompression bombs 1,000 times.
LARGEST_RATIO = 250
CHUNK = 2**20
#: Compressed bytes unpacked at a time; they expand at most 1,032 times.
PIECE = 2**16
#: What a path may be other than a file.
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular_file(path: str | Path) -> Path:
    """The path of a regular file.

    Raises DataError if there is none, or it is a folder, a pipe, a socket or a device, which may
    block forever.
    """
    path = expanded(path)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{path}: {reason}") from None
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "a special file")
        raise DataError(f"{path}: is {kind}, not a file")
    return path


def read_bytes(path: str | Path) -> bytes:
    """The content of a regular file.

    Raises DataError if it cannot be read, or does not fit in memory.
    """
    path = regular_file(path)
    try:
        check_memory(str(path), path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def gunzip(content: bytes, name: str) -> bytearray:
    """Decompress gzip data of one or more members, as ``gzip -d`` does.

    Raises DataError if the data are damaged, or unpack to a suspicious size.
    """
    most = allowed_bytes(len(content))
    packed, unpacked, place = memoryview(content), bytearray(), 0
    while place < len(content):
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            if place >= len(content):
                raise DataError(f"{name}: corrupt or truncated gzip data (its end is missing)")
            # In pieces, to avoid copying the remainder, and to unpack little at a time.
            try:
                unpacked += member.decompress(packed[place : place + PIECE])
            except zlib.error as error:
                raise DataError(f"{name}: corrupt or truncated gzip data ({error})") from None
            place += PIECE
            if len(unpacked) > most:
                raise DataError(f"{name}: unpacks to more than {most:,} bytes, suspiciously many")
        place = min(place, len(content)) - len(member.unused_data)
        # Some programs pad with zeros.
        while place < len(content) and content[place] == 0:
            place += 1
    return unpacked


def allowed_bytes(packed: int) -> int:
    """Bytes that ``packed`` bytes may unpack to."""
    return max(FREE_BYTES, LARGEST_RATIO * packed)


def check_honest(name: str, packed: int, unpacked: int) -> None:
    """Refuse files that claim to unpack to a suspicious size."""
    if unpacked > allowed_bytes(packed):
        raise DataError(
            f"{name}: {packed:,} bytes claim to unpack to {unpacked:,}, suspiciously many"
        )


def check_unpacked(name: str, packed: int, unpacked: int) -> None:
    """Refuse ``unpacked`` bytes if too many for ``packed`` ones, or for memory."""
    check_honest(name, packed, unpacked)
    check_memory(name, unpacked)


def check_memory(name: str, size: int) -> None:
    """Refuse to allocate more memory than the machine has."""
    memory = machine_memory()
    if size > memory:
        raise DataError(f"{name}: needs {size:,} bytes, this machine's memory has {memory:,}")


def machine_memory() -> int:
    """Bytes of the machine's memory, or of this process's address space if limited."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 2**40
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return memory if limit == resource.RLIM_INFINITY else min(memory, limit)


class Bounded(io.RawIOBase):
    """A file that raises an error when more than ``most`` bytes are read."""

    def __init__(self, file: IO[bytes], most: int, name: str) -> None:
        self._file, self._most, self._left, self._name = file, most, most, name

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"{self._name}: unpacks to more than {self._most:,} bytes, suspiciously many"
            )
        return content
