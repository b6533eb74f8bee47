"""Steps along the gradient of a batch that is computed in several smaller ones."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.data.dataset import Samples
from fastcnn.execution.executor import Executor, StepResults, WrappingExecutor
from fastcnn.execution.executors import make_executor
from fastcnn.execution.lanes import LanesExecutor

if TYPE_CHECKING:
    from fastcnn.layers import Model


class AccumulatingExecutor(WrappingExecutor):
    """Adds the gradients of small batches for each step, as if they were one batch.

    Each counts by its samples, or their weights, and dropout's masks are those of the whole batch.
    Batch normalisation alone tells them apart: it takes the statistics of each.

    Parameters
    ----------
    local : Executor
        What computes gradients of small batches, and takes the steps.
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
        Smaller batches of a step; with 1 the executor is an ordinary one.
    **settings
        What :func:`~fastcnn.execution.executors.make_executor` takes.
    """
    small = -(-batch_size // accumulate)
    made = make_executor(model, batch_size=small, **settings)
    return made if accumulate == 1 else AccumulatingExecutor(made, batch_size, small)
