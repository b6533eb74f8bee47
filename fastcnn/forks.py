"""Locks that are free in a forked child, which has none of the threads that held them."""

import os
import threading
import weakref
from typing import Any

_locks: "weakref.WeakSet[Any]" = weakref.WeakSet()


def lock() -> Any:
    """A reentrant lock that is free after a fork by another thread."""
    made = threading.RLock()
    _locks.add(made)
    return made


def is_mine(held: Any) -> bool:
    """Whether this thread holds a lock, for example when a signal handler interrupted it."""
    return bool(held._is_owned())


def _free() -> None:
    for each in _locks:
        if not is_mine(each):
            each._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free)
