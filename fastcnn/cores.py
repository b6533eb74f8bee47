"""The processor's cores."""

import os
from contextlib import suppress


def available_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def take_core(index: int) -> None:
    """Move the calling thread to one of the cores, from which the system may move it away again.

    After a pause, Linux starts a thread on its parent's core, and takes ten milliseconds to notice
    that two threads share it while another core is idle.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        with suppress(OSError):  # some containers forbid it
            os.sched_setaffinity(0, {sorted(allowed)[index % len(allowed)]})
            os.sched_setaffinity(0, allowed)
