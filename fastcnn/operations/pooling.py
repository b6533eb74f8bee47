"""Pooling."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_divisor, as_flag, as_gradient, axes_of, pool_arguments
from fastcnn.backends import get_backend
from fastcnn.backends.geometry import IntOrPair, adaptive_output, adaptive_sizes, of_map
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
    """Maximum over windows; of equal values the first in row-major order wins.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        By default the window itself.
    padding : int or (int, int)
        Implicit minus infinity on both sides, at most half the window.
    dilation : int or (int, int)
        Distance of the pixels of a window.
    ceil_mode : bool
        Whether the output's size is rounded up, so that a last window may reach out of the map.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OH, OW)

    Raises
    ------
    ShapeError, ConfigurationError
    """
    return _max_pool("max_pool2d", x, backend, kernel_size, stride, padding, dilation, ceil_mode)


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
    """:func:`max_pool2d` of sequences, shape (N, C, L) to (N, C, OL)."""
    return _max_pool("max_pool1d", x, backend, kernel_size, stride, padding, dilation, ceil_mode)


def _max_pool(name: str, x: Any, backend: str | None, *window: Any) -> np.ndarray:
    x, arguments, _ = pool_arguments(name, x, *window)
    return get_backend(backend).max_pool2d(x, **arguments)


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
    """Gradient of :func:`max_pool2d` with respect to ``x``, shape (N, C, H, W).

    Raises
    ------
    ShapeError
        If ``grad_output`` is not what ``x`` and the geometry produce.
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool_backward("max_pool2d_backward", grad_output, x, backend, *window)


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
    """Gradient of :func:`max_pool1d` with respect to ``x``, shape (N, C, L)."""
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool_backward("max_pool1d_backward", grad_output, x, backend, *window)


def _max_pool_backward(
    name: str, grad_output: Any, x: Any, backend: str | None, *window: Any
) -> np.ndarray:
    x, arguments, output = pool_arguments(name, x, *window)
    grad_output = as_gradient(name, grad_output, x, output)
    return get_backend(backend).max_pool2d_backward(grad_output, x, **arguments)


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
        Whether padded zeros count in the divisor. What ``ceil_mode`` adds never does.
    divisor_override : int, optional
        Divides the sum of each window instead.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OH, OW)

    Raises
    ------
    ShapeError, ConfigurationError
    """
    x, arguments, _ = _average_arguments(
        "avg_pool2d",
        x,
        (kernel_size, stride, padding),
        ceil_mode,
        count_include_pad,
        divisor_override,
    )
    return get_backend(backend).avg_pool2d(x, **arguments)


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
    """:func:`avg_pool2d` of sequences, shape (N, C, L) to (N, C, OL)."""
    x, arguments, _ = _average_arguments(
        "avg_pool1d", x, (kernel_size, stride, padding), ceil_mode, count_include_pad
    )
    return get_backend(backend).avg_pool2d(x, **arguments)


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
    """Gradient of :func:`avg_pool2d` with respect to ``x``, shape (N, C, H, W).

    Raises
    ------
    ShapeError
        If ``grad_output`` is not what ``x`` and the geometry produce.
    """
    name = "avg_pool2d_backward"
    x, arguments, output = _average_arguments(
        name, x, (kernel_size, stride, padding), ceil_mode, count_include_pad, divisor_override
    )
    grad_output = as_gradient(name, grad_output, x, output)
    return get_backend(backend).avg_pool2d_backward(grad_output, x, **arguments)


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
    """Gradient of :func:`avg_pool1d` with respect to ``x``, shape (N, C, L)."""
    name = "avg_pool1d_backward"
    x, arguments, output = _average_arguments(
        name, x, (kernel_size, stride, padding), ceil_mode, count_include_pad
    )
    grad_output = as_gradient(name, grad_output, x, output)
    return get_backend(backend).avg_pool2d_backward(grad_output, x, **arguments)


def _average_arguments(
    name: str,
    x: Any,
    window: tuple[Any, Any, Any],
    ceil_mode: Any,
    count_include_pad: Any,
    divisor_override: Any = None,
) -> tuple[np.ndarray, dict[str, Any], tuple[int, ...]]:
    x, arguments, output = pool_arguments(name, x, *window, None, ceil_mode)
    arguments["count_include_pad"] = as_flag(name, "count_include_pad", count_include_pad)
    arguments["divisor_override"] = as_divisor(name, divisor_override)
    return x, arguments, output


def adaptive_avg_pool2d(
    x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Mean over windows that share the map out over an output of a given size.

    Window i of rows reaches from ``floor(i * H / OH)`` to ``ceil((i + 1) * H / OH)``.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    output_size : int, None, or a pair of such
        None keeps the size of the input.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OH, OW)

    Raises
    ------
    ShapeError, ConfigurationError
    """
    return _adaptive("adaptive_avg_pool2d", x, output_size, backend)


def adaptive_avg_pool1d(
    x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """:func:`adaptive_avg_pool2d` of sequences, shape (N, C, L) to (N, C, OL)."""
    return _adaptive("adaptive_avg_pool1d", x, output_size, backend)


def adaptive_max_pool2d(
    x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Maximum over the windows of :func:`adaptive_avg_pool2d`; the first of equal values wins."""
    return _adaptive("adaptive_max_pool2d", x, output_size, backend)


def adaptive_max_pool1d(
    x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """:func:`adaptive_max_pool2d` of sequences, shape (N, C, L) to (N, C, OL)."""
    return _adaptive("adaptive_max_pool1d", x, output_size, backend)


def adaptive_avg_pool2d_backward(
    grad_output: Any, x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`adaptive_avg_pool2d` with respect to ``x``, shape (N, C, H, W).

    Raises
    ------
    ShapeError
        If ``grad_output`` is not of the output's shape.
    """
    return _adaptive_backward("adaptive_avg_pool2d_backward", grad_output, x, output_size, backend)


def adaptive_avg_pool1d_backward(
    grad_output: Any, x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`adaptive_avg_pool1d` with respect to ``x``, shape (N, C, L)."""
    return _adaptive_backward("adaptive_avg_pool1d_backward", grad_output, x, output_size, backend)


def adaptive_max_pool2d_backward(
    grad_output: Any, x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`adaptive_max_pool2d` with respect to ``x``, shape (N, C, H, W)."""
    return _adaptive_backward("adaptive_max_pool2d_backward", grad_output, x, output_size, backend)


def adaptive_max_pool1d_backward(
    grad_output: Any, x: Any, output_size: OutputSize, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`adaptive_max_pool1d` with respect to ``x``, shape (N, C, L)."""
    return _adaptive_backward("adaptive_max_pool1d_backward", grad_output, x, output_size, backend)


def _adaptive(name: str, x: Any, output_size: Any, backend: str | None) -> np.ndarray:
    axes = axes_of(name)
    x = as_array(name, "x", x, 2 + axes)
    size = of_map(adaptive_sizes(output_size, axes), 1)
    made: np.ndarray = getattr(get_backend(backend), name.replace("1d", "2d"))(x, size)
    return made


def _adaptive_backward(
    name: str, grad_output: Any, x: Any, output_size: Any, backend: str | None
) -> np.ndarray:
    axes = axes_of(name)
    x = as_array(name, "x", x, 2 + axes)
    size = adaptive_sizes(output_size, axes)
    output = (*x.shape[:2], *adaptive_output(x.shape[2:], size))
    grad_output = as_gradient(name, grad_output, x, output)
    function = getattr(get_backend(backend), name.replace("1d", "2d"))
    made: np.ndarray = function(grad_output, x, of_map(size, 1))
    return made


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
