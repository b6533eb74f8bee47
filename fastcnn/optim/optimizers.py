"""Optimisers: descriptions with PyTorch's arguments and formulas, updating flat arrays in place."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Protocol

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.named import Named

Slots = dict[str, np.ndarray]


class Optimizer(Protocol):
    """What training needs of an optimiser.

    Attributes
    ----------
    lr : float
        The base learning rate, which a schedule scales.
    slots : tuple of str
        Names of the arrays, each as long as the parameters, that carry its state.
    """

    @property
    def lr(self) -> float:
        """The base learning rate."""
        ...

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays."""
        ...

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """Change ``parameters`` and ``slots`` in place; ``step`` counts from 1."""
        ...


def _check(owner: str, **values: tuple[float, float, float]) -> None:
    for name, (value, low, high) in values.items():
        if not isinstance(value, Real):
            raise ConfigurationError(f"{owner}: {name} must be a number, got {value!r}")
        if not low <= value < high:
            raise ConfigurationError(
                f"{owner}: {name} must be at least {low} and below {high}, got {value!r}"
            )


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    ``v = momentum * v + g`` (``v = g`` at the first step), ``p -= lr * v``; with ``nesterov``,
    ``p -= lr * (g + momentum * v)``. ``weight_decay * p`` is added to the gradient first.

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning",
    ICML 2013; the form without dampening is ``torch.optim.SGD``'s.
    """

    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    kind: ClassVar[str] = "sgd"

    def __post_init__(self) -> None:
        _check(
            "SGD",
            lr=(self.lr, 0.0, math.inf),
            momentum=(self.momentum, 0.0, 1.0),
            weight_decay=(self.weight_decay, 0.0, math.inf),
        )
        if self.nesterov and self.momentum == 0.0:
            raise ConfigurationError("SGD: nesterov needs a momentum above 0")

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("momentum_buffer",) if self.momentum else ()

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameters
        if self.momentum:
            velocity = slots["momentum_buffer"]
            velocity *= self.momentum
            velocity += gradient
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        parameters -= lr * gradient


@dataclass(frozen=True)
class Adam:
    """Adam; ``weight_decay * p`` is added to the gradient (L2 regularisation).

    References
    ----------
    Kingma and Ba, arXiv:1412.6980, algorithm 1.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    kind: ClassVar[str] = "adam"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def __post_init__(self) -> None:
        _check(
            type(self).__name__,
            lr=(self.lr, 0.0, math.inf),
            eps=(self.eps, 0.0, math.inf),
            weight_decay=(self.weight_decay, 0.0, math.inf),
            **{f"betas[{i}]": (beta, 0.0, 1.0) for i, beta in enumerate(self.betas)},
        )

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameters
        self._step(parameters, gradient, slots, lr, step)

    def _step(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        first, second = slots["exp_avg"], slots["exp_avg_sq"]
        beta1, beta2 = self.betas
        lerp(first, gradient, 1.0 - beta1)
        second *= beta2
        second += (1.0 - beta2) * gradient * gradient
        denominator = np.sqrt(second) / math.sqrt(1.0 - beta2**step) + self.eps
        parameters -= (lr / (1.0 - beta1**step)) * first / denominator


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: ``p *= 1 - lr * weight_decay`` before the step.

    References
    ----------
    Loshchilov and Hutter, arXiv:1711.05101, algorithm 2.
    """

    weight_decay: float = 0.01
    kind: ClassVar[str] = "adamw"

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        parameters *= 1.0 - lr * self.weight_decay
        self._step(parameters, gradient, slots, lr, step)


@dataclass(frozen=True)
class RMSprop:
    """RMSprop: the gradient over the root of its mean square, a moving average.

    ``s = alpha * s + (1 - alpha) * g^2``, ``p -= lr * g / (sqrt(s) + eps)``; ``centered`` takes the
    variance instead of the mean square, ``momentum`` smooths the quotient.
    ``weight_decay * p`` is added to the gradient first.

    References
    ----------
    Tieleman and Hinton, Coursera "Neural networks for machine learning", lecture 6.5; Graves,
    arXiv:1308.0850, equation 38, for the centred form. The formulas are ``torch.optim.RMSprop``'s.
    """

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    kind: ClassVar[str] = "rmsprop"

    def __post_init__(self) -> None:
        _check(
            "RMSprop",
            lr=(self.lr, 0.0, math.inf),
            alpha=(self.alpha, 0.0, 1.0),
            eps=(self.eps, 0.0, math.inf),
            weight_decay=(self.weight_decay, 0.0, math.inf),
            momentum=(self.momentum, 0.0, 1.0),
        )

    @property
    def slots(self) -> tuple[str, ...]:
        """The mean square, and what momentum and centring need."""
        momentum = ("momentum_buffer",) if self.momentum else ()
        return ("square_avg", *momentum, *(("grad_avg",) if self.centered else ()))

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameters
        square = slots["square_avg"]
        square *= self.alpha
        square += (1.0 - self.alpha) * gradient * gradient
        variance = square
        if self.centered:
            mean = slots["grad_avg"]
            lerp(mean, gradient, 1.0 - self.alpha)
            # Rounding can leave a variance of nearly zero below it.
            variance = np.maximum(square - mean * mean, 0.0)
        change = gradient / (np.sqrt(variance) + self.eps)
        if self.momentum:
            velocity = slots["momentum_buffer"]
            velocity *= self.momentum
            velocity += change
            change = velocity
        parameters -= lr * change


OPTIMIZERS: dict[str, Any] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}

NAMED = Named(
    "optimizer",
    OPTIMIZERS,
    ("lr", "slots", "update()"),
    "SGD(lr=0.1)",
    defaults={"sgd": {"lr": 0.02, "momentum": 0.9}, "rmsprop": {"lr": 1e-3}},
)


def as_optimizer(optimizer: Any, **numbers: Any) -> Optimizer:
    """An optimiser that is given by its name, or as an object.

    Parameters
    ----------
    optimizer : str or Optimizer
    **numbers
        Arguments of an optimiser that is given by name (``lr``, ``momentum``, ...). By default
        SGD takes a rate of 0.02 and a momentum of 0.9, RMSprop a rate of 0.001, the others their
        own.

    Raises
    ------
    ConfigurationError
        If it is neither, or a number has no effect with it.
    """
    return NAMED.get(optimizer, **numbers)


def lerp(start: np.ndarray, end: np.ndarray, weight: float) -> None:
    """Move ``start`` in place towards ``end`` by ``weight`` of the way, as ``torch.lerp`` does.

    From the nearer end, so that nothing cancels: with a weight of 1 the result is ``end`` itself.
    """
    if weight < 0.5:
        start += weight * (end - start)
    else:
        start[...] = end - (1.0 - weight) * (end - start)


def clip_gradient_norm(gradient: np.ndarray, max_norm: float | None) -> float:
    """Scale a gradient in place so that its Euclidean norm is at most ``max_norm``.

    A gradient that is not finite stays as it is: no factor makes it finite.

    Returns
    -------
    float
        The norm before, summed in float64.

    References
    ----------
    Pascanu, Mikolov and Bengio, arXiv:1211.5063, section 3.2.
    """
    with np.errstate(over="ignore"):
        norm = math.sqrt(float(np.sum(np.square(gradient, dtype=np.float64))))
    if math.isinf(norm):  # perhaps of the squares alone
        largest = float(np.abs(gradient).max())
        if math.isfinite(largest):
            scaled = gradient / largest
            norm = largest * math.sqrt(float(np.sum(np.square(scaled, dtype=np.float64))))
    if max_norm is not None and max_norm < norm < math.inf:
        gradient *= max_norm / norm
    return norm
