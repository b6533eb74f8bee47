"""Which elements of a sample an operation takes together: those that share a mean, or a maximum.

Layer, group, instance and root-mean-square normalisation and the softmax differ in this alone, and
in which elements share a weight. Every backend reads it here.
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

    #: The sample's shape, in which each axis lies in a set as a whole or not at all.
    view: Shape
    #: Axes of the view over which a set extends.
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
        """Different weights."""
        return prod(self.view[axis] for axis in self.weighted)

    def number(self, values: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Values of a sample's elements as sums: of one along the other axes, one along these.

        ``values`` is the sum of a number for each axis, as the place of an element in memory is.
        """
        others = tuple(axis for axis in range(len(self.view)) if axis not in axes)
        order = values.reshape(self.view).transpose(*others, *axes)
        table = order.reshape(prod(self.view[axis] for axis in others), -1)
        return table[:, 0], table[0] - table[0, 0]

    def set_numbers(self) -> np.ndarray:
        """The number of each element's set, in the order of a sample."""
        others = [axis for axis in range(len(self.view)) if axis not in self.axes]
        return self._numbers(others)

    def weight_numbers(self) -> np.ndarray:
        """The number of each element's weight, in the order of a sample."""
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
