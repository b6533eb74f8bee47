"""Elementary functions of which formulas are written, once for all kinds of values.

A formula is a plain Python function of these functions and of ``+ - * /``, comparisons and
negation. It is evaluated unchanged on Python floats and numpy arrays, and compiled for scalars and
for the engine's vectors of 16 float32:

>>> from fastcnn.codegen.elementary import exp, where
>>> def elu(x, alpha):
...     return where(x > 0.0, x, alpha * (exp(x) - 1.0))
>>> elu(np.array([-1.0, 2.0]), 1.0)
array([-0.63212056,  2.        ])

Use :func:`where` for choices, never ``if``: a vector has 16 conditions. Errors of the vector
functions are bounded by tests/backends/test_lanes_math.py.
"""

import math
from typing import Any

import numpy as np

from fastcnn.codegen import vector_math as vm
from fastcnn.codegen.declarations import Elementary, Emitted
from fastcnn.codegen.functions import compiled


def _elementary(scalar: Any, emit: Any, *kinds: str) -> Any:
    """The decorator of a function of arrays; numba compiles ``scalar``."""
    return lambda plain: Elementary(plain, scalar, Emitted(emit, "vector", kinds))


def _of_one(scalar: Any, emit: Any) -> Any:
    return _elementary(scalar, emit, "vector")


def _of_two(scalar: Any, emit: Any) -> Any:
    return _elementary(scalar, emit, "vector", "vector")


def _log1p_exp(x: Any) -> Any:
    return (0.0 if x <= 0.0 else x) + math.log1p(math.exp(-abs(x)))


def _sigmoid(x: Any) -> Any:
    e = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


@_of_one(lambda x: math.exp(x), vm.emit_exp)
def exp(x: Any) -> Any:
    """``e**x``."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)


@_of_one(lambda x: math.expm1(x), vm.emit_expm1)
def expm1(x: Any) -> Any:
    """``e**x - 1``, exact near 0."""
    with np.errstate(over="ignore"):
        return np.expm1(x)


@_of_one(lambda x: math.log(x), vm.emit_log)
def log(x: Any) -> Any:
    """Natural logarithm."""
    return np.log(x)


@_of_one(lambda x: math.log1p(x), vm.emit_log1p_of_any)
def log1p(x: Any) -> Any:
    """``log(1 + x)``, exact near 0."""
    return np.log1p(x)


@_of_one(lambda x: math.tanh(x), vm.emit_tanh)
def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(x)


@_of_one(lambda x: math.erf(x), vm.emit_erf)
def erf(x: Any) -> Any:
    """The error function."""
    return _vectorised_erf(x)


_vectorised_erf = np.vectorize(math.erf, otypes=[np.float64])


@_of_one(_log1p_exp, vm.emit_log1p_exp)
def log1p_exp(x: Any) -> Any:
    """``log(1 + exp(x))``, without overflow."""
    with np.errstate(under="ignore"):
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@compiled("real[:]", "out real[:]")
def _fill_normal_cdf(x: np.ndarray, area: np.ndarray) -> None:
    for i in range(x.size):
        area[i] = 0.5 * math.erfc(-x[i] * math.sqrt(0.5))


@_of_one(lambda x: 0.5 * math.erfc(-x * math.sqrt(0.5)), vm.emit_normal_cdf)
def normal_cdf(x: Any) -> Any:
    """Distribution function of the standard normal, ``erfc(-x / sqrt(2)) / 2``."""
    x = np.asarray(x)
    area = np.empty(x.shape, x.dtype)
    _fill_normal_cdf(x.reshape(-1), area.reshape(-1))
    return area


@_of_one(_sigmoid, vm.emit_sigmoid)
def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``, without overflow."""
    with np.errstate(under="ignore"):
        e = np.exp(-np.abs(x))
        return np.where(np.asarray(x) >= 0, 1, e) / (1 + e)


@_of_one(lambda x: np.sqrt(x), vm.emit_sqrt)
def sqrt(x: Any) -> Any:
    """Square root; NaN of a negative number."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


@_of_one(lambda x: abs(x), vm.emit_magnitude)
def absolute(x: Any) -> Any:
    """Magnitude."""
    return np.abs(x)


@_of_two(lambda x, y: x if x < y or x != x else y, vm.emit_minimum)
def minimum(x: Any, y: Any) -> Any:
    """The smaller of two, or a NaN of either."""
    return np.minimum(x, y)


@_of_two(lambda x, y: x if x > y or x != x else y, vm.emit_maximum)
def maximum(x: Any, y: Any) -> Any:
    """The larger of two, or a NaN of either."""
    return np.maximum(x, y)


@_elementary(
    lambda condition, x, y: x if condition else y,
    lambda builder, condition, x, y: builder.select(condition, x, y),
    "choice",
    "vector",
    "vector",
)
def where(condition: Any, x: Any, y: Any) -> Any:
    """``x`` where the condition holds, else ``y``; both are computed."""
    if np.ndim(condition) == 0 or np.result_type(x, y) != np.float32:
        return np.where(condition, x, y)
    # numpy branches at every element, and signs of activations are unpredictable: selecting bits
    # takes a tenth of the time.
    first, second = (np.asarray(value, np.float32).view(np.int32) for value in (x, y))
    chosen = np.bitwise_xor(first, second) & np.multiply(condition, np.int32(-1))
    return np.bitwise_xor(chosen, second, out=chosen).view(np.float32)
