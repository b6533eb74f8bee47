"""Mathematics for formulas that are written once.

A formula is a plain Python function of these functions and of ``+ - * /``, comparisons and
negation. It is evaluated on Python floats and numpy arrays as it is, and compiled for numbers and
for the engine's vectors of 16 float32:

>>> from fastcnn.codegen.elementary import exp, where
>>> def elu(x, alpha):
...     return where(x > 0.0, x, alpha * (exp(x) - 1.0))
>>> elu(np.array([-1.0, 2.0]), 1.0)
array([-0.63212056,  2.        ])

A choice is made by :func:`where`, never by ``if``: a vector has 16 answers. Errors of the vector
functions are bounded by tests/codegen/test_vector_math.py.
"""

import math
from typing import Any

import numpy as np

from fastcnn.codegen import vector_math as vm
from fastcnn.codegen.declarations import Elementary, Emitted, linked
from fastcnn.codegen.functions import compiled


def _elementary(scalar: Any, emit: Any, kinds: tuple[str, ...]) -> Any:
    return lambda plain: Elementary(plain, scalar, Emitted(emit, "vector", kinds))


def _of_one(scalar: Any, emit: Any) -> Any:
    return _elementary(scalar, emit, ("vector",))


def _exp(x: Any) -> Any:
    return math.exp(x)


def _expm1(x: Any) -> Any:
    return math.expm1(x)


def _log(x: Any) -> Any:
    return math.log(x)


def _log1p(x: Any) -> Any:
    return math.log1p(x)


def _tanh(x: Any) -> Any:
    return math.tanh(x)


def _erf(x: Any) -> Any:
    return math.erf(x)


def _log1p_exp(x: Any) -> Any:
    return (0.0 if x <= 0.0 else x) + math.log1p(math.exp(-abs(x)))


def _normal_cdf(x: Any) -> Any:
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


def _sqrt(x: Any) -> Any:
    return np.sqrt(x)


def _absolute(x: Any) -> Any:
    return abs(x)


def _sigmoid(x: Any) -> Any:
    e = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


def _minimum(x: Any, y: Any) -> Any:
    return x if x < y or x != x else y


def _maximum(x: Any, y: Any) -> Any:
    return x if x > y or x != x else y


def _where(condition: Any, x: Any, y: Any) -> Any:
    return x if condition else y


@_of_one(_exp, vm.emit_exp)
def exp(x: Any) -> Any:
    """``e**x``."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)


@_of_one(_expm1, vm.emit_expm1)
def expm1(x: Any) -> Any:
    """``e**x - 1``, exact near 0."""
    with np.errstate(over="ignore"):
        return np.expm1(x)


@_of_one(_log, vm.emit_log)
def log(x: Any) -> Any:
    """Natural logarithm."""
    return np.log(x)


@_of_one(_log1p, vm.emit_log1p_of_any)
def log1p(x: Any) -> Any:
    """``log(1 + x)``, exact near 0."""
    return np.log1p(x)


@_of_one(_tanh, vm.emit_tanh)
def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(x)


@_of_one(_erf, vm.emit_erf)
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


@_of_one(_normal_cdf, vm.emit_normal_cdf)
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


@_of_one(_sqrt, vm.emit_sqrt)
def sqrt(x: Any) -> Any:
    """Square root; NaN of a negative number."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


@_of_one(_absolute, vm.emit_absolute)
def absolute(x: Any) -> Any:
    """Magnitude."""
    return np.abs(x)


@_elementary(_minimum, vm.emit_minimum, ("vector",) * 2)
def minimum(x: Any, y: Any) -> Any:
    """The smaller of two, or a NaN of either."""
    return np.minimum(x, y)


@_elementary(_maximum, vm.emit_maximum, ("vector",) * 2)
def maximum(x: Any, y: Any) -> Any:
    """The larger of two, or a NaN of either."""
    return np.maximum(x, y)


@_elementary(
    _where, lambda b, condition, x, y: b.select(condition, x, y), ("choice", "vector", "vector")
)
def where(condition: Any, x: Any, y: Any) -> Any:
    """``x`` where the condition holds, else ``y``; both are computed."""
    if np.ndim(condition) == 0 or np.result_type(x, y) != np.float32:
        return np.where(condition, x, y)
    # numpy branches at every element, and signs of activations cannot be predicted: choosing the
    # bits takes a tenth of its time.
    first, second = (np.asarray(value, np.float32).view(np.int32) for value in (x, y))
    chosen = np.bitwise_xor(first, second) & np.multiply(condition, np.int32(-1))
    return np.bitwise_xor(chosen, second, out=chosen).view(np.float32)


__all__ = [
    "absolute",
    "erf",
    "exp",
    "expm1",
    "linked",
    "log",
    "log1p",
    "log1p_exp",
    "maximum",
    "minimum",
    "normal_cdf",
    "sigmoid",
    "sqrt",
    "tanh",
    "where",
]
