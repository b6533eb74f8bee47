"""Convolution and transposed convolution of maps and of sequences."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import as_choice, as_count, convolution_groups
from fastcnn.backends import geometry
from fastcnn.backends.graph import Shape
from fastcnn.layers.base import WeightedLayer, check_samples
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.init import Initializer, draw_weight_and_bias
from fastcnn.layers.sampling import PADS
from fastcnn.scalars import plain

__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"]


class _Windowed(WeightedLayer):
    always_shown: ClassVar[tuple[str, ...]] = ("kernel_size",)
    #: The axes after the channels in the shape of a sample.
    axes: ClassVar[tuple[str, ...]]

    def _set_window(
        self,
        in_channels: Any,
        out_channels: Any,
        kernel: Any,
        stride: Any,
        dilation: Any,
        groups: Any,
    ) -> None:
        """Check and store the arguments common to both kinds of convolution."""
        owner, axes = type(self).__name__, len(self.axes)
        self.in_channels = as_count(owner, "in_channels", in_channels)
        self.out_channels = as_count(owner, "out_channels", out_channels)
        self.groups = convolution_groups(owner, groups, self.in_channels, self.out_channels)
        self.kernel_size = geometry.per_axis(kernel, "kernel_size", axes)
        self.stride = geometry.per_axis(stride, "stride", axes)
        self.dilation = geometry.per_axis(dilation, "dilation", axes)

    @property
    def arguments(self) -> dict[str, Any]:
        """Stride, dilation and groups."""
        return {
            "stride": geometry.of_map(self.stride, 1),
            "dilation": geometry.of_map(self.dilation, 1),
            "groups": self.groups,
        }


class _Conv(_Windowed):
    operation: ClassVar[str] = "conv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        max_norm: float | None = None,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        seed: int | np.random.SeedSequence | np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self._set_window(in_channels, out_channels, kernel_size, stride, dilation, groups)
        self.padding_mode = as_choice(
            type(self).__name__,
            "padding_mode",
            padding_mode,
            ("zeros", "reflect", "replicate", "circular"),
        )
        self.padding = plain(padding)
        self._padding = geometry.resolve_padding(
            self.padding, self.kernel_size, self.dilation, self.stride
        )
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.parameters = draw_weight_and_bias(shape, bias, weight_init, bias_init, seed, dtype)
        self._set_max_norm(max_norm)

    @property
    def arguments(self) -> dict[str, Any]:
        """Also the padding, as ``((top, bottom), (left, right))``."""
        return super().arguments | {"padding": geometry.of_map(self._padding, (0, 0))}

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(out_channels, OH, OW)``, or ``(out_channels, OL)``."""
        check_samples(input_shape, self.axes, self.in_channels)
        window = (self.kernel_size, self.stride, self._padding, self.dilation)
        return (self.out_channels, *geometry.conv_output(input_shape[1:], *window))

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Add the convolution, preceded by a padding node if it pads with other values than zeros.

        Raises
        ------
        ShapeError
            If a map is too small to be reflected.
        """
        if self.padding_mode == "zeros" or not any(map(any, self._padding)):
            return builder.add(name, self, (source,))
        sides = tuple(size for pair in reversed(self._padding) for size in pair)
        pad = PADS[self.padding_mode, len(self.axes)](sides)
        padded = builder.add(f"{name}.{self.padding_mode}", pad, (source,))
        index = builder.add(name, self, (padded,))
        inside = type(self).__new__(type(self))
        nothing = {"padding": 0, "_padding": ((0, 0),) * len(self.axes), "padding_mode": "zeros"}
        inside.__dict__.update(self.__dict__ | nothing)
        shape = builder.shape(padded)
        builder.layers[index] = inside
        builder.nodes[index] = replace(
            builder.nodes[index],
            arguments=inside.arguments_for(shape),
            output_shape=inside.output_shape(shape),
        )
        return index

    def flops(self, *input_shapes: Shape) -> int:
        """Two per weight and output position, one per bias and output position."""
        per_position = 2 * self.weight.size + (self.out_channels if self.bias is not None else 0)
        return per_position * math.prod(self.output_shape(*input_shapes)[1:])


class Conv2d(_Conv):
    """Convolution (cross-correlation) over images, with PyTorch's arguments and layout.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
    stride : int or (int, int)
    padding : int, (int, int), "valid" or "same"
        Zeros added on both sides of rows and columns; "same" keeps the size (stride 1 only), with
        an odd one at the bottom and right, as in PyTorch.
    dilation : int or (int, int)
    groups : int
        Must divide both channel counts; ``groups == in_channels`` is a depthwise convolution.
    bias : bool
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        Padding values: zeros, or as by :class:`ReflectionPad2d`, :class:`ReplicationPad2d` or
        :class:`CircularPad2d`, in a separate node before the convolution.
    max_norm : float, optional
        The largest norm of the weights of one output. Larger weights are scaled down to it,
        initially and after each training step, as EEGNet needs (Lawhern et al., arXiv:1611.08024).
    weight_init, bias_init : Initializer, optional
        By default PyTorch's: uniform with bound ``1 / sqrt(fan_in)``.
    seed : int, SeedSequence or Generator, optional
        Source of the initial values.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : ndarray, shape (out_channels, in_channels / groups, KH, KW)
    bias : ndarray, shape (out_channels,), or None

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

    Examples
    --------
    >>> Conv2d(1, 4, 3, padding=1).output_shape((1, 28, 28))
    (4, 28, 28)
    """

    axes: ClassVar[tuple[str, ...]] = ("H", "W")


class Conv1d(_Conv):
    """Convolution over sequences of shape ``(in_channels, L)``.

    A sequence is a map of one row and is computed as such; the weight has PyTorch's shape.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int
    padding : int, "valid" or "same"
    groups, bias, padding_mode, max_norm, weight_init, bias_init, seed, dtype
        As for :class:`Conv2d`.

    Attributes
    ----------
    weight : ndarray, shape (out_channels, in_channels / groups, K)
    bias : ndarray, shape (out_channels,), or None

    Examples
    --------
    >>> Conv1d(2, 4, 5, padding=2).output_shape((2, 100))
    (4, 100)
    """

    axes: ClassVar[tuple[str, ...]] = ("L",)


class _ConvTranspose(_Windowed):
    operation: ClassVar[str] = "conv_transpose2d"

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
        self._set_window(in_channels, out_channels, kernel_size, stride, dilation, groups)
        axes = len(self.axes)
        self.padding = geometry.per_axis(padding, "padding", axes, minimum=0)
        self.output_padding = geometry.per_axis(output_padding, "output_padding", axes, minimum=0)
        geometry.check_output_padding(self.output_padding, self.stride, self.dilation)
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self.parameters = draw_weight_and_bias(
            shape, bias, weight_init, bias_init, seed, dtype, self.out_channels
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """Also the padding, as ``((top, bottom), (left, right))``, and what is added at the end."""
        sides = tuple((size, size) for size in self.padding)
        return super().arguments | {
            "padding": geometry.of_map(sides, (0, 0)),
            "output_padding": geometry.of_map(self.output_padding, 0),
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
        by_group = scale.reshape(self.groups, 1, -1, *(1,) * len(self.axes))
        weight = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
        self._set_outputs((weight * by_group).reshape(self.weight.shape), scale, shift)


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution: each input pixel adds a scaled kernel to the output.

    It is the gradient of a :class:`Conv2d` of the same arguments with respect to its input; with a
    stride it upsamples maps.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
    stride : int or (int, int)
    padding : int or (int, int)
        Rows and columns cropped from both sides of the output.
    output_padding : int or (int, int)
        Rows and columns added at the bottom and right, less than the stride or the dilation.
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
