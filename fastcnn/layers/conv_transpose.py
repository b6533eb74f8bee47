"""Transposed convolution of maps and of sequences."""

import math
from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import as_count, convolution_groups
from fastcnn.backends import geometry
from fastcnn.backends.graph import Shape
from fastcnn.layers.base import WeightedLayer, check_samples
from fastcnn.layers.init import Initializer, draw_weight_and_bias

__all__ = ["ConvTranspose1d", "ConvTranspose2d"]


class _ConvTranspose(WeightedLayer):
    operation: ClassVar[str] = "conv_transpose2d"
    always_shown: ClassVar[tuple[str, ...]] = ("kernel_size",)
    #: What follows the channels in the shape of a sample.
    axes: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        *,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        seed: int | np.random.SeedSequence | np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        owner, axes = type(self).__name__, len(self.axes)
        self.in_channels = as_count(owner, "in_channels", in_channels)
        self.out_channels = as_count(owner, "out_channels", out_channels)
        self.groups = convolution_groups(owner, groups, self.in_channels, self.out_channels)
        self.kernel_size = geometry.per_axis(kernel_size, "kernel_size", axes)
        self.stride = geometry.per_axis(stride, "stride", axes)
        self.padding = geometry.per_axis(padding, "padding", axes, minimum=0)
        self.output_padding = geometry.per_axis(output_padding, "output_padding", axes, minimum=0)
        self.dilation = geometry.per_axis(dilation, "dilation", axes)
        geometry.check_output_padding(self.output_padding, self.stride, self.dilation)
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        drawn = draw_weight_and_bias(
            shape, bias, weight_init, bias_init, seed, dtype, self.out_channels
        )
        self._set_arrays("parameters", drawn)

    @property
    def arguments(self) -> dict[str, Any]:
        """Stride, padding as ``((top, bottom), (left, right))``, and the others."""
        sides = tuple((size, size) for size in self.padding)
        return {
            "stride": geometry.of_map(self.stride, 1),
            "padding": geometry.of_map(sides, (0, 0)),
            "output_padding": geometry.of_map(self.output_padding, 0),
            "dilation": geometry.of_map(self.dilation, 1),
            "groups": self.groups,
        }

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(out_channels, OH, OW)``, or ``(out_channels, OL)``."""
        check_samples(input_shape, self.axes, self.in_channels)
        sides = tuple((size, size) for size in self.padding)
        window = (self.kernel_size, self.stride, sides, self.dilation, self.output_padding)
        return (self.out_channels, *geometry.conv_transpose_output(input_shape[1:], *window))

    def flops(self, *input_shapes: Shape) -> int:
        """Two per weight and input position, one per bias and output position."""
        bias = math.prod(self.output_shape(*input_shapes)) if self.bias is not None else 0
        return 2 * self.weight.size * math.prod(input_shapes[0][1:]) + bias

    def scale_outputs(self, scale: np.ndarray, shift: np.ndarray) -> None:
        """Multiply each output channel by a factor, then add a summand, for good."""
        by_group = scale.reshape(self.groups, 1, -1, *(1,) * len(self.axes))
        weight = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
        self._set_outputs((weight * by_group).reshape(self.weight.shape), scale, shift)


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution: each pixel of the input spreads a kernel over the output.

    It is the gradient of a :class:`Conv2d` of the same arguments with respect to its input, and
    with a stride it makes maps larger.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
    stride : int or (int, int)
    padding : int or (int, int)
        Rows and columns of the output that are left out on both sides.
    output_padding : int or (int, int)
        Rows and columns added at the bottom and right, below the stride or the dilation.
    groups : int
        Must divide both channel counts.
    bias : bool
    dilation : int or (int, int)
    weight_init, bias_init : Initializer, optional
        By default PyTorch's: uniform with bound ``1 / sqrt(out_channels / groups * KH * KW)``.
    seed : int, SeedSequence or Generator, optional
        Source of the initial values.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : ndarray, shape (in_channels, out_channels / groups, KH, KW)
    bias : ndarray, shape (out_channels,), or None

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285, section 4.

    Examples
    --------
    >>> ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1).output_shape((4, 7, 7))
    (2, 14, 14)
    """

    axes: ClassVar[tuple[str, ...]] = ("H", "W")


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution over sequences of shape ``(in_channels, L)``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, output_padding, dilation : int
    groups, bias, weight_init, bias_init, seed, dtype
        As for :class:`ConvTranspose2d`.

    Attributes
    ----------
    weight : ndarray, shape (in_channels, out_channels / groups, K)
    bias : ndarray, shape (out_channels,), or None

    Examples
    --------
    >>> ConvTranspose1d(4, 2, 4, stride=2, padding=1).output_shape((4, 50))
    (2, 100)
    """

    axes: ClassVar[tuple[str, ...]] = ("L",)
