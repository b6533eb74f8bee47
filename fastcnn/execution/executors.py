"""Executors, one for each backend's way of computing, and the choice between them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.im2col.memory import Memory, recycling
from fastcnn.data.dataset import Samples
from fastcnn.execution.assigned import constrain
from fastcnn.execution.backend_choice import run
from fastcnn.execution.checks import as_batch, as_target, bound_loss, check_layout, check_statistics
from fastcnn.execution.executor import (
    Executor,
    ModelExecutor,
    StepResults,
    Training,
    WrappingExecutor,
    count_correct,
    totals,
)
from fastcnn.execution.lanes import LanesExecutor
from fastcnn.execution.passes import operation_gradients, predict_logits
from fastcnn.execution.step import Batch
from fastcnn.execution.workers import one_blas_thread
from fastcnn.losses import Loss
from fastcnn.optim import Assignment, Optimizer, clip_gradient_norm

if TYPE_CHECKING:
    from fastcnn.layers import Model


def make_executor(
    model: "Model",
    *,
    loss: Loss,
    optimizer: Optimizer | Assignment,
    backend: str | None = None,
    batch_size: int,
    seed: int = 0,
    threads: int | None = None,
    clip_norm: float | None = None,
) -> Executor:
    """The executor of a backend for one model, loss and optimiser.

    Parameters
    ----------
    optimizer : Optimizer or Assignment
        The latter if there are parameter groups.
    batch_size : int
        Samples of each step; the last step of an order may have fewer.
    seed : int
        Key of the dropout masks.
    threads : int, optional
        Threads of an engine that has its own; numpy's BLAS threads are limited by the caller.
    clip_norm : float, optional
        Maximum Euclidean norm of a gradient; larger gradients are scaled down to it.
    """
    loss = bound_loss(model, loss)
    training = Training(model, loss, optimizer, batch_size, seed, clip_norm)
    return run(
        backend,
        lambda: LanesExecutor(training, threads),
        lambda name: OperationExecutor(training, name),
    )


class OperationExecutor(ModelExecutor):
    """Runs one backend operation after the other from Python."""

    def __init__(self, training: Training, backend: str) -> None:
        super().__init__(training)
        self.backend = backend
        self._shape: tuple[int, ...] = ()
        self._memory = Memory()

    def train_steps(
        self, samples: Samples, order: np.ndarray, learning_rates: np.ndarray
    ) -> StepResults:
        """Take one step for each learning rate; numpy's threads are limited once for all steps."""
        with one_blas_thread():
            return super().train_steps(samples, order, learning_rates)

    def gradient(
        self, samples: Samples, rows: np.ndarray, whole: np.ndarray | None = None
    ) -> tuple[float, int, np.ndarray]:
        check_layout(self._layout, self.model)
        x, y = as_batch(self.model, samples.images[rows]), samples.labels[rows]
        weight = None if samples.sample_weight is None else samples.sample_weight[rows]
        graph = self.assigned.graph()
        check_statistics(graph, len(x))
        target = as_target(self.loss, y, len(x), graph, self.model.dtype)
        if self._shape != x.shape:
            self._shape, self._memory = x.shape, Memory()
        total = None if whole is None else totals(self.loss, samples, whole)
        with recycling(self._memory):
            value, logits, gradient = operation_gradients(
                self.model,
                graph,
                Batch(x, target, self.loss, weight, total),
                self.backend,
                self.now(),
                self.assigned.frozen,
            )
        return value, count_correct(logits, y, self.loss), gradient

    def update(self, gradient: np.ndarray, lr: float) -> float:
        check_layout(self._layout, self.model)
        self.assigned.clear_frozen(gradient)
        norm = clip_gradient_norm(gradient, self.clip_norm)
        self.step += 1
        self.assigned.update(gradient, lr, self.step)
        constrain(self.model, self.assigned.frozen)
        return norm

    def logits(self, images: np.ndarray) -> np.ndarray:
        return predict_logits(self.model, images, backend=self.backend)


class AccumulatingExecutor(WrappingExecutor):
    """Adds the gradients of small batches for each step, as if they were one batch.

    Small batches are weighted by their samples, or these samples' weights, and dropout's masks are
    those of the whole batch. Only batch normalisation differs: it uses the statistics of each small
    batch.

    Parameters
    ----------
    local : Executor
        Computes gradients of small batches, and takes the steps.
    batch_size : int
        Samples of a step.
    small : int
        Samples of a small batch.
    """

    def __init__(self, local: Executor, batch_size: int, small: int) -> None:
        super().__init__(local)
        self.batch_size = batch_size
        self.small = small
        self.first_sample = 0

    def train_steps(
        self, samples: Samples, order: np.ndarray, learning_rates: np.ndarray
    ) -> StepResults:
        local = self._local
        if not isinstance(local, LanesExecutor):
            return super().train_steps(samples, order, learning_rates)
        local.step_size, local.watch = self.batch_size, self.watch
        local.first_sample = self.first_sample
        return local.train_steps(samples, order, learning_rates)

    def gradient(
        self, samples: Samples, rows: np.ndarray, whole: np.ndarray | None = None
    ) -> tuple[float, int, np.ndarray]:
        whole = rows if whole is None else whole
        loss, hits = 0.0, 0
        total: np.ndarray | None = None
        for start in range(0, len(rows), self.small):
            place = slice(start, start + self.small)
            self._local.first_sample = self.first_sample + start
            value, right, gradient = self._local.gradient(samples, rows[place], whole)
            total = gradient.copy() if total is None else np.add(total, gradient, out=total)
            loss, hits = loss + value, hits + right
        assert total is not None
        return loss, hits, total


def make_accumulating(
    model: "Model", *, batch_size: int, accumulate: int = 1, **settings: Any
) -> Executor:
    """An executor that computes the gradient of each step in several smaller batches.

    Parameters
    ----------
    batch_size : int
        Samples of each step.
    accumulate : int
        Number of smaller batches per step; with 1 the executor is an ordinary one.
    **settings
        Arguments of :func:`make_executor`.
    """
    small = -(-batch_size // accumulate)
    made = make_executor(model, batch_size=small, **settings)
    return made if accumulate == 1 else AccumulatingExecutor(made, batch_size, small)
