"""Functions of a vector: exp, and the activations with their derivatives.

Errors are bounded against float64 by tests/backends/test_lanes_math.py.
"""

import math
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from fastcnn.backends.lanes.simd import (
    INT_VECTOR,
    VECTOR,
    constant,
    define,
    emit_fma,
    emit_splat,
    int_constant,
    vector,
)


def emit_exp(builder: Any, x: Any) -> Any:
    """``exp(x)`` with a relative error below 2e-7; 0 and infinity beyond float32, NaN for NaN.

    ``exp(x) = 2^n exp(r)`` with ``|r| <= ln(2) / 2`` and the polynomial of Cephes' expf
    (Moshier, "Methods and programs for mathematical functions", 1989).
    """
    floor = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, [VECTOR]), "llvm.rint.v16f32"
    )
    low, high = constant(-87.33654), constant(88.72283)
    small, large = builder.fcmp_ordered("<", x, low), builder.fcmp_ordered(">", x, high)
    inside = builder.select(small, low, builder.select(large, high, x))
    n = builder.call(floor, (builder.fmul(inside, constant(1.44269504088896341)),))
    r = emit_fma(builder, n, constant(-0.693359375), inside)
    r = emit_fma(builder, n, constant(2.12194440e-4), r)
    value = constant(1.9875691500e-4)
    for coefficient in (
        1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
    ):  # fmt: skip
        value = emit_fma(builder, value, r, constant(coefficient))
    value = emit_fma(builder, builder.fmul(value, r), r, builder.fadd(r, constant(1.0)))
    # 2^n in two factors: n = 128 alone has no exponent field.
    whole = builder.fptosi(n, INT_VECTOR)
    half = builder.ashr(whole, int_constant(1))
    for part in (half, builder.sub(whole, half)):
        bits = builder.shl(builder.add(part, int_constant(127)), int_constant(23))
        value = builder.fmul(value, builder.bitcast(bits, VECTOR))
    value = builder.select(small, constant(0.0), value)
    value = builder.select(large, constant(float("inf")), value)
    return builder.select(builder.fcmp_unordered("uno", x, x), x, value)


def emit_sigmoid(builder: Any, x: Any) -> Any:
    """``1 / (1 + exp(-x))``; the exponential's argument is never positive."""
    one = constant(1.0)
    positive = builder.fcmp_ordered(">=", x, constant(0.0))
    e = emit_exp(builder, builder.select(positive, builder.fsub(constant(0.0), x), x))
    return builder.fdiv(builder.select(positive, one, e), builder.fadd(one, e))


def emit_tanh(builder: Any, x: Any) -> Any:
    """Hyperbolic tangent: a polynomial below 0.625, else by ``exp`` (Cephes' tanhf)."""
    negative = builder.fcmp_ordered("<", x, constant(0.0))
    magnitude = builder.select(negative, builder.fsub(constant(0.0), x), x)
    square = builder.fmul(x, x)
    value = constant(-5.70498872745e-3)
    for coefficient in (
        2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1,
    ):  # fmt: skip
        value = emit_fma(builder, value, square, constant(coefficient))
    near = emit_fma(builder, builder.fmul(value, square), x, x)
    e = emit_exp(builder, builder.fmul(magnitude, constant(-2.0)))
    one = constant(1.0)
    far = builder.fdiv(builder.fsub(one, e), builder.fadd(one, e))
    far = builder.select(negative, builder.fsub(constant(0.0), far), far)
    return builder.select(builder.fcmp_ordered("<", magnitude, constant(0.625)), near, far)


def emit_log1p(builder: Any, x: Any) -> Any:
    """``log(1 + x)`` for ``0 <= x <= 1`` with a relative error below 3e-7.

    ``2 atanh(z)`` with ``z = x / (2 + x)``, by its series.
    """
    z = builder.fdiv(x, builder.fadd(constant(2.0), x))
    square = builder.fmul(z, z)
    value = constant(2.0 / 15.0)
    for odd in (13, 11, 9, 7, 5, 3, 1):
        value = emit_fma(builder, value, square, constant(2.0 / odd))
    return builder.fmul(value, z)


def _negative(builder: Any, x: Any) -> Any:
    return builder.fcmp_ordered("<=", x, constant(0.0))


def _magnitude(builder: Any, x: Any) -> Any:
    return builder.select(_negative(builder, x), builder.fsub(constant(0.0), x), x)


def emit_leaky(builder: Any, x: Any, slope: Any, value: Any) -> Any:
    """``value`` where ``x > 0``, else ``slope * value``."""
    scaled = builder.fmul(emit_splat(builder, slope), value)
    return builder.select(_negative(builder, x), scaled, value)


def emit_elu(builder: Any, x: Any, alpha: Any) -> Any:
    """``x``, or ``alpha * (exp(x) - 1)`` where ``x <= 0``."""
    negative = _negative(builder, x)
    # The exponential of what is not selected must not overflow.
    e = emit_exp(builder, builder.select(negative, x, constant(0.0)))
    below = builder.fmul(emit_splat(builder, alpha), builder.fsub(e, constant(1.0)))
    return builder.select(negative, below, x)


def emit_elu_gradient(builder: Any, x: Any, alpha: Any, grad: Any) -> Any:
    """``grad``, times ``alpha * exp(x)`` where ``x <= 0``."""
    negative = _negative(builder, x)
    e = emit_exp(builder, builder.select(negative, x, constant(0.0)))
    below = builder.fmul(grad, builder.fmul(emit_splat(builder, alpha), e))
    return builder.select(negative, below, grad)


def emit_silu(builder: Any, x: Any) -> Any:
    """``x * sigmoid(x)``."""
    return builder.fmul(x, emit_sigmoid(builder, x))


def emit_silu_gradient(builder: Any, x: Any, grad: Any) -> Any:
    """``grad * s * (1 + x * (1 - s))`` with ``s = sigmoid(x)``."""
    one, s = constant(1.0), emit_sigmoid(builder, x)
    slope = emit_fma(builder, x, builder.fsub(one, s), one)
    return builder.fmul(grad, builder.fmul(s, slope))


def _emit_normal(builder: Any, x: Any) -> tuple[Any, Any]:
    """Distribution function and density of the standard normal, to 1e-7.

    Abramowitz and Stegun, "Handbook of mathematical functions", 7.1.26.
    """
    one = constant(1.0)
    z = builder.fmul(_magnitude(builder, x), constant(math.sqrt(0.5)))
    t = builder.fdiv(one, emit_fma(builder, z, constant(0.3275911), one))
    e = emit_exp(builder, builder.fmul(z, builder.fsub(constant(0.0), z)))
    value = constant(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        value = emit_fma(builder, value, t, constant(coefficient))
    tail = builder.fmul(constant(0.5), builder.fmul(builder.fmul(value, t), e))
    area = builder.select(_negative(builder, x), tail, builder.fsub(one, tail))
    return area, builder.fmul(e, constant(1.0 / math.sqrt(2.0 * math.pi)))


def emit_gelu(builder: Any, x: Any) -> Any:
    """``x`` times the normal distribution function."""
    return builder.fmul(x, _emit_normal(builder, x)[0])


def emit_gelu_gradient(builder: Any, x: Any, grad: Any) -> Any:
    """``grad * (Phi(x) + x * phi(x))``."""
    area, density = _emit_normal(builder, x)
    return builder.fmul(grad, emit_fma(builder, x, density, area))


def _emit_gelu_sigmoid(builder: Any, x: Any) -> tuple[Any, Any]:
    """``sigmoid(2u)`` and ``x * d(2u)/dx`` with ``u = sqrt(2 / pi) * (x + 0.044715 * x**3)``."""
    root = 2.0 * math.sqrt(2.0 / math.pi)
    square = builder.fmul(x, x)
    cubic = emit_fma(builder, square, constant(root * 0.044715), constant(root))
    slope = emit_fma(builder, square, constant(root * 3 * 0.044715), constant(root))
    return emit_sigmoid(builder, builder.fmul(x, cubic)), builder.fmul(x, slope)


def emit_gelu_tanh(builder: Any, x: Any) -> Any:
    """GELU by its tanh approximation (Hendrycks and Gimpel, arXiv:1606.08415)."""
    return builder.fmul(x, _emit_gelu_sigmoid(builder, x)[0])


def emit_gelu_tanh_gradient(builder: Any, x: Any, grad: Any) -> Any:
    """The gradient of :func:`emit_gelu_tanh`."""
    s, slope = _emit_gelu_sigmoid(builder, x)
    inner = emit_fma(builder, slope, builder.fsub(constant(1.0), s), constant(1.0))
    return builder.fmul(grad, builder.fmul(s, inner))


def emit_softplus(builder: Any, x: Any, beta: Any, threshold: Any) -> Any:
    """``log(1 + exp(beta * x)) / beta``, or ``x`` where ``beta * x > threshold``."""
    factor = emit_splat(builder, beta)
    scaled = builder.fmul(x, factor)
    e = emit_exp(builder, builder.fsub(constant(0.0), _magnitude(builder, scaled)))
    positive = builder.select(_negative(builder, scaled), constant(0.0), scaled)
    value = builder.fdiv(builder.fadd(positive, emit_log1p(builder, e)), factor)
    linear = builder.fcmp_ordered(">", scaled, emit_splat(builder, threshold))
    return builder.select(linear, x, value)


def emit_softplus_gradient(builder: Any, x: Any, beta: Any, threshold: Any, grad: Any) -> Any:
    """``grad * sigmoid(beta * x)``, or ``grad`` where ``beta * x > threshold``."""
    scaled = builder.fmul(x, emit_splat(builder, beta))
    linear = builder.fcmp_ordered(">", scaled, emit_splat(builder, threshold))
    return builder.select(linear, grad, builder.fmul(grad, emit_sigmoid(builder, scaled)))


exp = define(vector, emit_exp, vector)
log1p = define(vector, emit_log1p, vector)
sigmoid = define(vector, emit_sigmoid, vector)
tanh = define(vector, emit_tanh, vector)
leaky = define(vector, emit_leaky, vector, types.float32, vector)
elu = define(vector, emit_elu, vector, types.float32)
elu_gradient = define(vector, emit_elu_gradient, vector, types.float32, vector)
silu = define(vector, emit_silu, vector)
silu_gradient = define(vector, emit_silu_gradient, vector, vector)
gelu = define(vector, emit_gelu, vector)
gelu_gradient = define(vector, emit_gelu_gradient, vector, vector)
gelu_tanh = define(vector, emit_gelu_tanh, vector)
gelu_tanh_gradient = define(vector, emit_gelu_tanh_gradient, vector, vector)
softplus = define(vector, emit_softplus, vector, types.float32, types.float32)
softplus_gradient = define(
    vector, emit_softplus_gradient, vector, types.float32, types.float32, vector
)
