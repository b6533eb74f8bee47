"""Steps along the gradient of a batch that is computed in several smaller ones."""

from collections.abc import Mapping

import numpy as np

from fastcnn.execution.executor import Executor, StepResults, shares_of_samples


class AccumulatingExecutor:
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
        self._local = local
        self.loss = local.loss
        self.batch_size = batch_size
        self.small = small
        self.first_sample = 0

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._local.step

    @step.setter
    def step(self, value: int) -> None:
        self._local.step = value

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

    def start_epoch(self, epoch: int, per_epoch: int) -> None:
        """Say which epoch it is, counted from 1, and how many steps one has."""
        self._local.start_epoch(epoch, per_epoch)

    def gradient(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        samples: np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, int, np.ndarray]:
        """Loss, hits and flat gradient of one batch, without a step."""
        each = shares_of_samples(self._local.loss, labels, samples, sample_weight)
        loss, hits = 0.0, 0
        total: np.ndarray | None = None
        for start in range(0, len(samples), self.small):
            place = slice(start, start + self.small)
            self._local.first_sample = self.first_sample + start
            value, right, gradient = self._local.gradient(
                images, labels, samples[place], sample_weight
            )
            share = 1.0 if each is None else float(each[place].sum())
            gradient *= gradient.dtype.type(share)
            total = gradient.copy() if total is None else np.add(total, gradient, out=total)
            loss, hits = loss + share * value, hits + right
        assert total is not None
        return loss, hits, total

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
