"""Errors of the vector functions against float64, and their results for infinity and NaN."""

import numpy as np
import pytest
from numba import njit

from fastcnn.codegen import simd, vector_math
from tests.operations.calls import ELEMENTWISE, Call

EXP = simd.define("vector", vector_math.emit_exp, "vector")
EXPM1 = simd.define("vector", vector_math.emit_expm1, "vector")
LOG1P = simd.define("vector", vector_math.emit_log1p, "vector")
#: Element-wise operations, which accept any memory layout.
PLAIN = [call for call in ELEMENTWISE if not call.others]
VECTORS = 1 << 14


@njit
def run_exp(x, y):  # type: ignore[no-untyped-def]
    for i in range(0, x.size, 16):
        simd.store(y[0], i, EXP(simd.load(x, i)))
        simd.store(y[1], i, EXPM1(simd.load(x, i)))
        simd.store(y[2], i, LOG1P(simd.load(x, i)))


def exponentials(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = np.empty((3, x.size), np.float32)
    run_exp(x, (y[0], y[1], y[2]))
    return y[0], y[1], y[2]


def spread(low: float, high: float) -> np.ndarray:
    """Numbers between two bounds, many of them near zero."""
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


@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_values(call: Call) -> None:
    x = spread(-100.0, 100.0)[::3]
    wide = x.astype(np.float64)
    with np.errstate(under="ignore", over="ignore"):
        expected = call.forward("im2col", wide)
    error = np.abs(call.forward("lanes", x) - expected)
    # A factor below float32's smallest normal number may be zero. Numbers are rounded: at -58 the
    # rounding of 2 x alone makes 4e-6 of the exponential.
    of_value = 5e-6 if call.arguments else 5e-7
    small = 1.2e-38 * (1.0 + np.abs(wide))
    assert (error <= of_value * np.abs(expected) + 3e-7 * np.abs(wide) + small).all()


@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_infinity_and_nan(call: Call) -> None:
    x = np.array([np.nan, np.inf, -np.inf, -1e30, -1e4, 1e4, 1e30, -0.0] * 2, np.float32)
    with np.errstate(all="ignore"):
        expected = call.forward("im2col", x.astype(np.float64))
    got = call.forward("lanes", x)
    assert np.isnan(got[0])
    defined = ~np.isnan(expected)
    np.testing.assert_allclose(got[defined], expected[defined], rtol=5e-7, atol=1.2e-38)


@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_gradients(call: Call) -> None:
    x = spread(-20.0, 20.0)[::15]
    grad = np.random.default_rng(0).normal(size=x.size).astype(np.float32)
    wide = (grad.astype(np.float64), x.astype(np.float64))
    (expected,) = call.backward("im2col", *wide)
    (got,) = call.backward("lanes", grad, x)
    assert np.abs(got - expected).max() < 6e-6
    nothing = np.full(16, np.nan, np.float32)
    assert np.isnan(call.backward("lanes", nothing, np.full(16, 0.5, np.float32))[0]).all()
