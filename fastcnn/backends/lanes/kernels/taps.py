"""Tables of operations that copy or interpolate pixels, such as padding and shuffles."""

from dataclasses import dataclass

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.backends.lanes.planning.buffers import map_shape
from fastcnn.backends.lanes.planning.rows import grid
from fastcnn.backends.sampling import interpolation_taps, padded_sources


@dataclass(frozen=True)
class Taps:
    """For each output pixel, the input pixels of which it is a weighted sum.

    The same for each of ``groups`` groups of channels: channel m of group q is channel
    ``q * steps[0] + m * steps[1]`` of a map.
    """

    groups: int
    #: Steps between groups and between channels of a group.
    x_steps: tuple[int, int]
    y_steps: tuple[int, int]
    #: ndarray of int, shape (3, pairs). Channel within the group, row and column of each pair's
    #: input pixel.
    x: np.ndarray
    y: np.ndarray
    #: ndarray of float, shape (pairs,).
    weight: np.ndarray

    @property
    def backward(self) -> "Taps":
        """The transposed table, from the output's gradient to the input's."""
        return Taps(self.groups, self.y_steps, self.x_steps, self.y, self.x, self.weight)


def taps_of(node: Node) -> Taps:
    """The table of a padding, an interpolation, a shuffle, or a reshape of samples."""
    return _TAPS[node.operation](node)


def _by_channel(node: Node, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Taps:
    """The same table in each channel."""
    x, y = (np.stack([np.zeros_like(part[0]), *part]) for part in (x, y))
    return Taps(node.input_shapes[0][0], (1, 0), (1, 0), x, y, weight)


def _pad(node: Node) -> Taps:
    (_, *size), (_, *output) = node.input_shapes[0], node.output_shape
    padding, mode = node.arguments["padding"], node.arguments["mode"]
    rows, columns = (padded_sources(*axis, mode) for axis in zip(size, padding, strict=True))
    h, w = grid(*output)
    x = np.stack([rows[h], columns[w]])
    inside = (x >= 0).all(axis=0)
    return _by_channel(node, x[:, inside], np.stack([h, w])[:, inside], np.ones(inside.sum()))


def _interpolate(node: Node) -> Taps:
    (_, *size), (_, *output) = node.input_shapes[0], node.output_shape
    how = (node.arguments["mode"], node.arguments.get("align_corners", False))
    rows, columns = (interpolation_taps(*axis, *how) for axis in zip(size, output, strict=True))
    h, w = grid(*output)
    pixels, places, weights = [], [], []
    for down in (0, 1):
        for along in (0, 1):
            pixels.append(np.stack([rows[down][h], columns[along][w]]))
            places.append(np.stack([h, w]))
            share_h, share_w = rows[2][h], columns[2][w]
            weights.append((share_h if down else 1 - share_h) * (share_w if along else 1 - share_w))
    weight = np.concatenate(weights)
    seen = weight != 0
    x, y = np.concatenate(pixels, axis=1), np.concatenate(places, axis=1)
    return _by_channel(node, x[:, seen], y[:, seen], weight[seen])


def _shuffle(shape: tuple[int, ...], factor: int, groups: int) -> Taps:
    """Squares of channels to squares of pixels; ``shape`` is that of the smaller maps."""
    m, h, w = (part.ravel() for part in np.mgrid[: factor**2, : shape[1], : shape[2]])
    larger = np.stack([np.zeros_like(m), h * factor + m // factor, w * factor + m % factor])
    smaller, ones = np.stack([m, h, w]), np.ones(len(m))
    return Taps(groups, (factor**2, 1), (1, 0), smaller, larger, ones)


def _pixel_shuffle(node: Node) -> Taps:
    factor = node.arguments["upscale_factor"]
    return _shuffle(node.input_shapes[0], factor, node.output_shape[0])


def _pixel_unshuffle(node: Node) -> Taps:
    factor = node.arguments["downscale_factor"]
    return _shuffle(node.output_shape, factor, node.input_shapes[0][0]).backward


def _channel_shuffle(node: Node) -> Taps:
    channels, *size = node.input_shapes[0]
    groups = node.arguments["groups"]
    places = np.stack([part.ravel() for part in np.mgrid[:groups, : size[0], : size[1]]])
    ones, each = np.ones(places.shape[1]), channels // groups
    return Taps(each, (1, each), (groups, 1), places, places, ones)


def _unflatten(node: Node) -> Taps:
    shapes = map(map_shape, (node.input_shapes[0], node.output_shape))
    x, y = (np.stack([part.ravel() for part in np.indices(shape)]) for shape in shapes)
    return Taps(1, (0, 1), (0, 1), x, y, np.ones(x.shape[1]))


_TAPS = {
    "pad": _pad,
    "interpolate": _interpolate,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "unflatten": _unflatten,
}
