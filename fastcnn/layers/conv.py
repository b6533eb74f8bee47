"""Two-dimensional convolution."""

from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import as_number
from fastcnn.backends import geometry
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import WeightedLayer, positive, shown
from fastcnn.layers.init import Initializer, draw_weight_and_bias


class Conv2d(WeightedLayer):
    """Convolution (cross-correlation) over images, with PyTorch's arguments and layout.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
    stride : int or (int, int)
    padding : int, (int, int), "valid" or "same"
        Zeros added on both sides of rows and columns; "same" keeps the size (stride 1 only) and
        puts the odd one at the bottom and right, as PyTorch does.
    dilation : int or (int, int)
    groups : int
        Must divide both channel counts; ``groups == in_channels`` is a depthwise convolution.
    bias : bool
    max_norm : float, optional
        The largest norm of the weights of one output. Weights above it are scaled down to it, at
        first and after each step of training, as EEGNet needs (Lawhern et al., arXiv:1611.08024).
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

    operation: ClassVar[str] = "conv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        max_norm: float | None = None,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        seed: int | np.random.SeedSequence | np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.in_channels = positive(in_channels, "Conv2d", "in_channels")
        self.out_channels = positive(out_channels, "Conv2d", "out_channels")
        self.groups = positive(groups, "Conv2d", "groups")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ConfigurationError(
                f"Conv2d: groups={groups} must divide in_channels={in_channels} "
                f"and out_channels={out_channels}"
            )
        self.kernel_size = geometry.pair(kernel_size, "kernel_size")
        self.stride = geometry.pair(stride, "stride")
        self.dilation = geometry.pair(dilation, "dilation")
        self.padding = padding
        self._padding = geometry.resolve_padding(
            padding, self.kernel_size, self.dilation, self.stride
        )
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        drawn = draw_weight_and_bias(shape, bias, weight_init, bias_init, seed, dtype)
        self._set_arrays("parameters", drawn)
        self.max_norm = None
        if max_norm is not None:
            self.max_norm = as_number("Conv2d", "max_norm", max_norm, above=0.0)
            self.limit_norms()

    @property
    def arguments(self) -> dict[str, Any]:
        """Stride, padding as ``((top, bottom), (left, right))``, dilation and groups."""
        return {
            "stride": self.stride,
            "padding": self._padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(out_channels, OH, OW)``."""
        if len(input_shape) != 3 or input_shape[0] != self.in_channels:
            raise ShapeError(
                f"expects samples of shape ({self.in_channels}, H, W), got {tuple(input_shape)}"
            )
        rows, columns = (
            geometry.conv_output_size(size, kernel, stride, padding, dilation)
            for size, kernel, stride, padding, dilation in zip(
                input_shape[1:],
                self.kernel_size,
                self.stride,
                self._padding,
                self.dilation,
                strict=True,
            )
        )
        return (self.out_channels, rows, columns)

    def flops(self, input_shape: Shape) -> int:
        """Two per weight and output position, one per bias and output position."""
        _, rows, columns = self.output_shape(input_shape)
        per_position = 2 * self.weight.size + (self.out_channels if self.bias is not None else 0)
        return per_position * rows * columns

    def extra_repr(self) -> str:
        """The arguments shown by ``repr``."""
        arguments = {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": self.bias is not None,
            "max_norm": self.max_norm,
        }
        defaults = {
            "stride": (1, 1),
            "padding": 0,
            "dilation": (1, 1),
            "groups": 1,
            "bias": True,
            "max_norm": None,
        }
        start = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return start + shown(arguments, defaults)
