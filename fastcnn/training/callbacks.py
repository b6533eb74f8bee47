"""Callbacks of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastcnn.layers import Model
from fastcnn.training.history import History
from fastcnn.training.metrics import directions


@dataclass
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
        """End training after the current epoch; the first reason is kept."""
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
    mean_loss, accuracy, samples_per_second : float
        Means over the epoch so far; the accuracy is NaN if targets are not classes.
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
