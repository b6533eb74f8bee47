"""Elementary functions of vectors: exponentials, logarithms and functions derived from them.

Errors are bounded against float64 by tests/backends/test_lanes_math.py.
"""

import math
import struct
from typing import Any

import numpy as np
from llvmlite import ir

from fastcnn.codegen.simd import (
    INT_VECTOR,
    VECTOR,
    constant,
    define,
    emit_call,
    emit_fma,
    emit_wins,
    int_constant,
)
from fastcnn.codegen.target import instruction_set

#: ``e^r - 1 = r + r^2 h(r)`` for ``|r| <= ln(2) / 2``: h in descending powers, a minimax fit with a
#: relative error of 1e-8.
_EXP = (1.388255158e-3, 8.366547525e-3, 4.166720062e-2, 1.666654348e-1, 4.999999702e-1)
#: The bits of ``2^(k/16)``, minus ``k`` shifted by 19 and 127 by 23: added to ``16 n + k`` shifted
#: by 19, those of ``2^(n + k/16 - 127)``.
_ROOTS = tuple(
    struct.unpack("<i", struct.pack("<f", 2.0 ** (k / 16)))[0] - (k << 19) - (127 << 23)
    for k in range(16)
)
#: ``tanh(x) = x p(x^2) / q(x^2)`` up to 9, likewise: 3e-8.
_TANH = (
    (1.33546525e-8, 2.06090735e-5, 3.49558727e-3, 0.133810267, 1.0),
    (7.77655657e-7, 3.28563328e-4, 2.58769821e-2, 0.467143446, 1.0),
)
#: ``log(1 + x) = z (2 + z^2 h(z^2))`` with ``z = x / (2 + x) <= 1/3``: h likewise, 5e-9.
_LOG1P = (0.280158162, 0.280009717, 0.400215805, 0.666664183)
#: Coefficients of the normal distribution's tail.
_NORMAL_TAIL = tuple(
    0.5 * a for a in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
)
#: Adding it rounds to an integer, which is then in the lowest bits.
_ROUNDER = 1.5 * 2.0**23
#: At and below this, the exponential is zero, as is its power of two.
_LOWEST = -88.0


def _call(builder: Any, name: str, *vectors: Any) -> Any:
    kind = ir.FunctionType(VECTOR, [VECTOR] * len(vectors))
    return emit_call(builder, f"llvm.{name}.v16f32", kind, vectors)


def emit_magnitude(builder: Any, x: Any) -> Any:
    """``|x|``."""
    return _call(builder, "fabs", x)


def _not_below(builder: Any, x: Any, bound: float) -> Any:
    """The larger of ``x`` and a constant; NaN is kept."""
    low = constant(bound)
    return builder.select(builder.fcmp_ordered("<", x, low), low, x)


def _not_above(builder: Any, x: Any, bound: float) -> Any:
    """The smaller of ``x`` and a constant; NaN is kept."""
    high = constant(bound)
    return builder.select(builder.fcmp_ordered(">", x, high), high, x)


def _horner(builder: Any, x: Any, coefficients: tuple[float, ...]) -> Any:
    value = constant(coefficients[0])
    for coefficient in coefficients[1:]:
        value = emit_fma(builder, value, x, constant(coefficient))
    return value


def _power_and_rest(builder: Any, x: Any, factor: float) -> tuple[Any, Any]:
    """``2^n`` and ``e^r - 1`` with ``factor * x = n ln(2) + r`` from -88, or NaN.

    The factor, 1 or -1, is folded into the constants. ``n`` is at most 127, the largest exponent:
    above, ``r`` grows, and ``2^n e^r`` overflows where the exponential does.
    """
    rounder = constant(_ROUNDER + 127.0)
    shifted = emit_fma(builder, x, constant(factor * 1.44269504088896341), rounder)
    shifted = _not_above(builder, shifted, _ROUNDER + 254.0)
    n = builder.fsub(shifted, rounder)
    r = emit_fma(builder, n, constant(-0.693359375 / factor), x)
    r = emit_fma(builder, n, constant(2.12194440e-4 / factor), r)
    # Pairs of terms are evaluated separately: half the dependency chain of Horner's rule.
    a4, a3, a2, a1, a0 = (
        constant(a * factor**i) for a, i in zip(_EXP, range(6, 1, -1), strict=True)
    )
    square = builder.fmul(r, r)
    high = emit_fma(builder, a4, square, emit_fma(builder, a3, r, a2))
    h = emit_fma(builder, high, square, emit_fma(builder, a1, r, a0))
    linear = r if factor == 1.0 else builder.fneg(r)
    rest = emit_fma(builder, h, square, linear)
    power = builder.shl(builder.bitcast(shifted, INT_VECTOR), int_constant(23))
    return builder.bitcast(power, VECTOR), rest


def emit_exp(builder: Any, x: Any, factor: float = 1.0) -> Any:
    """``exp(factor * x)`` with a relative error below 2e-7, and 5e-6 where it exceeds 2e38.

    0 below -88, NaN for NaN. The factor is 1 or -1.
    """
    floor = (_not_below if factor > 0.0 else _not_above)(builder, x, _LOWEST / factor)
    power, rest = _power_and_rest(builder, floor, factor)
    return emit_fma(builder, power, rest, power)


def emit_expm1(builder: Any, x: Any) -> Any:
    """``exp(x) - 1`` with a relative error below 3e-7, above 2e38 as that of :func:`emit_exp`."""
    power, rest = _power_and_rest(builder, _not_below(builder, x, _LOWEST), 1.0)
    return emit_fma(builder, power, rest, builder.fsub(power, constant(1.0)))


def _quotient(builder: Any, x: Any, y: Any) -> Any:
    """``x / y`` for finite ``x`` and ``y`` from 1 to 2^127, within 0.6 ulp; NaN is kept.

    A division occupies the divider of an Emerald Rapids for ten cycles. AVX-512 has reciprocals of
    14 bits, and one correction doubles these.
    """
    if instruction_set() != "AVX-512":
        return builder.fdiv(x, y)
    mask = ir.IntType(16)
    kind = ir.FunctionType(VECTOR, [VECTOR, VECTOR, mask])
    values = (y, constant(0.0), ir.Constant(mask, -1))
    inverse = emit_call(builder, "llvm.x86.avx512.rcp14.ps.512", kind, values)
    value = builder.fmul(x, inverse)
    rest = emit_fma(builder, builder.fneg(value), y, x)
    return emit_fma(builder, rest, inverse, value)


def _one_and_exp_of_minus(builder: Any, x: Any) -> Any:
    """``1 + exp(-x)`` from -88 to 88."""
    one = constant(1.0)
    if instruction_set() != "AVX-512":
        power, rest = _power_and_rest(builder, x, -1.0)
        return emit_fma(builder, power, builder.fadd(one, rest), one)
    # Sixteenths of the exponent are looked up in a register, so that the remainder is at most
    # ln(2) / 32, and two terms fewer suffice. The rounding of ln(2) changes the result as much as
    # 0.05 ulp of x would.
    rounder = constant(_ROUNDER / 16.0 + 127.0)
    shifted = emit_fma(builder, x, constant(-1.44269504088896341), rounder)
    n, bits = builder.fsub(shifted, rounder), builder.bitcast(shifted, INT_VECTOR)
    r = emit_fma(builder, n, constant(math.log(2.0)), x)
    kind = ir.FunctionType(INT_VECTOR, [INT_VECTOR, INT_VECTOR])
    table = ir.Constant(INT_VECTOR, _ROOTS)
    root = emit_call(builder, "llvm.x86.avx512.permvar.si.512", kind, (table, bits))
    power = builder.add(root, builder.shl(bits, int_constant(19)))
    power = builder.bitcast(power, VECTOR)
    return emit_fma(builder, power, _horner(builder, r, (-1.0 / 6.0, 0.5, -1.0, 1.0)), one)


def emit_sigmoid(builder: Any, x: Any) -> Any:
    """``1 / (1 + exp(-x))``; 0 where it is denormal."""
    inside = _not_above(builder, _not_below(builder, x, -88.0), 88.0)
    return _quotient(builder, constant(1.0), _one_and_exp_of_minus(builder, inside))


def emit_tanh(builder: Any, x: Any) -> Any:
    """Hyperbolic tangent with a relative error below 4e-7: a rational function and a sign."""
    size = _not_above(builder, emit_magnitude(builder, x), 9.5)
    square = builder.fmul(size, size)
    over, under = (_horner(builder, square, coefficients) for coefficients in _TANH)
    value = _quotient(builder, builder.fmul(size, over), under)
    return _call(builder, "copysign", _not_above(builder, value, 1.0), x)


def emit_log1p(builder: Any, x: Any) -> Any:
    """``log(1 + x)`` for x from ``sqrt(1/2) - 1`` to 1 with a relative error below 3e-7."""
    z = builder.fdiv(x, builder.fadd(constant(2.0), x))
    return builder.fmul(z, _horner(builder, builder.fmul(z, z), (*_LOG1P, 2.0)))


def _log_of_positive(builder: Any, x: Any) -> Any:
    """Logarithm of a normal number ``2**k (1 + f)``, with ``1 + f`` in [sqrt(1/2), sqrt(2))."""
    bits = builder.bitcast(x, INT_VECTOR)
    # The distance from sqrt(1/2) in the bits: its exponent is k.
    offset = builder.sub(bits, int_constant(0x3F3504F3))
    k = builder.ashr(offset, int_constant(23))
    mantissa = builder.bitcast(builder.sub(bits, builder.shl(k, int_constant(23))), VECTOR)
    f = builder.fsub(mantissa, constant(1.0))
    k = builder.sitofp(k, VECTOR)
    return emit_fma(builder, k, constant(math.log(2.0)), emit_log1p(builder, f))


def _with_ends(builder: Any, x: Any, value: Any, lowest: float) -> Any:
    """A logarithm of ``x``: -inf at the lowest ``x``, NaN below; infinity and NaN pass."""
    is_finite = builder.fcmp_ordered("<", x, constant(float("inf")))
    value = builder.select(is_finite, value, x)
    at_end = builder.fcmp_ordered("==", x, constant(lowest))
    value = builder.select(at_end, constant(float("-inf")), value)
    below = builder.fcmp_ordered("<", x, constant(lowest))
    return builder.select(below, constant(float("nan")), value)


def emit_log(builder: Any, x: Any) -> Any:
    """Natural logarithm, to 2e-7 or a relative error of 3e-7; -inf at 0, NaN below."""
    return _with_ends(builder, x, _log_of_positive(builder, x), 0.0)


def emit_log1p_of_any(builder: Any, x: Any) -> Any:
    """``log(1 + x)``; -inf at -1, NaN below.

    The rounding error of ``1 + x`` is added, divided by ``1 + x`` (Goldberg, "What every computer
    scientist should know about floating-point arithmetic", theorem 4): small numbers, which equal
    their logarithm, keep their bits.
    """
    sum_ = builder.fadd(constant(1.0), x)
    lost = builder.fsub(x, builder.fsub(sum_, constant(1.0)))
    value = builder.fadd(_log_of_positive(builder, sum_), builder.fdiv(lost, sum_))
    return _with_ends(builder, x, value, -1.0)


def emit_sqrt(builder: Any, x: Any) -> Any:
    """Square root, correctly rounded."""
    return _call(builder, "sqrt", x)


def emit_loses(builder: Any, candidate: Any, best: Any) -> Any:
    """The mask of lanes in which ``candidate`` replaces ``best`` as minimum: smaller, or NaN."""
    return builder.or_(
        builder.fcmp_ordered("<", candidate, best),
        builder.fcmp_unordered("!=", candidate, candidate),
    )


def emit_minimum(builder: Any, x: Any, y: Any) -> Any:
    """The smaller of two, or a NaN of either."""
    return builder.select(emit_loses(builder, x, y), x, y)


def emit_maximum(builder: Any, x: Any, y: Any) -> Any:
    """The larger of two, or a NaN of either."""
    return builder.select(emit_wins(builder, x, y), x, y)


#: ``erf(x) = x h(x**2)`` for ``|x| <= 1``: Taylor series, in descending powers.
_ERF_NEAR = tuple(
    2.0 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1))
    for n in range(9, -1, -1)
)


def emit_erf(builder: Any, x: Any) -> Any:
    """The error function, with an absolute error below 5e-7 and exact near 0.

    Beyond 1 from Abramowitz and Stegun, "Handbook of mathematical functions", 7.1.26.
    """
    one, size = constant(1.0), emit_magnitude(builder, x)
    near = builder.fmul(x, _horner(builder, builder.fmul(x, x), _ERF_NEAR))
    t = builder.fdiv(one, emit_fma(builder, size, constant(0.3275911), one))
    e = emit_exp(builder, builder.fmul(x, x), -1.0)
    tail = builder.fmul(_horner(builder, t, tuple(2.0 * a for a in _NORMAL_TAIL)), t)
    far = _call(builder, "copysign", builder.fsub(one, builder.fmul(tail, e)), x)
    return builder.select(builder.fcmp_ordered("<=", size, one), near, far)


def _negative(builder: Any, x: Any) -> Any:
    return builder.fcmp_ordered("<=", x, constant(0.0))


def emit_log1p_exp(builder: Any, x: Any) -> Any:
    """``log(1 + exp(x))``: the larger of ``x`` and 0, plus a correction."""
    e = emit_exp(builder, emit_magnitude(builder, x), -1.0)
    return builder.fadd(_not_below(builder, x, 0.0), emit_log1p(builder, e))


def emit_normal_cdf(builder: Any, x: Any) -> Any:
    """Distribution function of the standard normal to 3e-7.

    Abramowitz and Stegun, "Handbook of mathematical functions", 7.1.26.
    """
    one = constant(1.0)
    step = constant(0.3275911 * math.sqrt(0.5))
    t = builder.fdiv(one, emit_fma(builder, emit_magnitude(builder, x), step, one))
    # The same product as in GELU's density, so that the exponential is computed once.
    square = builder.fmul(builder.fmul(constant(-0.5), x), x)
    tail = _horner(builder, t, _NORMAL_TAIL)
    tail = builder.fmul(builder.fmul(tail, t), emit_exp(builder, square))
    return builder.select(_negative(builder, x), tail, builder.fsub(one, tail))


exp = define("vector", emit_exp, "vector")
log = define("vector", emit_log, "vector")
log1p = define("vector", emit_log1p_of_any, "vector")


def emit_sign(builder: Any, x: Any) -> Any:
    """1 above 0, -1 below; 0 and NaN are kept."""
    above = builder.select(builder.fcmp_ordered(">", x, constant(0.0)), constant(1.0), x)
    return builder.select(builder.fcmp_ordered("<", x, constant(0.0)), constant(-1.0), above)


def emit_clip(builder: Any, x: Any, low: Any, high: Any) -> Any:
    """``minimum(maximum(x, low), high)``."""
    return emit_minimum(builder, emit_maximum(builder, x, low), high)


#: The vector implementation of numpy functions that formulas use, and their number of arguments.
OF_NUMPY: dict[Any, tuple[Any, int]] = {
    np.exp: (emit_exp, 1),
    np.expm1: (emit_expm1, 1),
    np.log: (emit_log, 1),
    np.log1p: (emit_log1p_of_any, 1),
    np.tanh: (emit_tanh, 1),
    np.sqrt: (emit_sqrt, 1),
    np.square: (lambda builder, x: builder.fmul(x, x), 1),
    np.abs: (emit_magnitude, 1),
    np.sign: (emit_sign, 1),
    np.clip: (emit_clip, 3),
    np.minimum: (emit_minimum, 2),
    np.maximum: (emit_maximum, 2),
    np.where: (lambda builder, *values: builder.select(*values), 3),
}
