"""How many threads numpy's matrix products use while networks are trained."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_inside = 0
_limits: Any = None


@contextmanager
def blas_threads(threads: int | None) -> Iterator[None]:
    """Limit the threads of BLAS, or leave them as they are where ``threads`` is None.

    The limit is the process's. If trainings overlap in several threads, the first sets it and
    the last lifts it; if each lifted what it had found, the limit could stay for good.
    """
    global _inside, _limits
    if threads is None:
        yield
        return
    with _lock:
        if _inside == 0:
            _limits = _libraries().limit(limits=threads, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore(_limits)


@cache
def _libraries() -> Any:
    """Numpy's libraries, looked for once: that takes 0.6 ms, more where many others are loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _restore(limits: Any) -> None:
    from threadpoolctl import OpenBLASController

    # From version 3.8 on, threadpoolctl ignores every thread but the one that set the limit.
    release = getattr(OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    limits.restore_original_limits()
    if release is not None:
        release(force=True)
