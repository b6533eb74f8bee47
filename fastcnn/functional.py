"""Operations as functions: check the arguments, pick the backend, compute.

Arrays are NCHW, float32 or float64, all of one type; results are new arrays of that type and
inputs are never changed. ``backend`` is one of :data:`fastcnn.backends.BACKENDS`.
"""

from typing import Any

import numpy as np

from fastcnn.arguments import (
    as_array,
    as_bias,
    as_gradient,
    as_key,
    as_rate,
    as_sample_weight,
    as_smoothing,
    classification_arguments,
    conv_arguments,
    linear_arguments,
    pool_arguments,
    regression_arguments,
)
from fastcnn.backends import get_backend

IntOrPair = int | tuple[int, int]


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Two-dimensional convolution (cross-correlation).

    Parameters
    ----------
    x : array_like, shape (N, in_channels, H, W)
    weight : array_like, shape (out_channels, in_channels / groups, KH, KW)
    bias : array_like, shape (out_channels,), optional
    stride, dilation : int or (int, int)
    padding : int, (int, int), "valid" or "same"
    groups : int
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, out_channels, OH, OW)
        ``OH = floor((H + 2 * padding - dilation * (KH - 1) - 1) / stride) + 1``.

    Raises
    ------
    ShapeError
        If the shapes do not fit each other, or the kernel exceeds the padded input.
    ConfigurationError
        If an argument makes no sense, or the types differ.

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285.
    """
    x, weight, arguments, _ = conv_arguments("conv2d", x, weight, stride, padding, dilation, groups)
    if bias is not None:
        bias = as_bias("conv2d", bias, x, len(weight))
    return get_backend(backend).conv2d(x, weight, bias, **arguments)


def conv2d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of :func:`conv2d` with respect to its input, weight and bias.

    Parameters
    ----------
    grad_output : array_like, shape (N, out_channels, OH, OW)
        Gradient of the loss with respect to the output.
    x, weight, stride, padding, dilation, groups, backend
        As given to :func:`conv2d`.

    Returns
    -------
    grad_x : ndarray, shape (N, in_channels, H, W)
    grad_weight : ndarray, shape (out_channels, in_channels / groups, KH, KW)
    grad_bias : ndarray, shape (out_channels,)

    Raises
    ------
    ShapeError
        If ``grad_output`` is not what ``x``, ``weight`` and the geometry produce.

    References
    ----------
    docs/derivations.md, "Convolution"; Dumoulin and Visin, arXiv:1603.07285, section 4.
    """
    x, weight, arguments, output = conv_arguments(
        "conv2d_backward", x, weight, stride, padding, dilation, groups
    )
    grad_output = as_gradient("conv2d_backward", grad_output, x, output)
    return get_backend(backend).conv2d_backward(grad_output, x, weight, **arguments)


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


def relu(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``max(0, x)`` for an array of any shape."""
    return get_backend(backend).relu(as_array("relu", "x", x))


def relu_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`relu`: ``grad_output`` where ``x > 0``, else 0 (also at 0)."""
    return _elementwise_backward("relu_backward", grad_output, x, backend)


def sigmoid(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``1 / (1 + exp(-x))`` without overflow, for an array of any shape."""
    return get_backend(backend).sigmoid(as_array("sigmoid", "x", x))


def sigmoid_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`sigmoid` at its input ``x``: ``grad_output * y * (1 - y)``."""
    return _elementwise_backward("sigmoid_backward", grad_output, x, backend)


def tanh(x: Any, *, backend: str | None = None) -> np.ndarray:
    """Hyperbolic tangent of an array of any shape."""
    return get_backend(backend).tanh(as_array("tanh", "x", x))


def tanh_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`tanh` at its input ``x``: ``grad_output * (1 - y^2)``."""
    return _elementwise_backward("tanh_backward", grad_output, x, backend)


def flatten(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``(N, C, H, W)`` to ``(N, C * H * W)``."""
    return get_backend(backend).flatten(as_array("flatten", "x", x))


def flatten_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`flatten`: ``grad_output`` in the shape of ``x``."""
    x = as_array("flatten_backward", "x", x)
    output = (len(x), x.size // len(x))
    grad_output = as_gradient("flatten_backward", grad_output, x, output)
    return get_backend(backend).flatten_backward(grad_output, x)


def linear(x: Any, weight: Any, bias: Any = None, *, backend: str | None = None) -> np.ndarray:
    """Fully connected layer, ``x W^T + b``.

    Parameters
    ----------
    x : array_like, shape (N, in_features)
    weight : array_like, shape (out_features, in_features)
    bias : array_like, shape (out_features,), optional
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, out_features)

    Raises
    ------
    ShapeError, ConfigurationError
    """
    x, weight = linear_arguments("linear", x, weight)
    if bias is not None:
        bias = as_bias("linear", bias, x, len(weight))
    return get_backend(backend).linear(x, weight, bias)


def linear_backward(
    grad_output: Any, x: Any, weight: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of :func:`linear`: ``(grad_x, grad_weight, grad_bias)``.

    Raises
    ------
    ShapeError
        If ``grad_output`` is not of shape (N, out_features).
    """
    x, weight = linear_arguments("linear_backward", x, weight)
    grad_output = as_gradient("linear_backward", grad_output, x, (len(x), len(weight)))
    return get_backend(backend).linear_backward(grad_output, x, weight)


def dropout(x: Any, p: float = 0.5, *, key: int, backend: str | None = None) -> np.ndarray:
    """Inverted dropout: zero elements with probability ``p``, divide the others by ``1 - p``.

    Parameters
    ----------
    x : array_like, shape (N, ...)
    p : float
        ``0 <= p < 1``.
    key : int
        64-bit key of the mask; the same key gives the same mask in every backend.
    """
    x = as_array("dropout", "x", x)
    return get_backend(backend).dropout(x, as_rate(p), as_key(key))


def dropout_backward(
    grad_output: Any, x: Any, p: float = 0.5, *, key: int, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`dropout` with the same ``p`` and ``key``."""
    x = as_array("dropout_backward", "x", x)
    grad_output = as_gradient("dropout_backward", grad_output, x, x.shape)
    return get_backend(backend).dropout_backward(grad_output, x, as_rate(p), as_key(key))


def softmax(logits: Any) -> np.ndarray:
    """Softmax over the last axis, with the row's maximum subtracted."""
    logits = as_array("softmax", "logits", logits)
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def cross_entropy(
    logits: Any,
    target: Any,
    label_smoothing: float = 0.0,
    *,
    sample_weight: Any = None,
    backend: str | None = None,
) -> float:
    """Softmax cross-entropy, mean over the batch.

    Parameters
    ----------
    logits : array_like, shape (N, classes)
    target : array_like of int, shape (N,)
    label_smoothing : float
        ``0 <= label_smoothing < 1``.
    sample_weight : array_like, shape (N,), optional
        The mean is then ``sum(weight * loss) / sum(weight)``.

    Returns
    -------
    float

    Raises
    ------
    ShapeError, ConfigurationError
    """
    logits, target = classification_arguments("cross_entropy", logits, target)
    smoothing = as_smoothing(label_smoothing)
    weight = as_sample_weight("cross_entropy", sample_weight, len(logits))
    return float(get_backend(backend).cross_entropy(logits, target, smoothing, weight))


def cross_entropy_backward(
    grad_output: float,
    logits: Any,
    target: Any,
    label_smoothing: float = 0.0,
    *,
    sample_weight: Any = None,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`cross_entropy` with respect to the logits, shape (N, classes).

    ``grad_output`` is the gradient with respect to the loss itself, a number (1.0).
    """
    logits, target = classification_arguments("cross_entropy_backward", logits, target)
    weight = as_sample_weight("cross_entropy_backward", sample_weight, len(logits))
    return get_backend(backend).cross_entropy_backward(
        float(grad_output), logits, target, as_smoothing(label_smoothing), weight
    )


def mse(
    prediction: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
) -> float:
    """Mean squared error of two arrays of one shape: mean over elements, then over samples.

    With ``sample_weight`` of shape (N,), the mean over samples is weighted.
    """
    prediction, target = regression_arguments("mse", prediction, target)
    weight = as_sample_weight("mse", sample_weight, len(prediction))
    return float(get_backend(backend).mse(prediction, target, weight))


def mse_backward(
    grad_output: float,
    prediction: Any,
    target: Any,
    *,
    sample_weight: Any = None,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`mse` with respect to ``prediction``; ``grad_output`` is a number."""
    prediction, target = regression_arguments("mse_backward", prediction, target)
    weight = as_sample_weight("mse_backward", sample_weight, len(prediction))
    return get_backend(backend).mse_backward(float(grad_output), prediction, target, weight)


def _elementwise_backward(
    operation: str, grad_output: Any, x: Any, backend: str | None
) -> np.ndarray:
    x = as_array(operation, "x", x)
    grad_output = as_gradient(operation, grad_output, x, x.shape)
    return getattr(get_backend(backend), operation)(grad_output, x)
