"""How long a training waited for its kernels."""

from fastcnn.codegen import build
from fastcnn.training.callbacks import Callback, Steps, TrainingStart


class Compiling(Callback):
    """Notes the seconds of compiling that are among those of the first steps.

    What a search for a rate compiles before the training, and an evaluation after its epoch, is not
    in the time of the epochs.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.before: tuple[int, float] | None = None

    def on_train_begin(self, start: TrainingStart) -> None:
        """Note what was compiled before."""
        self.before = len(build.report.compiled), build.report.seconds

    def on_steps(self, steps: Steps) -> None:
        """Note what the first steps compiled, if anything."""
        if self.before is not None:
            count, seconds = self.before
            if len(build.report.compiled) > count:
                self.seconds = build.report.seconds - seconds
            self.before = None
