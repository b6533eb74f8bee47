"""The interface of optimisers, and their base class."""

import math
import sys
from dataclasses import fields
from typing import Any, ClassVar, Protocol

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.scalars import is_number, make_plain

Slots = dict[str, np.ndarray]
#: For each setting its smallest value, and the exclusive upper bound.
Bounds = dict[str, tuple[float, float]]


class Optimizer(Protocol):
    """The interface that training requires of an optimiser."""

    @property
    def lr(self) -> float:
        """The base learning rate, scaled by a schedule."""
        ...

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays, each as long as the parameters."""
        ...

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Slots, lr: float, step: int
    ) -> None:
        """Update ``parameters`` and ``slots`` in place; ``step`` counts from 1.

        Parameters
        ----------
        parameters, gradient : ndarray
            They have the same shape.
        slots : dict of str to ndarray
            The optimiser's state, arrays in the shape of the parameters.
        lr : float
            Learning rate of the step.
        step : int
            Number of the step, from 1.
        """
        ...


class DecaysWeights:
    """Base of the package's optimisers.

    ``weight_decay * p`` is added to the gradient (L2 regularisation); with
    ``decoupled_weight_decay`` the parameters are multiplied by ``1 - lr * weight_decay`` before
    the step instead.
    """

    lr: float
    weight_decay: float
    decoupled_weight_decay: bool
    #: Bounds of settings other than ``lr``, ``weight_decay`` and ``eps``, which are at least 0.
    bounds: ClassVar[Bounds] = {}

    def __post_init__(self) -> None:
        make_plain(self)
        owner, settings = type(self).__name__, fields(self)  # type: ignore[arg-type]
        positive = {"lr", "weight_decay", "eps"} & {each.name for each in settings}
        check_bounds(self, **dict.fromkeys(sorted(positive), (0.0, math.inf)) | self.bounds)
        for each in settings:
            value = getattr(self, each.name)
            if type(each.default) is bool and type(value) is not bool:
                raise ConfigurationError(
                    f"{owner}: {each.name} must be True or False, got {value!r}"
                )

    def decayed(self, parameters: np.ndarray, gradient: np.ndarray, lr: float) -> np.ndarray:
        """The gradient, with weight decay added unless decoupled, which scales the parameters."""
        if not self.weight_decay:
            return gradient
        if self.decoupled_weight_decay:
            parameters *= 1.0 - lr * self.weight_decay
            return gradient
        return gradient + self.weight_decay * parameters


def check_bounds(settings: Any, **bounds: tuple[float, float]) -> None:
    """Refuse settings of a dataclass outside [low, high)."""
    owner = type(settings).__name__
    defaults = {each.name: each.default for each in fields(settings)}
    for name, (low, high) in bounds.items():
        given, default = getattr(settings, name), defaults[name]
        several = isinstance(default, tuple)
        if isinstance(default, tuple) and not (
            isinstance(given, (tuple, list)) and len(given) == len(default)
        ):
            raise ConfigurationError(
                f"{owner}: {name} must be {len(default)} numbers, got {given!r}"
            )
        for index, value in enumerate(given if several else [given]):
            place = f"{name}[{index}]" if several else name
            if not is_number(value):
                raise ConfigurationError(f"{owner}: {place} must be a number, got {value!r}")
            if not low <= value < high or value > sys.float_info.max:
                most = f" and below {high:g}" if high < math.inf or value >= low else ""
                raise ConfigurationError(
                    f"{owner}: {place} must be at least {low:g}{most}, got {value!r}"
                )


def lerp(start: np.ndarray, end: np.ndarray, weight: float) -> None:
    """Move ``start`` in place towards ``end`` by ``weight`` of the way, as ``torch.lerp`` does.

    Computed from the nearer end, to avoid cancellation: with a weight of 1 the result is exactly
    ``end``.
    """
    if weight < 0.5:
        start += weight * (end - start)
    else:
        start[...] = end - (1.0 - weight) * (end - start)
