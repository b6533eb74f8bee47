"""Functions of each element, on arrays as they lie in memory.

It does not matter to such a function which lane an element is in, so nothing is brought into lanes:
the rows of a network run over the arrays themselves, and give the same bits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.backends import im2col
from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.buffers import LANES
from fastcnn.backends.lanes.coverage import covered
from fastcnn.backends.lanes.engine import default_threads, run_rows
from fastcnn.backends.lanes.rows import BY_OUTPUT, activation_function

#: Elements from which on a second thread saves more time than its start takes.
WORTH_A_THREAD = 4_000_000

#: A kernel, and by column which array it addresses there: a source, or the result.
Step = tuple[int, dict[int, int]]
INPUT, GRADIENT, RESULT = 0, 1, -1
FORWARD: Sequence[Step] = [(L.K_ACTIVATION, {L.X: INPUT, L.Y: RESULT})]
FROM_INPUT: Sequence[Step] = [
    (L.K_ACTIVATION_BACKWARD, {L.M: INPUT, L.Y: GRADIENT, L.X: RESULT}),
]
FROM_OUTPUT: Sequence[Step] = [
    *FORWARD,
    (L.K_ACTIVATION_BACKWARD, {L.M: RESULT, L.Y: GRADIENT, L.X: RESULT}),
]
#: The column with the floats from one vector to the next, by that of the address.
STRIDES = {L.X: L.X_CHANNEL, L.Y: L.Y_CHANNEL, L.M: L.M_CHANNEL}


def _apply(name: str, x: np.ndarray, **arguments: Any) -> np.ndarray:
    if not covered(x):
        return getattr(im2col, name)(x, **arguments)
    mode, numbers = activation_function(name, arguments)
    return run_steps(FORWARD, mode, numbers, x)


def _apply_backward(
    name: str, grad_output: np.ndarray, x: np.ndarray, **arguments: Any
) -> np.ndarray:
    if not covered(grad_output, x):
        return getattr(im2col, f"{name}_backward")(grad_output, x, **arguments)
    mode, numbers = activation_function(name, arguments)
    # A rectifier's output is positive where its input is.
    by_output = name in BY_OUTPUT and name != "relu"
    return run_steps(FROM_OUTPUT if by_output else FROM_INPUT, mode, numbers, x, grad_output)


def run_steps(
    steps: Sequence[Step],
    mode: int,
    numbers: Sequence[float],
    *sources: np.ndarray,
    threads: int | None = None,
) -> np.ndarray:
    """Run steps over all elements of some arrays of one shape; returns the result.

    A vector is 16 neighbours. What is left behind the last whole one is computed in a vector of
    its own.
    """
    result = np.empty(sources[0].shape, np.float32)
    arrays = [np.require(source, np.float32, ["C", "A"]).reshape(-1) for source in sources]
    arrays.append(result.reshape(-1))
    constants = np.array([*numbers, 0.0, 0.0], np.float32)
    vectors, rest = divmod(result.size, LANES)
    ends = np.zeros((len(arrays), LANES), np.float32)
    rows = []
    if vectors:
        rows += [_row(step, vectors, arrays, mode, constants) for step in steps]
    if rest:
        for end, source in zip(ends, arrays[:-1], strict=False):
            end[:rest] = source[-rest:]
        rows += [_row(step, 1, list(ends), mode, constants) for step in steps]
    if threads is None:
        threads = default_threads() if result.size > WORTH_A_THREAD else 1
    run_rows(np.array(rows), constants, threads)
    if rest:
        arrays[RESULT][-rest:] = ends[RESULT, :rest]
    return result


def _row(
    step: Step, vectors: int, arrays: Sequence[np.ndarray], mode: int, constants: np.ndarray
) -> np.ndarray:
    """A row over vectors of arrays that lie outside of its arena, which holds the constants.

    An address counts floats from the arena, in whichever direction, and kernels do not check it.
    """
    kernel, columns = step
    row = np.zeros(L.WIDTH, np.int64)
    row[L.KERNEL], row[L.MODE], row[L.CHANNELS], row[L.POSITIONS] = kernel, mode, vectors, 1
    for column, index in columns.items():
        row[column] = (arrays[index].ctypes.data - constants.ctypes.data) // constants.itemsize
        row[STRIDES[column]] = LANES
    return row


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
