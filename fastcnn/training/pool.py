"""Many jobs at once, each in one of several worker processes that hold the same data."""

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from fastcnn.cores import available_cores

#: Windows can wait for no more processes at once.
MOST_WORKERS = 61 if sys.platform == "win32" else 1 << 16

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    task: Callable[..., Result],
    jobs: Sequence[Job],
    held: tuple[Any, ...] = (),
    *,
    workers: int | None = None,
) -> Iterator[tuple[int, Result | None]]:
    """Call ``task(job, *held)`` for each job; yield the results as they come.

    Workers are new processes: in a script of one's own, call this under
    ``if __name__ == "__main__":``. Leaving the iteration early stops them.

    Parameters
    ----------
    task : callable
        A function of a module; long ones ask :func:`is_over` now and then.
    jobs : sequence
    held : tuple
        Further arguments, the same for all jobs: sent to each process once.
    workers : int, optional
        Processes; by default one for each core, and never more than jobs, or than 61 on
        Windows. With 1 the jobs are done in this process, in their order.

    Yields
    ------
    index : int
        Of the job in ``jobs``.
    result
        What the task returned, or None if its process died.

    Raises
    ------
    Exception
        What a task raised.
    """
    workers = min(workers or available_cores(), len(jobs), MOST_WORKERS)
    if workers <= 1:
        for index, job in enumerate(jobs):
            yield index, task(job, *held)
        return
    # Started afresh, because a process forked from one with running threads may hang.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    # Not as the initialiser's arguments: the start of a process writes those into a pipe, and
    # waits for ever if they are many and the process ends before it reads them, as it does where a
    # script lacks its ``if __name__``. A queue is filled by a thread of its own.
    supply = context.Queue()
    pool = None
    try:
        with _undisturbed():
            pool = ProcessPoolExecutor(workers, context, _receive, (supply, stop))
            for _ in range(workers):
                supply.put((task, held))
            futures = {pool.submit(_work, job): index for index, job in enumerate(jobs)}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                yield futures[future], None
    finally:
        stop.set()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        supply.cancel_join_thread()  # what nobody took is not waited for
        supply.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait: an interrupt amid the start of processes leaves some that nobody stops."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def is_over() -> bool:
    """Whether the results of this worker process are no longer wanted."""
    return _held is not None and bool(_held[2].is_set())


#: What a worker process holds: the task, its further arguments, and the event of the end.
_held: tuple[Callable[..., Any], tuple[Any, ...], Any] | None = None


def _receive(supply: Any, stop: Any) -> None:
    global _held
    # Ctrl-C reaches every process of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _held = (*supply.get(), stop)


def _work(job: Any) -> Any:
    assert _held is not None
    task, held, _ = _held
    return task(job, *held)
