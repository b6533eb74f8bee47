"""Folders of pictures, on disk or in a zip or tar archive: their entries and contents.

Archives are never unpacked to separate files: their names are only names, wherever they point.
"""

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from fastcnn.data.reading import (
    CHUNK,
    GZIP_MAGIC,
    Bounded,
    allowed_bytes,
    check_honest,
    check_memory,
    check_unpacked,
    regular_file,
)
from fastcnn.data.split import normalised_name
from fastcnn.errors import DataError, cause
from fastcnn.files import cache_folder

#: Files and folders that operating systems, file servers and notebooks add to a user's.
OF_TOOLS = {
    *("__macosx", "__pycache__", "@eadir", "@recently-snapshot", "@recycle", "@sharebin", "@tmp"),
    *("@transcode", "#recycle", "#snapshot", "$recycle.bin", "~snapshot", "found.000"),
    *("lost+found", "network trash folder", "system volume information", "temporary items"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
#: First bytes of compressed tar files, and their readers.
COMPRESSED = {GZIP_MAGIC: gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
SHORT_SUFFIXES = (".tgz", ".tbz2", ".tbz", ".txz")
#: Most entries of an archive: a name and a position of each are kept in memory.
MOST_ENTRIES = 5_000_000
TAR_MAGIC, TAR_PLACE = b"ustar", 257


class Member(Protocol):
    """A file in an archive."""

    @property
    def name(self) -> str:
        """The archive and the path in it, for messages."""

    def read(self) -> bytes:
        """Its content."""


#: Source of a picture's bytes.
Source = Path | Member


@dataclass
class Node:
    """A file or a folder.

    Attributes
    ----------
    name : str
        Its name in the folder.
    is_folder : bool
    reason : str or None
        Why it is skipped, regardless of its content.
    source : Path or Member, or None
        The source of a file's bytes, or the path of a folder on disk.
    key : Path or None
        Equal for two nodes that are the same folder on disk.
    inner : dict of str to Node
        Content of a folder in an archive.
    """

    name: str
    is_folder: bool
    reason: str | None = None
    source: Any = None
    key: Path | None = None
    inner: "dict[str, Node]" = field(default_factory=dict)

    def entries(self) -> "list[Node]":
        """The content of a folder, sorted by name. Raises DataError if it cannot be listed."""
        nodes = self.inner.values() if self.source is None else _listed(self.source)
        return sorted(nodes, key=lambda node: normalised_name(node.name))


def folder_node(folder: Path) -> Node:
    """A folder on disk."""
    return Node(folder.name, True, None, folder, folder.resolve())


def _listed(folder: Path) -> Iterator[Node]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                reason = _passed(entry.name)
                mode = 0
                if reason is None:
                    try:
                        mode = entry.stat().st_mode
                    except OSError:
                        reason = "with a broken link"
                    else:
                        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                            reason = "neither file nor folder"
                path = Path(entry.path)
                is_folder = stat.S_ISDIR(mode)
                yield Node(
                    entry.name, is_folder, reason, path, path.resolve() if is_folder else None
                )
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None


def _passed(name: str) -> str | None:
    if name.startswith("."):
        return "hidden"
    return "of tools" if name.lower() in OF_TOOLS else None


# -- archives ---------------------------------------------------------------------------------


def archive_kind(path: Path) -> str | None:
    """Whether a file is a zip archive, a possibly compressed tar archive, or neither.

    Raises DataError if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(TAR_PLACE + len(TAR_MAGIC))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if beginning.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if beginning[TAR_PLACE:] == TAR_MAGIC:
        return "tar"
    called = ".tar" in path.name.lower() or path.suffix.lower() in SHORT_SUFFIXES
    return "tar" if called and beginning.startswith(tuple(COMPRESSED)) else None


@contextmanager
def opened_archive(path: Path) -> Iterator[Node]:
    """The root of a zip or tar archive; its members can be read while it is open.

    Links, devices, encrypted members and names that point outside the archive are skipped.

    Raises DataError if it is damaged, or would unpack to a suspicious size.
    """
    path = regular_file(path)
    opened = _zip if archive_kind(path) == "zip" else _tar
    with opened(path) as root:
        yield root


@contextmanager
def _zip(path: Path) -> Iterator[Node]:
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # damaged directories raise many kinds of errors
        raise DataError(f"{path}: damaged, cannot be read as a zip archive ({error})") from None
    with archive:
        root, total = Node("", True), 0
        for info in _at_most(archive.infolist(), path):
            reason = None
            if info.flag_bits & 1:
                reason = "encrypted"
            elif not info.is_dir() and stat.S_IFMT(info.external_attr >> 16) == stat.S_IFLNK:
                reason = "linked"
            total += info.file_size
            _place(root, info.filename, info.is_dir(), reason, _ZipMember(path, archive, info))
        check_honest(str(path), path.stat().st_size, total)
        yield root


@contextmanager
def _tar(path: Path) -> Iterator[Node]:
    with _plain_tar(path) as file:
        root, total, lock = Node("", True), 0, threading.Lock()
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for info in _at_most(archive, path):
                    reason = None
                    if info.issym() or info.islnk():
                        reason = "linked"
                    elif not (info.isreg() or info.isdir()) or info.issparse():
                        reason = "neither file nor folder"
                    total += info.size if reason is None else 0
                    member = _TarMember(path, file, lock, info.name, info.offset_data, info.size)
                    _place(root, info.name, info.isdir(), reason, member)
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{path}: damaged, cannot be read as a tar archive ({cause(error)})"
            ) from None
        check_honest(str(path), path.stat().st_size, total)
        yield root


def _plain_tar(path: Path) -> IO[bytes]:
    """A tar archive, decompressed to a temporary file if necessary."""
    with path.open("rb") as raw:
        beginning = raw.read(6)
    unpack: Any = next(
        (opener for magic, opener in COMPRESSED.items() if beginning.startswith(magic)), None
    )
    if unpack is None:
        return path.open("rb")
    most = allowed_bytes(path.stat().st_size)
    try:
        folder = cache_folder() / "arrays"
        folder.mkdir(parents=True, exist_ok=True)
        plain = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 closed by the caller
        with unpack(path, "rb") as packed:
            shutil.copyfileobj(Bounded(packed, most, str(path)), plain, CHUNK)
    except DataError:
        raise
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: damaged, or cannot be unpacked ({cause(error)})") from None
    plain.seek(0)
    return plain


def _at_most(entries: Any, path: Path) -> Iterator[Any]:
    for number, entry in enumerate(entries):
        if number >= MOST_ENTRIES:
            raise DataError(f"{path}: has more than {MOST_ENTRIES:,} entries")
        yield entry


def _place(root: Node, name: str, is_folder: bool, reason: str | None, source: Any) -> None:
    """Insert an entry at the place given by its name."""
    text = name.replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts or text.startswith("/") or ":" in (parts or [""])[0] or "\0" in text:
        reason, parts = "names that lead out of the archive", ["?" + str(len(root.inner))]
        is_folder = False
    if not parts:
        return
    here = root
    for part in parts[:-1]:
        here = here.inner.setdefault(part, Node(part, True, _passed(part)))
        if not here.is_folder:
            return  # within a file
    last = parts[-1]
    reason = reason or _passed(last)
    if is_folder:
        here.inner.setdefault(last, Node(last, True, reason))
    else:
        here.inner[last] = Node(last, False, reason, source)


@dataclass(frozen=True)
class _ZipMember:
    path: Path
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def name(self) -> str:
        return f"{self.path}: {self.info.filename}"

    def read(self) -> bytes:
        check_unpacked(self.name, self.info.compress_size, self.info.file_size)
        try:
            with self.archive.open(self.info) as file:
                return file.read(self.info.file_size)
        except Exception as error:  # zlib's, zipfile's, and those of other compression methods
            raise DataError(f"{self.name}: damaged, cannot be unpacked ({error})") from None


@dataclass(frozen=True)
class _TarMember:
    path: Path
    file: IO[bytes]
    lock: threading.Lock
    member: str
    start: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.path}: {self.member}"

    def read(self) -> bytes:
        check_memory(self.name, self.size)
        with self.lock:
            self.file.seek(self.start)
            content = self.file.read(self.size)
        if len(content) != self.size:
            raise DataError(f"{self.name}: damaged, the archive ends within it")
        return content
