"""Semaphores with which threads wake each other."""

import ctypes
import sys
from functools import cache
from typing import Any

_CALL = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)


class Bell:
    """A semaphore of the operating system that compiled functions can also post and wait for.

    The functions at ``ring_address`` and ``sleep_address`` are called with ``(handle, 1, 0)`` and
    ``(handle, -1, 0)``. Raises OSError or AttributeError if the system has none.
    """

    def __init__(self) -> None:
        self._kept: Any
        if sys.platform == "win32":
            library = ctypes.windll.kernel32
            library.CreateSemaphoreW.restype = ctypes.c_void_p
            self._kept = None
            self.handle = library.CreateSemaphoreW(None, 0, 2**30, None) or 0
            ring, sleep = library.ReleaseSemaphore, library.WaitForSingleObject
        elif sys.platform == "darwin":
            library = ctypes.CDLL(None)
            library.dispatch_semaphore_create.restype = ctypes.c_void_p
            library.dispatch_semaphore_create.argtypes = [ctypes.c_long]
            self._kept = None
            self.handle = library.dispatch_semaphore_create(0) or 0
            ring, sleep = library.dispatch_semaphore_signal, library.dispatch_semaphore_wait
        else:
            library = ctypes.CDLL(None, use_errno=True)
            self._kept = (ctypes.c_int64 * 16)()
            self.handle = ctypes.addressof(self._kept)
            if library.sem_init(ctypes.c_void_p(self.handle), 0, 0):
                raise OSError(ctypes.get_errno(), "sem_init")
            ring, sleep = library.sem_post, library.sem_wait
        if not self.handle:
            raise OSError("there is no semaphore")
        self.ring_address, self.sleep_address = (
            ctypes.cast(function, ctypes.c_void_p).value or 0 for function in (ring, sleep)
        )
        self._ring, self._sleep = _CALL(self.ring_address), _CALL(self.sleep_address)

    def ring(self) -> None:
        """Wake a sleeping thread, or the next one that would sleep."""
        self._ring(self.handle, 1, 0)

    def sleep(self) -> None:
        """Sleep until the bell is rung or a signal arrives."""
        self._sleep(self.handle, -1, 0)


@cache
def ring_address() -> int:
    """Address of the function that rings any bell; 0 if the system has none."""
    try:
        return Bell().ring_address
    except (OSError, AttributeError):
        return 0
