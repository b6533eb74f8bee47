"""Callbacks of a training run."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model
from fastcnn.training.history import History
from fastcnn.training.metrics import directions


@dataclass(slots=True)
class Control:
    """What a callback may change during training.

    Attributes
    ----------
    lr_factor : float
        Multiplies the schedule's learning rate, from the next step on.
    stop_reason : str or None
        Reason to end training after the current epoch; None to continue.
    """

    lr_factor: float = 1.0
    stop_reason: str | None = None

    def stop(self, reason: str) -> None:
        """End training after the current epoch; the first reason is kept.

        Parameters
        ----------
        reason : str
        """
        self.stop_reason = self.stop_reason or reason


@dataclass(frozen=True)
class TrainingStart:
    """Information available before the first step.

    Attributes
    ----------
    model : Model
    history : History
        Filled during training.
    epochs, steps_per_epoch, samples : int
    tested, validated : bool
        Whether every epoch ends with an evaluation on test data, and on validation data.
    has_accuracy : bool
        Whether targets are classes.
    control : Control
        The settings that callbacks may change.
    directions : mapping of str to bool
        Values in the records that can be monitored, and whether larger is better.
    """

    model: Model
    history: History
    epochs: int
    steps_per_epoch: int
    samples: int
    tested: bool = False
    validated: bool = False
    has_accuracy: bool = True
    control: Control = field(default_factory=Control)
    directions: Mapping[str, bool] = field(default_factory=lambda: directions(()))


@dataclass(frozen=True)
class Steps:
    """A number of consecutive steps of one epoch, just completed.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    step : int
        Steps since the start of the run, including these.
    samples : int
        Samples of the epoch seen so far.
    losses, learning_rates : list of float
        One per step.
    mean_loss, samples_per_second : float
        Means over the epoch so far.
    accuracy : float
        The same; NaN if targets are not classes.
    """

    epoch: int
    step: int
    samples: int
    losses: list[float]
    learning_rates: list[float]
    mean_loss: float
    accuracy: float
    samples_per_second: float


class Callback:
    """Base of callbacks; override the methods you need. Exceptions end the training.

    Callbacks are called in the given order, and at the end in reverse order: the first to begin is
    the last to end.
    """

    def on_train_begin(self, start: TrainingStart) -> None:
        """Called once, before the first step.

        Parameters
        ----------
        start : TrainingStart
        """

    def on_steps(self, steps: Steps) -> None:
        """Called every few steps, about ten times per second.

        Parameters
        ----------
        steps : Steps
            Those since the last call.
        """

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        """Called after each epoch and its evaluation, with the epoch's record.

        The model holds the weights that were evaluated: the average, if there is one.

        Parameters
        ----------
        epoch : dict
            The epoch's record, as in ``History.epochs``.
        model : Model
        """

    def on_train_end(self, history: History) -> None:
        """Called once at the end, even after an interruption or an error.

        Parameters
        ----------
        history : History
        """

    def state_dict(self) -> dict[str, Any]:
        """The state needed to resume a run: numbers, text, and arrays by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of an interrupted run, before ``on_train_begin``.

        Parameters
        ----------
        state : dict
            As returned by :meth:`state_dict`.
        """


#: The methods of callbacks that are called during training, each with its arguments.
CALLED = {
    name: list(inspect.signature(method).parameters)[1:]
    for name, method in vars(Callback).items()
    if name.startswith("on_")
}


def check_methods(callback: Callback) -> None:
    """Raise ConfigurationError if a method does not accept the arguments of those calls."""
    for name, given in CALLED.items():
        try:
            inspect.signature(getattr(callback, name)).bind(*given)
        except ValueError:  # some compiled functions have no signature
            continue
        except TypeError as error:
            raise ConfigurationError(
                f"{type(callback).__name__}.{name} must take {', '.join(given)} ({error})"
            ) from None


def uncalled(callback: Callback) -> Iterator[str]:
    """A sentence for each method named like those of callbacks that overrides none."""
    kinds = type(callback).__mro__
    for kind in kinds:
        for name in vars(kind):
            if not name.startswith("on_") or not callable(getattr(kind, name)):
                continue
            is_new = not any(name in vars(base) for base in kinds if base is not kind)
            if is_new and not kind.__module__.startswith("fastcnn."):
                yield (
                    f"{kind.__name__}.{name} is not called during training: the methods of "
                    f"callbacks are {', '.join(CALLED)}"
                )
