"""Memory of results, reused at the next step.

Fresh memory costs page faults, more than several passes over it. Inside :func:`recycling`, large
arrays reuse the memory of earlier ones, as soon as nothing refers to those any more.
"""

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn import forks
from fastcnn.backends.alignment import aligned

#: Minimum bytes of an array for which the search is worthwhile.
LARGE = 1 << 16


class Memory:
    """Blocks that the arrays of some threads share in turn; they live as long as this object."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[_Block]] = {}
        self._lock = forks.lock()

    def take(self, size: int) -> np.ndarray:
        """An array of ``size`` bytes, reserved as long as it or a view of it exists."""
        with self._lock:
            blocks = self._blocks.setdefault(size, [])
            for block in blocks:
                if block.user() is None:
                    return block.array()
            blocks.append(_Block(aligned(size, np.uint8, np.empty)))
            return blocks[-1].array()


class _Block:
    """A block of memory, and the array that uses it.

    The array wraps a buffer, not another array, so it is the base of all its views.
    """

    def __init__(self, memory: np.ndarray) -> None:
        self.buffer = memory.data
        self.user: Callable[[], np.ndarray | None] = lambda: None

    def array(self) -> np.ndarray:
        made = np.frombuffer(self.buffer, np.uint8)
        self.user = weakref.ref(made)
        return made


_current: ContextVar[Memory | None] = ContextVar("memory", default=None)


@contextmanager
def recycling(memory: Memory) -> Iterator[None]:
    """Let large arrays of this context, in any thread that runs it, reuse memory."""
    token = _current.set(memory)
    try:
        yield
    finally:
        _current.reset(token)


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """``np.empty(shape, dtype)``."""
    dtype, memory = np.dtype(dtype), _current.get()
    size = math.prod(shape) * dtype.itemsize
    if memory is None or size < LARGE:
        return np.empty(shape, dtype)
    return memory.take(size).view(dtype).reshape(shape)


def empty_like(x: np.ndarray) -> np.ndarray:
    """``np.empty_like(x)``, with the axes in the same memory order."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    return empty_in_order(x, stored_order(x))


def empty_in_order(x: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """An array of the shape of ``x`` whose axes are laid out in a given order."""
    made = empty(tuple(x.shape[axis] for axis in order), x.dtype)
    return made.transpose([order.index(axis) for axis in range(x.ndim)])


def zeros_like(x: np.ndarray) -> np.ndarray:
    """``np.zeros_like(x)``."""
    made = empty_like(x)
    made.fill(0)
    return made


def stored_order(x: np.ndarray) -> tuple[int, ...]:
    """Axes in order of decreasing stride."""
    if x.flags.c_contiguous:
        return tuple(range(x.ndim))
    return _by_steps(x.strides)


@lru_cache(maxsize=256)
def _by_steps(steps: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(steps)), key=lambda axis: -steps[axis]))


def flat(x: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The elements with axes in a given order; no copy if that is their memory order."""
    return x.transpose(order).reshape(-1)
