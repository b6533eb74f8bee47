"""Runs long passes on their callers' threads while cores are free, otherwise in a queue.

More concurrent passes than cores would only compete for the caches. A caller that finds no core
free queues its pass and sleeps; threads, one per core, run queued passes without a pause, so that
no core waits for a caller to wake up.
"""

import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from fastcnn import forks
from fastcnn.backends.lanes.session.bell import Bell
from fastcnn.backends.lanes.session.conductor import ALONE, TOGETHER
from fastcnn.cores import available_cores

#: Seconds that an idle thread waits for another pass before it ends.
IDLE = 1.0
#: Seconds for which passes use no helpers after other callers were seen: calling helpers and
#: sending them away again is slow.
CROWDED = 0.001
#: Calls from one thread after which there is only one caller.
SEVERAL = 64

#: Runs a pass, on its thread alone if others need the cores. It may be asked to ring a bell once
#: the interpreter's lock is released.
Work = Callable[[int], None]


class _Waiting:
    """A queued pass."""

    def __init__(self, work: Work, bell: Bell) -> None:
        self.work, self.bell = work, bell
        self.is_over = False
        self.error: BaseException | None = None


class _Own(threading.local):
    """Whether this thread has a core.

    A signal handler that runs on such a thread must not wait for a core: it would wait for itself.
    """

    has_core = False


class Room:
    """Admits as many concurrent passes as there are cores.

    A thread that has a core holds its lock until the pass is done. ``with`` releases locks in every
    case, which a counter cannot: an interrupt may arrive before the line that counts.
    """

    def __init__(self) -> None:
        self._lock = forks.lock()
        self._own = _Own()
        self.renew()

    def renew(self) -> None:
        """Reset: nobody is running, as in a forked process."""
        self._cores = [threading.Lock() for _ in range(available_cores())]
        self._line: SimpleQueue[_Waiting] = SimpleQueue()
        self._threads: dict[int, threading.Thread] = {}
        self._bells: list[Bell] = []
        self._crowded = 0.0
        self._caller, self._several = threading.get_ident(), 0

    def has_one_caller(self) -> bool:
        """Whether all of the last calls came from this thread."""
        me = threading.get_ident()
        if me != self._caller:
            self._caller, self._several = me, SEVERAL
        elif self._several:
            self._several -= 1
        return not self._several

    def run(self, work: Work) -> None:
        """Run a pass, or queue it; raises what it raises."""
        own = self._own
        if own.has_core:
            work(ALONE)
            return
        if self._line.empty():
            mine = threading.Lock()
            try:
                own.has_core = True
                with mine:
                    if self._take_core(mine):
                        work(ALONE if time.perf_counter() < self._crowded else TOGETHER)
                        return
            finally:
                own.has_core = False
        try:
            waiting = self._join(_Waiting(work, self._take_bell()))
        except (RuntimeError, OSError, AttributeError):  # no more threads, or no semaphores
            work(ALONE)
            return
        while not waiting.is_over:
            waiting.bell.sleep()
        self._bells.append(waiting.bell)
        if waiting.error is not None:
            raise waiting.error

    def _take_core(self, mine: threading.Lock) -> bool:
        """Take a free core, if there is one."""
        free = -1
        with self._lock:
            for n, last in enumerate(self._cores):
                if last.locked():
                    self._crowded = time.perf_counter() + CROWDED
                else:
                    free = n
            if free >= 0:
                self._cores[free] = mine
        return free >= 0

    def _take_bell(self) -> Bell:
        try:
            return self._bells.pop()
        except IndexError:
            return Bell()

    def _join(self, waiting: _Waiting) -> _Waiting:
        """Queue a pass; from then on, the queue has a thread for each core."""
        with self._lock:
            if len(self._threads) < len(self._cores):
                self._start_threads()
            self._line.put(waiting)
        return waiting

    def _start_threads(self) -> None:
        for core in range(len(self._cores)):
            if core not in self._threads:
                name = f"fastcnn-line-{core}"
                threading.Thread(target=self._serve, args=(core,), name=name, daemon=True).start()

    def _serve(self, core: int) -> None:
        """Run queued passes, and keep the core as long as there are any."""
        line, me = self._line, threading.current_thread()
        with self._lock:
            if self._threads.setdefault(core, me) is not me:
                return  # another caller has started one, too
        while True:
            try:
                waiting = line.get(timeout=IDLE)
            except Empty:
                with self._lock:
                    if line.empty():
                        del self._threads[core]
                        return
                continue
            mine = threading.Lock()
            with mine:
                with self._lock:
                    before, self._cores[core] = self._cores[core], mine
                with before:
                    pass  # the caller that had the core is done
                self._run_line(waiting)

    def _run_line(self, waiting: _Waiting) -> None:
        """Run passes until the queue is empty; each caller wakes up while the next pass runs.

        Any earlier it would find the interpreter's lock held, and sleep again.
        """
        last: _Waiting | None = None
        while True:
            try:
                waiting.work(ALONE if last is None else last.bell.handle)
            except BaseException as error:
                waiting.error = error
                if last is not None:
                    last.bell.ring()
            last, waiting.is_over = waiting, True
            try:
                waiting = self._line.get_nowait()
            except Empty:
                break
        last.bell.ring()


room = Room()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=room.renew)
