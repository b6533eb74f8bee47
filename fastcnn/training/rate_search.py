"""The search for a learning rate: steps with a growing rate, and their losses."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastcnn.arguments import as_number
from fastcnn.errors import ConfigurationError, NonFiniteError
from fastcnn.notebook import brief
from fastcnn.scalars import plain
from fastcnn.training.callbacks import Callback, Steps, TrainingStart
from fastcnn.training.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure
from fastcnn.training.history import History

log = logging.getLogger("fastcnn.training")
#: Rates of the first and the last step, and the number of steps.
LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 100
#: Weight of the past in the smoothed loss.
SMOOTHING = 0.9
#: The search ends when the smoothed loss is this many times its minimum.
DIVERGED = 4.0
#: The minimum must be below this fraction of the first losses.
LEAST_FALL = 0.95
#: The suggestion is this many times smaller than the rate at which the loss has completed this
#: fraction of its decrease and is about to grow.
BELOW, FALL = 10.0, 0.95
#: A loss that still decreases after this fraction of the steps would decrease further.
STILL = 0.9
#: Smallest number of steps for a meaningful curve.
LEAST_STEPS = 20
#: Options of a training run that do not apply to a search, or that it sets itself.
DECIDED = (
    *("lr", "epochs", "schedule", "warmup_steps", "early_stopping", "reduce_on_plateau"),
    *("callbacks", "out", "resume", "world", "verbose"),
    *("average_every", "ordered_reduction", "ema_decay", "swa_start", "max_steps"),
    *("metrics", "monitor", "diagnose"),
)


@dataclass(frozen=True)
class RateSearch:
    """Results of :func:`fastcnn.lr_find`.

    Attributes
    ----------
    rates, losses, smoothed : ndarray of float64, shape (steps,)
        The learning rate of each step, its loss, and the exponential moving average of the losses.
        After the last step, the loss had grown too much.
    suggestion : float
        A tenth of the rate at which the smoothed loss has completed 95 % of its decrease.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float

    __repr__ = brief

    def __str__(self) -> str:
        return (
            f"learning rate {self.suggestion:.2g}: a tenth of the rate at which the loss had "
            f"almost stopped falling; {len(self.rates)} steps with rates from "
            f"{self.rates[0]:.2g} to {self.rates[-1]:.2g}"
        )

    def figure(self) -> Any:
        """The loss against the rate, with the suggestion, as a matplotlib figure."""
        figure = new_figure(6.4, 4.0)
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color=TRAIN_COLOUR, alpha=0.3, linewidth=0.8)
        axes.plot(self.rates, self.smoothed, color=TRAIN_COLOUR, label="loss, smoothed")
        axes.axvline(self.suggestion, color=TEST_COLOUR, label=f"{self.suggestion:.2g}")
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss")
        low, first = float(self.smoothed.min()), float(self.smoothed[0])
        axes.set_ylim(low - 0.1 * abs(first - low), first + 0.6 * abs(first - low))
        axes.legend(frameon=False)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        return figure


@dataclass(frozen=True)
class Growing:
    """A schedule of geometric growth, independent of the optimiser's learning rate."""

    lowest: float
    highest: float
    steps: int

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        """The rate of a step."""
        share = min(1.0, step / max(1, self.steps - 1))
        return float(self.lowest * (self.highest / self.lowest) ** share)


class _Enough(Exception):
    """Raised to end the search."""


class _Watcher(Callback):
    """Ends a run after a number of steps, or when its loss has grown."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.history = History()

    def on_train_begin(self, start: TrainingStart) -> None:
        self.history = start.history

    def on_steps(self, steps: Steps) -> None:
        mean = smoothed([record["loss"] for record in self.history.steps])
        if steps.step >= self.steps or _has_grown(mean).any():
            raise _Enough


def search(train_once: Callable[..., Any], lowest: float, highest: float, steps: int) -> RateSearch:
    """Train with a growing rate, and locate the minimum of the loss.

    ``train_once`` is ``fit`` bound to model and data. Raises ConfigurationError if the bounds are
    invalid, or the loss decreases at no rate, or still at the highest.
    """
    lowest = as_number("lr_find", "lowest", lowest)
    highest = as_number("lr_find", "highest", highest)
    if not 0.0 < lowest < highest:
        raise ConfigurationError(
            f"lr_find needs 0 < lowest < highest, got lowest={lowest} and highest={highest}"
        )
    steps = plain(steps)
    if type(steps) is not int or steps < LEAST_STEPS:
        raise ConfigurationError(f"lr_find needs at least {LEAST_STEPS} steps, got {steps!r}")
    watcher = _Watcher(steps)
    with suppress(_Enough, NonFiniteError):
        train_once(epochs=steps, schedule=Growing(lowest, highest, steps), callbacks=[watcher])
    records = watcher.history.steps[:steps]
    losses = np.array([record["loss"] for record in records])
    mean = smoothed(losses)
    grown = np.flatnonzero(_has_grown(mean))
    count = int(grown[0]) + 1 if len(grown) else len(mean)
    rates = np.array([record["lr"] for record in records[:count]])
    losses, mean = losses[:count], mean[:count]
    if not len(mean) or mean.min() > LEAST_FALL * mean[: steps // 10].max():
        raise ConfigurationError(
            f"lr_find: the loss falls at no learning rate from {lowest:g} to {highest:g}: give "
            "other bounds, or check the data and their labels"
        )
    # On easy data the loss is small long before the rate is too large.
    enough = mean.min() + (1.0 - FALL) * (mean[: steps // 10].max() - mean.min())
    best = int(np.flatnonzero(mean <= enough)[0])
    if best >= STILL * steps:
        raise ConfigurationError(
            f"lr_find: the loss still falls at a learning rate of {highest:g}: give a larger one"
        )
    return RateSearch(rates, losses, mean, float(rates[best]) / BELOW)


def _has_grown(mean: np.ndarray) -> np.ndarray:
    """Whether the smoothed loss of each step is far above the minimum before it."""
    if not len(mean):
        return np.zeros(0, bool)
    return mean > DIVERGED * np.maximum(np.minimum.accumulate(mean), 1e-12)


def found_rate(train_once: Callable[..., Any], options: Any, is_stream: bool) -> float:
    """Find, and log, the suggested rate for a run with options of ``fit``.

    Raises ConfigurationError as :func:`search` does, or if the run is resumed, uses several
    processes, or reads batches that can be read only once.
    """
    if is_stream:
        raise ConfigurationError(
            "lr='auto' would use up batches that come one by one: find a rate with fastcnn.lr_find"
        )
    if options.resume or (options.world is not None and options.world.size > 1):
        raise ConfigurationError(
            "lr='auto' is for a new training on one process: find a rate with fastcnn.lr_find"
        )
    same = {name: value for name, value in options.changes().items() if name not in DECIDED}
    found = search(partial(train_once, diagnose=False, **same), LOWEST, HIGHEST, STEPS)
    log.warning("%s", found)
    return float(f"{found.suggestion:.2g}")


def smoothed(losses: Sequence[float] | np.ndarray) -> np.ndarray:
    """A bias-corrected exponential moving average of the losses."""
    mean, made = 0.0, []
    for count, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * float(loss)
        made.append(mean / (1.0 - SMOOTHING**count))
    return np.array(made)
