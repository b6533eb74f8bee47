"""Exponential moving average of a model's parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastcnn.errors import CheckpointError, ConfigurationError
from fastcnn.optim import lerp

#: Steps between updates: one every step would end the engine's chunks at every step.
EVERY_STEPS = 10


class WeightAverage:
    """A moving average of parameters, which takes their place while a model is evaluated.

    Each step counts as ``average += (1 - decay) * (parameters - average)``, some steps at a time.
    Early in a run the decay is at most ``(1 + step) / (10 + step)``, so that the initial weights
    are soon forgotten.

    Parameters
    ----------
    vector : ndarray
        The parameters; swapped in place.
    decay : float
        ``0 <= decay < 1``.

    References
    ----------
    Polyak and Juditsky, SIAM J. Control Optim. 30 (1992); the warm-up is that of
    ``tf.train.ExponentialMovingAverage`` with ``num_updates``.
    """

    def __init__(self, vector: np.ndarray, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ConfigurationError(f"ema_decay must be at least 0 and below 1, got {decay!r}")
        self.vector = vector
        self.decay = decay
        self.average = vector.copy()
        self.step = 0

    def update(self, step: int) -> None:
        """Account for the parameters after step ``step``, and for the steps since the last call."""
        decay = min(self.decay, (1 + step) / (10 + step)) ** (step - self.step)
        lerp(self.average, self.vector, 1.0 - decay)
        self.step = step

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the model, and the parameters back at the end."""
        parameters = self.vector.copy()
        self.replace()
        try:
            yield
        finally:
            self.vector[...] = parameters

    def replace(self) -> None:
        """Put the average into the model for good."""
        self.vector[...] = self.average

    def state_dict(self) -> dict[str, Any]:
        """The average and the step that it accounts for."""
        return {"average": self.average, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state.

        Raises
        ------
        CheckpointError
            If it is of other parameters, or not finite.
        """
        average, step = state["average"], state["step"]
        fits = isinstance(average, np.ndarray) and average.shape == self.average.shape
        if not fits or average.dtype != self.average.dtype or not np.isfinite(average).all():
            raise CheckpointError("the average of the weights is not of these weights")
        if type(step) is not int or step < 0:
            raise CheckpointError(f"the average of the weights has step {step!r}")
        self.average[...] = average
        self.step = step
