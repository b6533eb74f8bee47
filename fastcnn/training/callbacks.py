"""What can listen to a training run."""

from dataclasses import dataclass
from typing import Any

from fastcnn.layers import Model
from fastcnn.training.history import History


@dataclass(frozen=True)
class TrainingStart:
    """What is known before the first step."""

    model: Model
    history: History
    epochs: int
    steps_per_epoch: int
    samples: int


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
        Means over the epoch so far.
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
    """Base of callbacks; override what is wanted. Exceptions end the training."""

    def on_train_begin(self, start: TrainingStart) -> None:
        """Called once, before the first step."""

    def on_steps(self, steps: Steps) -> None:
        """Called after every few steps, about ten times a second."""

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        """Called after each epoch and its evaluation, with the epoch's record."""

    def on_train_end(self, history: History) -> None:
        """Called once at the end, also after an interruption or an error."""
