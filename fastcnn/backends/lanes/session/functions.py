"""Convolutions, linear layers and poolings: each call runs a network of one node on the engine.

Into lanes and back costs more than a small operation saves; training and inference keep whole
networks in lanes. Arrays of float64 are im2col's.
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
    conv_output_size,
    conv_transpose_output_size,
    masked,
    pool_output,
)
from fastcnn.backends.lanes.session.coverage import covered
from fastcnn.backends.lanes.session.operation import Operation, operation
from fastcnn.backends.one_row import on_sequences


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
    if not covered(x, weight):
        return im2col.conv2d(x, weight, bias, stride, padding, dilation, groups)
    output = tuple(
        conv_output_size(x.shape[2 + a], weight.shape[2 + a], stride[a], padding[a], dilation[a])
        for a in (0, 1)
    )
    parameters = {"weight": weight} | ({} if bias is None else {"bias": bias})
    shape = (len(weight), *output)
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _operation("conv2d", x, shape, parameters, False, **arguments).forward(x, parameters)


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
    if not covered(grad_output, x, weight):
        return im2col.conv2d_backward(
            grad_output, x, weight, stride, padding, dilation, groups, output_mask
        )
    parameters = {"weight": weight, "bias": np.zeros(len(weight), np.float32)}
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    run = _operation("conv2d", x, grad_output.shape[1:], parameters, True, **arguments)
    return masked(output_mask, *run.backward(grad_output, x, parameters, output_mask))


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
    geometry = (stride, padding, output_padding, dilation, groups)
    if not covered(x, weight):
        return im2col.conv_transpose2d(x, weight, bias, *geometry)
    size = [
        conv_transpose_output_size(
            x.shape[2 + a],
            weight.shape[2 + a],
            stride[a],
            padding[a],
            dilation[a],
            output_padding[a],
        )
        for a in (0, 1)
    ]
    parameters = {"weight": weight} | ({} if bias is None else {"bias": bias})
    shape = (weight.shape[1] * groups, *size)
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    run = _operation("conv_transpose2d", x, shape, parameters, False, **arguments)
    return run.forward(x, parameters)


@on_sequences
def conv_transpose2d_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Padding,
    output_padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[np.ndarray, ...]:
    """The input's gradient is the convolution of the output's."""
    geometry = (stride, padding, output_padding, dilation, groups)
    if not covered(grad_output, x, weight):
        return im2col.conv_transpose2d_backward(grad_output, x, weight, *geometry)
    parameters = {"weight": weight, "bias": np.zeros(grad_output.shape[1], np.float32)}
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    run = _operation("conv_transpose2d", x, grad_output.shape[1:], parameters, True, **arguments)
    return run.backward(grad_output, x, parameters)


def _operation(
    name: str,
    x: np.ndarray,
    output_shape: tuple[int, ...],
    parameters: Mapping[str, np.ndarray],
    backward: bool,
    **arguments: Any,
) -> Operation:
    shapes = tuple((key, value.shape) for key, value in parameters.items())
    given = tuple(arguments.items())
    key = (name, x.shape[1:], output_shape, len(x), given, shapes, backward)
    found = operation(*key)
    # A signal's handler must not run what its thread is in the middle of.
    return Operation(*key) if forks.is_mine(found.lock) else found


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """``y = x W^T + b`` in register tiles; of one sample by BLAS, which copies no weights."""
    if not covered(x, weight) or len(x) == 1:
        return im2col.linear(x, weight, bias)
    parameters = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return _operation("linear", x, weight.shape[:1], parameters, False).forward(x, parameters)


def linear_backward(
    grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, ...]:
    """``dx = dy W``, ``dW = dy^T x``, ``db`` the sum of dy over samples."""
    if not covered(grad_output, x, weight):
        return im2col.linear_backward(grad_output, x, weight)
    parameters = {"weight": weight, "bias": np.zeros(len(weight), np.float32)}
    run = _operation("linear", x, weight.shape[:1], parameters, True)
    return run.backward(grad_output, x, parameters)


@on_sequences
def max_pool2d(x: np.ndarray, **window: Any) -> np.ndarray:
    """Largest value of each window; a tie goes to the first."""
    return _pool("max_pool2d", x, window)


@on_sequences
def max_pool2d_backward(grad_output: np.ndarray, x: np.ndarray, **window: Any) -> np.ndarray:
    """Each window's gradient goes to its winner."""
    return _pool_backward("max_pool2d", grad_output, x, window)


@on_sequences
def avg_pool2d(x: np.ndarray, **window: Any) -> np.ndarray:
    """Mean of each window."""
    return _pool("avg_pool2d", x, window)


@on_sequences
def avg_pool2d_backward(grad_output: np.ndarray, x: np.ndarray, **window: Any) -> np.ndarray:
    """Each window's gradient is spread over it."""
    return _pool_backward("avg_pool2d", grad_output, x, window)


def _pool(name: str, x: np.ndarray, window: dict[str, Any]) -> np.ndarray:
    if not covered(x):
        return getattr(im2col, name)(x, **window)
    sizes = (window["kernel_size"], window["stride"], window["padding"])
    dilation, ceil_mode = window.get("dilation", (1, 1)), window.get("ceil_mode", False)
    output = pool_output(x.shape[2:], *sizes, dilation, ceil_mode)
    return _operation(name, x, (x.shape[1], *output), {}, False, **window).forward(x, {})


def _pool_backward(
    name: str, grad_output: np.ndarray, x: np.ndarray, window: dict[str, Any]
) -> np.ndarray:
    if not covered(grad_output, x):
        return getattr(im2col, f"{name}_backward")(grad_output, x, **window)
    run = _operation(name, x, grad_output.shape[1:], {}, True, **window)
    return run.backward(grad_output, x, {})[0]


@on_sequences
def adaptive_avg_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Mean of windows that share the map out over the output's pixels."""
    if not covered(x):
        return im2col.adaptive_avg_pool2d(x, output_size)
    size = tuple(
        own if new is None else new for own, new in zip(x.shape[2:], output_size, strict=True)
    )
    return _operation("adaptive_avg_pool2d", x, (x.shape[1], *size), {}, False).forward(x, {})


@on_sequences
def adaptive_avg_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """Each window's gradient is spread over it."""
    if not covered(grad_output, x):
        return im2col.adaptive_avg_pool2d_backward(grad_output, x, output_size)
    run = _operation("adaptive_avg_pool2d", x, grad_output.shape[1:], {}, True)
    return run.backward(grad_output, x, {})[0]
