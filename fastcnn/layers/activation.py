"""Element-wise activations."""

from typing import Any, ClassVar

from fastcnn.arguments import APPROXIMATIONS, as_choice, as_number
from fastcnn.layers.base import Layer


class ReLU(Layer):
    """Rectified linear unit, ``max(0, x)``; the gradient at 0 is 0, as in PyTorch.

    Examples
    --------
    >>> ReLU().output_shape((4, 28, 28))
    (4, 28, 28)
    """

    operation: ClassVar[str] = "relu"


class Sigmoid(Layer):
    """Logistic function, ``1 / (1 + exp(-x))``, computed without overflow."""

    operation: ClassVar[str] = "sigmoid"


class Tanh(Layer):
    """Hyperbolic tangent."""

    operation: ClassVar[str] = "tanh"


class _WithArguments(Layer):
    """An activation with numbers of its own, kept under the names of the backend's arguments."""

    names: ClassVar[tuple[str, ...]] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """The activation's own numbers."""
        return {name: getattr(self, name) for name in self.names}

    def extra_repr(self) -> str:
        """The arguments shown by ``repr``."""
        return ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())


class LeakyReLU(_WithArguments):
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
    names: ClassVar[tuple[str, ...]] = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = as_number("LeakyReLU", "negative_slope", negative_slope)


class ELU(_WithArguments):
    """Exponential linear unit: ``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    alpha : float

    References
    ----------
    Clevert, Unterthiner and Hochreiter, arXiv:1511.07289.
    """

    operation: ClassVar[str] = "elu"
    names: ClassVar[tuple[str, ...]] = ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = as_number("ELU", "alpha", alpha)


class GELU(_WithArguments):
    """Gaussian error linear unit, ``x * Phi(x)`` with the normal distribution function.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh" takes ``(1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2`` for ``Phi(x)``.

    References
    ----------
    Hendrycks and Gimpel, arXiv:1606.08415.
    """

    operation: ClassVar[str] = "gelu"
    names: ClassVar[tuple[str, ...]] = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = as_choice("GELU", "approximate", approximate, APPROXIMATIONS)


class SiLU(Layer):
    """Sigmoid linear unit, ``x * sigmoid(x)``, also called swish.

    References
    ----------
    Hendrycks and Gimpel, arXiv:1606.08415; Ramachandran, Zoph and Le, arXiv:1710.05941.
    """

    operation: ClassVar[str] = "silu"


class Softplus(_WithArguments):
    """``log(1 + exp(beta * x)) / beta``, a smooth ReLU.

    Parameters
    ----------
    beta : float
        Above 0; the larger, the closer to ReLU.
    threshold : float
        Where ``beta * x`` is larger, the result is ``x`` itself.

    References
    ----------
    Dugas et al., "Incorporating second-order functional knowledge for better option pricing",
    NIPS 2000.
    """

    operation: ClassVar[str] = "softplus"
    names: ClassVar[tuple[str, ...]] = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = as_number("Softplus", "beta", beta, above=0.0)
        self.threshold = as_number("Softplus", "threshold", threshold)
