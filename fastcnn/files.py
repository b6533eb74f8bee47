"""Writing files so that a reader sees the old content or the new; where the cache is."""

import os
import tempfile
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
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a saved result has the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
