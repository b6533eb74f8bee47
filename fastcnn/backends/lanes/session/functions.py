"""Convolutions, linear layers and poolings called alone: each call runs a network of one node.

Packing into lanes and back costs more than a small operation saves; training and inference keep
whole networks in lanes. Arrays of float64 are computed by im2col.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn import forks
from fastcnn.backends import im2col
from fastcnn.backends.geometry import (
    ALL,
    AdaptiveSize,
    Mask,
    Padding,
    Pair,
    adaptive_output,
    conv_output,
    conv_transpose_output,
    masked,
    pool_output,
)
from fastcnn.backends.lanes.session.fallback import run_or_fall_back
from fastcnn.backends.lanes.session.operation import Operation, operation
from fastcnn.backends.one_row import on_sequences

Arguments = Mapping[str, Any]


@on_sequences
def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Implicit im2col: a tap is an address."""
    size = conv_output(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _forward("conv2d", x, (len(weight), *size), window, weight, bias)


@on_sequences
def conv2d_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    output_mask: Mask = ALL,
) -> tuple[Any, ...]:
    """The input's gradient is a convolution with the flipped kernel, for each stride phase."""
    window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return masked(output_mask, *_backward("conv2d", grad_output, x, window, weight, output_mask))


@on_sequences
def conv_transpose2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Padding,
    output_padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """The input gradient of a convolution, for each stride phase."""
    sides = (weight.shape[2:], stride, padding, dilation, output_padding)
    shape = (weight.shape[1] * groups, *conv_transpose_output(x.shape[2:], *sides))
    window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    window["output_padding"] = output_padding
    return _forward("conv_transpose2d", x, shape, window, weight, bias)


@on_sequences
def conv_transpose2d_backward(
    grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray, **window: Any
) -> tuple[np.ndarray, ...]:
    """The input's gradient is the convolution of the output's."""
    return _backward("conv_transpose2d", grad_output, x, window, weight)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """``y = x W^T + b`` in register tiles; for one sample by BLAS, which copies no weights."""
    if len(x) == 1:
        return im2col.linear(x, weight, bias)
    return _forward("linear", x, weight.shape[:1], {}, weight, bias)


def linear_backward(
    grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, ...]:
    """``dx = dy W``, ``dW = dy^T x``, ``db`` the sum of dy over samples."""
    return _backward("linear", grad_output, x, {}, weight)


@on_sequences
def max_pool2d(x: np.ndarray, **window: Any) -> np.ndarray:
    """Maximum of each window; the first of equal values wins."""
    return _forward("max_pool2d", x, _pooled_shape(x, **window), window)


@on_sequences
def max_pool2d_backward(grad_output: np.ndarray, x: np.ndarray, **window: Any) -> np.ndarray:
    """Each window's gradient goes to its maximum."""
    return _backward("max_pool2d", grad_output, x, window)


@on_sequences
def avg_pool2d(x: np.ndarray, **window: Any) -> np.ndarray:
    """Mean of each window."""
    return _forward("avg_pool2d", x, _pooled_shape(x, **window), window)


@on_sequences
def avg_pool2d_backward(grad_output: np.ndarray, x: np.ndarray, **window: Any) -> np.ndarray:
    """Each window's gradient is spread evenly over it."""
    return _backward("avg_pool2d", grad_output, x, window)


def _pooled_shape(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
    **_: Any,
) -> tuple[int, ...]:
    size = pool_output(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return (x.shape[1], *size)


@on_sequences
def adaptive_avg_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Mean over windows that divide the map evenly among the output's pixels."""
    shape = (x.shape[1], *adaptive_output(x.shape[2:], output_size))
    return _forward("adaptive_avg_pool2d", x, shape, {"output_size": output_size})


@on_sequences
def adaptive_avg_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """Each window's gradient is spread evenly over it."""
    return _backward("adaptive_avg_pool2d", grad_output, x, {"output_size": output_size})


def _forward(
    name: str,
    x: np.ndarray,
    shape: tuple[int, ...],
    arguments: Arguments,
    *parameters: np.ndarray | None,
) -> np.ndarray:
    """The output, given its sample shape; parameters are weight and bias, if there are any."""
    pairs = zip(("weight", "bias"), parameters, strict=False)
    given = {key: value for key, value in pairs if value is not None}
    return run_or_fall_back(
        lambda: _operation(name, x, shape, given, False, arguments).forward(x, given),
        lambda: getattr(im2col, name)(x, *parameters, **arguments),
        x,
        *given.values(),
    )


def _backward(
    name: str,
    grad_output: np.ndarray,
    x: np.ndarray,
    arguments: Arguments,
    weight: np.ndarray | None = None,
    output_mask: Mask = ALL,
) -> Any:
    """The gradient of the input, or with a weight those of input, weight and bias."""
    arrays = (x,) if weight is None else (x, weight)
    mask = {} if output_mask == ALL else {"output_mask": output_mask}

    def on_engine() -> Any:
        given = {}
        if weight is not None:
            given = {"weight": weight, "bias": np.zeros(grad_output.shape[1], np.float32)}
        run = _operation(name, x, grad_output.shape[1:], given, True, arguments)
        gradients = run.backward(grad_output, x, given, **mask)
        return gradients[0] if weight is None else gradients

    return run_or_fall_back(
        on_engine,
        lambda: getattr(im2col, f"{name}_backward")(grad_output, *arrays, **arguments, **mask),
        grad_output,
        *arrays,
    )


def _operation(
    name: str,
    x: np.ndarray,
    output_shape: tuple[int, ...],
    parameters: Mapping[str, np.ndarray],
    backward: bool,
    arguments: Arguments,
) -> Operation:
    shapes = tuple((key, value.shape) for key, value in parameters.items())
    given = tuple(arguments.items())
    key = (name, x.shape[1:], output_shape, len(x), given, shapes, backward)
    found = operation(*key)
    # A signal handler must not reenter an operation that its thread is running.
    return Operation(*key) if forks.is_mine(found.lock) else found
