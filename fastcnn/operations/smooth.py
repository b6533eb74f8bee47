"""Smooth activations: formulas, records and functional forms.

Formulas are written to stay accurate near saturation.
"""

import math
from typing import Any

import numpy as np

from fastcnn.arguments import APPROXIMATIONS
from fastcnn.codegen import elementary, linked
from fastcnn.codegen.elementary import absolute, exp, log1p_exp, normal_cdf, where
from fastcnn.operations.record import (
    CASE_CHANNELS,
    Choice,
    Elementwise,
    Formula,
    Number,
    OnnxNode,
    Value,
)

__all__ = [
    "gelu",
    "gelu_backward",
    "logsigmoid",
    "logsigmoid_backward",
    "mish",
    "mish_backward",
    "scale",
    "scale_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "softsign",
    "softsign_backward",
    "tanh",
    "tanh_backward",
]


@linked
def _sigmoid_gradient(grad: Value, x: Value) -> Value:
    exponential = exp(-absolute(x))
    return grad * exponential / ((1.0 + exponential) * (1.0 + exponential))


@linked
def _sigmoid_gradient_from_output(grad: Value, y: Value) -> Value:
    return grad * (y * (1.0 - y))


SIGMOID = Elementwise(
    "sigmoid",
    formula=Formula(elementary.sigmoid, _sigmoid_gradient, _sigmoid_gradient_from_output),
    onnx=(OnnxNode("Sigmoid"),),
)


def sigmoid(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``1 / (1 + exp(-x))`` without overflow, for an array of any shape."""
    return SIGMOID.forward(x, backend=backend)


def sigmoid_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`sigmoid`: ``grad_output * y * (1 - y)``."""
    return SIGMOID.backward(grad_output, x, backend=backend)


@linked
def _tanh_gradient(grad: Value, x: Value) -> Value:
    return _tanh_gradient_from_output(grad, elementary.tanh(x))


@linked
def _tanh_gradient_from_output(grad: Value, y: Value) -> Value:
    return grad * (1.0 - y * y)


TANH = Elementwise(
    "tanh",
    formula=Formula(elementary.tanh, _tanh_gradient, _tanh_gradient_from_output),
    onnx=(OnnxNode("Tanh"),),
)


def tanh(x: Any, *, backend: str | None = None) -> np.ndarray:
    """Hyperbolic tangent of an array of any shape."""
    return TANH.forward(x, backend=backend)


def tanh_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`tanh`: ``grad_output * (1 - y^2)``."""
    return TANH.backward(grad_output, x, backend=backend)


@linked
def _silu(x: Value) -> Value:
    return x * elementary.sigmoid(x)


@linked
def _silu_gradient(grad: Value, x: Value) -> Value:
    s = elementary.sigmoid(x)
    return grad * s * (1.0 + x * (1.0 - s))


SILU = Elementwise(
    "silu",
    formula=Formula(_silu, _silu_gradient),
    onnx=(
        OnnxNode("Mul", ("x", OnnxNode("Sigmoid"))),
        OnnxNode("Swish", attributes={"alpha": 1.0}),  # from opset 24 on
    ),
)


def silu(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``x * sigmoid(x)``, also called swish, for an array of any shape."""
    return SILU.forward(x, backend=backend)


def silu_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`silu`: times ``s * (1 + x * (1 - s))``."""
    return SILU.backward(grad_output, x, backend=backend)


@linked
def _gelu(x: Value) -> Value:
    return x * normal_cdf(x)


@linked
def _gelu_gradient(grad: Value, x: Value) -> Value:
    density = exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    return grad * (normal_cdf(x) + x * density)


#: ``(1 + tanh(u)) / 2 = sigmoid(2u)``: for x far below 0 the sum would cancel to 0.
_ROOT, _CUBIC = 2.0 * math.sqrt(2.0 / math.pi), 0.044715


@linked
def _gelu_tanh(x: Value) -> Value:
    return x * elementary.sigmoid(x * (_ROOT + _ROOT * _CUBIC * (x * x)))


@linked
def _gelu_tanh_gradient(grad: Value, x: Value) -> Value:
    square = x * x
    s = elementary.sigmoid(x * (_ROOT + _ROOT * _CUBIC * square))
    slope = x * (_ROOT + _ROOT * 3.0 * _CUBIC * square)
    return grad * (s * (1.0 + slope * (1.0 - s)))


GELU = Elementwise(
    "gelu",
    formula={
        "none": Formula(_gelu, _gelu_gradient),
        "tanh": Formula(_gelu_tanh, _gelu_tanh_gradient),
    },
    arguments=(Choice("approximate", "none", APPROXIMATIONS),),
    cases=({}, {"approximate": "tanh"}),
)


def gelu(x: Any, approximate: str = "none", *, backend: str | None = None) -> np.ndarray:
    """Gaussian error linear unit, for an array of any shape.

    Parameters
    ----------
    x : array_like
    approximate : {"none", "tanh"}
        ``x * Phi(x)`` with the normal distribution function, or
        ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))``.
    backend : str, optional
    """
    return GELU.forward(x, approximate, backend=backend)


def gelu_backward(
    grad_output: Any, x: Any, approximate: str = "none", *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`gelu`."""
    return GELU.backward(grad_output, x, approximate, backend=backend)


@linked
def _softplus(x: Value, beta: float, threshold: float) -> Value:
    scaled = beta * x
    return where(scaled > threshold, x, log1p_exp(scaled) * (1.0 / beta))


@linked
def _softplus_gradient(grad: Value, x: Value, beta: float, threshold: float) -> Value:
    scaled = beta * x
    return where(scaled > threshold, grad, grad * elementary.sigmoid(scaled))


SOFTPLUS = Elementwise(
    "softplus",
    formula=Formula(_softplus, _softplus_gradient),
    arguments=(Number("beta", 1.0, above=0.0), Number("threshold", 20.0)),
    cases=({}, {"beta": 2.0, "threshold": 5.0}),
)


def softplus(
    x: Any, beta: float = 1.0, threshold: float = 20.0, *, backend: str | None = None
) -> np.ndarray:
    """``log(1 + exp(beta * x)) / beta``, for an array of any shape.

    Parameters
    ----------
    x : array_like
    beta : float
        Above 0.
    threshold : float
        Where ``beta * x`` is larger, the result is ``x`` itself.
    backend : str, optional
    """
    return SOFTPLUS.forward(x, beta, threshold, backend=backend)


def softplus_backward(
    grad_output: Any,
    x: Any,
    beta: float = 1.0,
    threshold: float = 20.0,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`softplus`: times ``sigmoid(beta * x)``."""
    return SOFTPLUS.backward(grad_output, x, beta, threshold, backend=backend)


@linked
def _logsigmoid(x: Value) -> Value:
    return -log1p_exp(-x)


@linked
def _logsigmoid_gradient(grad: Value, x: Value) -> Value:
    return grad * elementary.sigmoid(-x)


LOGSIGMOID = Elementwise(
    "logsigmoid",
    formula=Formula(_logsigmoid, _logsigmoid_gradient),
    onnx=(
        OnnxNode("Neg", (OnnxNode("Softplus", (OnnxNode("Neg"),)),)),
        OnnxNode("Log", (OnnxNode("Sigmoid"),)),
    ),
)


def logsigmoid(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``log(1 / (1 + exp(-x)))`` without overflow, for an array of any shape."""
    return LOGSIGMOID.forward(x, backend=backend)


def logsigmoid_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`logsigmoid`: times ``sigmoid(-x)``."""
    return LOGSIGMOID.backward(grad_output, x, backend=backend)


@linked
def _softsign(x: Value) -> Value:
    return x / (1.0 + absolute(x))


@linked
def _softsign_gradient(grad: Value, x: Value) -> Value:
    y = 1.0 / (1.0 + absolute(x))
    return grad * (y * y)


SOFTSIGN = Elementwise(
    "softsign",
    formula=Formula(_softsign, _softsign_gradient),
    onnx=(OnnxNode("Softsign"), OnnxNode("Div", ("x", OnnxNode("Add", (OnnxNode("Abs"), 1.0))))),
)


def softsign(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``x / (1 + |x|)`` for an array of any shape."""
    return SOFTSIGN.forward(x, backend=backend)


def softsign_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`softsign`: times ``1 / (1 + |x|)^2``."""
    return SOFTSIGN.backward(grad_output, x, backend=backend)


@linked
def _tanh_of_softplus(x: Value, exponential: Value) -> Value:
    """``((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1)``, by ``exponential = e^-|x|``."""
    square = exponential * exponential
    twice = exponential + exponential
    is_positive = x >= 0.0
    numerator = where(is_positive, 1.0 + twice, twice + square)
    return numerator / (numerator + where(is_positive, square + square, 2.0))


@linked
def _mish(x: Value) -> Value:
    return x * _tanh_of_softplus(x, exp(-absolute(x)))


@linked
def _mish_gradient(grad: Value, x: Value) -> Value:
    exponential = exp(-absolute(x))
    t = _tanh_of_softplus(x, exponential)
    s = where(x >= 0.0, 1.0, exponential) / (1.0 + exponential)
    return grad * (t + x * s * (1.0 - t * t))


MISH = Elementwise(
    "mish",
    formula=Formula(_mish, _mish_gradient),
    onnx=(
        OnnxNode("Mul", ("x", OnnxNode("Tanh", (OnnxNode("Softplus"),)))),
        OnnxNode("Mish"),  # from opset 18 on
    ),
)


def mish(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``x * tanh(log(1 + exp(x)))``, for an array of any shape."""
    return MISH.forward(x, backend=backend)


def mish_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`mish`: times ``t + x * sigmoid(x) * (1 - t^2)``."""
    return MISH.backward(grad_output, x, backend=backend)


@linked
def _scale(x: Value, weight: Value) -> Value:
    return x * weight


@linked
def _scale_gradient(grad: Value, x: Value, weight: Value) -> Value:
    return grad * weight


@linked
def _scale_weight_gradient(grad: Value, x: Value, weight: Value) -> Value:
    return grad * x


SCALE = Elementwise(
    "scale",
    parameters=("weight",),
    backward_reads=("weight",),
    cases=({"trainable": False}, {"num_parameters": CASE_CHANNELS, "init": 0.5}),
    formula=Formula(_scale, _scale_gradient, parameter_gradients=(_scale_weight_gradient,)),
    onnx=(OnnxNode("Mul", ("x", "weight")),),
)


def scale(x: Any, weight: Any, *, backend: str | None = None) -> np.ndarray:
    """``weight * x``, with a factor per channel, or one for all channels.

    Parameters
    ----------
    x : array_like, shape (N, C, ...)
    weight : array_like, shape (C,) or (1,)
    backend : str, optional
    """
    return SCALE.forward(x, weight, backend=backend)


def scale_backward(
    grad_output: Any, x: Any, weight: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of :func:`scale`.

    Returns
    -------
    grad_x, grad_weight : ndarray
    """
    return SCALE.backward(grad_output, x, weight, backend=backend)


RECORDS = (SIGMOID, TANH, SILU, GELU, SOFTPLUS, LOGSIGMOID, SOFTSIGN, MISH, SCALE)
