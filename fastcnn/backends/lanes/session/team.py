"""Threads that help with forward passes: started with the first session, ended with the last.

They sleep between passes. A process has one team: concurrent sessions do not start more threads
than there are cores.
"""

import ctypes
import os
import threading
import weakref

import numpy as np

from fastcnn import forks
from fastcnn.backends.alignment import aligned
from fastcnn.backends.lanes.kernel_table import conductor_sources
from fastcnn.backends.lanes.session import conductor
from fastcnn.backends.lanes.session.bell import Bell
from fastcnn.backends.lanes.session.engine import packed
from fastcnn.codegen import build
from fastcnn.cores import available_cores, take_core

#: Possible sizes of a core mask, in bits.
ROOMS = tuple(1 << n for n in range(10, 17))
_lock = forks.lock()
_RUN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


def _moves() -> np.ndarray:
    """The array indexed by :data:`conductor.CORE_OF` and the constants after it.

    Empty if the system does not support this, or there is one core.
    """
    nothing = np.zeros(0, np.int64)
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) == 1:
        return nothing
    library, allowed = ctypes.CDLL(None), sorted(os.sched_getaffinity(0))
    try:
        functions = library.sched_getcpu, library.sched_getaffinity, library.sched_setaffinity
    except AttributeError:
        return nothing
    # Linux refuses masks with room for fewer cores than it knows.
    room, cores = ctypes.create_string_buffer(ROOMS[-1] // 8), allowed[-1] + 1
    fits = (n for n in ROOMS if not library.sched_getaffinity(0, ctypes.c_size_t(n // 8), room))
    bits = next(fits, 0)
    if cores > bits:
        return nothing
    masks = np.zeros((conductor.OTHERS + cores, bits), np.uint8)
    masks[conductor.ALL :, allowed] = 1
    np.fill_diagonal(masks[conductor.OTHERS :], 0)
    words = np.packbits(masks, axis=1, bitorder="little").view(np.int64)
    found = np.zeros(conductor.MASKS + words.size, np.int64)
    found[: conductor.FIRST_HELPER] = (
        *(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions),
        cores,
        words.shape[1],
    )
    found[conductor.MASKS :] = words.ravel()
    return found


class Team:
    """Sleeping threads, and the counters with which they are called."""

    def __init__(self) -> None:
        self.counters = aligned(conductor.TEAM_SIZE, np.int64)
        self.counters[conductor.AVOIDED] = -1
        self.counters[conductor.ROOM] = available_cores()
        self.moves = _moves()
        self.bell = Bell()
        self.threads: list[threading.Thread] = []
        self.users = 0
        _, assist, life = build.addresses(conductor_sources())
        values = {
            "team": self.counters,
            "sleep": self.bell.sleep_address,
            "bell": self.bell.handle,
            "assist": assist,
        }
        self._packed = packed(conductor.HELP_KINDS, values)
        self._life = _RUN(life)

    def grow(self, size: int) -> None:
        """Start threads until there are ``size``."""
        while len(self.threads) < size:
            index = len(self.threads) + 1
            thread = threading.Thread(
                target=self._live, args=(index,), name=f"fastcnn-{index}", daemon=True
            )
            thread.start()
            self.threads.append(thread)

    def _live(self, index: int) -> None:
        take_core(index)
        if self.moves.size and index <= conductor.FEW:
            self.moves[conductor.FIRST_HELPER + index - 1] = threading.get_native_id()
            self.counters[conductor.AVOIDED] = -1
        self._life(self._packed.ctypes.data)

    def end(self) -> None:
        """End all threads."""
        self.counters[conductor.STOPPED] = 1
        for _ in self.threads:
            self.bell.ring()
        for thread in self.threads:
            thread.join()
        self.threads.clear()

    def never_again(self) -> None:
        """Mark the team as taken for good, in a forked child that has none of its threads."""
        self.counters[conductor.TAKEN] = 1


_team: Team | None = None


def join(owner: object, threads: int) -> Team | None:
    """The team, with at least ``threads - 1`` threads, until ``owner`` is garbage-collected.

    None if one thread is enough, or the system has no semaphores.
    """
    global _team
    if threads < 2:
        return None
    with _lock:
        if _team is None:
            try:
                _team = Team()
            except (OSError, AttributeError):
                return None
        team = _team
        team.users += 1
        team.grow(threads - 1)
    weakref.finalize(owner, _leave, team)
    return team


def users() -> int:
    """Owners of the team."""
    with _lock:
        return 0 if _team is None else _team.users


def _leave(team: Team) -> None:
    global _team
    with _lock:
        team.users -= 1
        if team.users or team is not _team:
            return
        _team = None
    team.end()


def _after_fork() -> None:
    """Threads do not survive a fork."""
    global _team
    if _team is not None:
        _team.never_again()
        _team.threads.clear()
        _team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
