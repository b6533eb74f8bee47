"""The functions that the formula of an element-wise operation may call.

A formula is a plain function of ``x`` and a few numbers, written with operators, comparisons and
the functions here. Whoever evaluates it hands over what it computes with: numpy arrays, plain
floats, or the engine's vectors, which bring methods of the same names.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

#: A numpy array, a float, or a vector of the engine.
Value = Any


def exp(x: Value) -> Value:
    """``e^x``."""
    return _of_one(x, np.exp, math.exp, "exp")


def expm1(x: Value) -> Value:
    """``e^x - 1``, exact near 0."""
    return _of_one(x, np.expm1, math.expm1, "expm1")


def log1p(x: Value) -> Value:
    """``log(1 + x)`` for ``0 <= x <= 1``, exact near 0."""
    return _of_one(x, np.log1p, math.log1p, "log1p")


def tanh(x: Value) -> Value:
    """Hyperbolic tangent."""
    return _of_one(x, np.tanh, math.tanh, "tanh")


def absolute(x: Value) -> Value:
    """``|x|``."""
    return _of_one(x, np.abs, abs, "absolute")


def sigmoid(x: Value) -> Value:
    """``1 / (1 + e^-x)``, with the exponential of a number that is never positive."""
    if not isinstance(x, (np.ndarray, float)):
        return x.sigmoid()
    exponential = exp(-absolute(x))
    return where(x >= 0.0, 1.0, exponential) / (1.0 + exponential)


def normal_cdf(x: Value) -> Value:
    """Distribution function of the standard normal, ``erfc(-x / sqrt(2)) / 2``."""
    return _of_one(x, _normal_cdf_of_array, _normal_cdf_of_number, "normal_cdf")


def maximum(x: Value, bound: float) -> Value:
    """The larger of ``x`` and a number; NaN stays NaN."""
    if isinstance(x, np.ndarray):
        return np.maximum(x, bound)
    if isinstance(x, float):
        return bound if x <= bound else x
    return x.maximum(bound)


def minimum(x: Value, bound: float) -> Value:
    """The smaller of ``x`` and a number; NaN stays NaN."""
    if isinstance(x, np.ndarray):
        return np.minimum(x, bound)
    if isinstance(x, float):
        return bound if x >= bound else x
    return x.minimum(bound)


def where(condition: Value, x: Value, other: Value) -> Value:
    """``x`` where a comparison holds, else ``other``; both are computed everywhere."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, x, other)
    if isinstance(condition, (bool, np.bool_)):
        return x if condition else other
    return condition.where(x, other)


def _of_one(
    x: Value,
    of_array: Callable[[np.ndarray], np.ndarray],
    of_number: Callable[[float], float],
    method: str,
) -> Value:
    if isinstance(x, np.ndarray):
        return of_array(x)
    if isinstance(x, float):
        return of_number(x)
    return getattr(x, method)()


def _normal_cdf_of_number(x: float) -> float:
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


def _normal_cdf_of_array(x: np.ndarray) -> np.ndarray:
    # Imports numba, which who never asks for the error function need not load.
    from fastcnn.operations.error_function import normal_cdf_of_array

    return normal_cdf_of_array(x)
