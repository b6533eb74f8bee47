"""Element-wise activations."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import as_count, as_dtype, as_flag, as_number
from fastcnn.backends.graph import Shape
from fastcnn.errors import ShapeError
from fastcnn.layers.allocation import claim
from fastcnn.layers.base import Layer
from fastcnn.operations import OPERATIONS, Elementwise

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "Scale",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
]


class Activation(Layer):
    """A layer of an element-wise operation, whose record names and checks the arguments."""

    def _set(self, **arguments: Any) -> None:
        for name, value in self.record().checked(type(self).__name__, arguments).items():
            setattr(self, name, value)

    @classmethod
    def record(cls) -> Elementwise:
        """The record of the layer's operation."""
        record = OPERATIONS[cls.operation]
        assert isinstance(record, Elementwise)
        return record

    @classmethod
    def made_of(
        cls, arguments: Mapping[str, Any], parameters: Mapping[str, np.ndarray]
    ) -> "Activation":
        """The layer with these arguments and values of its parameters.

        Parameters
        ----------
        arguments : mapping of str to Any
        parameters : mapping of str to ndarray
        """
        return cls(**arguments)

    @property
    def arguments(self) -> dict[str, Any]:
        """The activation's arguments, named as in the functional form."""
        return {argument.name: getattr(self, argument.name) for argument in self.record().arguments}

    def extra_repr(self) -> str:
        """The arguments shown between the parentheses of ``repr``."""
        return ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())


class ReLU(Activation):
    """Rectified linear unit, ``max(0, x)``; the gradient at 0 is 0, as in PyTorch.

    Examples
    --------
    >>> ReLU().output_shape((4, 28, 28))
    (4, 28, 28)
    """

    operation: ClassVar[str] = "relu"


class ReLU6(Activation):
    """``min(max(0, x), 6)``.

    References
    ----------
    Howard et al., "MobileNets", arXiv:1704.04861.
    """

    operation: ClassVar[str] = "relu6"


class Sigmoid(Activation):
    """Logistic function, ``1 / (1 + exp(-x))``, computed without overflow."""

    operation: ClassVar[str] = "sigmoid"


class LogSigmoid(Activation):
    """Logarithm of the logistic function, computed without overflow."""

    operation: ClassVar[str] = "logsigmoid"


class Tanh(Activation):
    """Hyperbolic tangent."""

    operation: ClassVar[str] = "tanh"


class Softsign(Activation):
    """``x / (1 + |x|)``."""

    operation: ClassVar[str] = "softsign"


class Hardtanh(Activation):
    """``x`` clipped to ``min_val`` and ``max_val``.

    Parameters
    ----------
    min_val, max_val : float
        ``min_val`` below ``max_val``.
    """

    operation: ClassVar[str] = "hardtanh"
    min_val: float
    max_val: float

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__()
        self._set(min_val=min_val, max_val=max_val)


class Hardsigmoid(Activation):
    """``min(max(0, x + 3), 6) / 6``: a piecewise linear sigmoid.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", arXiv:1905.02244.
    """

    operation: ClassVar[str] = "hardsigmoid"


class Hardswish(Activation):
    """``x * hardsigmoid(x)``: an approximation of SiLU without an exponential.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", arXiv:1905.02244.
    """

    operation: ClassVar[str] = "hardswish"


class LeakyReLU(Activation):
    """``x`` where ``x > 0``, else ``negative_slope * x``.

    Parameters
    ----------
    negative_slope : float

    References
    ----------
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML
    2013.
    """

    operation: ClassVar[str] = "leaky_relu"
    negative_slope: float

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self._set(negative_slope=negative_slope)


class _Weighted(Activation):
    """An activation with a parameter per channel, or one for all channels."""

    #: Name of the parameters in messages.
    numbers: ClassVar[str]

    def _fill(self, num_parameters: int, init: float, dtype: Any) -> None:
        owner = type(self).__name__
        self.num_parameters = as_count(owner, "num_parameters", num_parameters)
        self.init = as_number(owner, "init", init)
        claim((self.num_parameters,))
        weight = np.full(self.num_parameters, self.init, as_dtype(owner, dtype))
        self.parameters = {"weight": weight}

    @property
    def weight(self) -> np.ndarray:
        """The parameters; assign to them with ``layer.weight[...] = value``."""
        return self.parameters["weight"]

    def output_shape(self, input_shape: Shape) -> Shape:
        count, channels = self.num_parameters, input_shape[0]
        if count not in (1, channels):
            raise ShapeError(
                f"has {self.numbers} for {count} channels, samples of shape {tuple(input_shape)} "
                f"have {channels}"
            )
        return tuple(input_shape)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class PReLU(_Weighted):
    """``x`` where ``x > 0``, else ``weight * x``: a leaky ReLU with a learned slope.

    Weight decay would pull the slopes to 0; He et al. train them without.

    Parameters
    ----------
    num_parameters : int
        The number of channels, or 1 for a common slope.
    init : float
        Initial slope.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : ndarray, shape (num_parameters,)

    References
    ----------
    He et al., "Delving deep into rectifiers", arXiv:1502.01852.
    """

    operation: ClassVar[str] = "prelu"
    numbers: ClassVar[str] = "slopes"

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = np.float32
    ) -> None:
        super().__init__()
        self._fill(num_parameters, init, dtype)

    @classmethod
    def made_of(cls, arguments: Mapping[str, Any], parameters: Mapping[str, np.ndarray]) -> "PReLU":
        """The layer with these slopes."""
        layer = cls(parameters["weight"].size)
        layer.weight[...] = parameters["weight"].reshape(-1)
        return layer


class ELU(Activation):
    """Exponential linear unit: ``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    alpha : float

    References
    ----------
    Clevert, Unterthiner and Hochreiter, arXiv:1511.07289.
    """

    operation: ClassVar[str] = "elu"
    alpha: float

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self._set(alpha=alpha)


class SELU(Activation):
    """Scaled ELU, ``1.0507 * elu(x, alpha=1.6733)``: activations keep mean 0 and variance 1.

    References
    ----------
    Klambauer et al., "Self-normalizing neural networks", arXiv:1706.02515.
    """

    operation: ClassVar[str] = "selu"


class CELU(Activation):
    """``x`` where ``x > 0``, else ``alpha * (exp(x / alpha) - 1)``: an ELU without a kink.

    Parameters
    ----------
    alpha : float
        Above 0.

    References
    ----------
    Barron, arXiv:1704.07483.
    """

    operation: ClassVar[str] = "celu"
    alpha: float

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self._set(alpha=alpha)


class GELU(Activation):
    """Gaussian error linear unit, ``x * Phi(x)`` with the normal distribution function.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh" approximates ``Phi(x)`` by ``(1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2``.

    References
    ----------
    Hendrycks and Gimpel, arXiv:1606.08415.
    """

    operation: ClassVar[str] = "gelu"
    approximate: str

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self._set(approximate=approximate)


class SiLU(Activation):
    """Sigmoid linear unit, ``x * sigmoid(x)``, also called swish.

    References
    ----------
    Hendrycks and Gimpel, arXiv:1606.08415; Ramachandran, Zoph and Le, arXiv:1710.05941.
    """

    operation: ClassVar[str] = "silu"


class Mish(Activation):
    """``x * tanh(log(1 + exp(x)))``.

    References
    ----------
    Misra, arXiv:1908.08681.
    """

    operation: ClassVar[str] = "mish"


class Softplus(Activation):
    """``log(1 + exp(beta * x)) / beta``, a smooth ReLU.

    Parameters
    ----------
    beta : float
        Above 0; the larger, the closer to ReLU.
    threshold : float
        Where ``beta * x`` exceeds this, the result is ``x`` itself.

    References
    ----------
    Dugas et al., "Incorporating second-order functional knowledge for better option pricing",
    NIPS 2000.
    """

    operation: ClassVar[str] = "softplus"
    beta: float
    threshold: float

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self._set(beta=beta, threshold=threshold)


class Scale(_Weighted):
    """``weight * x``, with a factor per channel, or one for all channels.

    ConvNeXt's layer scale is ``Scale(channels, 1e-6)``; ``Scale(init=1 / 9, trainable=False)``
    divides logits by a temperature.

    Parameters
    ----------
    num_parameters : int
        The number of channels, or 1 for a common factor.
    init : float
        Initial factor.
    trainable : bool
        False keeps the factor fixed: ``requires_grad`` is then False.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : ndarray, shape (num_parameters,)

    References
    ----------
    Touvron et al., "Going deeper with image transformers", arXiv:2103.17239, section 2.

    Examples
    --------
    >>> Scale(init=1 / 8, trainable=False).weight
    array([0.125], dtype=float32)
    """

    operation: ClassVar[str] = "scale"
    numbers: ClassVar[str] = "factors"

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 1.0,
        trainable: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self._fill(num_parameters, init, dtype)
        self.requires_grad = as_flag("Scale", "trainable", trainable)

    @classmethod
    def made_of(cls, arguments: Mapping[str, Any], parameters: Mapping[str, np.ndarray]) -> "Scale":
        """The layer with these factors; a single one is fixed."""
        weight = parameters["weight"].reshape(-1)
        layer = cls(weight.size, trainable=weight.size > 1)
        layer.weight[...] = weight
        return layer

    @property
    def trainable(self) -> bool:
        """Whether training changes the factor: ``requires_grad``."""
        return self.requires_grad

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.requires_grad = value

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.trainable else ", trainable=False")


#: The layer of each element-wise operation.
LAYERS: dict[str, type[Activation]] = {
    kind.operation: kind for kind in map(globals().__getitem__, __all__)
}
