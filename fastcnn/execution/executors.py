"""Executors: one for each way of computing, and the choice between them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.im2col.memory import Memory, recycling
from fastcnn.execution.assigned import Assigned, frozen_parameters
from fastcnn.execution.checks import as_batch, as_target, bound_loss, check_layout, check_statistics
from fastcnn.execution.constraints import constrain
from fastcnn.execution.executor import (
    Executor,
    StepsOneByOne,
    copy_slots,
    count_correct,
    mean_score,
)
from fastcnn.execution.fallback import run
from fastcnn.execution.lanes import LanesExecutor
from fastcnn.execution.passes import operation_gradients, predict_logits
from fastcnn.execution.step import Batch, Step
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
        The latter with parameter groups.
    batch_size : int
        Samples of each step; the last step of an order may have fewer.
    seed : int
        Key of the dropout masks.
    threads : int, optional
        Threads of an engine that has its own; numpy's BLAS is the caller's to limit.
    clip_norm : float, optional
        Largest Euclidean norm of a gradient; larger ones are scaled down to it.
    """
    loss = bound_loss(model, loss)
    settings = (model, loss, optimizer, batch_size, seed, clip_norm)

    def on_engine() -> Executor:
        return LanesExecutor(*settings, threads)

    def by_operations(name: str) -> Executor:
        return OperationExecutor(*settings, name)

    return run(backend, on_engine, by_operations)


class OperationExecutor(StepsOneByOne):
    """Runs one backend operation after the other from Python."""

    def __init__(
        self,
        model: "Model",
        loss: Loss,
        optimizer: Optimizer | Assignment,
        batch_size: int,
        seed: int,
        clip_norm: float | None,
        backend: str,
    ) -> None:
        self.model = model
        self.loss = loss
        self.assigned = Assigned(model, optimizer)
        self.backend = backend
        self.batch_size = batch_size
        self.seed = seed
        self.clip_norm = clip_norm
        self.step = 0
        self.first_sample = 0
        self._layout = model.parameter_layout()
        self._shape: tuple[int, ...] = ()
        self._memory = Memory()
        constrain(model)

    def gradient(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        samples: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, int, np.ndarray]:
        """Loss, hits and flat gradient of one batch, without a step."""
        check_layout(self._layout, self.model)
        y = labels[samples]
        weight = None if sample_weight is None else sample_weight[samples]
        step = Step(True, self.seed, self.step, self.first_sample)
        value, logits, gradient = self._passes(images[samples], y, weight, step)
        return value, count_correct(logits, y, self.loss), gradient

    def _passes(
        self, images: np.ndarray, y: np.ndarray, weight: np.ndarray | None, step: Step
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Loss, output and flat gradient of one batch."""
        x, graph = as_batch(self.model, images), self.assigned.graph()
        check_statistics(graph, len(x))
        target = as_target(self.loss, y, len(x), graph, self.model.dtype)
        if self._shape != x.shape:
            self._shape, self._memory = x.shape, Memory()
        with recycling(self._memory):
            return operation_gradients(
                self.model,
                graph,
                Batch(x, target, self.loss, weight),
                self.backend,
                step,
                frozen_parameters(self.model, self.assigned.parts),
            )

    def start_epoch(self, epoch: int, per_epoch: int) -> None:
        """Say which epoch it is, counted from 1, and how many steps one has."""
        self.assigned.start_epoch(epoch, per_epoch)

    def update(self, gradient: np.ndarray, lr: float) -> float:
        """Take the optimiser's step along a gradient; returns its norm before clipping."""
        check_layout(self._layout, self.model)
        self.assigned.clear_frozen(gradient)
        norm = clip_gradient_norm(gradient, self.clip_norm)
        self.step += 1
        self.assigned.update(gradient, lr, self.step)
        constrain(self.model)
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
        return self.assigned.slots()

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the optimiser's arrays from ``state``.

        Raises
        ------
        CheckpointError
            If a name or a shape is not this optimiser's.
        """
        copy_slots(self.assigned.slots(), state)
