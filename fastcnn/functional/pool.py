"""Max and average pooling."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_gradient, pool_arguments
from fastcnn.backends import get_backend
from fastcnn.backends.geometry import IntOrPair, adaptive_output, adaptive_size


def max_pool2d(
    x: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
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

    Returns
    -------
    ndarray, shape (N, C, OH, OW)

    Raises
    ------
    ShapeError, ConfigurationError
    """
    x, arguments, _ = pool_arguments("max_pool2d", x, kernel_size, stride, padding)
    return get_backend(backend).max_pool2d(x, **arguments)


def max_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`max_pool2d` with respect to ``x``, shape (N, C, H, W).

    Raises
    ------
    ShapeError
        If ``grad_output`` is not what ``x`` and the geometry produce.
    """
    x, arguments, output = pool_arguments("max_pool2d_backward", x, kernel_size, stride, padding)
    grad_output = as_gradient("max_pool2d_backward", grad_output, x, output)
    return get_backend(backend).max_pool2d_backward(grad_output, x, **arguments)


def avg_pool2d(
    x: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    count_include_pad: bool = True,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Mean over windows, with zeros in the padding.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    kernel_size, stride, padding
        As for :func:`max_pool2d`.
    count_include_pad : bool
        Whether padded zeros count in the divisor.

    Returns
    -------
    ndarray, shape (N, C, OH, OW)

    Raises
    ------
    ShapeError, ConfigurationError
    """
    x, arguments, _ = pool_arguments("avg_pool2d", x, kernel_size, stride, padding)
    return get_backend(backend).avg_pool2d(
        x, **arguments, count_include_pad=bool(count_include_pad)
    )


def avg_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    count_include_pad: bool = True,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`avg_pool2d` with respect to ``x``, shape (N, C, H, W).

    Raises
    ------
    ShapeError
        If ``grad_output`` is not what ``x`` and the geometry produce.
    """
    x, arguments, output = pool_arguments("avg_pool2d_backward", x, kernel_size, stride, padding)
    grad_output = as_gradient("avg_pool2d_backward", grad_output, x, output)
    return get_backend(backend).avg_pool2d_backward(
        grad_output, x, **arguments, count_include_pad=bool(count_include_pad)
    )


def adaptive_avg_pool2d(
    x: Any, output_size: int | tuple[int | None, int | None] | None, *, backend: str | None = None
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
    x = as_array("adaptive_avg_pool2d", "x", x, 4)
    return get_backend(backend).adaptive_avg_pool2d(x, adaptive_size(output_size))


def adaptive_avg_pool2d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`adaptive_avg_pool2d` with respect to ``x``, shape (N, C, H, W).

    Raises
    ------
    ShapeError
        If ``grad_output`` is not of the output's shape.
    """
    operation = "adaptive_avg_pool2d_backward"
    x = as_array(operation, "x", x, 4)
    size = adaptive_size(output_size)
    output = (*x.shape[:2], *adaptive_output(x.shape[2:], size))
    grad_output = as_gradient(operation, grad_output, x, output)
    return get_backend(backend).adaptive_avg_pool2d_backward(grad_output, x, size)
