"""ReLU in one pass over memory; other element-wise operations are formulas of arrays."""

import numpy as np

from fastcnn.backends.im2col.memory import empty_like, flat, stored_order
from fastcnn.codegen import compiled


@compiled("real[:]", "real[:]", "out real[:]")
def _keep_positive(dy: np.ndarray, x: np.ndarray, dx: np.ndarray) -> None:
    zero = x.dtype.type(0)
    for i in range(np.uint64(x.size)):
        dx[i] = zero if x[i] <= zero else dy[i]


def relu(x: np.ndarray) -> np.ndarray:
    """``max(0, x)``; NaN stays NaN."""
    return relu_backward(x, x)


def relu_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy`` where ``x > 0`` or NaN, else 0."""
    grad_x = empty_like(x)
    order = stored_order(grad_x)
    _keep_positive(flat(grad_output, order), flat(x, order), flat(grad_x, order))
    return grad_x
