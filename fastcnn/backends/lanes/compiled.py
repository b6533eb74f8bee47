"""The compiled interpreter: built once on a machine, kept on disk, loaded by every process.

numba's own cache looks at one source file; this one is keyed on all sources of the kernels, the
versions of fastcnn, numba and llvmlite, and the processor, so that it never serves stale code and
one home folder serves different machines.
"""

import gc
import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching
from numba.core.runtime import rtsys

import fastcnn
from fastcnn.backends.lanes import interpreter, late_codegen
from fastcnn.backends.lanes.target import processor
from fastcnn.files import cache_folder

log = logging.getLogger("fastcnn.lanes")
_lock = threading.Lock()
#: Seconds after which kernels that no process has loaded are removed: 90 days.
UNUSED = 90 * 24 * 3600


@dataclass(frozen=True)
class Start:
    """How the interpreter came into this process.

    Attributes
    ----------
    seconds : float
    compiled : bool
        True if it was compiled, False if it came from the disk.
    folder : Path or None
        Where it is kept; None if no folder could be written.
    """

    seconds: float
    compiled: bool
    folder: Path | None


_start: Start | None = None


def start() -> Start:
    """Load the interpreter, or compile and keep it; later calls return at once."""
    global _start
    with _lock:
        if _start is None:
            _start = _compile()
        return _start


def kernel_folder() -> Path:
    """The folder of this version and this processor."""
    digest = hashlib.sha256()
    for part in (fastcnn.__version__, numba.__version__, llvmlite.__version__, *processor()):
        digest.update(part.encode() + b"\0")
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return cache_folder() / f"kernels-{digest.hexdigest()[:16]}"


def are_kept() -> bool:
    """Whether a new process would find the interpreter on the disk."""
    return any(kernel_folder().glob("*.nbc"))


def _compile() -> Start:
    began = time.perf_counter()
    dispatcher: Any = interpreter.run
    folder: Path | None = kernel_folder()
    try:
        dispatcher._cache = cache = KernelCache(dispatcher.py_func)
    except OSError as error:
        log.warning("kernels cannot be kept (%s): every process compiles them anew", error)
        folder, cache = None, None
    with late_codegen.only_for(dispatcher.py_func.__qualname__), _rarely_collected():
        _on_a_large_stack(lambda: dispatcher.compile(interpreter.SIGNATURE))
    dispatcher.disable_compile()
    compiled = cache is None or cache.missed
    seconds = time.perf_counter() - began
    if compiled:
        log.warning("the kernels are ready after %.1f s", seconds)
    if folder is not None:
        _forget_unused(folder, compiled)
    return Start(seconds, compiled, folder)


def _forget_unused(used: Path, compiled: bool) -> None:
    """Note that a folder is used, and behind a compilation remove those that long were not."""
    with suppress(OSError):
        os.utime(used)
        for folder in used.parent.glob("kernels-*") if compiled else ():
            if time.time() - folder.stat().st_mtime > UNUSED:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """With less garbage collection: compilation drops little, and looking for it took a tenth."""
    before = gc.get_threshold()
    gc.set_threshold(20_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _on_a_large_stack(call: Callable[[], Any]) -> Any:
    """``call()``, with room for the frames of all that it calls.

    Python keeps frames in chunks of 16 KB: calls in a loop that cross a chunk's end map and unmap
    memory each time. The compilation took up to 4 s longer, depending on who called it. The frame
    of this function does not fit such a chunk, and gets one of 1 MB.
    """
    return call()


_on_a_large_stack.__code__ = _on_a_large_stack.__code__.replace(co_stacksize=70_000)


class _Locator(caching._CacheLocator):
    """Places the cache in :func:`kernel_folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        """The folder's name says all."""
        return self._folder.name

    def get_disambiguator(self) -> str:
        return "run"

    @classmethod
    def from_function(cls, py_func: Any, py_file: Any) -> "_Locator":
        """Raises OSError if the folder cannot be written."""
        locator = cls(kernel_folder())
        locator.ensure_cache_path()
        return locator


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class KernelCache(caching.FunctionCache):
    """numba's cache with our key; a file that cannot be read is compiled anew."""

    _impl_class = _Implementation
    missed = False

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        try:
            # Without what numba loads to compile with, which takes five times as long.
            rtsys.initialize(target_context)
            with self._guard_against_spurious_io_errors():
                found = self._load_overload(sig, target_context)
        except Exception as error:  # whatever a damaged file makes unpickling raise
            log.warning("%s: damaged (%r), compiling anew", self.cache_path, error)
            self.flush()
            found = None
        if found is None:
            self.missed = True
            log.warning(
                "compiling the kernels for this processor (%s), about ten seconds, once; "
                "they are kept in %s", processor()[1], self.cache_path,
            )  # fmt: skip
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled function, if the disk takes it."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            log.warning("%s: the kernels could not be kept (%s)", self.cache_path, error)
