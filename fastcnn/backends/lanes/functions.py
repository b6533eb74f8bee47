"""The backend's functions: each runs a network of one node on the engine.

Into lanes and back costs more than one small operation saves; training and inference keep whole
networks in lanes. Arrays of float64 are im2col's.
"""

import logging
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

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
    pool_output_size,
)
from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes.engine import Engine, default_threads

log = logging.getLogger("fastcnn.lanes")

#: Multiplications that take as long as starting a thread.
WORTH_A_THREAD = 10_000_000
#: Their gradients need nothing of the forward pass but the input.
LINEAR_IN_INPUT = ("conv2d", "conv_transpose2d", "linear")


class Operation:
    """One operation on the engine, forward and backward, for fixed shapes.

    On one thread unless there is much to do; ``threads`` decides otherwise.
    """

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        batch: int,
        arguments: tuple[tuple[str, Any], ...],
        parameters: tuple[tuple[str, tuple[int, ...]], ...],
        backward: bool,
        threads: int | None = None,
    ) -> None:
        keys = {key: key for key, _ in parameters}
        node = Node(
            name, name, (INPUT,), dict(arguments), keys, (input_shape,), output_shape
        )  # fmt: skip
        places, offset = {}, 0
        for key, shape in parameters:
            places[key] = (offset, shape)
            offset += int(np.prod(shape))
        products = max((int(np.prod(shape[1:])) for _, shape in parameters), default=1)
        work = int(np.prod(output_shape)) * batch * products
        build: dict[str, Any] = (
            {"backward": True, "input_gradient": True} if backward else {"outputs": True}
        )
        self.engine = Engine(
            Graph(input_shape, (node,)), batch, np.zeros(offset, np.float32), places,
            threads or (default_threads() if work > WORTH_A_THREAD else 1), **build,
        )  # fmt: skip
        self.places = places
        self.batch = batch
        self.output_shape = output_shape
        self.lock = threading.Lock()
        if backward:
            skip = name in LINEAR_IN_INPUT
            self.backward_phases = self.engine.program.backward_phases(skip_forward=skip)

    def forward(self, x: np.ndarray, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """The operation's output."""
        with self.lock:
            y = np.empty((self.batch, *self.output_shape), np.float32)
            self._load(parameters)
            self._run(x, None, outputs=y.reshape(-1))
            return y

    def backward(
        self,
        grad_output: np.ndarray,
        x: np.ndarray,
        parameters: Mapping[str, np.ndarray],
        output_mask: Mask = ALL,
    ) -> tuple[np.ndarray, ...]:
        """Gradients of the input and of each parameter; those not in the mask are undefined."""
        program = self.engine.program
        assert program.output_gradient is not None
        assert program.input_gradient is not None
        with self.lock:
            self._load(parameters)
            self.engine.write(program.output_gradient, grad_output)
            phases = self.backward_phases
            if output_mask != ALL:
                phases = program.only_gradients(phases, *output_mask)
            self._run(x, phases)
            grad_x = self.engine.read(program.input_gradient, self.batch).reshape(x.shape)
            gradient = self.engine.gradient
            views = [
                gradient[offset : offset + int(np.prod(shape))].reshape(shape).copy()
                for offset, shape in self.places.values()
            ]
        return grad_x, *views

    def _load(self, parameters: Mapping[str, np.ndarray]) -> None:
        for key, value in parameters.items():
            first = self.places[key][0]
            self.engine.parameters[first : first + value.size] = value.ravel()

    def _run(self, x: np.ndarray, phases: np.ndarray | None, **arrays: Any) -> None:
        images = np.require(x, np.float32, ["C", "W"])
        self.engine.run(images, np.arange(self.batch), np.zeros(1), phases=phases, **arrays)


_operation = lru_cache(maxsize=64)(Operation)


def _covered(*arrays: np.ndarray) -> bool:
    """Whether the engine takes these arrays; says once that im2col does otherwise."""
    if all(array.dtype == np.float32 and array.size for array in arrays):
        return True
    _say_once(str(arrays[0].dtype))
    return False


@lru_cache
def _say_once(dtype: str) -> None:
    log.info("the lanes engine computes in float32: arrays of %s go through im2col", dtype)


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
    if not _covered(x, weight):
        return im2col.conv2d(x, weight, bias, stride, padding, dilation, groups)
    output = tuple(
        conv_output_size(x.shape[2 + a], weight.shape[2 + a], stride[a], padding[a], dilation[a])
        for a in (0, 1)
    )
    parameters = {"weight": weight} | ({} if bias is None else {"bias": bias})
    shape = (len(weight), *output)
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _convolution("conv2d", x, shape, parameters, False, **arguments).forward(x, parameters)


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
    if not _covered(grad_output, x, weight):
        return im2col.conv2d_backward(
            grad_output, x, weight, stride, padding, dilation, groups, output_mask
        )
    parameters = {"weight": weight, "bias": np.zeros(len(weight), np.float32)}
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    run = _convolution("conv2d", x, grad_output.shape[1:], parameters, True, **arguments)
    return masked(output_mask, *run.backward(grad_output, x, parameters, output_mask))


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
    if not _covered(x, weight):
        return im2col.conv_transpose2d(x, weight, bias, *geometry)
    size = [
        conv_transpose_output_size(
            x.shape[2 + a], weight.shape[2 + a], stride[a], padding[a], dilation[a],
            output_padding[a],
        )
        for a in (0, 1)
    ]  # fmt: skip
    parameters = {"weight": weight} | ({} if bias is None else {"bias": bias})
    shape = (weight.shape[1] * groups, *size)
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    run = _convolution("conv_transpose2d", x, shape, parameters, False, **arguments)
    return run.forward(x, parameters)


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
    if not _covered(grad_output, x, weight):
        return im2col.conv_transpose2d_backward(grad_output, x, weight, *geometry)
    parameters = {"weight": weight, "bias": np.zeros(grad_output.shape[1], np.float32)}
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    run = _convolution("conv_transpose2d", x, grad_output.shape[1:], parameters, True, **arguments)
    return run.backward(grad_output, x, parameters)


def _convolution(
    name: str,
    x: np.ndarray,
    output_shape: tuple[int, ...],
    parameters: Mapping[str, np.ndarray],
    backward: bool,
    **arguments: Any,
) -> Operation:
    shapes = tuple((key, value.shape) for key, value in parameters.items())
    given = tuple(arguments.items())
    return _operation(name, x.shape[1:], output_shape, len(x), given, shapes, backward)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """``y = x W^T + b`` in register tiles."""
    if not _covered(x, weight):
        return im2col.linear(x, weight, bias)
    parameters = {"weight": weight} | ({} if bias is None else {"bias": bias})
    shapes = tuple((key, value.shape) for key, value in parameters.items())
    run = _operation("linear", x.shape[1:], weight.shape[:1], len(x), (), shapes, False)
    return run.forward(x, parameters)


def linear_backward(
    grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, ...]:
    """``dx = dy W``, ``dW = dy^T x``, ``db`` the sum of dy over samples."""
    if not _covered(grad_output, x, weight):
        return im2col.linear_backward(grad_output, x, weight)
    parameters = {"weight": weight, "bias": np.zeros(len(weight), np.float32)}
    shapes = tuple((key, value.shape) for key, value in parameters.items())
    run = _operation("linear", x.shape[1:], weight.shape[:1], len(x), (), shapes, True)
    return run.backward(grad_output, x, parameters)


def _pool(x: np.ndarray, backward: bool, name: str, **arguments: Any) -> Operation:
    output = tuple(
        pool_output_size(
            x.shape[2 + a], arguments["kernel_size"][a], arguments["stride"][a],
            arguments["padding"][a],
        )
        for a in (0, 1)
    )  # fmt: skip
    given = tuple(arguments.items())
    return _operation(name, x.shape[1:], (x.shape[1], *output), len(x), given, (), backward)


def max_pool2d(x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Largest value of each window; a tie goes to the first."""
    if not _covered(x):
        return im2col.max_pool2d(x, kernel_size, stride, padding)
    arguments = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    return _pool(x, False, "max_pool2d", **arguments).forward(x, {})


def max_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """Each window's gradient goes to its winner."""
    if not _covered(grad_output, x):
        return im2col.max_pool2d_backward(grad_output, x, kernel_size, stride, padding)
    arguments = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    return _pool(x, True, "max_pool2d", **arguments).backward(grad_output, x, {})[0]


def avg_pool2d(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool
) -> np.ndarray:
    """Mean of each window."""
    if not _covered(x):
        return im2col.avg_pool2d(x, kernel_size, stride, padding, count_include_pad)
    arguments = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    run = _pool(x, False, "avg_pool2d", **arguments, count_include_pad=count_include_pad)
    return run.forward(x, {})


def avg_pool2d_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
) -> np.ndarray:
    """Each window's gradient is spread over it."""
    if not _covered(grad_output, x):
        return im2col.avg_pool2d_backward(
            grad_output, x, kernel_size, stride, padding, count_include_pad
        )
    arguments = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    run = _pool(x, True, "avg_pool2d", **arguments, count_include_pad=count_include_pad)
    return run.backward(grad_output, x, {})[0]


def adaptive_avg_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Mean of windows that share the map out over the output's pixels."""
    if not _covered(x):
        return im2col.adaptive_avg_pool2d(x, output_size)
    size = tuple(
        own if new is None else new for own, new in zip(x.shape[2:], output_size, strict=True)
    )
    output = (x.shape[1], *size)
    run = _operation("adaptive_avg_pool2d", x.shape[1:], output, len(x), (), (), False)
    return run.forward(x, {})


def adaptive_avg_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """Each window's gradient is spread over it."""
    if not _covered(grad_output, x):
        return im2col.adaptive_avg_pool2d_backward(grad_output, x, output_size)
    output = grad_output.shape[1:]
    run = _operation("adaptive_avg_pool2d", x.shape[1:], output, len(x), (), (), True)
    return run.backward(grad_output, x, {})[0]


def _elementwise(name: str, x: np.ndarray, backward: bool, **arguments: Any) -> Operation:
    shape = (x[0].size,)
    return _operation(name, shape, shape, len(x), tuple(arguments.items()), (), backward)


def _apply(name: str, x: np.ndarray, **arguments: Any) -> np.ndarray:
    if not _covered(x) or x.ndim < 2:
        return getattr(im2col, name)(x, **arguments)
    return _elementwise(name, x, False, **arguments).forward(x, {}).reshape(x.shape)


def _apply_backward(
    name: str, grad_output: np.ndarray, x: np.ndarray, **arguments: Any
) -> np.ndarray:
    if not _covered(grad_output, x) or x.ndim < 2:
        return getattr(im2col, f"{name}_backward")(grad_output, x, **arguments)
    run = _elementwise(name, x, True, **arguments)
    rows = grad_output.reshape(len(x), -1), x.reshape(len(x), -1)
    return run.backward(*rows, {})[0].reshape(x.shape)


def relu(x: np.ndarray) -> np.ndarray:
    """``max(0, x)``."""
    return _apply("relu", x)


def relu_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy`` where ``x > 0``, else 0."""
    return _apply_backward("relu", grad_output, x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))`` by the vector exponential."""
    return _apply("sigmoid", x)


def sigmoid_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy * s * (1 - s)``."""
    return _apply_backward("sigmoid", grad_output, x)


def tanh(x: np.ndarray) -> np.ndarray:
    """Hyperbolic tangent by a polynomial and the vector exponential."""
    return _apply("tanh", x)


def tanh_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy * (1 - tanh(x)^2)``."""
    return _apply_backward("tanh", grad_output, x)


def leaky_relu(x: np.ndarray, negative_slope: float) -> np.ndarray:
    """``x`` where ``x > 0``, else ``negative_slope * x``."""
    return _apply("leaky_relu", x, negative_slope=negative_slope)


def leaky_relu_backward(
    grad_output: np.ndarray, x: np.ndarray, negative_slope: float
) -> np.ndarray:
    """``dy`` where ``x > 0``, else ``negative_slope * dy``."""
    return _apply_backward("leaky_relu", grad_output, x, negative_slope=negative_slope)


def elu(x: np.ndarray, alpha: float) -> np.ndarray:
    """``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``."""
    return _apply("elu", x, alpha=alpha)


def elu_backward(grad_output: np.ndarray, x: np.ndarray, alpha: float) -> np.ndarray:
    """``dy`` where ``x > 0``, else ``dy * alpha * exp(x)``."""
    return _apply_backward("elu", grad_output, x, alpha=alpha)


def gelu(x: np.ndarray, approximate: str) -> np.ndarray:
    """``x * Phi(x)``, with the normal distribution function to 1e-7, or approximated by tanh."""
    return _apply("gelu", x, approximate=approximate)


def gelu_backward(grad_output: np.ndarray, x: np.ndarray, approximate: str) -> np.ndarray:
    """``dy * (Phi(x) + x * Phi'(x))``."""
    return _apply_backward("gelu", grad_output, x, approximate=approximate)


def silu(x: np.ndarray) -> np.ndarray:
    """``x * sigmoid(x)``."""
    return _apply("silu", x)


def silu_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy * s * (1 + x * (1 - s))``."""
    return _apply_backward("silu", grad_output, x)


def softplus(x: np.ndarray, beta: float, threshold: float) -> np.ndarray:
    """``log(1 + exp(beta * x)) / beta``, or ``x`` where ``beta * x > threshold``."""
    return _apply("softplus", x, beta=beta, threshold=threshold)


def softplus_backward(
    grad_output: np.ndarray, x: np.ndarray, beta: float, threshold: float
) -> np.ndarray:
    """``dy * sigmoid(beta * x)``, or ``dy`` where ``beta * x > threshold``."""
    return _apply_backward("softplus", grad_output, x, beta=beta, threshold=threshold)
