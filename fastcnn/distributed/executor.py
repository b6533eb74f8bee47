"""Training steps that several processes take together."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.distributed.sharding import BLOCK, share
from fastcnn.distributed.world import World
from fastcnn.errors import ConfigurationError
from fastcnn.execution.executor import Executor, Normalise, StepResults, make_executor
from fastcnn.execution.gradient_engine import GradientEngine
from fastcnn.layers import Model
from fastcnn.losses import Loss
from fastcnn.optim import Optimizer


class DistributedExecutor:
    """Each process computes the gradient of its share of every batch; the sums are applied by all.

    The batch size is that of all processes together, and so are losses, hits and norms. A step is
    one ``Allreduce`` of the flat gradient, in which shares count by their samples.

    Parameters
    ----------
    world : World
    average_every : int
        With K > 1, processes take K steps by their own gradients and then average parameters and
        optimiser state (local SGD): for networks that are slow beside a step.
    ordered : bool
        Sum gradients of blocks of 16 samples one after the other, in the order of the batch:
        results are then the same bits on any number of processes. Slower: the gradient of every
        block travels.

    References
    ----------
    Stich, "Local SGD converges fast and communicates little", arXiv:1805.09767.
    """

    def __init__(
        self,
        model: Model,
        *,
        world: World,
        loss: Loss,
        optimizer: Optimizer,
        batch_size: int,
        seed: int,
        threads: int | None,
        clip_norm: float | None,
        average_every: int = 1,
        ordered: bool = False,
    ) -> None:
        if average_every > 1 and ordered:
            raise ConfigurationError("average_every and ordered sums exclude each other")
        self.world = world
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.average_every = average_every
        self.ordered = ordered
        self.step = 0
        threads = world.threads() if threads is None else threads
        shares = [share(batch_size, rank, world.size) for rank in range(world.size)]
        largest = max(last - first for first, last in shares)
        self._local: Executor = make_executor(
            model, loss=loss, optimizer=optimizer, batch_size=largest, seed=seed, threads=threads,
            clip_norm=clip_norm,
        )  # fmt: skip
        self._engine = GradientEngine(
            model, loss, optimizer, BLOCK if ordered else largest, seed, threads, clip_norm,
            self._local.optimizer_state(),
        )  # fmt: skip
        world.copy_from_root(model.parameter_vector)

    def train_steps(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        learning_rates: np.ndarray,
        normalisation: Normalise,
        sample_weight: np.ndarray | None = None,
    ) -> StepResults:
        """Take one step for each learning rate, on consecutive batches of ``order``."""
        if sample_weight is not None:
            raise ConfigurationError("weights of samples are for one process")
        count = len(learning_rates)
        sums = np.zeros((2, count))
        norms = np.full(count, np.nan)
        self._engine.load(images, labels, normalisation)
        for index, lr in enumerate(learning_rates):
            batch = order[index * self.batch_size : (index + 1) * self.batch_size]
            first, last = share(len(batch), self.world.rank, self.world.size)
            if self.average_every > 1:
                loss, hits = self._own_step(images, labels, batch[first:last], lr, normalisation)
            else:
                loss, hits, norms[index] = self._shared_step(batch, first, last, float(lr))
            sums[:, index] = loss * (last - first) / len(batch), hits
            self.step += 1
            if self.average_every > 1 and self.step % self.average_every == 0:
                self._average()
        self.world.add(sums)
        self._local.step = self.step
        return StepResults(sums[0], sums[1].astype(np.int64), norms)

    def _shared_step(
        self, batch: np.ndarray, first: int, last: int, lr: float
    ) -> tuple[float, int, float]:
        """A step by the sum of all processes' gradients; own loss, own hits, common norm."""
        engine, size = self._engine, len(batch)
        if not self.ordered:
            loss, hits = engine.gradient_of(batch[first:last], self.step, first)
            gradient = engine.gradient
            gradient *= np.float32((last - first) / size)
            self.world.add(gradient)
        else:
            loss, hits, gradient = self._ordered_gradient(batch, first, last)
        return loss, hits, engine.update(gradient, lr, self.step)

    def _ordered_gradient(
        self, batch: np.ndarray, first: int, last: int
    ) -> tuple[float, int, np.ndarray]:
        """The batch's gradient as a sum over its blocks in their order."""
        starts = range(0, len(batch), BLOCK)
        rows = np.zeros((len(starts), self._engine.gradient.size), np.float32)
        loss, hits = 0.0, 0
        for index, start in enumerate(starts):
            # A block belongs to the process in whose share it begins.
            if first <= start < last:
                block = batch[start : start + BLOCK]
                value, right = self._engine.gradient_of(block, self.step, start)
                rows[index] = self._engine.gradient * np.float32(len(block) / len(batch))
                loss += value * len(block)
                hits += right
        # Each row is one process' and zero elsewhere, so that this sum is exact.
        self.world.add(rows)
        total = rows[0]
        for row in rows[1:]:
            total += row
        return loss / max(last - first, 1), hits, total

    def _own_step(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        samples: np.ndarray,
        lr: float,
        normalisation: Normalise,
    ) -> tuple[float, int]:
        """A step by this process' gradient alone."""
        if not len(samples):
            return 0.0, 0
        self._local.step = self.step
        made = self._local.train_steps(images, labels, samples, np.array([lr]), normalisation)
        return float(made.losses[0]), int(made.correct[0])

    def _average(self) -> None:
        """Average parameters and optimiser state over all processes."""
        for array in (self.model.parameter_vector, *self._local.optimizer_state().values()):
            self.world.add(array)
            array /= np.float32(self.world.size)

    def evaluate(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        normalisation: Normalise,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[float, float, np.ndarray]:
        """Mean loss, accuracy and logits outside training; each process evaluates its share."""
        if self.average_every > 1 and self.step % self.average_every:
            self._average()
        self._copy_buffers()
        first, last = share(len(images), self.world.rank, self.world.size)
        shape = self.model.output_shape(images.shape[1:])
        logits = np.zeros((len(images), *shape), np.float32)
        sums = np.zeros(2)
        if last > first:
            part = slice(first, last)
            loss, accuracy, logits[part] = self._local.evaluate(
                images[part], labels[part], normalisation
            )
            sums[:] = loss * (last - first), round(accuracy * (last - first))
        self.world.add(sums)
        self.world.add(logits)
        return float(sums[0] / len(images)), float(sums[1] / len(images)), logits

    def _copy_buffers(self) -> None:
        """Give every process the root's running statistics."""
        parameters = self.model.named_parameters()
        for key, value in self.model.state_dict().items():
            if key not in parameters:
                self.world.copy_from_root(value)

    def optimizer_state(self) -> dict[str, np.ndarray]:
        """The optimiser's arrays by name, as live views."""
        return self._local.optimizer_state()

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the optimiser's arrays from ``state``."""
        self._local.load_optimizer_state(state)


def make_distributed(model: Model, world: World, **settings: Any) -> DistributedExecutor:
    """An executor for all processes of ``world``, with the kernels loaded."""
    world.prepare_kernels()
    return DistributedExecutor(model, world=world, **settings)
