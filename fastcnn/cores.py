"""The processor's cores."""

import os
from contextlib import suppress


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def take_core(index: int) -> None:
    """Move the calling thread to a core; the system may migrate it afterwards.

    After idling, Linux wakes a thread on the core of the thread that wakes it, and takes ten
    milliseconds to notice that both compete for it while another core is idle.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        with suppress(OSError):  # forbidden in some containers
            os.sched_setaffinity(0, {sorted(allowed)[index % len(allowed)]})
            os.sched_setaffinity(0, allowed)
