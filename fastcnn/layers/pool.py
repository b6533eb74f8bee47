"""Max and average pooling of maps and of sequences."""

import math
from typing import Any, ClassVar

from fastcnn.arguments import as_divisor, as_flag
from fastcnn.backends import geometry
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.layers.base import Layer, check_samples

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "GlobalMaxPool1d",
    "GlobalMaxPool2d",
    "MaxPool1d",
    "MaxPool2d",
]

IntOrTuple = int | tuple[int, ...]
OutputSize = int | tuple[int | None, ...] | None


class _Pool(Layer):
    always_shown: ClassVar[tuple[str, ...]] = ("kernel_size",)
    #: The axes after the channels in the shape of a sample.
    axes: ClassVar[tuple[str, ...]]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool

    def _set_window(
        self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
    ) -> None:
        """Check and store the arguments."""
        axes = len(self.axes)
        self.kernel_size = geometry.per_axis(kernel_size, "kernel_size", axes)
        self.stride = (
            self.kernel_size if stride is None else geometry.per_axis(stride, "stride", axes)
        )
        self.padding = geometry.per_axis(padding, "padding", axes, minimum=0)
        self.dilation = geometry.per_axis(dilation, "dilation", axes)
        geometry.check_pool_padding(self.kernel_size, self.padding, self.dilation)
        self.ceil_mode = as_flag(type(self).__name__, "ceil_mode", ceil_mode)

    @property
    def arguments(self) -> dict[str, Any]:
        """Window, stride and padding as pairs, and the rounding of the output's size."""
        return {
            "kernel_size": geometry.of_map(self.kernel_size, 1),
            "stride": geometry.of_map(self.stride, 1),
            "padding": geometry.of_map(self.padding, 0),
            "ceil_mode": self.ceil_mode,
        }

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C, OH, OW)``, or ``(C, OL)``."""
        check_samples(input_shape, self.axes)
        window = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return (input_shape[0], *geometry.pool_output(input_shape[1:], *window))

    def flops(self, *input_shapes: Shape) -> int:
        """One per window element."""
        return math.prod(self.output_shape(*input_shapes)) * math.prod(self.kernel_size)

    def _is_default(self, name: str, value: Any, default: Any) -> bool:
        return super()._is_default(name, value, self.kernel_size if name == "stride" else default)


class _MaxPool(_Pool):
    operation: ClassVar[str] = "max_pool2d"

    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: IntOrTuple = 0,
        dilation: IntOrTuple = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self._set_window(kernel_size, stride, padding, dilation, ceil_mode)

    @property
    def arguments(self) -> dict[str, Any]:
        """Window, stride, padding and dilation as pairs."""
        return {**super().arguments, "dilation": geometry.of_map(self.dilation, 1)}


class MaxPool2d(_MaxPool):
    """Maximum over windows; ties go to the first value in row-major order.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        By default the window size, so that windows tile the map.
    padding : int or (int, int)
        Implicit minus infinity on both sides, at most half the window.
    dilation : int or (int, int)
        Distance between the pixels of a window.
    ceil_mode : bool
        Whether the output's size is rounded up: the last windows may extend beyond the map.

    Examples
    --------
    >>> MaxPool2d(2, ceil_mode=True).output_shape((4, 7, 7))
    (4, 4, 4)
    """

    axes: ClassVar[tuple[str, ...]] = ("H", "W")


class MaxPool1d(_MaxPool):
    """Maximum over windows of sequences ``(C, L)``.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int
        As for :class:`MaxPool2d`, by default as there.
    ceil_mode : bool
        Whether the output's length is rounded up.
    """

    axes: ClassVar[tuple[str, ...]] = ("L",)


class _AvgPool(_Pool):
    operation: ClassVar[str] = "avg_pool2d"
    count_include_pad: bool
    divisor_override: int | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Window, stride, padding, and the divisor of the sums."""
        return {
            **super().arguments,
            "count_include_pad": self.count_include_pad,
            "divisor_override": self.divisor_override,
        }


class AvgPool2d(_AvgPool):
    """Mean over windows.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode
        As for :class:`MaxPool2d`; the padding is zeros.
    count_include_pad : bool
        Whether padded zeros count in the divisor (PyTorch's default). Elements added by
        ``ceil_mode`` never do.
    divisor_override : int, optional
        Divisor of the sum of each window, instead of its size.
    """

    axes: ClassVar[tuple[str, ...]] = ("H", "W")

    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: IntOrTuple = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self._set_window(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = as_flag(owner, "count_include_pad", count_include_pad)
        self.divisor_override = as_divisor(owner, divisor_override)


class AvgPool1d(_AvgPool):
    """Mean over windows of sequences ``(C, L)``.

    Parameters
    ----------
    kernel_size, stride, padding : int
        As for :class:`MaxPool1d`; the padding is zeros.
    ceil_mode : bool
        Whether the output's length is rounded up.
    count_include_pad : bool
        Whether the padding counts as elements of a window.
    """

    axes: ClassVar[tuple[str, ...]] = ("L",)

    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: IntOrTuple = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self._set_window(kernel_size, stride, padding, 1, ceil_mode)
        owner = type(self).__name__
        self.count_include_pad = as_flag(owner, "count_include_pad", count_include_pad)


class _AdaptivePool(Layer):
    always_shown: ClassVar[tuple[str, ...]] = ("output_size",)
    axes: ClassVar[tuple[str, ...]] = ("H", "W")

    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = geometry.adaptive_sizes(output_size, len(self.axes))

    @property
    def arguments(self) -> dict[str, Any]:
        """The output size, with None to keep that of the input."""
        return {"output_size": geometry.of_map(self.output_size, 1)}

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C, OH, OW)``, or ``(C, OL)``."""
        check_samples(input_shape, self.axes)
        return (input_shape[0], *geometry.adaptive_output(input_shape[1:], self.output_size))

    def flops(self, *input_shapes: Shape) -> int:
        """One per element of each window."""
        channels, *output = self.output_shape(*input_shapes)
        return channels * math.prod(
            sum(end - first for first, end in geometry.adaptive_windows(size, wanted))
            for size, wanted in zip(input_shapes[0][1:], output, strict=True)
        )


class AdaptiveAvgPool2d(_AdaptivePool):
    """Mean over windows that divide the map into an output of a given size.

    Window i of the rows extends from ``floor(i * H / OH)`` to ``ceil((i + 1) * H / OH)``.

    Parameters
    ----------
    output_size : int, None, or a pair of such
        None keeps the size of the input.

    Examples
    --------
    >>> AdaptiveAvgPool2d((2, None)).output_shape((4, 7, 5))
    (4, 2, 5)
    """

    operation: ClassVar[str] = "adaptive_avg_pool2d"


class AdaptiveAvgPool1d(AdaptiveAvgPool2d):
    """:class:`AdaptiveAvgPool2d` of sequences ``(C, L)``.

    Parameters
    ----------
    output_size : int or None
        None keeps the length of the input.
    """

    axes: ClassVar[tuple[str, ...]] = ("L",)


class AdaptiveMaxPool2d(_AdaptivePool):
    """Maximum over the windows of :class:`AdaptiveAvgPool2d`; ties go to the first value.

    Parameters
    ----------
    output_size : int, None, or a pair of such
        None keeps the size of the input.
    """

    operation: ClassVar[str] = "adaptive_max_pool2d"


class AdaptiveMaxPool1d(AdaptiveMaxPool2d):
    """:class:`AdaptiveMaxPool2d` of sequences ``(C, L)``.

    Parameters
    ----------
    output_size : int or None
        None keeps the length of the input.
    """

    axes: ClassVar[tuple[str, ...]] = ("L",)


class _Global(_AdaptivePool):
    def __init__(self) -> None:
        super().__init__(1)

    def _set_argument(self, name: str, value: Any) -> None:
        own = type(self).__name__
        raise ConfigurationError(f"{own} has no {name}: use {own.replace('Global', 'Adaptive')}")


class GlobalAvgPool2d(_Global, AdaptiveAvgPool2d):
    """Mean of each channel over the whole map, ``(C, H, W)`` to ``(C, 1, 1)``.

    References
    ----------
    Lin, Chen and Yan, "Network in network", arXiv:1312.4400, section 3.2.
    """


class GlobalAvgPool1d(_Global, AdaptiveAvgPool1d):
    """Mean of each channel over the whole sequence, ``(C, L)`` to ``(C, 1)``."""


class GlobalMaxPool2d(_Global, AdaptiveMaxPool2d):
    """Maximum of each channel over the whole map, ``(C, H, W)`` to ``(C, 1, 1)``."""


class GlobalMaxPool1d(_Global, AdaptiveMaxPool1d):
    """Maximum of each channel over the whole sequence, ``(C, L)`` to ``(C, 1)``."""
