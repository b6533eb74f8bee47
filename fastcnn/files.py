"""Writing files so that a reader sees the old content or the new, and one writer at a time."""

import glob
import os
import tempfile
import weakref
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads and compiled kernels are kept: ``FASTCNN_CACHE_DIR``, or the user's cache."""
    chosen = os.environ.get("FASTCNN_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastcnn"


def atomic_write(path: str | Path, content: bytes) -> None:
    """Replace a file's content: temporary file in the same folder, fsync, rename.

    Raises
    ------
    OSError
        If the folder cannot be written; the old file is then untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a saved result has the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            # A full disk names no file, and others the temporary one.
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


def remove_unfinished(path: str | Path) -> None:
    """Remove what a process left that was killed within :func:`atomic_write` of this file."""
    path = Path(path)
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*"):
        temporary.unlink(missing_ok=True)


class FolderLock:
    """Keeps a folder for one writer, until it is released or the process ends, however it ends.

    Where the system or the file system knows no such locks, everyone gets one.

    Raises
    ------
    BlockingIOError
        If another one holds the folder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        descriptor = os.open(folder, os.O_RDONLY)
        self._release = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise
        except OSError:
            self.release()

    def release(self) -> None:
        """Let the next one in."""
        if hasattr(self, "_release"):
            self._release()
