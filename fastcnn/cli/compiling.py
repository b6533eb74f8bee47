"""Time that a training run spent waiting for kernel compilation."""

from fastcnn.codegen import build
from fastcnn.training.callbacks import Callback, Steps, TrainingStart


class Compiling(Callback):
    """Records the compilation time included in the time of the first steps.

    Compilation during a learning rate search before the training, and during the evaluation after
    an epoch, does not count towards the time of the epochs.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.before: tuple[int, float] | None = None

    def on_train_begin(self, start: TrainingStart) -> None:
        """Record the compilations so far."""
        self.before = len(build.report.compiled), build.report.seconds

    def on_steps(self, steps: Steps) -> None:
        """Record the compilation time of the first steps, if any."""
        if self.before is not None:
            count, seconds = self.before
            if len(build.report.compiled) > count:
                self.seconds = build.report.seconds - seconds
            self.before = None
