"""The interface of executors, which run many training steps on one model for ``fit``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.data.dataset import Samples
from fastcnn.errors import CheckpointError
from fastcnn.execution.assigned import Assigned, constrain
from fastcnn.execution.checks import as_target
from fastcnn.execution.step import Step
from fastcnn.losses import JointLoss, Loss, PythonLoss
from fastcnn.optim import Assignment, Optimizer

if TYPE_CHECKING:
    from fastcnn.layers import Model


@dataclass(frozen=True)
class StepResults:
    """The results of some consecutive training steps.

    Attributes
    ----------
    losses : ndarray of float64, shape (steps,)
        Mean loss of each batch, before its update.
    correct : ndarray of int64, shape (steps,)
        Samples of each batch whose largest logit is that of their class; 0 for other targets.
    gradient_norms : ndarray of float64, shape (steps,)
        Euclidean norm of each gradient before clipping; NaN where it was not computed.
    """

    losses: np.ndarray
    correct: np.ndarray
    gradient_norms: np.ndarray


@dataclass(frozen=True)
class Watch:
    """A function called between steps.

    Attributes
    ----------
    every : int
        It is called after each step whose number, from 1, is a multiple of this.
    function : function
        ``function(step)``; it may change the model's parameters and statistics.
    """

    every: int
    function: Callable[[int], None]


class Executor(ABC):
    """Runs training steps and evaluations on a model, changing its parameters in place.

    Samples are given as stored: the executor applies the model's preprocessing.

    Attributes
    ----------
    batch_size : int
        Samples of a step.
    step : int
        Number of steps taken.
    first_sample : int
        Index of each batch's first sample in a larger batch that several processes share; dropout
        depends on it.
    """

    loss: Loss
    batch_size: int
    step: int
    first_sample: int
    watch: Watch | None = None

    def note(self, step: int) -> None:
        """Call the watching function if it is due after a step, counted from 1."""
        if self.watch is not None and step % self.watch.every == 0:
            self.watch.function(step)

    def train_steps(
        self, samples: Samples, order: np.ndarray, learning_rates: np.ndarray
    ) -> StepResults:
        """Take one step for each learning rate, on consecutive batches of ``order``."""
        count, size = len(learning_rates), self.batch_size
        results = StepResults(np.zeros(count), np.zeros(count, np.int64), np.zeros(count))
        for index, lr in enumerate(learning_rates):
            rows = order[index * size : (index + 1) * size]
            results.losses[index], results.correct[index], gradient = self.gradient(samples, rows)
            results.gradient_norms[index] = self.update(gradient, float(lr))
            self.note(self.step)
        return results

    @abstractmethod
    def start_epoch(self, epoch: int, per_epoch: int) -> None:
        """Set the current epoch, counted from 1, and the number of steps per epoch.

        Parameter groups may be frozen in some epochs.
        """

    @abstractmethod
    def gradient(
        self, samples: Samples, rows: np.ndarray, whole: np.ndarray | None = None
    ) -> tuple[float, int, np.ndarray]:
        """Loss, hits and flat gradient of the batch of some rows, without a step.

        If the rows are a part of a ``whole`` batch, returns their part of its loss and gradient.
        The caller may modify the gradient; the next call overwrites it.
        """

    @abstractmethod
    def update(self, gradient: np.ndarray, lr: float) -> float:
        """Take the optimiser's step for a gradient; returns its norm before clipping."""

    @abstractmethod
    def logits(self, images: np.ndarray) -> np.ndarray:
        """The network's output outside training."""

    @abstractmethod
    def evaluate(self, samples: Samples) -> tuple[float, float, np.ndarray]:
        """Mean loss, accuracy and logits outside training."""

    @abstractmethod
    def optimizer_state(self) -> dict[str, np.ndarray]:
        """The optimiser's arrays by name, as live views."""

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the optimiser's arrays from ``state``.

        Raises
        ------
        CheckpointError
            If one is missing, or has another shape.
        """
        slots = self.optimizer_state()
        for name, slot in slots.items():
            if name not in state or np.shape(state[name]) != slot.shape:
                raise CheckpointError(
                    f"optimiser state {name!r}: expected shape {slot.shape}, "
                    f"got {np.shape(state[name]) if name in state else 'none'}"
                )
        for name, slot in slots.items():
            slot[...] = state[name]


class Training(NamedTuple):
    """What is trained, and how: the arguments of ``make_executor`` of the same names."""

    model: "Model"
    loss: Loss
    optimizer: Optimizer | Assignment
    batch_size: int
    seed: int
    clip_norm: float | None


class ModelExecutor(Executor):
    """Base of executors that run a model themselves."""

    #: The backend that computes losses of evaluations.
    backend = "im2col"

    def __init__(self, training: Training) -> None:
        self.model, self.loss, optimizer, self.batch_size, self.seed, self.clip_norm = training
        self.assigned = Assigned(self.model, optimizer)
        self.step = 0
        self.first_sample = 0
        self._layout = self.model.parameter_layout()
        constrain(self.model, self.assigned.frozen)

    def now(self) -> Step:
        """The step to be taken next."""
        return Step(True, self.seed, self.step, self.first_sample)

    def start_epoch(self, epoch: int, per_epoch: int) -> None:
        self.assigned.start_epoch(epoch, per_epoch)

    def evaluate(self, samples: Samples) -> tuple[float, float, np.ndarray]:
        logits = self.logits(samples.images)
        return *mean_score(self.model, self.loss, logits, samples, self.backend), logits

    def optimizer_state(self) -> dict[str, np.ndarray]:
        return self.assigned.slots()


class WrappingExecutor(Executor):
    """Base of executors that delegate to another executor.

    Parameters
    ----------
    local : Executor
        The executor that takes the steps.
    """

    def __init__(self, local: Executor) -> None:
        self._local = local
        self.loss = local.loss

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._local.step

    @step.setter
    def step(self, value: int) -> None:
        self._local.step = value

    def start_epoch(self, epoch: int, per_epoch: int) -> None:
        self._local.start_epoch(epoch, per_epoch)

    def update(self, gradient: np.ndarray, lr: float) -> float:
        return self._local.update(gradient, lr)

    def logits(self, images: np.ndarray) -> np.ndarray:
        return self._local.logits(images)

    def evaluate(self, samples: Samples) -> tuple[float, float, np.ndarray]:
        return self._local.evaluate(samples)

    def optimizer_state(self) -> dict[str, np.ndarray]:
        return self._local.optimizer_state()


def portions(loss: Loss, samples: Samples, rows: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The share of some rows in the weight of a whole batch, for each loss; 1 for sums."""
    own, total = (totals(loss, samples, each) for each in (rows, whole))
    shares = np.divide(own, total, out=np.zeros_like(own), where=total > 0.0)
    return np.where(loss.sums, 1.0, shares)


def totals(loss: Loss, samples: Samples, rows: np.ndarray) -> np.ndarray:
    """The total weight of some samples' targets, for each loss."""
    if not len(rows):
        return np.zeros(loss.count)
    weight = None if samples.sample_weight is None else samples.sample_weight[rows]
    each = loss.target_weights(np.asarray(samples.labels[rows]), weight)
    return np.full(loss.count, float(len(rows))) if each is None else each.sum(axis=0)


#: Elements of an output that a score processes at a time.
SCORED = 1 << 22


def mean_score(
    model: "Model", loss: Loss, logits: np.ndarray, samples: Samples, backend: str | None = "im2col"
) -> tuple[float, float]:
    """Mean loss and accuracy of a model's output for samples, computed by ``backend``.

    A loss that is a sum is divided by the number of samples. The accuracy is NaN if targets are not
    classes.
    """
    if isinstance(loss, JointLoss):
        scores = joint_scores(loss, logits, samples, backend)
        accuracies = [accuracy for _, accuracy in scores.values()]
        value = sum(w * s for w, (s, _) in zip(loss.weights, scores.values(), strict=True))
        return value, next((a for a in accuracies if a == a), float("nan"))
    target = as_target(loss, samples.labels, len(logits), model.graph(), logits.dtype)
    return _score(loss, logits, target, samples.labels, samples.sample_weight, backend)


def joint_scores(
    loss: JointLoss, logits: np.ndarray, samples: Samples, backend: str | None = "im2col"
) -> dict[str, tuple[float, float]]:
    """Mean loss and accuracy of each output by its name; see :func:`mean_score`."""
    whole, scores = loss.pack(samples.labels, logits.dtype), {}
    for port, each, part in zip(loss.ports, loss.losses, loss.parts, strict=True):
        target = part.target_of(whole)
        output = part.output_of(logits)
        scores[port.name] = _score(each, output, target, target, samples.sample_weight, backend)
    return scores


def _score(
    loss: Loss,
    logits: np.ndarray,
    target: np.ndarray,
    labels: np.ndarray,
    sample_weight: np.ndarray | None,
    backend: str | None,
) -> tuple[float, float]:
    labels, count = np.asarray(labels), len(logits)
    if isinstance(loss, PythonLoss):
        value, _ = loss.value_and_gradient(logits, target, sample_weight)
    else:
        value = _mean_loss(loss, logits, target, sample_weight, backend)
    counts = loss.target_counts(target)
    counted = count if counts is None else int(counts.sum())
    if loss.predicts(labels, logits.shape[1:]) != "classes" or not counted:
        return value, float("nan")
    return value, count_correct(logits, labels, loss) / counted


def _mean_loss(
    loss: Loss,
    logits: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None,
    backend: str | None,
) -> float:
    operation, count = getattr(get_backend(backend), loss.operation), len(logits)
    arguments = {**loss.arguments, "reduction": "sum"}
    size, value = max(1, SCORED * count // logits.size), 0.0
    for start in range(0, count, size):
        part = slice(start, start + size)
        weight = None if sample_weight is None else sample_weight[part]
        value += float(operation(logits[part], target[part], **arguments, sample_weight=weight))
    if loss.reduction == "sum":
        return value / count
    targets = logits[0, 0].size if loss.classes else logits.size / count
    each = loss.target_weight(target, sample_weight)
    total = targets * (count if each is None else float(each.sum()))
    return value / total if total > 0.0 else 0.0


def count_correct(logits: np.ndarray, labels: np.ndarray, loss: Loss) -> int:
    """Samples, or pixels, whose largest logit is that of their class; 0 if there are no classes."""
    labels = np.asarray(labels)
    if loss.classes or isinstance(loss, JointLoss):
        return loss.correct(logits, labels)
    if logits.ndim != 2 or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return 0
    return int((logits.argmax(axis=1) == labels).sum())
