"""Who runs long passes: their callers while cores are free, or else threads, one after the other.

More passes at once than cores would only take the caches from each other. A caller who finds no
core free leaves its pass in a line and sleeps; threads, one for each core, take passes from there
without a pause, so no core waits until a caller is awake.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from queue import Empty, SimpleQueue

from fastcnn import forks
from fastcnn.backends.lanes.session.conductor import ALONE, TOGETHER
from fastcnn.backends.lanes.session.team import Bell
from fastcnn.cores import available_cores

#: Seconds that a thread waits for another pass before it ends.
IDLE = 1.0
#: Seconds for which callers leave the others' cores alone: to call threads for help and to send
#: them away again takes long.
CROWDED = 0.001

#: Runs a pass, on its thread alone if others need the cores. It may be told to ring a bell once
#: the interpreter's lock is free.
Work = Callable[[int], None]
_CALL = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)


@cache
def ring_address() -> int:
    """Where the function is that rings a bell; 0 if the system has none."""
    try:
        return Bell().ring
    except (OSError, AttributeError):
        return 0


class _Sleeper:
    """Who waits for a pass."""

    def __init__(self) -> None:
        self._bell = Bell()
        self._ring, self._sleep = _CALL(self._bell.ring), _CALL(self._bell.sleep)
        self.handle = self._bell.handle

    def wake(self) -> None:
        self._ring(self.handle, 1, 0)

    def sleep(self) -> None:
        """Until somebody wakes it up, or a signal comes."""
        self._sleep(self.handle, -1, 0)


class _Waiting:
    """A pass in the line."""

    def __init__(self, work: Work, sleeper: _Sleeper) -> None:
        self.work, self.sleeper = work, sleeper
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
        self._sleepers: list[_Sleeper] = []
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
            sleeper = self._sleepers.pop() if self._sleepers else _Sleeper()
            waiting = self._join(_Waiting(work, sleeper))
        except (RuntimeError, OSError, AttributeError):  # no more threads, or no semaphores
            work(ALONE)
            return
        while not waiting.is_over:
            sleeper.sleep()
        self._sleepers.append(sleeper)
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
        sleeper: _Sleeper | None = None
        while True:
            try:
                waiting.work(ALONE if sleeper is None else sleeper.handle)
            except BaseException as error:
                waiting.error = error
                if sleeper is not None:
                    sleeper.wake()
            sleeper, waiting.is_over = waiting.sleeper, True
            try:
                waiting = self._line.get_nowait()
            except Empty:
                break
        sleeper.wake()


room = Room()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=room.renew)
