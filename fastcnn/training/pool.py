"""Parallel jobs in worker processes that share the same data.

Not ``concurrent.futures``, where one dead process fails all remaining jobs, and workers outlive a
killed parent.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from fastcnn.cores import available_cores

#: Most processes that Windows can wait for at once.
MOST_WORKERS = 61 if sys.platform == "win32" else 1 << 16
#: Attempts at a job: it is retried once if its process dies, which it may not have caused.
ATTEMPTS = 2

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    task: Callable[..., Result],
    jobs: Sequence[Job],
    held: tuple[Any, ...] = (),
    *,
    workers: int | None = None,
) -> Iterator[tuple[int, Result | None]]:
    """Call ``task(job, *held)`` for each job; yield the results as they complete.

    Workers are new processes: in a script, call this under ``if __name__ == "__main__":``. Leaving
    the iteration early stops them, and they exit on their own when this process dies. A job whose
    process dies is retried once in a new process; the others continue.

    Parameters
    ----------
    task : callable
        A module-level function; long-running ones should call :func:`is_over` from time to time.
    jobs : sequence
    held : tuple
        Further arguments, common to all jobs: sent to each process once.
    workers : int, optional
        Processes; by default one per core, and never more than jobs, or than 61 on Windows. With 1
        the jobs run in this process, in order.

    Yields
    ------
    index : int
        Index of the job in ``jobs``.
    result
        The task's result, or None if its process died twice or could not be started.

    Raises
    ------
    Exception
        An exception raised by a task.
    """
    workers = min(workers or available_cores(), len(jobs), MOST_WORKERS)
    if workers <= 1:
        for index, job in enumerate(jobs):
            yield index, task(job, *held)
        return
    crew = _Crew((task, held), workers)
    waiting, attempts = deque(range(len(jobs))), Counter[int]()
    try:
        while (waiting or crew.is_busy) and crew.workers:
            for worker, message in crew.news():
                done, worker.index = worker.index, None
                if message is not None and waiting:
                    attempts[waiting[0]] += 1
                    worker.begin(waiting[0], jobs[waiting.popleft()])
                if done is None:
                    continue  # it has just begun, or died before: another would fail too
                if message is not None:
                    result, error = message
                    if error is not None:
                        raise error
                    yield done, result
                    continue
                crew.start()
                if attempts[done] < ATTEMPTS:
                    waiting.appendleft(done)
                else:
                    yield done, None
        for left in waiting:
            yield left, None
    finally:
        crew.dismiss()


class _Worker:
    """A process, the parent's end of its pipe, and its current job."""

    def __init__(self) -> None:
        # Spawned, because a process forked from one with running threads may hang.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.index: int | None = None
        self.process.start()
        theirs.close()

    def begin(self, index: int, job: Any) -> None:
        """Send the process a job; if it has just died, that is noticed later."""
        self.index = index
        with suppress(OSError):
            self.connection.send(job)


class _Crew:
    """The worker processes of one call of :func:`run_jobs`."""

    def __init__(self, supply: tuple[Any, ...], count: int) -> None:
        self.supply = ForkingPickler.dumps(supply)
        self.workers: dict[Connection, _Worker] = {}
        try:
            for _ in range(count):
                self.start()
        except BaseException:
            self.dismiss()
            raise

    @property
    def is_busy(self) -> bool:
        """Whether a job is running."""
        return any(worker.index is not None for worker in self.workers.values())

    def start(self) -> None:
        """Start another process."""
        with _undisturbed():
            worker = _Worker()
            self.workers[worker.connection] = worker

    def news(self) -> Iterator[tuple[_Worker, Any]]:
        """Idle workers with the outcome of their last job, and dead workers with None."""
        for ready in wait(list(self.workers)):
            worker = self.workers[ready]  # type: ignore[index]
            try:
                message = worker.connection.recv()
                if message == READY:
                    worker.connection.send_bytes(self.supply)
            except (EOFError, OSError):
                del self.workers[worker.connection]
                worker.connection.close()
                worker.process.join()
                message = None
            yield worker, message

    def dismiss(self) -> None:
        """Stop the processes, each as soon as its task returns."""
        for worker in self.workers.values():
            worker.connection.close()
        for worker in self.workers.values():
            worker.process.join()
        self.workers.clear()


#: A worker's first message.
READY = "ready"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Defer Ctrl-C: an interrupt while processes start would leave some running.

    They inherit the mask, so that Ctrl-C does not end one, with a traceback, before it ignores it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    if sys.platform != "win32":
        resource_tracker.ensure_running()  # it would unblock the signal
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


#: The pipe to the parent, in a worker process.
_parent: Connection | None = None


def is_over() -> bool:
    """Whether the results of this worker process are no longer needed."""
    # During a job, the only event on the pipe is that the parent has closed it.
    return _parent is not None and _parent.poll()


def _serve(connection: Connection) -> None:
    """Main loop of a worker process: run jobs until the parent closes the pipe."""
    global _parent
    _parent = connection
    # Ctrl-C reaches every process of a terminal; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        connection.send(READY)
        task, held = connection.recv()
        while True:
            job = connection.recv()
            connection.send(_outcome(task, job, held))


def _outcome(task: Callable[..., Any], job: Any, held: tuple[Any, ...]) -> tuple[Any, Any]:
    """A task's result and exception, as far as they can be pickled."""
    result, error = None, None
    try:
        result = task(job, *held)
        ForkingPickler.dumps(result)
    except Exception as raised:
        trace = traceback.format_exc()
        try:
            error = ForkingPickler.loads(ForkingPickler.dumps(raised))
        except Exception:
            error = RuntimeError(f"{type(raised).__name__}: {raised}")
        error.add_note(f"In a worker process:\n{trace}")
        result = None
    return result, error


def _end_with_parent() -> None:
    """Exit this process immediately when its parent is gone, for whatever reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
