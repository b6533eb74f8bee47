"""Activations with kinks or bounds: formulas, records and functional forms.

At a kink the derivative is PyTorch's, and NaN passes through, unless the docstring says otherwise.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.codegen import linked
from fastcnn.codegen.elementary import exp, expm1, maximum, minimum, where
from fastcnn.errors import ConfigurationError
from fastcnn.operations.record import CASE_CHANNELS, Elementwise, Formula, Number, OnnxNode, Value

__all__ = [
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "prelu",
    "prelu_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "selu",
    "selu_backward",
]


@linked
def _relu(x: Value) -> Value:
    return maximum(x, 0.0)


@linked
def _relu_gradient(grad: Value, x: Value) -> Value:
    return where(x <= 0.0, 0.0, grad)


RELU = Elementwise(
    "relu", formula=Formula(_relu, _relu_gradient, _relu_gradient), onnx=(OnnxNode("Relu"),)
)


def relu(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``max(0, x)`` for an array of any shape."""
    return RELU.forward(x, backend=backend)


def relu_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`relu`: ``grad_output`` where ``x > 0``, else 0 (also at 0)."""
    return RELU.backward(grad_output, x, backend=backend)


@linked
def _leaky_relu(x: Value, negative_slope: float) -> Value:
    return where(x <= 0.0, negative_slope * x, x)


@linked
def _leaky_relu_gradient(grad: Value, x: Value, negative_slope: float) -> Value:
    return where(x <= 0.0, negative_slope * grad, grad)


LEAKY_RELU = Elementwise(
    "leaky_relu",
    formula=Formula(_leaky_relu, _leaky_relu_gradient),
    arguments=(Number("negative_slope", 0.01),),
    cases=({}, {"negative_slope": 0.3}),
    onnx=(OnnxNode("LeakyRelu", attributes={"alpha": "negative_slope"}),),
)


def leaky_relu(x: Any, negative_slope: float = 0.01, *, backend: str | None = None) -> np.ndarray:
    """``x`` where ``x > 0``, else ``negative_slope * x``.

    Parameters
    ----------
    x : array_like, of any shape
    negative_slope : float
    backend : str, optional
    """
    return LEAKY_RELU.forward(x, negative_slope, backend=backend)


def leaky_relu_backward(
    grad_output: Any, x: Any, negative_slope: float = 0.01, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`leaky_relu`: times ``negative_slope`` where ``x <= 0``."""
    return LEAKY_RELU.backward(grad_output, x, negative_slope, backend=backend)


@linked
def _elu(x: Value, alpha: float) -> Value:
    return where(x <= 0.0, alpha * expm1(minimum(x, 0.0)), x)


@linked
def _elu_gradient(grad: Value, x: Value, alpha: float) -> Value:
    return grad * where(x <= 0.0, alpha * exp(minimum(x, 0.0)), 1.0)


ELU = Elementwise(
    "elu",
    formula=Formula(_elu, _elu_gradient),
    arguments=(Number("alpha", 1.0),),
    cases=({}, {"alpha": 1.5}),
    onnx=(OnnxNode("Elu", attributes={"alpha": "alpha"}),),
)


def elu(x: Any, alpha: float = 1.0, *, backend: str | None = None) -> np.ndarray:
    """``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    x : array_like, of any shape
    alpha : float
    backend : str, optional
    """
    return ELU.forward(x, alpha, backend=backend)


def elu_backward(
    grad_output: Any, x: Any, alpha: float = 1.0, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`elu`: times ``alpha * exp(x)`` where ``x <= 0``."""
    return ELU.backward(grad_output, x, alpha, backend=backend)


#: With these, activations keep mean 0 and variance 1 from layer to layer.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@linked
def _selu(x: Value) -> Value:
    return _SELU_SCALE * _elu(x, _SELU_ALPHA)


@linked
def _selu_gradient(grad: Value, x: Value) -> Value:
    return _SELU_SCALE * _elu_gradient(grad, x, _SELU_ALPHA)


SELU = Elementwise(
    "selu",
    formula=Formula(_selu, _selu_gradient),
    onnx=(OnnxNode("Selu", attributes={"alpha": _SELU_ALPHA, "gamma": _SELU_SCALE}),),
)


def selu(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``1.0507 * elu(x, alpha=1.6733)``, for an array of any shape."""
    return SELU.forward(x, backend=backend)


def selu_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`selu`."""
    return SELU.backward(grad_output, x, backend=backend)


@linked
def _celu(x: Value, alpha: float) -> Value:
    return where(x <= 0.0, alpha * expm1(minimum(x, 0.0) * (1.0 / alpha)), x)


@linked
def _celu_gradient(grad: Value, x: Value, alpha: float) -> Value:
    return grad * where(x <= 0.0, exp(minimum(x, 0.0) * (1.0 / alpha)), 1.0)


CELU = Elementwise(
    "celu",
    formula=Formula(_celu, _celu_gradient),
    arguments=(Number("alpha", 1.0, above=0.0),),
    cases=({}, {"alpha": 0.5}),
    onnx=(OnnxNode("Celu", attributes={"alpha": "alpha"}),),
)


def celu(x: Any, alpha: float = 1.0, *, backend: str | None = None) -> np.ndarray:
    """``x`` where ``x > 0``, else ``alpha * (exp(x / alpha) - 1)``.

    Parameters
    ----------
    x : array_like, of any shape
    alpha : float
        Above 0.
    backend : str, optional
    """
    return CELU.forward(x, alpha, backend=backend)


def celu_backward(
    grad_output: Any, x: Any, alpha: float = 1.0, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`celu`: times ``exp(x / alpha)`` where ``x <= 0``."""
    return CELU.backward(grad_output, x, alpha, backend=backend)


@linked
def _hardtanh(x: Value, min_val: float, max_val: float) -> Value:
    return minimum(maximum(x, min_val), max_val)


@linked
def _hardtanh_gradient(grad: Value, x: Value, min_val: float, max_val: float) -> Value:
    return where(x <= min_val, 0.0, where(x >= max_val, 0.0, grad))


def _check_interval(owner: str, arguments: Mapping[str, Any]) -> None:
    if not arguments["min_val"] < arguments["max_val"]:
        raise ConfigurationError(
            f"{owner}: min_val must be below max_val, got {arguments['min_val']:g} and "
            f"{arguments['max_val']:g}"
        )


HARDTANH = Elementwise(
    "hardtanh",
    formula=Formula(_hardtanh, _hardtanh_gradient, _hardtanh_gradient),
    arguments=(Number("min_val", -1.0), Number("max_val", 1.0)),
    cases=({}, {"min_val": -0.5, "max_val": 2.0}),
    onnx=(
        OnnxNode("Clip", ("x", "min_val", "max_val")),
        OnnxNode("Clip", attributes={"min": "min_val", "max": "max_val"}),  # up to opset 10
    ),
    check=_check_interval,
)


def hardtanh(
    x: Any, min_val: float = -1.0, max_val: float = 1.0, *, backend: str | None = None
) -> np.ndarray:
    """``x`` clipped to ``min_val`` and ``max_val``.

    Parameters
    ----------
    x : array_like, of any shape
    min_val, max_val : float
        The first below the second.
    backend : str, optional
    """
    return HARDTANH.forward(x, min_val, max_val, backend=backend)


def hardtanh_backward(
    grad_output: Any,
    x: Any,
    min_val: float = -1.0,
    max_val: float = 1.0,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`hardtanh`: 0 at the bounds and outside them."""
    return HARDTANH.backward(grad_output, x, min_val, max_val, backend=backend)


@linked
def _relu6(x: Value) -> Value:
    return _hardtanh(x, 0.0, 6.0)


@linked
def _relu6_gradient(grad: Value, x: Value) -> Value:
    return _hardtanh_gradient(grad, x, 0.0, 6.0)


RELU6 = Elementwise(
    "relu6",
    formula=Formula(_relu6, _relu6_gradient, _relu6_gradient),
    onnx=(
        OnnxNode("Clip", ("x", 0.0, 6.0)),
        OnnxNode("Clip", attributes={"min": 0.0, "max": 6.0}),  # up to opset 10
    ),
)


def relu6(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``min(max(0, x), 6)`` for an array of any shape."""
    return RELU6.forward(x, backend=backend)


def relu6_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`relu6`: ``grad_output`` where ``0 < x < 6``, else 0."""
    return RELU6.backward(grad_output, x, backend=backend)


@linked
def _hardsigmoid(x: Value) -> Value:
    return minimum(maximum(x + 3.0, 0.0), 6.0) * (1.0 / 6.0)


@linked
def _hardsigmoid_gradient(grad: Value, x: Value) -> Value:
    return _hardtanh_gradient(grad * (1.0 / 6.0), x, -3.0, 3.0)


HARDSIGMOID = Elementwise(
    "hardsigmoid",
    formula=Formula(_hardsigmoid, _hardsigmoid_gradient),
    onnx=(OnnxNode("HardSigmoid", attributes={"alpha": 1.0 / 6.0, "beta": 0.5}),),
)


def hardsigmoid(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``min(max(0, x + 3), 6) / 6`` for an array of any shape."""
    return HARDSIGMOID.forward(x, backend=backend)


def hardsigmoid_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`hardsigmoid`: ``grad_output / 6`` where ``-3 < x < 3``, else 0."""
    return HARDSIGMOID.backward(grad_output, x, backend=backend)


@linked
def _hardswish(x: Value) -> Value:
    return x * _hardsigmoid(x)


@linked
def _hardswish_gradient(grad: Value, x: Value) -> Value:
    inside = where(x < 3.0, grad * (x * (1.0 / 3.0) + 0.5), grad)
    return where(x <= -3.0, 0.0, inside)


_ONNX_RELU6_OF_SUM = OnnxNode("Clip", (OnnxNode("Add", ("x", 3.0)), 0.0, 6.0))
HARDSWISH = Elementwise(
    "hardswish",
    formula=Formula(_hardswish, _hardswish_gradient),
    onnx=(
        OnnxNode("HardSwish"),
        OnnxNode("Mul", ("x", *HARDSIGMOID.onnx)),
        OnnxNode("Div", (OnnxNode("Mul", ("x", _ONNX_RELU6_OF_SUM)), 6.0)),
    ),
)


def hardswish(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``x * hardsigmoid(x)``, close to SiLU without an exponential, for an array of any shape."""
    return HARDSWISH.forward(x, backend=backend)


def hardswish_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`hardswish`: times 0 up to -3, 1 from 3 on, ``x / 3 + 1 / 2`` between."""
    return HARDSWISH.backward(grad_output, x, backend=backend)


@linked
def _prelu_weight_gradient(grad: Value, x: Value, weight: Value) -> Value:
    return where(x <= 0.0, x * grad, 0.0)


PRELU = Elementwise(
    "prelu",
    parameters=("weight",),
    backward_reads=("weight",),
    cases=({}, {"num_parameters": CASE_CHANNELS}),
    formula=Formula(
        _leaky_relu, _leaky_relu_gradient, parameter_gradients=(_prelu_weight_gradient,)
    ),
    onnx=(OnnxNode("PRelu", ("x", "weight")),),
)


def prelu(x: Any, weight: Any, *, backend: str | None = None) -> np.ndarray:
    """``x`` where ``x > 0``, else ``weight * x``, with a learned slope.

    Parameters
    ----------
    x : array_like, shape (N, C, ...)
    weight : array_like, shape (C,) or (1,)
        A slope per channel, or one for all channels.
    backend : str, optional
    """
    return PRELU.forward(x, weight, backend=backend)


def prelu_backward(
    grad_output: Any, x: Any, weight: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of :func:`prelu`.

    Returns
    -------
    grad_x, grad_weight : ndarray
    """
    return PRELU.backward(grad_output, x, weight, backend=backend)


RECORDS = (RELU, LEAKY_RELU, ELU, SELU, CELU, HARDTANH, RELU6, HARDSIGMOID, HARDSWISH, PRELU)
