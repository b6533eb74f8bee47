"""What a pass over a network is about: a batch, and the step of training in which it is taken."""

from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from fastcnn.backends.counter_random import dropout_key
from fastcnn.losses import CrossEntropyLoss, Loss, PythonLoss


@dataclass(frozen=True)
class Step:
    """Where a pass is in a training run.

    Attributes
    ----------
    training : bool
        Whether dropout is active and batch normalisation takes the statistics of the batch.
    seed, number : int
        Decide dropout's masks: the run's seed, and the step in it.
    first_sample : int
        Place of the first sample in a batch that several processes share.
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
    """Samples with their targets, checked, and what measures the outputs.

    Attributes
    ----------
    x : ndarray, shape (N, ...)
        As stored: before preprocessing.
    target : ndarray
        As the loss reads it.
    weight : ndarray of float64, shape (N,), or None
    totals : ndarray of float64, shape (losses,), or None
        What the targets of the whole batch weigh in each loss, where these are a part of it.
    """

    x: np.ndarray
    target: np.ndarray
    loss: Loss = field(default_factory=CrossEntropyLoss)
    weight: np.ndarray | None = None
    totals: np.ndarray | None = None

    def value_and_gradient(
        self, outputs: np.ndarray, operations: ModuleType
    ) -> tuple[float, np.ndarray]:
        """The samples' part of the loss, and its gradient by the network's outputs.

        Parameters
        ----------
        operations : module
            The backend's, which a loss of Python does not need.
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
