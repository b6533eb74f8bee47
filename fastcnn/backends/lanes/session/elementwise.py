"""Element-wise functions called alone, on arrays in their own memory layout.

These functions do not depend on the lane of an element, so nothing is packed into lanes: the rows
of a network run over the arrays directly, and give the same bits.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastcnn.backends import im2col
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.formula_table import formula_kernel
from fastcnn.backends.lanes.planning.buffers import LANES
from fastcnn.backends.lanes.session.engine import default_threads, run_rows
from fastcnn.backends.lanes.session.fallback import run_or_fall_back
from fastcnn.backends.lanes.session.loading import check_enabled, check_own_kernels
from fastcnn.operations import Elementwise, elementwise_function
from fastcnn.operations.losses import LOSSES

#: Elements from which on a second thread saves more time than starting it takes.
WORTH_A_THREAD = 4_000_000

#: A kernel, and which array each address column refers to: a source, or the result.
Step = tuple[int, dict[int, int]]
INPUT, GRADIENT, RESULT = 0, 1, -1
#: The column of the floats between vectors, for each address column.
STRIDES = {L.X: L.X_CHANNEL, L.Y: L.Y_CHANNEL, L.M: L.M_CHANNEL}


def function(name: str) -> Any:
    """The function of that name, such as ``relu`` or ``relu_backward``."""
    if name.removesuffix("_backward") in LOSSES:
        return im2col.elementwise.function(name)
    record, is_backward = elementwise_function(name)
    if record.parameters:  # parameters are per channel, not per element
        return im2col.elementwise.function(name)
    return partial(backward if is_backward else forward, record)


def forward(record: Elementwise, x: np.ndarray, **arguments: Any) -> np.ndarray:
    """Evaluate the formula."""

    def on_engine() -> np.ndarray:
        _, numbers = record.formula_of(arguments)
        return run_steps([_forward_step(record, arguments)], numbers, x)

    return run_or_fall_back(
        on_engine, lambda: im2col.elementwise.forward(record, x, **arguments), x
    )


def backward(
    record: Elementwise, grad_output: np.ndarray, x: np.ndarray, **arguments: Any
) -> np.ndarray:
    """Evaluate the formula's gradient."""

    def on_engine() -> np.ndarray:
        formula, numbers = record.formula_of(arguments)
        kernel = formula_kernel(record, arguments, "gradient")
        steps, read = [], INPUT
        # A rectifier's gradient has the same formula of input and output: no forward step.
        if formula.gradient_from_output not in (None, formula.gradient):
            steps, read = [_forward_step(record, arguments)], RESULT
        steps.append((kernel, {L.M: read, L.Y: GRADIENT, L.X: RESULT}))
        return run_steps(steps, numbers, x, grad_output)

    return run_or_fall_back(
        on_engine,
        lambda: im2col.elementwise.backward(record, grad_output, x, **arguments),
        grad_output,
        x,
    )


def _forward_step(record: Elementwise, arguments: Mapping[str, Any]) -> Step:
    return formula_kernel(record, arguments, "value"), {L.X: INPUT, L.Y: RESULT}


def run_steps(steps: Sequence[Step], numbers: Sequence[float], *sources: np.ndarray) -> np.ndarray:
    """Run steps over all elements of arrays of one shape; returns the result.

    A vector is 16 consecutive elements. The remainder is computed in a vector of its own. Raises
    Unsupported if a kernel that a user wrote does not compile.
    """
    check_enabled()
    check_own_kernels(kernel for kernel, _ in steps)
    result = np.empty(sources[0].shape, np.float32)
    arrays = [np.require(source, np.float32, ["C", "A"]).reshape(-1) for source in sources]
    arrays.append(result.reshape(-1))
    constants = np.array([*numbers, 0.0, 0.0], np.float32)
    vectors, rest = divmod(result.size, LANES)
    ends = np.zeros((len(arrays), LANES), np.float32)
    rows = []
    if vectors:
        rows += [_row(step, vectors, arrays, constants) for step in steps]
    if rest:
        for end, source in zip(ends, arrays[:-1], strict=False):
            end[:rest] = source[-rest:]
        rows += [_row(step, 1, list(ends), constants) for step in steps]
    threads = default_threads() if result.size > WORTH_A_THREAD else 1
    run_rows(np.array(rows), constants, threads)
    if rest:
        arrays[RESULT][-rest:] = ends[RESULT, :rest]
    return result


def _row(
    step: Step, vectors: int, arrays: Sequence[np.ndarray], constants: np.ndarray
) -> np.ndarray:
    """A row over vectors of arrays outside its arena, which only holds the constants.

    An address counts floats from the arena, in either direction; kernels do not check it.
    """
    kernel, columns = step
    row = np.zeros(L.WIDTH, np.int64)
    row[L.KERNEL], row[L.CHANNELS], row[L.POSITIONS] = kernel, vectors, 1
    for column, index in columns.items():
        row[column] = (arrays[index].ctypes.data - constants.ctypes.data) // constants.itemsize
        row[STRIDES[column]] = LANES
    return row
