"""Optimisers by name: descriptions with PyTorch's arguments and formulas, updating in place."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.named import Named
from fastcnn.optim.adaptive import Adadelta, Adagrad, Adam, AdamW, NAdam, RMSprop
from fastcnn.optim.base import Bounds, DecaysWeights, Optimizer, Slots, lerp
from fastcnn.optim.muon import Muon
from fastcnn.scalars import is_number, plain


@dataclass(frozen=True)
class SGD(DecaysWeights):
    """Stochastic gradient descent with momentum.

    ``v = momentum * v + g`` (``v = g`` at the first step), ``p -= lr * v``; with ``nesterov``,
    ``p -= lr * (g + momentum * v)``.

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float
        Momentum factor.
    weight_decay : float
        Coefficient of weight decay: this multiple of the weights is added to their gradient.
    nesterov : bool
        Whether to use Nesterov momentum; needs a momentum above 0.
    decoupled_weight_decay : bool
        Whether weights are instead multiplied by ``1 - lr * weight_decay`` before the step.

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning",
    ICML 2013; the form without dampening is ``torch.optim.SGD``'s.
    """

    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    decoupled_weight_decay: bool = False
    kind: ClassVar[str] = "sgd"
    bounds: ClassVar[Bounds] = {"momentum": (0.0, 1.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0.0:
            raise ConfigurationError("SGD: nesterov needs a momentum above 0")

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity, if there is momentum."""
        return ("momentum_buffer",) if self.momentum else ()

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        gradient = self.decayed(parameters, gradient, lr)
        if self.momentum:
            velocity = slots["momentum_buffer"]
            velocity *= self.momentum
            velocity += gradient
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        parameters -= lr * gradient


@dataclass(frozen=True)
class Lion(DecaysWeights):
    """Lion: a step of fixed size along the sign of averaged gradients; decoupled weight decay.

    Its learning rate is typically 3 to 10 times smaller than Adam's, its weight decay as much
    larger.

    Parameters
    ----------
    lr : float
        Learning rate.
    betas : (float, float)
        Decay rates of the moving average of gradients: in the direction of this step, and in what
        is kept for the next.
    weight_decay : float
        Coefficient of weight decay.
    decoupled_weight_decay : bool
        Whether weights are multiplied by ``1 - lr * weight_decay`` before the step, instead of
        adding ``weight_decay`` times the weights to their gradient.

    References
    ----------
    Chen et al., arXiv:2302.06675, algorithm 2.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = True
    kind: ClassVar[str] = "lion"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg",)
    bounds: ClassVar[Bounds] = {"betas": (0.0, 1.0)}

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        gradient = self.decayed(parameters, gradient, lr)
        mean = slots["exp_avg"]
        direction = mean.copy()
        lerp(direction, gradient, 1.0 - self.betas[0])
        lerp(mean, gradient, 1.0 - self.betas[1])
        parameters -= lr * np.sign(direction)


OPTIMIZERS: dict[str, Any] = {
    kind.kind: kind for kind in (SGD, Adam, AdamW, NAdam, RMSprop, Adagrad, Adadelta, Lion, Muon)
}

NAMED = Named(
    "optimizer",
    OPTIMIZERS,
    ("lr", "slots", "update()"),
    "SGD(lr=0.1)",
    defaults={"sgd": {"lr": 0.02, "momentum": 0.9}, "rmsprop": {"lr": 1e-3}},
)


def as_optimizer(optimizer: Any, **numbers: Any) -> Optimizer:
    """An optimiser given by name, or as an object.

    Parameters
    ----------
    optimizer : str or Optimizer
    **numbers
        Arguments of an optimiser given by name (``lr``, ``momentum``, ...). By default SGD has a
        learning rate of 0.02 and a momentum of 0.9, RMSprop a learning rate of 0.001, and the
        others their own defaults.

    Raises
    ------
    ConfigurationError
        If it is neither, or an argument has no effect with it.
    """
    return NAMED.get(optimizer, **numbers)


#: Number of elements squared at a time.
SQUARES = 1 << 14


def _square_sum(x: np.ndarray) -> float:
    parts = (x[start : start + SQUARES] for start in range(0, x.size, SQUARES))
    return float(sum(np.sum(np.square(part, dtype=np.float64)) for part in parts))


def clip_gradient_norm(gradient: np.ndarray, max_norm: float | None) -> float:
    """Scale a gradient in place so that its Euclidean norm is at most ``max_norm``.

    A gradient that is not finite is left unchanged: no factor makes it finite.

    Parameters
    ----------
    gradient : ndarray of floating-point numbers
    max_norm : float or None
        A number above 0; None to only compute the norm.

    Returns
    -------
    float
        The norm before clipping, accumulated in float64.

    Raises
    ------
    ConfigurationError
        If the gradient or the norm is of another kind.

    References
    ----------
    Pascanu, Mikolov and Bengio, arXiv:1211.5063, section 3.2.
    """
    is_array = isinstance(gradient, np.ndarray) and gradient.dtype.kind == "f" and gradient.ndim
    if not is_array:
        raise ConfigurationError(
            "clip_gradient_norm: gradient must be an array of floating-point numbers, got "
            f"{gradient!r}"
        )
    number = plain(max_norm)
    if number is not None and not (is_number(number) and number > 0.0):
        raise ConfigurationError(
            f"clip_gradient_norm: max_norm must be a number above 0 or None, got {max_norm!r}"
        )
    with np.errstate(over="ignore"):
        norm = math.sqrt(_square_sum(gradient))
    if math.isinf(norm):  # perhaps only the squares overflowed
        largest = float(np.abs(gradient).max())
        if math.isfinite(largest):
            scaled = gradient / largest
            norm = largest * math.sqrt(_square_sum(scaled))
    if number is not None and number < norm < math.inf:
        gradient *= number / norm
    return norm
