"""The cache of object files: a private folder, whose files are verified before they are loaded.

Machine code runs with the rights of the user who loads it, so a folder that anybody else owns or
can write to is refused. Objects that cannot be stored are compiled by each process.
"""

import hashlib
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastcnn.errors import sentence
from fastcnn.files import cache_folder

log = logging.getLogger("fastcnn.codegen")
#: The first line of a file; it changes with the format.
MAGIC = b"fastcnn object 1\n"
#: Seconds after which objects that no process has loaded are removed: 90 days.
UNUSED = 90 * 24 * 3600
#: Seconds for which a process waits for another one that compiles.
PATIENCE = 120
#: Seconds after which a use is recorded again.
NOTED = 24 * 3600
_said: set[str] = set()


def object_folder() -> Path | None:
    """The folder, created if needed; None, with a warning, if it cannot be used."""
    try:
        folder = cache_folder() / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = _problem(os.stat(folder))
    except (OSError, RuntimeError) as error:  # RuntimeError: no home
        _say(
            f"compiled functions cannot be kept: {sentence(error)}; every process compiles its own"
        )
        return None
    if problem:
        _say(
            f"{folder} {problem}: nothing is loaded from it and nothing kept; every process "
            "compiles its own functions. Make the folder yours and writable by you alone, or set "
            "FASTCNN_CACHE_DIR"
        )
        return None
    return folder


def _problem(found: os.stat_result) -> str:
    """Why a file or folder is not trusted; empty if it is."""
    if not hasattr(os, "getuid"):  # Windows: the user's profile is private
        return ""
    if found.st_uid != os.getuid():
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "is writable by other users"
    return ""


def _say(message: str) -> None:
    if message not in _said:
        _said.add(message)
        log.warning(message)


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + content).hexdigest().encode()


def read(folder: Path, name: str, key: str) -> bytes | None:
    """The object stored under a key; None if there is none, or it is damaged."""
    path = folder / f"{name}-{key[:24]}.o"
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            content = file.read()
    except OSError:
        return None
    problem = _problem(found)
    header = len(MAGIC) + 64 + 1
    digest, payload = content[len(MAGIC) : header - 1], content[header:]
    if problem or not content.startswith(MAGIC) or digest != _digest(key, payload):
        log.warning("%s %s; compiling again", path, problem or "is damaged")
        return None
    if time.time() - found.st_mtime > NOTED:
        with suppress(OSError):
            os.utime(path)
    return payload


def write(folder: Path, name: str, key: str, content: bytes) -> bool:
    """Store an object; returns whether that succeeded. Processes may do so concurrently."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".unfinished-", dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(MAGIC + _digest(key, content) + b"\n" + content)
        os.replace(temporary, folder / f"{name}-{key[:24]}.o")
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        _say(
            f"compiled functions cannot be kept: {sentence(error)}; every process compiles its own"
        )
        return False
    return True


@contextmanager
def one_at_a_time(folder: Path | None) -> Iterator[None]:
    """Wait while another process compiles for the same folder, up to a time limit."""
    lock = None
    if folder:
        from filelock import FileLock, Timeout

        lock = FileLock(folder / ".lock", timeout=PATIENCE)
        try:
            lock.acquire()
        except (Timeout, OSError, NotImplementedError) as error:
            log.debug("compiling without a lock: %s", error)
            lock = None
    try:
        yield
    finally:
        if lock:
            lock.release()


def remove_unused(folder: Path) -> None:
    """Remove objects that no process has loaded for long, and leftovers of killed processes."""
    for path in folder.iterdir():
        if path.suffix == ".o" or path.name.startswith(".unfinished-"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > UNUSED:
                    path.unlink()
