"""Sizes of convolutions, the padding that they read, and the packing order of their weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.backends.lanes.planning.buffers import Halo


class ConvGeometry:
    """Sizes of a convolution, by axis; for a transposed one, of the convolution it transposes."""

    def __init__(self, node: Node, weight_shape: tuple[int, ...]) -> None:
        self.out_channels, self.group_inputs, *kernel = weight_shape
        # A sequence is a map of one row.
        self.kernel = (kernel[0] if len(kernel) == 2 else 1, kernel[-1])
        self.stride = node.arguments["stride"]
        self.dilation = node.arguments["dilation"]
        self.padding = tuple(before for before, _ in node.arguments["padding"])
        self.groups = node.arguments["groups"]
        self.group_outputs = self.out_channels // self.groups
        self.input, self.output = node.input_shapes[0][1:], node.output_shape[1:]
        self.transposed = node.operation == "conv_transpose2d"
        if self.transposed:
            self.input, self.output = self.output, self.input

    @property
    def taps(self) -> int:
        """Products in one sum."""
        return self.group_inputs * self.kernel[0] * self.kernel[1]

    def first_pixels(self, h: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the first tap of some output pixels; they may be in the halo."""
        return h * self.stride[0] - self.padding[0], w * self.stride[1] - self.padding[1]

    def input_halo(self) -> Halo:
        """Zero padding of the input that a convolution's taps read."""
        return halo_of(self._input_sides)

    def gradient_halo(self) -> Halo:
        """Zero padding of the output's gradient that the input gradient's taps read."""
        return halo_of(self._gradient_sides)

    def _input_sides(self, axis: int) -> tuple[int, int]:
        kernel = (self.kernel[axis] - 1) * self.dilation[axis]
        last = (self.output[axis] - 1) * self.stride[axis] - self.padding[axis] + kernel
        return max(0, self.padding[axis]), max(0, last - self.input[axis] + 1)

    def _gradient_sides(self, axis: int) -> tuple[int, int]:
        kernel = (self.kernel[axis] - 1) * self.dilation[axis]
        low = (self.padding[axis] - kernel) // self.stride[axis]
        high = (self.input[axis] - 1 + self.padding[axis]) // self.stride[axis]
        return max(0, -low), max(0, high - self.output[axis] + 1)


def halo_of(sides: Callable[[int], tuple[int, int]]) -> Halo:
    """A halo, from its rows (or columns) before and after the map along an axis."""
    return (*sides(0), *sides(1))


def tiles_of(channels: int, heights: tuple[int, ...]) -> list[tuple[int, int]]:
    """First channel and height of each tile, the highest first; ``heights`` descend to 1."""
    found, first = [], 0
    for height in heights:
        while channels - first >= height:
            found.append((first, height))
            first += height
    return found


def pack_order(source: np.ndarray, heights: tuple[int, ...]) -> np.ndarray:
    """Indices of weights in the order in which tiles read them, highest tiles first.

    ``source``, of shape (channels, taps), has the index of each weight in the flat parameter array,
    ``heights`` the possible heights of tiles in descending order.
    """
    tiles = tiles_of(len(source), heights)
    return np.concatenate([source[c : c + rows].T.ravel() for c, rows in tiles])


@dataclass(frozen=True)
class Stretch:
    """Rows ``first + m * stride`` of a convolution's input, for m in a range; or columns."""

    #: ndarray of int. The values of m.
    steps: np.ndarray
    #: ndarray of int. Kernel rows through which any of the rows contributes to the output.
    kernel: np.ndarray
    #: ndarray of int. For each kernel row: output row minus m.
    shift: np.ndarray


def stretch(g: ConvGeometry, axis: int, first: int) -> Stretch:
    """The input rows of one phase of the stride: they use the same kernel rows."""
    k = np.arange(g.kernel[axis])
    distance = first + g.padding[axis] - k * g.dilation[axis]
    fits = distance % g.stride[axis] == 0
    steps = np.arange(-(-(g.input[axis] - first) // g.stride[axis]))
    return Stretch(steps, k[fits], distance[fits] // g.stride[axis])


#: Share of products with padding zeros from which border rows are computed separately.
WORTH_APART = 0.1


def without_zeros(whole: Stretch, output: int) -> list[Stretch]:
    """The same rows, with border rows separate if they read much padding around the output.

    Rows are grouped in pairs, so that a register tile has enough pixels.
    """
    outputs = whole.steps[:, None] + whole.shift
    meets = (outputs >= 0) & (outputs < output)
    if not meets.size or 1 - meets.mean() < WORTH_APART:
        return [whole]
    found: list[Stretch] = []
    for i in range(0, len(whole.steps), 2):
        seen = meets[i : i + 2].any(axis=0)
        pair = Stretch(whole.steps[i : i + 2], whole.kernel[seen], whole.shift[seen])
        if found and np.array_equal(found[-1].kernel, pair.kernel):
            pair = replace(pair, steps=np.concatenate([found.pop().steps, pair.steps]))
        found.append(pair)
    return found
