"""Many training steps on one model: what ``fit`` drives, whichever backend does the work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.errors import CheckpointError
from fastcnn.execution.checks import as_target
from fastcnn.losses import JointLoss, Loss, PythonLoss

if TYPE_CHECKING:
    from fastcnn.layers import Model


@dataclass(frozen=True)
class StepResults:
    """What some consecutive training steps gave.

    Attributes
    ----------
    losses : ndarray of float64, shape (steps,)
        Mean loss of each batch, before its update.
    correct : ndarray of int64, shape (steps,)
        Samples of each batch whose largest logit was at their class; 0 for other targets.
    gradient_norms : ndarray of float64, shape (steps,)
        Euclidean norm of each gradient before clipping; NaN where it was not computed.
    """

    losses: np.ndarray
    correct: np.ndarray
    gradient_norms: np.ndarray


STEP_RESULTS = ("losses", "correct", "gradient_norms")


@dataclass(frozen=True)
class Watch:
    """What is called between steps.

    Attributes
    ----------
    every : int
        It is called after each step whose number, from 1, is a multiple of this.
    function : function
        ``function(step)``; it may change the model's parameters and statistics.
    """

    every: int
    function: Callable[[int], None]


class Watched:
    """Base of what takes steps that may be watched."""

    watch: Watch | None = None

    def watches(self, step: int) -> bool:
        """Whether somebody is called after a step, counted from 1."""
        return self.watch is not None and step % self.watch.every == 0

    def note(self, step: int) -> None:
        """Call who watches, if it is due after this step."""
        if self.watch is not None and self.watches(step):
            self.watch.function(step)


class Executor(Protocol):
    """Runs training steps and evaluations on a model, changing its parameters in place.

    Images are as they are stored: the model's preprocessing is applied to them.

    Attributes
    ----------
    loss : Loss
    step : int
        Steps taken.
    first_sample : int
        Place of each batch's first sample in a larger batch that several processes share; dropout
        depends on it.
    watch : Watch, optional
        What is called between steps.
    """

    loss: Loss
    step: int
    first_sample: int
    watch: Watch | None

    def train_steps(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        learning_rates: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> StepResults:
        """Take one step for each learning rate, on consecutive batches of ``order``."""
        ...

    def start_epoch(self, epoch: int, per_epoch: int) -> None:
        """Say which epoch it is, counted from 1, and how many steps one has.

        Parameter groups may be frozen in some epochs.
        """
        ...

    def gradient(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        samples: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, int, np.ndarray]:
        """Loss, hits and flat gradient of one batch, without a step.

        The caller may change the gradient; the next call overwrites it.
        """
        ...

    def update(self, gradient: np.ndarray, lr: float) -> float:
        """Take the optimiser's step along a gradient; returns its norm before clipping."""
        ...

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The network's output outside training."""
        ...

    def evaluate(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, float, np.ndarray]:
        """Mean loss, accuracy and logits outside training."""
        ...

    def optimizer_state(self) -> dict[str, np.ndarray]:
        """The optimiser's arrays by name, as live views."""
        ...

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the optimiser's arrays from ``state``."""
        ...


class StepsOneByOne(Watched):
    """Base of executors whose steps are each a call of ``gradient`` and one of ``update``."""

    batch_size: int

    def train_steps(
        self: "Stepping",
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        learning_rates: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> StepResults:
        """Take one step for each learning rate, on consecutive batches of ``order``."""
        count, size = len(learning_rates), self.batch_size
        results = StepResults(np.zeros(count), np.zeros(count, np.int64), np.zeros(count))
        for index, lr in enumerate(learning_rates):
            samples = order[index * size : (index + 1) * size]
            results.losses[index], results.correct[index], gradient = self.gradient(
                images, labels, samples, sample_weight
            )
            results.gradient_norms[index] = self.update(gradient, float(lr))
            self.note(self.step)
        return results


class Stepping(Executor, Protocol):
    """What takes its steps one by one."""

    batch_size: int

    def note(self, step: int) -> None:
        """Call who watches, if it is due."""


class WrappingExecutor(Watched):
    """Base of executors that leave to another one what they do not do themselves.

    Parameters
    ----------
    local : Executor
        What takes the steps.
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
        """Say which epoch it is, counted from 1, and how many steps one has."""
        self._local.start_epoch(epoch, per_epoch)

    def update(self, gradient: np.ndarray, lr: float) -> float:
        """Take the optimiser's step along a gradient; returns its norm before clipping."""
        return self._local.update(gradient, lr)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The network's output outside training."""
        return self._local.logits(images)

    def evaluate(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, float, np.ndarray]:
        """Mean loss, accuracy and logits outside training."""
        return self._local.evaluate(images, labels, sample_weight)

    def optimizer_state(self) -> dict[str, np.ndarray]:
        """The optimiser's arrays by name, as live views."""
        return self._local.optimizer_state()

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the optimiser's arrays from ``state``."""
        self._local.load_optimizer_state(state)


def shares_of_samples(
    loss: Loss, labels: np.ndarray, samples: np.ndarray, sample_weight: np.ndarray | None
) -> np.ndarray | None:
    """What each sample of a batch counts in its loss, which is a mean; None if it is a sum."""
    if loss.reduction == "sum":
        return None
    weight = None if sample_weight is None else sample_weight[samples]
    each = loss.target_weight(np.asarray(labels[samples]), weight)
    each = np.ones(len(samples)) if each is None else each
    total = each.sum()
    return each / total if total > 0.0 else np.zeros(len(samples))


def copy_slots(slots: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> None:
    """Copy an optimiser's arrays from ``state``; CheckpointError if they do not fit."""
    for name, slot in slots.items():
        if name not in state or np.shape(state[name]) != slot.shape:
            raise CheckpointError(
                f"optimiser state {name!r}: expected shape {slot.shape}, "
                f"got {np.shape(state[name]) if name in state else 'none'}"
            )
    for name, slot in slots.items():
        slot[...] = state[name]


#: Elements of an output that a score computes with at a time.
SCORED = 1 << 22


def mean_score(
    model: "Model",
    loss: Loss,
    logits: np.ndarray,
    labels: np.ndarray,
    sample_weight: np.ndarray | None = None,
    backend: str | None = "im2col",
) -> tuple[float, float]:
    """Mean loss and accuracy of a model's output; ``backend`` is one with operations.

    A loss that is a sum is divided by the samples. The accuracy is NaN where targets are not
    classes.
    """
    if isinstance(loss, JointLoss):
        scores = joint_scores(model, loss, logits, labels, sample_weight, backend)
        accuracies = [accuracy for _, accuracy in scores.values()]
        value = sum(w * s for w, (s, _) in zip(loss.weights, scores.values(), strict=True))
        return value, next((a for a in accuracies if a == a), float("nan"))
    target = as_target(loss, labels, len(logits), model.graph(), logits.dtype)
    return _score(loss, logits, target, labels, sample_weight, backend)


def joint_scores(
    model: "Model",
    loss: JointLoss,
    logits: np.ndarray,
    labels: Any,
    sample_weight: np.ndarray | None = None,
    backend: str | None = "im2col",
) -> dict[str, tuple[float, float]]:
    """Mean loss and accuracy of each output by its name; see :func:`mean_score`."""
    whole, scores = loss.pack(labels, logits.dtype), {}
    for port, each, part in zip(loss.ports, loss.losses, loss.parts, strict=True):
        target = part.target_of(whole)
        output = part.output_of(logits)
        scores[port.name] = _score(each, output, target, target, sample_weight, backend)
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
    """Samples, or pixels, whose largest logit is at their class; 0 where there are none."""
    labels = np.asarray(labels)
    if loss.classes or isinstance(loss, JointLoss):
        return loss.correct(logits, labels)
    if logits.ndim != 2 or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return 0
    return int((logits.argmax(axis=1) == labels).sum())
