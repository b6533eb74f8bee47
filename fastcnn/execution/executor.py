"""Many training steps on one model: what ``fit`` drives, whichever backend does the work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastcnn.backends import DEFAULT_BACKEND, get_backend
from fastcnn.errors import CheckpointError
from fastcnn.execution.checks import as_target, check_layout, predicted
from fastcnn.execution.passes import clear_frozen, loss_and_gradients, predict_logits
from fastcnn.layers import Model
from fastcnn.losses import Loss
from fastcnn.optim import Optimizer, clip_gradient_norm


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


class Executor(Protocol):
    """Runs training steps and evaluations on a model, changing its parameters in place.

    Images are as they are stored: the model's preprocessing is applied to them.

    Attributes
    ----------
    step : int
        Steps taken.
    first_sample : int
        Place of each batch's first sample in a larger batch that several processes share; dropout
        depends on it.
    """

    step: int
    first_sample: int

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


def make_executor(
    model: Model,
    *,
    loss: Loss,
    optimizer: Optimizer,
    backend: str | None = None,
    batch_size: int,
    seed: int = 0,
    threads: int | None = None,
    clip_norm: float | None = None,
) -> Executor:
    """The executor of a backend for one model, loss and optimiser.

    Parameters
    ----------
    batch_size : int
        Samples of each step; the last step of an order may have fewer.
    seed : int
        Key of the dropout masks.
    threads : int, optional
        Threads of an engine that has its own; numpy's BLAS is the caller's to limit.
    clip_norm : float, optional
        Largest Euclidean norm of a gradient; larger ones are scaled down to it.
    """
    backend = DEFAULT_BACKEND if backend is None else backend
    get_backend(backend)
    if backend == "lanes":
        from fastcnn.backends.lanes import Unsupported
        from fastcnn.execution.lanes import LanesExecutor, report_fallback

        try:
            return LanesExecutor(model, loss, optimizer, batch_size, seed, threads, clip_norm)
        except Unsupported as reason:
            report_fallback(reason)
            backend = "im2col"
    return OperationExecutor(model, loss, optimizer, backend, batch_size, seed, clip_norm)


class OperationExecutor:
    """Runs one backend operation after the other from Python."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        optimizer: Optimizer,
        backend: str | None,
        batch_size: int,
        seed: int,
        clip_norm: float | None,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.backend = backend
        self.batch_size = batch_size
        self.seed = seed
        self.clip_norm = clip_norm
        self.step = 0
        self.first_sample = 0
        self._layout = model.parameter_layout()
        vector = model.parameter_vector
        self._slots = {name: np.zeros_like(vector) for name in optimizer.slots}

    def train_steps(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        learning_rates: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> StepResults:
        """Take one step for each learning rate, on consecutive batches of ``order``."""
        count = len(learning_rates)
        results = StepResults(np.zeros(count), np.zeros(count, np.int64), np.zeros(count))
        for index, lr in enumerate(learning_rates):
            samples = order[index * self.batch_size : (index + 1) * self.batch_size]
            results.losses[index], results.correct[index], gradient = self.gradient(
                images, labels, samples, sample_weight
            )
            results.gradient_norms[index] = self.update(gradient, float(lr))
        return results

    def gradient(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        samples: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, int, np.ndarray]:
        """Loss, hits and flat gradient of one batch, without a step."""
        check_layout(self._layout, self.model)
        x, y = images[samples], labels[samples]
        value, logits, gradient = loss_and_gradients(
            self.model, x, y, loss=self.loss, backend=self.backend,
            sample_weight=None if sample_weight is None else sample_weight[samples],
            seed=self.seed, step=self.step, first_sample=self.first_sample,
        )  # fmt: skip
        return value, count_correct(logits, y, self.loss), gradient

    def update(self, gradient: np.ndarray, lr: float) -> float:
        """Take the optimiser's step along a gradient; returns its norm before clipping."""
        check_layout(self._layout, self.model)
        clear_frozen(self.model, gradient)
        norm = clip_gradient_norm(gradient, self.clip_norm)
        self.step += 1
        vector = self.model.parameter_vector
        for first, end in self.model.trainable_ranges():
            slots = {name: slot[first:end] for name, slot in self._slots.items()}
            self.optimizer.update(vector[first:end], gradient[first:end], slots, lr, self.step)
        return norm

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The network's output outside training."""
        return predict_logits(self.model, images, backend=self.backend)

    def evaluate(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, float, np.ndarray]:
        """Mean loss, accuracy and logits outside training."""
        logits = self.logits(images)
        score = mean_score(self.model, self.loss, logits, labels, sample_weight, self.backend)
        return *score, logits

    def optimizer_state(self) -> dict[str, np.ndarray]:
        """The optimiser's arrays by name, as live views."""
        return dict(self._slots)

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the optimiser's arrays from ``state``.

        Raises
        ------
        CheckpointError
            If a name or a shape is not this optimiser's.
        """
        copy_slots(self._slots, state)


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


def mean_score(
    model: Model,
    loss: Loss,
    logits: np.ndarray,
    labels: np.ndarray,
    sample_weight: np.ndarray | None = None,
    backend: str | None = "im2col",
) -> tuple[float, float]:
    """Mean loss and accuracy of a model's output; ``backend`` is one with operations.

    The accuracy is NaN where targets are not classes.
    """
    labels = np.asarray(labels)
    target = as_target(loss, labels, len(logits), model.graph(), logits.dtype)
    operation = getattr(get_backend(backend), loss.operation)
    value = float(operation(logits, target, **loss.arguments, sample_weight=sample_weight))
    if predicted(loss, labels, logits.shape[1:]) != "classes":
        return value, float("nan")
    return value, count_correct(logits, labels, loss) / len(logits)


def count_correct(logits: np.ndarray, labels: np.ndarray, loss: Loss) -> int:
    """Samples whose largest logit is at their (most probable) class; 0 where there are none."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and loss.operation == "cross_entropy":
        labels = labels.argmax(axis=1)
    if logits.ndim != 2 or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return 0
    return int((logits.argmax(axis=1) == labels).sum())
