"""Max and average pooling."""

from typing import Any, ClassVar

from fastcnn.backends import geometry
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import Layer, shown


class _Pool2d(Layer):
    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.kernel_size = geometry.pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else geometry.pair(stride, "stride")
        self.padding = geometry.pair(padding, "padding", minimum=0)
        geometry.check_pool_padding(self.kernel_size, self.padding)

    @property
    def arguments(self) -> dict[str, Any]:
        """Window, stride and padding as pairs."""
        return {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding}

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C, OH, OW)``."""
        if len(input_shape) != 3:
            raise ShapeError(f"expects samples of shape (C, H, W), got {tuple(input_shape)}")
        rows, columns = (
            geometry.pool_output_size(size, kernel, stride, padding)
            for size, kernel, stride, padding in zip(
                input_shape[1:], self.kernel_size, self.stride, self.padding, strict=True
            )
        )
        return (input_shape[0], rows, columns)

    def flops(self, input_shape: Shape) -> int:
        """One per window element."""
        channels, rows, columns = self.output_shape(input_shape)
        return channels * rows * columns * self.kernel_size[0] * self.kernel_size[1]

    def extra_repr(self) -> str:
        """The arguments shown by ``repr``."""
        return f"kernel_size={self.kernel_size}" + shown(
            {"stride": self.stride, "padding": self.padding},
            {"stride": self.kernel_size, "padding": (0, 0)},
        )


class MaxPool2d(_Pool2d):
    """Maximum over windows; of equal values the first in row-major order wins.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        By default the window itself, so windows tile the map.
    padding : int or (int, int)
        Implicit minus infinity on both sides, at most half the window.
    """

    operation: ClassVar[str] = "max_pool2d"


class AvgPool2d(_Pool2d):
    """Mean over windows.

    Parameters
    ----------
    kernel_size, stride, padding
        As for :class:`MaxPool2d`; the padding is zeros.
    count_include_pad : bool
        Whether padded zeros count in the divisor (PyTorch's default).
    """

    operation: ClassVar[str] = "avg_pool2d"

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        *,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = bool(count_include_pad)

    @property
    def arguments(self) -> dict[str, Any]:
        """Window, stride, padding, and what the divisor counts."""
        return {**super().arguments, "count_include_pad": self.count_include_pad}


class AdaptiveAvgPool2d(Layer):
    """Mean over windows that share the map out over an output of a given size.

    Window i of rows reaches from ``floor(i * H / OH)`` to ``ceil((i + 1) * H / OH)``.

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

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.output_size = geometry.adaptive_size(output_size)

    @property
    def arguments(self) -> dict[str, Any]:
        """The output size, with None for that of the input."""
        return {"output_size": self.output_size}

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C, OH, OW)``."""
        if len(input_shape) != 3:
            raise ShapeError(f"expects samples of shape (C, H, W), got {tuple(input_shape)}")
        return (input_shape[0], *geometry.adaptive_output(input_shape[1:], self.output_size))

    def flops(self, input_shape: Shape) -> int:
        """One per element of each window."""
        channels, *output = self.output_shape(input_shape)
        rows, columns = (
            sum(end - first for first, end in geometry.adaptive_windows(size, wanted))
            for size, wanted in zip(input_shape[1:], output, strict=True)
        )
        return channels * rows * columns

    def extra_repr(self) -> str:
        """The arguments shown by ``repr``."""
        return f"output_size={self.output_size}"


class GlobalAvgPool2d(AdaptiveAvgPool2d):
    """Mean of each channel over the whole map, ``(C, H, W)`` to ``(C, 1, 1)``.

    References
    ----------
    Lin, Chen and Yan, "Network in network", arXiv:1312.4400, section 3.2.
    """

    def __init__(self) -> None:
        super().__init__(1)

    def _set_argument(self, name: str, value: Any) -> None:
        raise ConfigurationError(f"GlobalAvgPool2d has no {name}: use AdaptiveAvgPool2d")

    def extra_repr(self) -> str:
        """No arguments."""
        return ""
