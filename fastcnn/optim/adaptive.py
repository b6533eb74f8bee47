"""Optimisers with a learning rate adapted to each parameter: Adam and relatives."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastcnn.optim.base import Bounds, DecaysWeights, Slots, lerp


@dataclass(frozen=True)
class Adam(DecaysWeights):
    """Adam: the moving average of the gradients, divided by their root mean square.

    Parameters
    ----------
    lr : float
        Learning rate.
    betas : (float, float)
        Decay rates of the moving averages of the gradients and of their squares.
    eps : float
        Added to the denominator, which could otherwise be 0.
    weight_decay : float
        Coefficient of weight decay: this multiple of the weights is added to their gradient.
    decoupled_weight_decay : bool
        Whether weights are instead multiplied by ``1 - lr * weight_decay`` before the step.

    References
    ----------
    Kingma and Ba, arXiv:1412.6980, algorithm 1.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    kind: ClassVar[str] = "adam"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    bounds: ClassVar[Bounds] = {"betas": (0.0, 1.0)}

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        gradient = self.decayed(parameters, gradient, lr)
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

    Parameters
    ----------
    lr, betas, eps, weight_decay, decoupled_weight_decay
        As for :class:`Adam`.

    References
    ----------
    Loshchilov and Hutter, arXiv:1711.05101, algorithm 2.
    """

    weight_decay: float = 0.01
    decoupled_weight_decay: bool = True
    kind: ClassVar[str] = "adamw"


@dataclass(frozen=True)
class NAdam(DecaysWeights):
    """Adam with Nesterov momentum.

    The slot of ``mu_product`` holds ``1 - mu_product``, by which the formulas divide.

    Parameters
    ----------
    lr : float
        Learning rate.
    betas : (float, float)
        Decay rates of the moving averages of the gradients and of their squares.
    eps : float
        Added to the denominator, which could otherwise be 0.
    weight_decay : float
        Coefficient of weight decay: this multiple of the weights is added to their gradient.
    momentum_decay : float
        How fast the momentum rises to ``betas[0]`` with the number of steps.
    decoupled_weight_decay : bool
        Whether weights are instead multiplied by ``1 - lr * weight_decay`` before the step.

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016. The formulas are
    ``torch.optim.NAdam``'s.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False
    kind: ClassVar[str] = "nadam"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "one_minus_mu_product")
    bounds: ClassVar[Bounds] = {"betas": (0.0, 1.0), "momentum_decay": (0.0, math.inf)}

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        gradient = self.decayed(parameters, gradient, lr)
        first, second, rest = (slots[name] for name in self.slots)
        beta1, beta2 = self.betas
        mu, following = (
            beta1 * (1.0 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (step, step + 1)
        )
        product = mu * (1.0 - rest)
        rest[...] = 1.0 - product
        lerp(first, gradient, 1.0 - beta1)
        second *= beta2
        second += (1.0 - beta2) * gradient * gradient
        change = (lr * (1.0 - mu)) * gradient / (1.0 - product)
        change += (lr * following) * first / (1.0 - product * following)
        parameters -= change / (np.sqrt(second) / math.sqrt(1.0 - beta2**step) + self.eps)


@dataclass(frozen=True)
class RMSprop(DecaysWeights):
    """RMSprop: the gradient, divided by the root of a moving average of its square.

    ``s = alpha * s + (1 - alpha) * g^2``, ``p -= lr * g / (sqrt(s) + eps)``; ``centered`` uses the
    variance instead of the mean square, ``momentum`` is applied to the quotient.

    Parameters
    ----------
    lr : float
        Learning rate.
    alpha : float
        Decay rate of the moving average of the squares.
    eps : float
        Added to the denominator, which could otherwise be 0.
    weight_decay : float
        Coefficient of weight decay: this multiple of the weights is added to their gradient.
    momentum : float
        Momentum factor.
    centered : bool
        Whether to divide by the root of the variance instead of the mean square.
    decoupled_weight_decay : bool
        Whether weights are instead multiplied by ``1 - lr * weight_decay`` before the step.

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
    decoupled_weight_decay: bool = False
    kind: ClassVar[str] = "rmsprop"
    bounds: ClassVar[Bounds] = {"alpha": (0.0, 1.0), "momentum": (0.0, 1.0)}

    @property
    def slots(self) -> tuple[str, ...]:
        """The mean square, and the slots of momentum and centring."""
        momentum = ("momentum_buffer",) if self.momentum else ()
        return ("square_avg", *momentum, *(("grad_avg",) if self.centered else ()))

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        gradient = self.decayed(parameters, gradient, lr)
        square = slots["square_avg"]
        square *= self.alpha
        square += (1.0 - self.alpha) * gradient * gradient
        variance = square
        if self.centered:
            mean = slots["grad_avg"]
            lerp(mean, gradient, 1.0 - self.alpha)
            # Rounding can make a variance near zero negative.
            variance = np.maximum(square - mean * mean, 0.0)
        change = gradient / (np.sqrt(variance) + self.eps)
        if self.momentum:
            velocity = slots["momentum_buffer"]
            velocity *= self.momentum
            velocity += change
            change = velocity
        parameters -= lr * change


@dataclass(frozen=True)
class Adagrad(DecaysWeights):
    """Adagrad: the gradient, divided by the root of the sum of its squares so far.

    The slot holds the sum without ``initial_accumulator_value``, which the formula adds.

    Parameters
    ----------
    lr : float
        Learning rate.
    lr_decay : float
        The learning rate is divided by ``1 + lr_decay * n`` after ``n`` steps.
    weight_decay : float
        Coefficient of weight decay: this multiple of the weights is added to their gradient.
    initial_accumulator_value : float
        The sum of squares before the first step.
    eps : float
        Added to the denominator, which could otherwise be 0.
    decoupled_weight_decay : bool
        Whether weights are instead multiplied by ``1 - lr * weight_decay`` before the step.

    References
    ----------
    Duchi, Hazan and Singer, JMLR 12 (2011). The formulas are ``torch.optim.Adagrad``'s.
    """

    lr: float = 0.01
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    decoupled_weight_decay: bool = False
    kind: ClassVar[str] = "adagrad"
    slots: ClassVar[tuple[str, ...]] = ("sum",)
    bounds: ClassVar[Bounds] = {
        "lr_decay": (0.0, math.inf),
        "initial_accumulator_value": (0.0, math.inf),
    }

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        gradient = self.decayed(parameters, gradient, lr)
        total = slots["sum"]
        total += gradient * gradient
        rate = lr / (1.0 + (step - 1) * self.lr_decay)
        parameters -= rate * gradient / (np.sqrt(total + self.initial_accumulator_value) + self.eps)


@dataclass(frozen=True)
class Adadelta(DecaysWeights):
    """Adadelta: steps in the units of the parameters, from the root mean square of past steps.

    Parameters
    ----------
    lr : float
        Learning rate.
    rho : float
        Decay rate of the moving averages of squares.
    eps : float
        Added to the squares under both roots.
    weight_decay : float
        Coefficient of weight decay: this multiple of the weights is added to their gradient.
    decoupled_weight_decay : bool
        Whether weights are instead multiplied by ``1 - lr * weight_decay`` before the step.

    References
    ----------
    Zeiler, arXiv:1212.5701, algorithm 1. The formulas are ``torch.optim.Adadelta``'s.
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    kind: ClassVar[str] = "adadelta"
    slots: ClassVar[tuple[str, ...]] = ("square_avg", "acc_delta")
    bounds: ClassVar[Bounds] = {"rho": (0.0, 1.0)}

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step, in place."""
        gradient = self.decayed(parameters, gradient, lr)
        square, steps = slots["square_avg"], slots["acc_delta"]
        square *= self.rho
        square += (1.0 - self.rho) * gradient * gradient
        change = np.sqrt(steps + self.eps) / np.sqrt(square + self.eps) * gradient
        steps *= self.rho
        steps += (1.0 - self.rho) * change * change
        parameters -= lr * change
