"""The batch and the training step that a pass over a network belongs to."""

from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from fastcnn.backends.counter_random import dropout_key
from fastcnn.losses import CrossEntropyLoss, Loss, PythonLoss


@dataclass(frozen=True)
class Step:
    """A pass's position in a training run.

    Attributes
    ----------
    training : bool
        Whether dropout is active and batch normalisation uses the statistics of the batch.
    seed, number : int
        Determine dropout's masks: the run's seed, and the number of the step.
    first_sample : int
        Index of the first sample in a batch that several processes share.
    """

    training: bool = False
    seed: int = 0
    number: int = 0
    first_sample: int = 0

    def key(self, node: int) -> int:
        """The key of a node's mask."""
        return dropout_key(self.seed, self.number, node)


#: Outside training, and the first step of a training.
INFERENCE, FIRST_STEP = Step(), Step(training=True)


@dataclass(frozen=True)
class Batch:
    """Checked samples with their targets and the loss.

    Attributes
    ----------
    x : ndarray, shape (N, ...)
        As stored: before preprocessing.
    target : ndarray
        As the loss reads it.
    weight : ndarray of float64, shape (N,), or None
    totals : ndarray of float64, shape (losses,), or None
        Total weight of the whole batch's targets in each loss, if these are a part of it.
    """

    x: np.ndarray
    target: np.ndarray
    loss: Loss = field(default_factory=CrossEntropyLoss)
    weight: np.ndarray | None = None
    totals: np.ndarray | None = None

    def value_and_gradient(
        self, outputs: np.ndarray, operations: ModuleType
    ) -> tuple[float, np.ndarray]:
        """The samples' part of the loss, and its gradient with respect to the network's outputs.

        Parameters
        ----------
        operations : module
            The backend's, which a loss in Python does not need.
        """
        loss, portion = self.loss, 1.0
        if self.totals is not None:
            loss, portion = loss.part(self.target, self.weight, self.totals)
        if isinstance(loss, PythonLoss):
            value, grad = loss.value_and_gradient(outputs, self.target, self.weight)
            return value * portion, grad * outputs.dtype.type(portion)
        name = loss.operation
        arguments = {**loss.arguments, "sample_weight": self.weight}
        value = float(getattr(operations, name)(outputs, self.target, **arguments))
        backward = getattr(operations, f"{name}_backward")
        return value * portion, backward(portion, outputs, self.target, **arguments)
