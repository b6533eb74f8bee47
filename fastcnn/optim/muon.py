"""Muon: orthogonalised momentum."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.optim.adaptive import AdamW
from fastcnn.optim.base import Bounds, DecaysWeights, Optimizer, Slots

#: Adjustments of the learning rate to a matrix's shape, named as in ``torch.optim.Muon``.
ADJUSTMENTS = ("original", "match_rms_adamw", "none")


@dataclass(frozen=True)
class Muon(DecaysWeights):
    """Muon: a step along the orthogonalised momentum, with all singular values near 1.

    It updates the weights of convolutions, as matrices of shape (out, in * height * width), and of
    linear layers; parameters of one dimension, such as biases, are updated by ``others``. A
    network's last layer is often left to another optimiser, by a parameter group.

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float
        Momentum factor.
    weight_decay : float
        Coefficient of weight decay: this multiple of the weights is added to their gradient.
    nesterov : bool
        Whether to use Nesterov momentum.
    ns_coefficients : tuple of float
        ``(a, b, c)`` of the Newton-Schulz iterations.
    ns_steps : int
        Number of the iterations ``X = a X + (b X X' + c (X X')^2) X``.
    eps : float
        Least norm by which a matrix is divided.
    adjust_lr_fn : {"original", "match_rms_adamw", "none"}
        Multiply the rate by ``sqrt(max(1, rows / columns))``, by ``0.2 sqrt(max(rows, columns))``,
        or not.
    normalize_weight : bool
        Scale each weight to the norm ``sqrt(out)`` before its step.
    decoupled_weight_decay : bool
        Whether weights are instead multiplied by ``1 - lr * weight_decay`` before the step.
    others : Optimizer
        Optimiser of the other parameters. The schedule scales its learning rate by the same factor.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. The formulas
    are ``torch.optim.Muon``'s, in float32; ``normalize_weight`` is from the CIFAR-10 speed record
    of the same author (cifar10-airbench).
    """

    lr: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.0
    nesterov: bool = True
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    ns_steps: int = 5
    eps: float = 1e-7
    adjust_lr_fn: str = "original"
    normalize_weight: bool = False
    decoupled_weight_decay: bool = True
    others: Optimizer = field(default_factory=lambda: AdamW(lr=1e-3))
    kind: ClassVar[str] = "muon"
    slots: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    bounds: ClassVar[Bounds] = {
        "momentum": (0.0, 1.0),
        "ns_steps": (0, 100),
        "ns_coefficients": (-math.inf, math.inf),
    }
    #: An update needs a whole parameter in its shape.
    of_matrices: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.ns_steps, int):
            raise ConfigurationError(f"Muon: ns_steps must be an integer, got {self.ns_steps!r}")
        if not isinstance(self.adjust_lr_fn, str) or self.adjust_lr_fn not in ADJUSTMENTS:
            raise ConfigurationError(
                f"Muon: adjust_lr_fn must be one of {', '.join(ADJUSTMENTS)}, got "
                f"{self.adjust_lr_fn!r}"
            )
        if not hasattr(self.others, "update") or getattr(self.others, "of_matrices", False):
            raise ConfigurationError(
                f"Muon: others must be an element-wise optimiser, got {self.others!r}"
            )

    def ratio(self, rows: int, columns: int) -> float:
        """Factor of the learning rate of a matrix.

        Parameters
        ----------
        rows, columns : int
            Sizes of the matrix.
        """
        if self.adjust_lr_fn == "original":
            return math.sqrt(max(1.0, rows / columns))
        if self.adjust_lr_fn == "match_rms_adamw":
            return 0.2 * math.sqrt(max(rows, columns))
        return 1.0

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """One step of a parameter of two or more dimensions, in place."""
        rows = len(parameters)
        before = math.sqrt(float(np.sum(np.square(parameters, dtype=np.float64))))
        if self.weight_decay and not self.decoupled_weight_decay:
            gradient = gradient + self.weight_decay * parameters
        velocity = slots["momentum_buffer"]
        velocity *= self.momentum
        velocity += gradient
        along = gradient + self.momentum * velocity if self.nesterov else velocity
        change = orthogonalised(
            along.reshape(rows, -1), self.ns_steps, self.ns_coefficients, self.eps
        )
        keep = 1.0
        if self.weight_decay and self.decoupled_weight_decay:
            keep -= lr * self.weight_decay
        if self.normalize_weight:
            keep *= math.sqrt(rows) / max(before, self.eps)
        parameters *= keep
        parameters -= (lr * self.ratio(*change.shape)) * change.reshape(parameters.shape)


def orthogonalised(
    matrix: np.ndarray, steps: int, coefficients: tuple[float, float, float], eps: float
) -> np.ndarray:
    """Orthogonalise a matrix by Newton-Schulz iterations: singular values near 1."""
    a, b, c = coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / max(math.sqrt(float(np.sum(np.square(x, dtype=np.float64)))), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
