"""The sets of a sample's elements over which an operation takes its mean or maximum.

Layer, group, instance and root-mean-square normalisation and the softmax differ only in these sets,
and in which elements share a weight. Every backend reads both here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastcnn.backends.graph import Shape


@dataclass(frozen=True)
class Sets:
    """The sets of one sample."""

    #: The sample's shape, split so that each axis is either inside a set as a whole or not at all.
    view: Shape
    #: Axes of the view that a set spans.
    axes: tuple[int, ...]
    #: Axes of the view along which weights differ.
    weighted: tuple[int, ...] = ()

    @property
    def members(self) -> int:
        """Elements of a set."""
        return prod(self.view[axis] for axis in self.axes)

    @property
    def count(self) -> int:
        """Sets of a sample."""
        return prod(self.view) // self.members

    @property
    def weights(self) -> int:
        """Number of distinct weights."""
        return prod(self.view[axis] for axis in self.weighted)

    def number(self, values: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Split values of a sample's elements: a part along the other axes, a part along ``axes``.

        ``values`` is separable, the sum of a value per axis, like an element's offset in memory.
        """
        others = tuple(axis for axis in range(len(self.view)) if axis not in axes)
        order = values.reshape(self.view).transpose(*others, *axes)
        table = order.reshape(prod(self.view[axis] for axis in others), -1)
        return table[:, 0], table[0] - table[0, 0]

    def set_numbers(self) -> np.ndarray:
        """The index of each element's set, in the order of a sample."""
        others = [axis for axis in range(len(self.view)) if axis not in self.axes]
        return self._numbers(others)

    def weight_numbers(self) -> np.ndarray:
        """The index of each element's weight, in the order of a sample."""
        return self._numbers(list(self.weighted))

    def _numbers(self, axes: list[int]) -> np.ndarray:
        shape = [size if axis in axes else 1 for axis, size in enumerate(self.view)]
        numbers = np.arange(prod(shape)).reshape(shape)
        return np.broadcast_to(numbers, self.view).reshape(-1)


def _trailing(arguments: Mapping[str, Any], shape: Shape) -> Sets:
    axes = tuple(range(len(shape) - len(arguments["normalized_shape"]), len(shape)))
    return Sets(shape, axes, axes)


def _of_groups(arguments: Mapping[str, Any], shape: Shape) -> Sets:
    groups = arguments["num_groups"]
    view = (groups, shape[0] // groups, *shape[1:])
    return Sets(view, tuple(range(1, len(view))), (0, 1))


def _of_pixels(arguments: Mapping[str, Any], shape: Shape) -> Sets:
    return Sets(shape, (0,), (0,))


def _along(arguments: Mapping[str, Any], shape: Shape) -> Sets:
    dim = arguments["dim"]
    return Sets(shape, (dim - 1 if dim > 0 else dim + len(shape),))


_MAKERS = {
    "layer_norm": _trailing,
    "rms_norm": _trailing,
    "group_norm": _of_groups,
    "layer_norm2d": _of_pixels,
    "softmax": _along,
    "log_softmax": _along,
}


def sets_of(operation: str, arguments: Mapping[str, Any], shape: Shape) -> Sets:
    """The sets of an operation on samples of some shape."""
    return _MAKERS[operation](arguments, tuple(shape))
