"""Memory of results that is used again at the next step.

Fresh memory costs its first touch, more than several passes over it. Inside :func:`recycling`,
large arrays take memory that earlier ones had, as soon as nothing refers to those any more.
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

#: Bytes from which on an array is worth the search.
LARGE = 1 << 16


class Memory:
    """Blocks that arrays of some threads take turns in; it lasts as long as what holds it."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[_Block]] = {}
        self._lock = forks.lock()

    def take(self, size: int) -> np.ndarray:
        """An array of ``size`` bytes that nothing else uses while it or a view of it exists."""
        with self._lock:
            blocks = self._blocks.setdefault(size, [])
            for block in blocks:
                if block.user() is None:
                    return block.array()
            blocks.append(_Block(aligned(size, np.uint8, np.empty)))
            return blocks[-1].array()


class _Block:
    """Some memory, and the array that uses it.

    The array reads a buffer instead of another array, so it is what all views of it refer to.
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
    """Let arrays inside, also those of threads that get this context, take turns in memory."""
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
    """``np.empty_like(x)``: axes are in memory in the same order."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    return empty_in_order(x, stored_order(x))


def empty_in_order(x: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """An array of the shape of ``x`` whose axes follow each other in memory in an order."""
    made = empty(tuple(x.shape[axis] for axis in order), x.dtype)
    return made.transpose([order.index(axis) for axis in range(x.ndim)])


def zeros_like(x: np.ndarray) -> np.ndarray:
    """``np.zeros_like(x)``."""
    made = empty_like(x)
    made.fill(0)
    return made


def stored_order(x: np.ndarray) -> tuple[int, ...]:
    """Axes from the one with the largest step in memory to that with the smallest."""
    if x.flags.c_contiguous:
        return tuple(range(x.ndim))
    return _by_steps(x.strides)


@lru_cache(maxsize=256)
def _by_steps(steps: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(steps)), key=lambda axis: -steps[axis]))


def flat(x: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The elements with axes in some order; no copy where that is their order in memory."""
    return x.transpose(order).reshape(-1)
