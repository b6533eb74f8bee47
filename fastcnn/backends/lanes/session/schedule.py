"""The samples of each pass of a run, and the points at which it calls Python."""

import ctypes
from collections.abc import Callable
from enum import IntFlag
from typing import NamedTuple

import numpy as np

from fastcnn.backends.lanes.session.batches import Moment

#: Columns of a schedule: a pass's first sample in the order, its number of samples, the number of
#: its step, the index of its first sample in a larger batch, and the calls of Python.
BEGIN, SAMPLES, NUMBER, FIRST, CALLS = range(5)


class Place(IntFlag):
    """The points at which Python is called: before the backward pass, before the update, after it.

    With KEEP there is no update.
    """

    MIDDLE = 1
    READY = 2
    AFTER = 4
    KEEP = 8


# As plain integers, for compiled code.
MIDDLE, READY, AFTER, KEEP = (int(place) for place in Place)
#: A kernel's signature: the pass and the point are the entry's ``block`` and ``blocks``.
_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 8)


class Between(NamedTuple):
    """Python code that runs between the passes of a run."""

    #: ndarray of int64, shape (passes, 5).
    schedule: np.ndarray
    #: ``function(index, place)`` is called on the caller's thread, while the others wait.
    function: Callable[[int, int], None]


def plain_schedule(passes: int, batch: int, samples: int, moment: Moment) -> np.ndarray:
    """Consecutive batches, each of which is a step."""
    made = np.zeros((passes, 5), np.int64)
    numbers = np.arange(passes)
    made[:, BEGIN] = numbers * batch
    made[:, SAMPLES] = batch
    if passes:
        made[-1, SAMPLES] = min(batch, samples - (passes - 1) * batch)
    made[:, NUMBER] = moment.first_step + numbers
    made[:, FIRST] = moment.first_sample
    return made


class Callback:
    """A Python function that compiled code calls by address; keeps the exception it raises."""

    def __init__(self, function: Callable[[int, int], None]) -> None:
        self.error: BaseException | None = None

        def called(_: int, __: int, index: int, place: int, *___: int) -> int:
            try:
                function(index, place)
            except BaseException as error:
                self.error = error
                return 1
            return 0

        self._kept = _FUNCTION(called)
        self.address = ctypes.cast(self._kept, ctypes.c_void_p).value or 0
