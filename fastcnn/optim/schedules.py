"""Learning rate schedules: the rate of each training step, counted from 0."""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.named import Named
from fastcnn.optim.base import check_bounds
from fastcnn.scalars import MOST_COUNT, is_number, make_plain, plain


class Schedule(Protocol):
    """Computes the learning rate of each step."""

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        """Rate of step ``step`` of ``total_steps``.

        Parameters
        ----------
        step, total_steps : int
            Number of the step, from 0, and of all steps of the training.
        steps_per_epoch : int
        base_lr : float
            The rate without a schedule.
        """
        ...


@dataclass(frozen=True)
class Constant:
    """The base rate throughout."""

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        """The base rate."""
        return base_lr


@dataclass(frozen=True)
class StepDecay:
    """Multiply the rate by ``gamma`` every ``every_epochs`` epochs.

    Parameters
    ----------
    every_epochs : int
        Number of epochs between reductions.
    gamma : float
        Above 0, at most 1.
    """

    every_epochs: int = 1
    gamma: float = 0.7

    def __post_init__(self) -> None:
        make_plain(self)
        check_bounds(self, gamma=(0.0, math.inf))
        if not _is_count(self.every_epochs, 1) or not 0.0 < self.gamma <= 1.0:
            raise ConfigurationError(
                f"StepDecay: every_epochs must be an integer >= 1 and gamma in (0, 1], got {self}"
            )

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        """``base_lr * gamma ** (epoch // every_epochs)``."""
        return base_lr * self.gamma ** (step // steps_per_epoch // self.every_epochs)


@dataclass(frozen=True)
class MultiStep:
    """Multiply the rate by ``gamma`` after each of some epochs, as ``MultiStepLR`` does.

    Parameters
    ----------
    milestones : tuple of int
        Numbers of epochs after which the rate is reduced, each at least 1.
    gamma : float
        Above 0, at most 1.
    """

    milestones: tuple[int, ...] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        make_plain(self)
        check_bounds(self, gamma=(0.0, math.inf))
        several = isinstance(self.milestones, (tuple, list))
        whole = several and all(_is_count(epoch, 1) for epoch in self.milestones)
        if not whole or not self.milestones or not 0.0 < self.gamma <= 1.0:
            raise ConfigurationError(
                "MultiStep: milestones must be numbers of epochs of at least 1 and gamma in "
                f"(0, 1], got {self}"
            )

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        """``base_lr * gamma ** (milestones passed)``."""
        passed = sum(step // steps_per_epoch >= epoch for epoch in self.milestones)
        return base_lr * self.gamma**passed


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the base rate to ``min_factor`` times it.

    Parameters
    ----------
    min_factor : float
        Final rate, relative to the base rate.

    References
    ----------
    Loshchilov and Hutter, arXiv:1608.03983, equation 5, without restarts.
    """

    min_factor: float = 0.0

    def __post_init__(self) -> None:
        make_plain(self)
        check_bounds(self, min_factor=(0.0, math.inf))

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        """The annealed rate."""
        return _anneal(base_lr, base_lr * self.min_factor, step / max(1, total_steps))


def _check_rise(schedule: Any) -> None:
    """Check the settings of a schedule that rises and falls."""
    make_plain(schedule)
    any_factor = (0.0, math.inf)
    check_bounds(
        schedule, warmup_fraction=(0.0, 1.0), initial_factor=any_factor, final_factor=any_factor
    )


@dataclass(frozen=True)
class OneCycle:
    """Rise from ``initial_factor`` to the base rate, then fall to ``final_factor`` of the start.

    The formulas are those of ``torch.optim.lr_scheduler.OneCycleLR`` with cosine annealing, where
    ``initial_factor = 1 / div_factor`` and ``final_factor = 1 / final_div_factor``.

    Parameters
    ----------
    warmup_fraction : float
        Fraction of all steps in which the rate rises.
    initial_factor : float
        Initial rate, relative to the base rate.
    final_factor : float
        Final rate, relative to the initial rate.

    References
    ----------
    Smith and Topin, arXiv:1708.07120.
    """

    warmup_fraction: float = 0.3
    initial_factor: float = 1 / 25
    final_factor: float = 1e-4

    def __post_init__(self) -> None:
        _check_rise(self)
        if self.warmup_fraction == 0.0:
            raise ConfigurationError(
                f"OneCycle: warmup_fraction must lie between 0 and 1, got {self.warmup_fraction}"
            )

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        """The rate in its rise or fall."""
        initial = base_lr * self.initial_factor
        peak = self.warmup_fraction * total_steps - 1.0
        if step <= peak:
            return _anneal(initial, base_lr, step / max(peak, 1e-12))
        share = (step - peak) / max(total_steps - 1.0 - peak, 1e-12)
        return _anneal(base_lr, initial * self.final_factor, share)


@dataclass(frozen=True)
class Triangular:
    """Rise linearly from ``initial_factor`` to the base rate, then fall to ``final_factor``.

    The rise takes ``warmup_fraction`` of the steps, rounded down; if that is 0, the rate falls from
    the first step on.

    Parameters
    ----------
    warmup_fraction : float
        Fraction of all steps in which the rate rises.
    initial_factor, final_factor : float
        Initial and final rate, relative to the base rate.

    References
    ----------
    Jordan, arXiv:2404.00498: ``Triangular(0.23, 0.2, 0.07)`` is that of airbench94.
    """

    warmup_fraction: float = 0.23
    initial_factor: float = 0.2
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        _check_rise(self)

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        """The rate in its rise or fall."""
        rise = int(total_steps * self.warmup_fraction)
        if step < rise:
            share, start, end = step / rise, self.initial_factor, 1.0
        else:
            share, start, end = (step - rise) / max(1, total_steps - rise), 1.0, self.final_factor
        return base_lr * (start + (end - start) * min(1.0, share))


@dataclass(frozen=True)
class Warmup:
    """Rise linearly over the first ``steps`` steps, then follow another schedule.

    Parameters
    ----------
    steps : int
        Number of steps of the rise.
    then : Schedule
        Schedule of the rate, scaled down during the rise; by default constant.
    """

    steps: int
    then: Schedule = field(default_factory=Constant)

    def __post_init__(self) -> None:
        make_plain(self)
        if not _is_count(self.steps, 0):
            raise ConfigurationError(f"Warmup: steps must be an integer >= 0, got {self.steps!r}")
        object.__setattr__(self, "then", NAMED.get(self.then))

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        """The warm-up rate, or that of the schedule after it."""
        rate = self.then.lr(step, total_steps, steps_per_epoch, base_lr)
        return rate * min(1.0, (step + 1) / (self.steps + 1))


def learning_rates(
    schedule: Schedule,
    base_lr: float,
    first_step: int,
    count: int,
    total_steps: int,
    steps_per_epoch: int,
) -> np.ndarray:
    """Rates of ``count`` consecutive steps as a float64 array.

    Parameters
    ----------
    schedule : Schedule, or its name
    base_lr : float
    first_step, count : int
        First step, counted from 0, and number of steps.
    total_steps, steps_per_epoch : int
        Number of steps in the whole run, and per epoch.

    Raises
    ------
    ConfigurationError
        If the schedule is not one or gives an invalid rate, or an argument is invalid.
    """
    schedule, base_lr = NAMED.get(schedule), plain(base_lr)
    if not is_number(base_lr):
        raise ConfigurationError(f"learning_rates: base_lr must be a number, got {base_lr!r}")
    counts = {
        "first_step": (first_step, 0),
        "count": (count, 0),
        "total_steps": (total_steps, 0),
        "steps_per_epoch": (steps_per_epoch, 1),
    }
    for name, (value, least) in counts.items():
        if not _is_count(plain(value), least) or value > MOST_COUNT:
            raise ConfigurationError(
                f"learning_rates: {name} must be an integer from {least} to {MOST_COUNT:,}, got "
                f"{value!r}"
            )
    rates = np.empty(count)
    for place, step in enumerate(range(first_step, first_step + count)):
        rate = plain(schedule.lr(step, total_steps, steps_per_epoch, base_lr))
        if not is_number(rate) or not 0.0 <= rate < math.inf:
            raise ConfigurationError(
                f"the schedule {schedule!r} gives a learning rate of {rate!r} at step {step}: it "
                "must be a finite number of at least 0"
            )
        rates[place] = rate
    return rates


SCHEDULES: dict[str, Any] = {
    "constant": Constant,
    "step": StepDecay,
    "cosine": Cosine,
    "one-cycle": OneCycle,
    "triangular": Triangular,
}


NAMED = Named(
    "schedule", SCHEDULES, ("lr()",), "Cosine()", around={"warmup": Warmup, "multi-step": MultiStep}
)


def as_schedule(schedule: Any, warmup_steps: int = 0, **numbers: Any) -> Schedule:
    """A schedule given by name or as an object, after a linear warm-up.

    Parameters
    ----------
    schedule : str or Schedule
    warmup_steps : int
        Steps of the warm-up; 0 for none.
    **numbers
        Arguments of a schedule given by name.

    Raises
    ------
    ConfigurationError
        If it is neither, or an argument has no effect with it.
    """
    made = NAMED.get(schedule, **numbers)
    return Warmup(warmup_steps, made) if warmup_steps else made


def _is_count(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
