"""A limit on the size of models that are described by a file.

A line of text can request a layer of any size. Code that builds layers from a file first sets how
many values they may hold, and larger layers are refused before their arrays are allocated.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from fastcnn.errors import ConfigurationError
from fastcnn.scalars import MOST_COUNT

_left: ContextVar[int | None] = ContextVar("values that layers may still hold", default=None)


@contextmanager
def at_most(values: int) -> Iterator[None]:
    """Refuse layers that, together, would hold more values than this."""
    left = _left.get()
    token = _left.set(values if left is None else min(values, left))
    try:
        yield
    finally:
        _left.reset(token)


def claim(shape: Sequence[int]) -> None:
    """Claim room for an array.

    Raises
    ------
    ConfigurationError
        If the array is too large, or a limit is exceeded.
    """
    left = _left.get()
    if left is not None:
        if math.prod(shape) > left:
            raise ConfigurationError(
                f"parameters of shape {tuple(shape)} are more than a file of this size can describe"
            )
        _left.set(left - math.prod(shape))
    elif math.prod(shape) > MOST_COUNT:
        raise ConfigurationError(
            f"parameters of shape {tuple(shape)} are more than {MOST_COUNT:,} numbers"
        )
