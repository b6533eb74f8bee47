"""Steps of exported files that move values, or normalise within a sample."""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.backends.graph import Node
from fastcnn.backends.sampling import interpolation_taps
from fastcnn.errors import ConfigurationError

#: Operations whose outputs are inputs or zeros.
MOVING = ("pad", "interpolate", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle")
NORMS = ("layer_norm", "layer_norm2d", "group_norm", "rms_norm")
SOFTMAX = ("softmax", "log_softmax")


def places_of(node: Node) -> tuple[int, np.ndarray]:
    """Number of parts of a sample moved alike, and the source index of each output of a part.

    Returns
    -------
    parts : int
        The channels, or 1 if these are mixed.
    places : ndarray of int64
        Indices into a part of the input; -1 for a zero.
    """
    shape = node.input_shapes[0]
    numbers = np.arange(1.0, prod(shape) + 1).reshape(1, *shape)
    function: Any = getattr(get_backend("im2col"), node.operation)
    places = function(numbers, **node.arguments).astype(np.int64) - 1
    parts, inputs = shape[0], prod(shape[1:])
    if node.operation in ("pad", "interpolate"):
        return parts, places[0, 0].reshape(-1)
    if node.operation == "channel_shuffle":
        return 1, places.reshape(-1)
    squares = min(parts, node.output_shape[0])
    first = places.reshape(squares, -1)[0]
    assert first.max() < parts // squares * inputs
    return squares, first


def is_bilinear(node: Node) -> bool:
    """Whether a step interpolates: outputs are weighted sums of four pixels."""
    return node.operation == "interpolate" and node.arguments["mode"] == "bilinear"


def taps_of(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring rows and columns of the outputs of a bilinear interpolation.

    Returns
    -------
    rows, columns : ndarray, shape (3, n)
        The first and the second for each row (column) of the output, and the weight of the second.
    """
    made = [
        interpolation_taps(size, wanted, "bilinear", node.arguments["align_corners"])
        for size, wanted in zip(node.input_shapes[0][1:], node.output_shape[1:], strict=True)
    ]
    rows, columns = (np.stack([np.asarray(part, np.float64) for part in taps]) for taps in made)
    return rows, columns


class Sets(NamedTuple):
    """Sets of values of a sample that are normalised together, as the loops read them.

    Number ``k`` of set ``a, b`` is at ``(a * size + k) * inner + b``; its factor is that of place
    ``index // divisor % factors`` of the parameters.
    """

    outer: int
    size: int
    inner: int
    divisor: int
    factors: int


def sets_of(node: Node) -> Sets:
    """The sets of a normalisation within a sample, or of a softmax over the channels."""
    shape, a = node.input_shapes[0], node.arguments
    channels, pixels = shape[0], prod(shape[1:])
    if node.operation == "group_norm":
        groups = a["num_groups"]
        return Sets(groups, prod(shape) // groups, 1, pixels, channels)
    if node.operation in ("layer_norm", "rms_norm"):
        size = prod(a["normalized_shape"])
        return Sets(prod(shape) // size, size, 1, 1, size)
    if node.operation in SOFTMAX and a["dim"] not in (1, -len(shape)):
        raise ConfigurationError(
            f"layer {node.name!r}: files for export have no {node.operation} with dim={a['dim']}"
        )
    return Sets(1, channels, pixels, pixels, channels)
