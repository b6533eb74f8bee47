"""Pooling."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_divisor, as_flag, naming
from fastcnn.backends.geometry import (
    IntOrPair,
    adaptive_output,
    adaptive_sizes,
    check_pool_padding,
    of_map,
    per_axis,
    pool_output,
)
from fastcnn.operations.forms import Checked, axes_of, computed, gradient
from fastcnn.operations.record import Operation, case

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]

#: Output size of an adaptive pooling; None keeps that of the input.
OutputSize = int | tuple[int | None, ...] | None


def max_pool2d(
    x: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Maximum over windows; ties go to the first value in row-major order.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        By default the window size.
    padding : int or (int, int)
        Implicit minus infinity on both sides, at most half the window.
    dilation : int or (int, int)
        Distance between the pixels of a window.
    ceil_mode : bool
        Whether the output's size is rounded up, so that the last windows may extend beyond the map.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OH, OW)
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return computed("max_pool2d", _largest, backend, x, *window)


def max_pool1d(
    x: Any,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """:func:`max_pool2d` of sequences.

    Parameters
    ----------
    x : array_like, shape (N, C, L)
    kernel_size, stride, padding, dilation : int
    ceil_mode, backend
        As for :func:`max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, OL)
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return computed("max_pool1d", _largest, backend, x, *window)


def _largest(
    name: str, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> Checked:
    x, window, gaps, output = _windows(name, x, kernel_size, stride, padding, dilation, ceil_mode)
    return Checked((x,), window | {"dilation": of_map(gaps, 1)}, output)


def _windows(
    name: str, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> tuple[np.ndarray, dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    """The input, the windows without dilation, the dilation, and the output's shape."""
    axes = axes_of(name)
    x = as_array(name, "x", x, 2 + axes)
    kernel = per_axis(kernel_size, f"{name}: kernel_size", axes)
    stride = kernel if stride is None else per_axis(stride, f"{name}: stride", axes)
    padding = per_axis(padding, f"{name}: padding", axes, minimum=0)
    gaps = per_axis(dilation, f"{name}: dilation", axes)
    check_pool_padding(kernel, padding, gaps)
    ceil_mode = as_flag(name, "ceil_mode", ceil_mode)
    with naming(f"{name}: x {x.shape}"):
        sizes = pool_output(x.shape[2:], kernel, stride, padding, gaps, ceil_mode)
    window = {
        "kernel_size": of_map(kernel, 1),
        "stride": of_map(stride, 1),
        "padding": of_map(padding, 0),
        "ceil_mode": ceil_mode,
    }
    return x, window, gaps, (*x.shape[:2], *sizes)


def max_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`max_pool2d`."""
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return gradient("max_pool2d", _largest, backend, grad_output, x, *window)


def max_pool1d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`max_pool1d`."""
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return gradient("max_pool1d", _largest, backend, grad_output, x, *window)


def avg_pool2d(
    x: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Mean over windows, with zeros in the padding.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    kernel_size, stride, padding, ceil_mode
        As for :func:`max_pool2d`.
    count_include_pad : bool
        Whether padded zeros count in the divisor. Elements added by ``ceil_mode`` never do.
    divisor_override : int, optional
        Divisor of the sum of each window, instead of its size.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OH, OW)
    """
    window = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return computed("avg_pool2d", _mean, backend, x, *window)


def avg_pool1d(
    x: Any,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """:func:`avg_pool2d` of sequences.

    Parameters
    ----------
    x : array_like, shape (N, C, L)
    kernel_size, stride, padding : int
    ceil_mode, count_include_pad, backend
        As for :func:`avg_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, OL)
    """
    window = (kernel_size, stride, padding, ceil_mode, count_include_pad)
    return computed("avg_pool1d", _mean, backend, x, *window)


def _mean(
    name: str,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: Any,
    count_include_pad: Any,
    divisor_override: Any = None,
) -> Checked:
    x, window, _, output = _windows(name, x, kernel_size, stride, padding, 1, ceil_mode)
    window["count_include_pad"] = as_flag(name, "count_include_pad", count_include_pad)
    window["divisor_override"] = as_divisor(name, divisor_override)
    return Checked((x,), window, output)


def avg_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`avg_pool2d`."""
    window = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return gradient("avg_pool2d", _mean, backend, grad_output, x, *window)


def avg_pool1d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`avg_pool1d`."""
    window = (kernel_size, stride, padding, ceil_mode, count_include_pad)
    return gradient("avg_pool1d", _mean, backend, grad_output, x, *window)


def adaptive_avg_pool2d(
    x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Mean over windows that divide the map into an output of a given size.

    Window i of the rows extends from ``floor(i * H / OH)`` to ``ceil((i + 1) * H / OH)``.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    output_size : int, None, or a pair of such
        None keeps the size of the input.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OH, OW)
    """
    return computed("adaptive_avg_pool2d", _adaptive, backend, x, output_size)


def adaptive_avg_pool1d(
    x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """:func:`adaptive_avg_pool2d` of sequences.

    Parameters
    ----------
    x : array_like, shape (N, C, L)
    output_size : int or None
        None keeps the size of the input.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OL)
    """
    return computed("adaptive_avg_pool1d", _adaptive, backend, x, output_size)


def adaptive_max_pool2d(
    x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Maximum over the windows of :func:`adaptive_avg_pool2d`; ties go to the first value.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    output_size : int, None, or a pair of such
        None keeps the size of the input.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OH, OW)
    """
    return computed("adaptive_max_pool2d", _adaptive, backend, x, output_size)


def adaptive_max_pool1d(
    x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """:func:`adaptive_max_pool2d` of sequences.

    Parameters
    ----------
    x : array_like, shape (N, C, L)
    output_size : int or None
        None keeps the size of the input.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OL)
    """
    return computed("adaptive_max_pool1d", _adaptive, backend, x, output_size)


def _adaptive(name: str, x: Any, output_size: Any) -> Checked:
    axes = axes_of(name)
    x = as_array(name, "x", x, 2 + axes)
    size = adaptive_sizes(output_size, axes)
    output = (*x.shape[:2], *adaptive_output(x.shape[2:], size))
    return Checked((x,), {"output_size": of_map(size, 1)}, output)


def adaptive_avg_pool2d_backward(
    grad_output: Any, x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`adaptive_avg_pool2d`."""
    return gradient("adaptive_avg_pool2d", _adaptive, backend, grad_output, x, output_size)


def adaptive_avg_pool1d_backward(
    grad_output: Any, x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`adaptive_avg_pool1d`."""
    return gradient("adaptive_avg_pool1d", _adaptive, backend, grad_output, x, output_size)


def adaptive_max_pool2d_backward(
    grad_output: Any, x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`adaptive_max_pool2d`."""
    return gradient("adaptive_max_pool2d", _adaptive, backend, grad_output, x, output_size)


def adaptive_max_pool1d_backward(
    grad_output: Any, x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`adaptive_max_pool1d`."""
    return gradient("adaptive_max_pool1d", _adaptive, backend, grad_output, x, output_size)


_WINDOWS: dict[str, Any] = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
#: The operations of this file.
RECORDS = (
    Operation(
        "max_pool2d",
        masks_gradient=True,
        frees_input=True,
        layers=(
            case("MaxPool2d", (2, 4, 6), 2),
            case("MaxPool2d", (2, 5, 6), 3, stride=2, padding=1),
            case("MaxPool2d", (2, 5, 6), 2, stride=2, dilation=2, ceil_mode=True),
            case("MaxPool1d", (2, 8), 3, stride=2, ceil_mode=True),
        ),
        timed=(((8, 14, 14), _WINDOWS), ((32, 32, 32), _WINDOWS)),
    ),
    Operation(
        "avg_pool2d",
        gradient_needs="nothing",
        frees_input=True,
        layers=(
            case("AvgPool2d", (2, 4, 6), 2),
            case("AvgPool2d", (2, 5, 4), (3, 2), stride=(2, 1), padding=1),
            case("AvgPool2d", (1, 5, 5), 3, stride=2, padding=1, count_include_pad=False),
            case("AvgPool2d", (2, 4, 5), 3, stride=2, padding=1, ceil_mode=True),
            case("AvgPool2d", (2, 4, 4), 2, divisor_override=3),
            case("AvgPool1d", (2, 6), 2),
        ),
        timed=(((32, 32, 32), _WINDOWS | {"count_include_pad": True}),),
    ),
    Operation(
        "adaptive_avg_pool2d",
        gradient_needs="nothing",
        frees_input=True,
        layers=(
            case("AdaptiveAvgPool2d", (2, 5, 4), (2, 3)),
            case("GlobalAvgPool2d", (3, 2, 3)),
            case("AdaptiveAvgPool1d", (2, 7), 3),
        ),
        timed=(((64, 32, 32), {"output_size": (4, 4)}), ((64, 8, 8), {"output_size": (1, 1)})),
    ),
    Operation(
        "adaptive_max_pool2d",
        masks_gradient=True,
        frees_input=True,
        layers=(
            case("AdaptiveMaxPool2d", (2, 5, 4), (2, 3)),
            case("GlobalMaxPool2d", (3, 2, 3)),
            case("AdaptiveMaxPool1d", (2, 7), 3),
        ),
        timed=(((64, 8, 8), {"output_size": (1, 1)}),),
    ),
)
