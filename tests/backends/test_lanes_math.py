"""Errors of the vector functions against float64, and what they make of infinity and NaN."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numba import njit

from fastcnn.backends.lanes import element_tiles
from fastcnn.backends.lanes import layout as L
from fastcnn.codegen import simd, vector_math

EXP = simd.define("vector", vector_math.emit_exp, "vector")
EXPM1 = simd.define("vector", vector_math.emit_expm1, "vector")
LOG1P = simd.define("vector", vector_math.emit_log1p, "vector")
#: The two numbers of a function, which stand in the first vector of an arena.
NUMBERS = np.array([1.5, 20.0], np.float32)
SLOPE, THRESHOLD = 1.5, 20.0
VECTORS = 1 << 14


@njit
def run_exp(x, y):  # type: ignore[no-untyped-def]
    for i in range(0, x.size, 16):
        simd.store(y[0], i, EXP(simd.load(x, i)))
        simd.store(y[1], i, EXPM1(simd.load(x, i)))
        simd.store(y[2], i, LOG1P(simd.load(x, i)))


@njit
def run_activation(mode, arena, count):  # type: ignore[no-untyped-def]
    element_tiles.activation_run(mode, arena, 16, 16 + 16 * count, count, 0)


@njit
def run_gradient(mode, arena, count):  # type: ignore[no-untyped-def]
    first = 16 + 16 * count
    element_tiles.gradient_run(mode, arena, 16, first, first + 16 * count, count, 0)


def exponentials(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = np.empty((3, x.size), np.float32)
    run_exp(x, (y[0], y[1], y[2]))
    return y[0], y[1], y[2]


def forward(mode: int, x: np.ndarray) -> np.ndarray:
    """A function's values; as many as are whole vectors."""
    count = x.size // 16
    arena = np.concatenate([NUMBERS, np.zeros(14, np.float32), x, np.zeros_like(x)])
    run_activation(mode, arena, count)
    return arena[16 + x.size :]


def backward(mode: int, seen: np.ndarray, grad: np.ndarray) -> np.ndarray:
    arena = np.concatenate([NUMBERS, np.zeros(14, np.float32), seen, grad, np.zeros_like(grad)])
    run_gradient(mode, arena, seen.size // 16)
    return arena[16 + 2 * seen.size :]


def spread(low: float, high: float) -> np.ndarray:
    """Numbers between two, among them many near zero."""
    even = np.linspace(low, high, 8 * VECTORS)
    return np.concatenate([even, even * 2.0 ** -np.linspace(0, 60, even.size)]).astype(np.float32)


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    some = expected != 0.0
    assert (got[~some] == 0.0).all()
    return float((np.abs(got - expected)[some] / np.abs(expected[some])).max())


def test_exp() -> None:
    x = spread(-87.0, 88.0)
    exp, expm1, _ = exponentials(x)
    wide = x.astype(np.float64)
    assert relative(exp, np.exp(wide)) < 2e-7
    assert relative(expm1, np.expm1(wide)) < 3e-7
    ends = np.array([-88.1, -1e4, -np.inf, np.nan] * 4, np.float32)
    exp, expm1, _ = exponentials(ends)
    assert exp[:3].tolist() == [0.0] * 3
    assert expm1[:3].tolist() == [-1.0] * 3
    assert np.isnan([exp[3], expm1[3]]).all()
    assert exponentials(np.zeros(16, np.float32))[0].tolist() == [1.0] * 16


def test_log1p() -> None:
    x = np.abs(spread(0.0, 1.0))
    assert relative(exponentials(x)[2], np.log1p(x.astype(np.float64))) < 3e-7


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def normal(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-value * math.sqrt(0.5)) for value in x])


def gelu_tanh_sigmoid(x: np.ndarray) -> np.ndarray:
    return sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))


def softplus(x: np.ndarray) -> np.ndarray:
    scaled = SLOPE * x
    return np.where(scaled > THRESHOLD, x, np.logaddexp(0.0, scaled) / SLOPE)


#: By function: its values in float64; its largest error as shares of the value and of the input.
FORWARD: dict[int, tuple[Callable[[np.ndarray], np.ndarray], float, float]] = {
    L.ACT_COPY: (lambda x: x, 0.0, 0.0),
    L.ACT_RELU: (lambda x: np.maximum(x, 0.0), 0.0, 0.0),
    L.ACT_SIGMOID: (sigmoid, 3e-7, 0.0),
    L.ACT_TANH: (np.tanh, 4e-7, 0.0),
    L.ACT_LEAKY_RELU: (lambda x: np.where(x > 0, x, SLOPE * x), 6e-8, 0.0),
    L.ACT_ELU: (lambda x: np.where(x > 0, x, SLOPE * np.expm1(np.minimum(x, 0))), 4e-7, 0.0),
    L.ACT_GELU: (lambda x: x * normal(x), 2e-7, 3e-7),
    L.ACT_GELU_TANH: (lambda x: x * gelu_tanh_sigmoid(x), 2e-7, 3e-7),
    L.ACT_SILU: (lambda x: x * sigmoid(x), 3e-7, 0.0),
    # At -58 the rounding of 1.5 x alone makes 4e-6 of the exponential.
    L.ACT_SOFTPLUS: (softplus, 5e-6, 0.0),
}


@pytest.mark.parametrize("mode", list(element_tiles.FORWARD))
def test_activation(mode: int) -> None:
    function, of_value, of_input = FORWARD[mode]
    x = spread(-100.0, 100.0)[:: 1 if mode != L.ACT_GELU else 5]
    x = x[: x.size // 16 * 16]
    wide = x.astype(np.float64)
    with np.errstate(under="ignore", over="ignore"):
        expected = function(wide)
    error = np.abs(forward(mode, x) - expected)
    # A factor below float32's smallest normal number may be zero.
    small = 1.2e-38 * (1.0 + np.abs(wide))
    assert (error <= of_value * np.abs(expected) + of_input * np.abs(wide) + small).all()


@pytest.mark.parametrize("mode", list(element_tiles.FORWARD))
def test_activation_keeps_nan_and_bears_infinity(mode: int) -> None:
    x = np.array([np.nan, np.inf, -np.inf, -1e30, -1e4, 1e4, 1e30, -0.0] * 2, np.float32)
    with np.errstate(all="ignore"):
        expected = FORWARD[mode][0](x.astype(np.float64))
    got = forward(mode, x)
    assert np.isnan(got[0])
    defined = ~np.isnan(expected)
    np.testing.assert_allclose(got[defined], expected[defined], rtol=5e-7, atol=1.2e-38)


def slope_of_gelu(x: np.ndarray) -> np.ndarray:
    return normal(x) + x * np.exp(-(x**2) / 2.0) / math.sqrt(2.0 * math.pi)


def slope_of_gelu_tanh(x: np.ndarray) -> np.ndarray:
    s = gelu_tanh_sigmoid(x)
    inner = 2.0 * math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * x**2)
    return s * (1.0 + x * inner * (1.0 - s))


def slope_of_silu(x: np.ndarray) -> np.ndarray:
    return sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)))


def slope_of_softplus(x: np.ndarray) -> np.ndarray:
    return np.where(SLOPE * x > THRESHOLD, 1.0, sigmoid(SLOPE * x))


#: By function: its slope in float64 from what the gradient sees, input or output.
BACKWARD: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    L.ACT_RELU: lambda y: (y > 0.0).astype(float),
    L.ACT_SIGMOID: lambda y: y * (1.0 - y),
    L.ACT_TANH: lambda y: 1.0 - y**2,
    L.ACT_LEAKY_RELU: lambda x: np.where(x > 0.0, 1.0, SLOPE),
    L.ACT_ELU: lambda x: np.where(x > 0.0, 1.0, SLOPE * np.exp(np.minimum(x, 0.0))),
    L.ACT_GELU: slope_of_gelu,
    L.ACT_GELU_TANH: slope_of_gelu_tanh,
    L.ACT_SILU: slope_of_silu,
    L.ACT_SOFTPLUS: slope_of_softplus,
}


@pytest.mark.parametrize("mode", list(element_tiles.BACKWARD))
def test_gradient_of_activation(mode: int) -> None:
    by_output = mode in (L.ACT_RELU, L.ACT_SIGMOID, L.ACT_TANH)
    seen = spread(-1.0, 1.0) if by_output else spread(-20.0, 20.0)
    seen = seen[: seen.size // 80 * 80 : 5]
    grad = np.random.default_rng(0).normal(size=seen.size).astype(np.float32)
    expected = BACKWARD[mode](seen.astype(np.float64)) * grad
    assert np.abs(backward(mode, seen, grad) - expected).max() < 4e-6
    ends = np.array([-1e4, -88.5, 88.5, 1e4] * 4, np.float32)
    if not by_output:
        got = backward(mode, ends, np.ones(16, np.float32))[:4]
        low = SLOPE if mode == L.ACT_LEAKY_RELU else 0.0
        assert got == pytest.approx([low, low, 1.0, 1.0], abs=1e-36)
    nothing = np.full(16, np.nan, np.float32)
    assert np.isnan(backward(mode, np.ones(16, np.float32), nothing)).all()
