"""Threads of backends that run operation by operation, and the limit on numpy's own threads."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from typing import Any, TypeVar

from fastcnn import forks
from fastcnn.cores import available_cores

P = TypeVar("P")
R = TypeVar("R")
_limit: ContextVar[int | None] = ContextVar("limit", default=None)
_lock = forks.lock()
_inside = 0
_limits: Any = None


@contextmanager
def workers(threads: int | None) -> Iterator[None]:
    """Let passes inside use this many threads; None keeps the current number."""
    token = _limit.set(threads or _limit.get())
    try:
        yield
    finally:
        _limit.reset(token)


def run_all(function: Callable[[P], R], parts: Sequence[P]) -> list[R]:
    """``[function(part) for part in parts]``, several at a time.

    An exception is raised when all calls have ended.
    """
    threads = min(_limit.get() or available_cores(), len(parts))
    if threads < 2:
        return [function(part) for part in parts]
    # This thread runs one of the shares.
    shares = [parts[start::threads] for start in range(threads)]
    # Each with a copy of this thread's context, which holds numpy's error handling.
    futures = [
        _pool(os.getpid(), threads - 1).submit(copy_context().run, _run, function, share)
        for share in shares[1:]
    ]
    try:
        first = _run(function, shares[0])
    finally:
        wait(futures)
    found = [first, *(future.result() for future in futures)]
    return [found[place % threads][place // threads] for place in range(len(parts))]


def _run(function: Callable[[P], R], parts: Sequence[P]) -> list[R]:
    return [function(part) for part in parts]


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of a process; a forked child has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="fastcnn-part")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit numpy's matrix products to one thread: several threads round differently.

    The limit is per process. If training runs overlap in several threads, the first sets it and the
    last lifts it; if each restored what it had found, the limit could remain forever.
    """
    global _inside, _limits
    with _lock:
        if _inside == 0:
            _limits = _libraries().limit(limits=1, user_api="blas")
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
    """numpy's BLAS libraries, searched once: that takes 0.6 ms, more if many others are loaded."""
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
