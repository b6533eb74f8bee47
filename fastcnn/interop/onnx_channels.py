"""Layers for constants that are added or multiplied."""

from collections.abc import Sequence

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_map_readers import given
from fastcnn.layers import Conv1d, Conv2d, Flatten, Layer, Scale, Unflatten


def by_channel(constant: np.ndarray, order: Sequence[int], own: Shape) -> np.ndarray:
    """A constant as one number, or one for each channel.

    Parameters
    ----------
    constant : ndarray
        What is broadcast to samples whose dimensions are in another order.
    order : sequence of int
        The dimension of the layer's output that each dimension of the samples is.
    own : tuple of int
        Shape of the layer's output.

    Raises
    ------
    ConfigurationError
        If it has values for something else than channels.
    """
    missing = 1 + len(own) - constant.ndim
    sizes = (1,) * missing + constant.shape
    back = [sizes[1 + order.index(axis)] for axis in range(len(own))] if missing >= 0 else []
    if missing < 0 or sizes[0] != 1 or back[0] not in (1, own[0]) or set(back[1:]) - {1}:
        raise ConfigurationError(
            f"a constant of shape {constant.shape} for samples of {own}: one number, or one for "
            "each channel, is supported"
        )
    return constant.reshape(-1)


def scaled(factors: np.ndarray, own: Shape) -> list[Layer]:
    """Channels times numbers."""
    layer = Scale(len(factors))
    layer.parameters["weight"][...] = factors
    return [layer]


def shifted(factor: float, summands: np.ndarray, own: Shape) -> list[Layer]:
    """Channels times one number, plus numbers: a convolution of each channel by itself."""
    channels = own[0]
    weight, bias = np.full(channels, factor), np.broadcast_to(summands, channels)
    arguments = {"weight_init": given(weight), "bias_init": given(bias), "groups": channels}
    if len(own) == 3:
        return [Conv2d(channels, channels, 1, **arguments)]  # type: ignore[arg-type]
    layer = Conv1d(channels, channels, 1, **arguments)  # type: ignore[arg-type]
    return [Unflatten(1, (channels, 1)), layer, Flatten()] if len(own) == 1 else [layer]
