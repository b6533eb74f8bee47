"""The processor's cores."""

import os
from contextlib import suppress


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def take_core(index: int) -> None:
    """Move the calling thread to one of the cores, from where the system may move it on.

    After a rest, Linux starts a thread on the core of the one that starts it, and takes ten
    milliseconds to see that both are busy while another core is not.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        with suppress(OSError):  # some containers forbid it
            os.sched_setaffinity(0, {sorted(allowed)[index % len(allowed)]})
            os.sched_setaffinity(0, allowed)
