"""File access: atomic writes, locks for a single writer, and the cache folder."""

import errno
import glob
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from fastcnn.errors import ConfigurationError

#: Attempts to put a finished file in place, and seconds between them. On Windows another program,
#: such as a virus scanner, may hold the old file open for a moment.
REPLACE_ATTEMPTS = 20 if os.name == "nt" else 1
REPLACE_PAUSE = 0.05


def expanded(path: str | Path) -> Path:
    """A user's path, with ``~`` and ``~user`` expanded to the home folder.

    Every function that accepts a path from outside uses this. A ``~`` that names no known user is
    kept, as in a shell.

    Raises
    ------
    ConfigurationError
        If it is neither text nor a path, or contains a NUL or a lone surrogate.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigurationError(f"a path must be a str or a Path, got {path!r}")
    text = os.fspath(path)
    if not isinstance(text, str) or "\0" in text or not text or not _can_be_a_name(text):
        raise ConfigurationError(f"{path!r} cannot be a path")
    return Path(os.path.expanduser(text))


def _can_be_a_name(text: str) -> bool:
    """Whether the system can encode a text; a lone surrogate usually cannot be encoded."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def cache_folder() -> Path:
    """The folder of what can be made again: ``FASTCNN_CACHE_DIR``, or the user's cache.

    It has downloads, unpacked archives, large temporary arrays and compiled kernels. Only kernels
    that are no longer used are removed from it.

    The user's cache is in the system's place for caches: ``~/.cache/fastcnn`` on Linux (or within
    ``XDG_CACHE_HOME``), ``~/Library/Caches/fastcnn`` on macOS, ``AppData\\Local\\fastcnn\\Cache``
    on Windows. A user without a home folder gets a folder among the temporary files.
    """
    chosen = os.environ.get("FASTCNN_CACHE_DIR")
    if chosen:
        return expanded(chosen)
    from platformdirs import user_cache_path

    # Without a home folder, some versions raise and others return a path that begins with ~.
    with suppress(RuntimeError):
        folder = user_cache_path("fastcnn", appauthor=False)
        if folder.is_absolute():
            return folder
    import tempfile

    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"fastcnn-{user}"


def read_bytes(path: str | Path) -> bytes:
    """A file's content. FIFOs and devices, which may never end, are refused.

    Raises
    ------
    OSError
        If the file is missing, cannot be read or is not a regular file.
    """
    path = expanded(path)
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read()


def _without_waiting(path: str, flags: int) -> int:
    # Opening a FIFO would block until somebody opens it for writing.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, unless they exist.

    Raises
    ------
    OSError
        If it cannot be created, for example because a file is in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        reason = f"{folder} is a file, not a folder"
        raise NotADirectoryError(errno.ENOTDIR, reason, str(folder)) from None


def atomic_write(path: str | Path, content: bytes | bytearray) -> None:
    """Replace a file's content: temporary file in the same folder, fsync, rename.

    A symbolic link is kept, and the file that it points to is replaced, unless that is read-only.
    Devices and pipes, such as /dev/null, are written to. The file's permissions are those of any
    new file: what the process's umask leaves.

    Raises
    ------
    ConfigurationError
        If the path does not end in a file name, such as ``.``.
    OSError
        If the folder cannot be written; the old file is then untouched.
    """
    path = expanded(path)
    if not path.name:
        raise ConfigurationError(f"{path} is a folder, and cannot be written as a file")
    temporary, target = None, path
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content)
            return
        if path.is_symlink():
            # Renaming would also replace a read-only file, such as one in a store of versions.
            with suppress(FileNotFoundError), open(path, "r+b"):
                pass
            target = Path(os.path.realpath(path))
        make_folder(target.parent)
        unfinished = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
        with open(unfinished, "xb") as file:
            temporary = unfinished
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # The system names the temporary file, or none if the disk is full: name the target.
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


def _replace(source: Path, target: Path) -> None:
    for attempt in range(1, REPLACE_ATTEMPTS + 1):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == REPLACE_ATTEMPTS:
                raise
            time.sleep(REPLACE_PAUSE)


def remove_unfinished(path: str | Path) -> None:
    """Remove temporary files of a process that was killed while it wrote this file."""
    path = expanded(path)
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*"):
        temporary.unlink(missing_ok=True)


#: The file in a folder that its writer keeps locked. It is not removed when the lock is released:
#: the next writer may already have opened it.
LOCK_FILE = ".lock"


class FolderLock:
    """Reserves a folder for one writer, until it is released or the process ends in any way.

    A child process forked in the meantime does not hold the lock. On a file system without locks
    every writer gets one.

    Raises
    ------
    BlockingIOError
        If another writer holds the folder, in this process or in another one.
    OSError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock, Timeout

        path = folder / LOCK_FILE
        with suppress(FileExistsError):
            path.touch(exist_ok=False)  # with the umask's permissions; FileLock would restrict them
        self._lock = FileLock(path, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise BlockingIOError(errno.EWOULDBLOCK, "is locked", str(folder)) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise

    def release(self) -> None:
        """Release the folder for the next writer."""
        self._lock.release()
