"""What can listen to a training run."""

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
        Why training ends after the current epoch; None if it continues.
    """

    lr_factor: float = 1.0
    stop_reason: str | None = None

    def stop(self, reason: str) -> None:
        """End training after the current epoch; the first reason given is kept."""
        self.stop_reason = self.stop_reason or reason


@dataclass(frozen=True)
class TrainingStart:
    """What is known before the first step.

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
        What callbacks may change.
    directions : mapping of str to bool
        What records have that can be monitored, and whether more of it is better.
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
    """Some consecutive steps of one epoch that have just been taken.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    step : int
        Steps taken since the start of the run, these included.
    samples : int
        Samples of the epoch seen so far.
    losses, learning_rates : list of float
        One for each of these steps.
    mean_loss, accuracy, samples_per_second : float
        Means over the epoch so far; the accuracy is NaN where targets are not classes.
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
    """Base of callbacks; override what is wanted. Exceptions end the training.

    Callbacks are called in the order in which they were given, at the end in reverse: what was
    begun first ends last.
    """

    def on_train_begin(self, start: TrainingStart) -> None:
        """Called once, before the first step."""

    def on_steps(self, steps: Steps) -> None:
        """Called after every few steps, about ten times a second."""

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        """Called after each epoch and its evaluation, with the epoch's record.

        The model holds the weights that were evaluated: the average, where there is one.
        """

    def on_train_end(self, history: History) -> None:
        """Called once at the end, also after an interruption or an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: numbers, text, and arrays by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an interrupted run, before ``on_train_begin``."""
