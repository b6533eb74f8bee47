"""Who runs long passes: their callers while cores are free, or else threads, one after the other.

More passes at once than cores would only take the caches from each other. A caller who finds no
core free leaves its pass in a line and sleeps; threads, one for each core, take passes from there
without a pause, so no core waits until a caller is awake.
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

#: Seconds that a thread waits for another pass before it ends.
IDLE = 1.0
#: Seconds for which callers leave the others' cores alone: to call threads for help and to send
#: them away again takes long.
CROWDED = 0.001

#: Runs a pass, on its thread alone if others need the cores. It may be told to ring a bell once
#: the interpreter's lock is free.
Work = Callable[[int], None]


class _Waiting:
    """A pass in the line."""

    def __init__(self, work: Work, bell: Bell) -> None:
        self.work, self.bell = work, bell
        self.is_over = False
        self.error: BaseException | None = None


class _Own(threading.local):
    """Whether this thread has a core.

    A signal's handler that asks then does not wait for one: it would wait for itself.
    """

    has_core = False


class Room:
    """Room for as many passes at once as there are cores.

    A thread that has a core holds its lock until the pass is done. ``with`` gives locks back in any
    case, as a counter cannot: an interrupt may come before a line that counts.
    """

    def __init__(self) -> None:
        self._lock = forks.lock()
        self._own = _Own()
        self.renew()

    def renew(self) -> None:
        """Nobody is here, as in a process that was forked."""
        self._cores = [threading.Lock() for _ in range(available_cores())]
        self._line: SimpleQueue[_Waiting] = SimpleQueue()
        self._threads: dict[int, threading.Thread] = {}
        self._bells: list[Bell] = []
        self._crowded = 0.0

    def run(self, work: Work) -> None:
        """Run a pass, or have it run; raises what it raises."""
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
        """Take a core that nobody has, if there is one."""
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
        """Stand in the line, which has a thread for each core from now on."""
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
        """Run passes of the line, and keep the core while there are some."""
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
                    pass  # who had the core is done
                self._run_line(waiting)

    def _run_line(self, waiting: _Waiting) -> None:
        """Run passes until the line is empty; the caller of each wakes up while the next one runs.

        Before that it would find the interpreter's lock taken, and sleep again.
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
