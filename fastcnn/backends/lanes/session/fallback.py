"""The only place that decides between the engine and im2col, and logs the fallback."""

import logging
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np

from fastcnn.backends.lanes.planning.grouping import Unsupported

T = TypeVar("T")
log = logging.getLogger("fastcnn.lanes")


def run_or_fall_back(
    on_engine: Callable[[], T], on_im2col: Callable[[], T], *alone: np.ndarray
) -> T:
    """Compute something on the engine, or by im2col if the engine does not support it.

    The reason is logged once.

    Parameters
    ----------
    on_engine : callable
        May raise ``Unsupported``.
    *alone : ndarray
        The arrays of a function called alone. The engine accepts non-empty float32, but users pass
        numpy's default type, too: the fallback is not a warning.
    """
    try:
        for array in alone:
            if array.dtype != np.float32 or not array.size:
                raise Unsupported(f"arrays of {array.dtype}" if array.size else "empty arrays")
        return on_engine()
    except Unsupported as reason:
        _say_once(logging.INFO if alone else logging.WARNING, str(reason))
    return on_im2col()


@cache
def _say_once(level: int, reason: str) -> None:
    log.log(level, "lanes does not support %s; using the slower im2col backend", reason)
