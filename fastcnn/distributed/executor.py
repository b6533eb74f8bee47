"""The executor of data-parallel training: each process computes a share of every batch."""

import logging
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import numpy as np

from fastcnn.data.dataset import Samples
from fastcnn.distributed.sharding import BLOCK, Shards
from fastcnn.distributed.world import World
from fastcnn.errors import ConfigurationError
from fastcnn.execution.checks import as_target
from fastcnn.execution.executor import (
    StepResults,
    WrappingExecutor,
    count_correct,
    mean_score,
    portions,
    totals,
)
from fastcnn.execution.executors import make_accumulating
from fastcnn.execution.joint_norm import Share, joint_gradients
from fastcnn.execution.step import Batch, Step
from fastcnn.layers import Model
from fastcnn.operations import OPERATIONS

log = logging.getLogger("fastcnn")

#: Samples that stay together in an evaluation: a backend's rounding may depend on the batch size,
#: and must not depend on the number of processes.
EVALUATED = 256


class DistributedExecutor(WrappingExecutor):
    """Each process computes the gradient of its share of every batch; all take the same step.

    The constructor does not communicate.

    The batch size is that of all processes together, and so are losses, hits and norms. A step is
    one ``Allreduce`` of the flat gradient, in which shares are weighted by their samples (or sample
    weights).

    Parameters
    ----------
    world : World
    batch_size : int
        Samples of all processes together.
    average_every : int
        With K > 1, processes take K steps by their own gradients and then average parameters and
        optimiser state (local SGD): for networks that are slow relative to a step. Norms are then
        means over the processes, and each process clips its own gradient.
    ordered : bool
        Sum the gradients of blocks of 16 samples one after the other, in batch order: results are
        then bitwise identical on any number of processes. Slower: every block's gradient is
        communicated.
    sync_batch_norm : bool
        Batch normalisation uses the statistics of the whole batch: its sums are exchanged in each
        layer, forward and backward. Without it, or with ``average_every``, ``accumulate`` or the
        reference backend, it uses those of each process' share.
    **settings
        Arguments of :func:`~fastcnn.execution.executors.make_accumulating`: loss, optimizer,
        backend, seed, clip_norm, the ``threads`` of this process, such as ``world.threads()``, and
        the number of smaller batches in which each process computes its share (``accumulate``; not
        with ``ordered``, which always computes 16 samples at a time).

    Raises
    ------
    ConfigurationError
        If settings exclude each other, or do not suit the network or the number of processes.

    References
    ----------
    Stich, "Local SGD converges fast and communicates little", arXiv:1805.09767.
    """

    def __init__(
        self,
        model: Model,
        *,
        world: World,
        batch_size: int,
        average_every: int = 1,
        ordered: bool = False,
        sync_batch_norm: bool = True,
        **settings: Any,
    ) -> None:
        self.world = world
        self.model = model
        self.batch_size = batch_size
        self.average_every = average_every
        self.ordered = ordered
        self.shards = Shards(world.rank, world.size, batch_size, BLOCK if ordered else 1)
        self._check()
        first, end = self.shards.share(batch_size)
        if ordered:
            settings["accumulate"] = 1
        size = BLOCK if ordered else max(end - first, 1)
        super().__init__(make_accumulating(model, batch_size=size, **settings))
        self._settings = settings
        self._is_joint = self._takes_joint_statistics(sync_batch_norm, settings)

    def _takes_joint_statistics(self, wanted: bool, settings: Mapping[str, Any]) -> bool:
        """Whether batch normalisation is over all processes; logs if that is impossible."""
        if not wanted or not self.model.graph().batch_statistics(training=True):
            return False
        reasons = {
            "average_every": self.average_every > 1,
            "accumulate": settings.get("accumulate", 1) > 1,
            "backend reference": settings.get("backend") == "reference",
        }
        for name, holds in reasons.items():
            if holds:
                log.warning(
                    "with %s, batch normalisation uses the statistics of each process' share", name
                )
        return not any(reasons.values()) and self.world.size > 1

    @property
    def _running(self) -> list[np.ndarray]:
        """Running means and variances, each once."""
        state = self.model.state_dict()
        found = {id(v): v for k, v in state.items() if k.endswith(("running_mean", "running_var"))}
        return list(found.values())

    def _check(self) -> None:
        if self.average_every > 1:
            if self.ordered:
                raise ConfigurationError(
                    "average_every and ordered_reduction exclude each other: one leaves out sums, "
                    "the other orders them"
                )
            if self.batch_size < self.world.size:
                raise ConfigurationError(
                    f"average_every needs a sample of each batch for each of {self.world.size} "
                    f"processes: batch_size must be at least that, got {self.batch_size}"
                )
        nodes = self.model.graph().nodes
        if self.ordered and any(OPERATIONS[node.operation].normalises for node in nodes):
            raise ConfigurationError(
                "ordered_reduction computes blocks of 16 samples one by one: batch normalisation "
                "would take its statistics of each"
            )

    @property
    def first_sample(self) -> int:
        """Index of this process' first sample in the last batch."""
        return self._local.first_sample

    @first_sample.setter
    def first_sample(self, value: int) -> None:
        self._local.first_sample = value

    def train_steps(
        self, samples: Samples, order: np.ndarray, learning_rates: np.ndarray
    ) -> StepResults:
        """Take one step for each learning rate, on consecutive batches of ``order``.

        With ``average_every``, parameters are averaged after each multiple of it, and at the end.
        """
        batches = [
            order[i * self.batch_size : (i + 1) * self.batch_size]
            for i in range(len(learning_rates))
        ]
        if self.average_every > 1:
            return self._own_steps(batches, learning_rates, samples)
        parts = -(-self.batch_size // BLOCK) if self.ordered else self.world.size
        # One column for each part of a batch, nonzero only on the process that has it: their sum is
        # exact, and all processes add the columns in the same order.
        losses, hits = np.zeros((len(batches), parts)), np.zeros((len(batches), parts))
        norms = np.zeros(len(batches))
        for index, (batch, lr) in enumerate(zip(batches, learning_rates, strict=True)):
            step = self._ordered_gradient if self.ordered else self._shared_gradient
            gradient = step(batch, samples, losses[index], hits[index])
            norms[index] = self._local.update(gradient, float(lr))
            self.note(self.step)
        self.world.add(losses)
        self.world.add(hits)
        totals = np.zeros(len(batches))
        for column in losses.T:
            totals += column
        return StepResults(totals, hits.sum(axis=1).astype(np.int64), norms)

    def _shared_gradient(
        self, batch: np.ndarray, samples: Samples, losses: np.ndarray, hits: np.ndarray
    ) -> np.ndarray:
        """The gradient of a batch: the weighted sum of all processes' gradients."""
        rank = self.world.rank
        first, end = self.shards.share(len(batch))
        if self._is_joint:
            return self._joint_gradient(batch, samples, losses, hits)
        if end > first:
            self._local.first_sample = first
            losses[rank], hits[rank], gradient = self._local.gradient(
                samples, batch[first:end], batch
            )
        else:
            gradient = np.zeros_like(self.model.parameter_vector)
        running = self._running
        for value in running:
            value *= (end - first) / len(batch)
        self._add([gradient, *running])
        return gradient

    def _joint_gradient(
        self, batch: np.ndarray, samples: Samples, losses: np.ndarray, hits: np.ndarray
    ) -> np.ndarray:
        """The gradient of a batch that is normalised as a whole."""
        first, end = self.shards.share(len(batch))
        rows, local = batch[first:end], cast("Any", self._local)
        weight = None if samples.sample_weight is None else samples.sample_weight[rows]
        graph, y, target = local.assigned.graph(), samples.labels[rows], np.empty(0)
        if end > first:
            target = as_target(self.loss, y, end - first, graph, self.model.dtype)
        share = Share(
            Batch(
                samples.images[rows], target, self.loss, weight, totals(self.loss, samples, batch)
            ),
            Step(True, local.seed, self.step, first),
            local.assigned.frozen,
            self.world,
        )
        backend, threads = self._settings.get("backend"), self._settings.get("threads")
        value, outputs, gradient = joint_gradients(self.model, graph, share, backend, threads)
        if end > first:
            losses[self.world.rank] = value
            hits[self.world.rank] = count_correct(outputs, y, self.loss)
        self.world.add(gradient)
        return gradient

    def _ordered_gradient(
        self, batch: np.ndarray, samples: Samples, losses: np.ndarray, hits: np.ndarray
    ) -> np.ndarray:
        """The gradient of a batch: the sum over its blocks, in order."""
        first, end = self.shards.share(len(batch))
        starts = range(first, end, BLOCK)
        vector = self.model.parameter_vector
        rows = np.empty((len(starts), vector.size), vector.dtype)
        for row, start in zip(rows, starts, strict=True):
            stop = min(start + BLOCK, len(batch))
            self._local.first_sample = start
            value, right, row[...] = self._local.gradient(samples, batch[start:stop], batch)
            losses[start // BLOCK], hits[start // BLOCK] = value, right
        shares = [self.shards.share(len(batch), rank) for rank in range(self.world.size)]
        return self.world.ordered_sum(rows, [-(-(b - a) // BLOCK) for a, b in shares])

    def _own_steps(
        self, batches: list[np.ndarray], learning_rates: np.ndarray, samples: Samples
    ) -> StepResults:
        """Local steps by this process' own gradients, with averages between them."""
        sums = np.zeros((3, len(batches)))
        self._local.first_sample = self.shards.share(self.batch_size)[0]
        done = 0
        while done < len(batches):
            count = min(self.average_every - self.step % self.average_every, len(batches) - done)
            span = batches[done : done + count]
            shares = [self.shards.share(len(batch)) for batch in span]
            own = np.concatenate([b[i:j] for b, (i, j) in zip(span, shares, strict=True)])
            # The last batch of an epoch may have fewer samples than there are processes.
            steps = sum(j > i for i, j in shares)
            rates = learning_rates[done : done + steps]
            step = self.step
            made = self._local.train_steps(samples, own, rates)
            # Several losses are reported as one: the mean, weighted by the number of targets of
            # each.
            counted = [
                portions(self.loss, samples, b[i:j], b).mean()
                for b, (i, j) in zip(span, shares, strict=True)
            ]
            factor = np.array(counted)[:steps]
            place = slice(done, done + steps)
            sums[:, place] = made.losses * factor, made.correct, made.gradient_norms * factor
            self.step = step + count
            self._average(len(own) / sum(map(len, span)))
            self.note(self.step)
            done += count
        self.world.add(sums)
        return StepResults(sums[0], sums[1].astype(np.int64), sums[2])

    def _average(self, portion: float) -> None:
        """Average parameters, optimiser state and running statistics, weighted by each share."""
        slots = self._local.optimizer_state().values()
        self._add([self.model.parameter_vector, *slots, *self._running], portion)

    def _add(self, arrays: list[np.ndarray], portion: float = 1.0) -> None:
        """Replace arrays by weighted sums over all processes, in one communication."""
        if len(arrays) == 1 and portion == 1.0:
            self.world.add(arrays[0])
            return
        message = np.concatenate([array.reshape(-1) for array in arrays])
        message *= portion
        self.world.add(message)
        ends = np.cumsum([0, *(array.size for array in arrays)])
        for array, (first, end) in zip(arrays, pairwise(ends), strict=True):
            array[...] = message[first:end].reshape(array.shape)

    def gradient(
        self, samples: Samples, rows: np.ndarray, whole: np.ndarray | None = None
    ) -> tuple[float, int, np.ndarray]:
        """Loss, hits and flat gradient of one batch of this process alone, without a step."""
        return self._local.gradient(samples, rows, whole)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The network's output outside training; each process computes its share."""
        if self.model.graph().batch_statistics(training=False):
            return self._local.logits(images)  # a share would have its own statistics
        shards = Shards(self.world.rank, self.world.size, len(images), EVALUATED)
        shares = [shards.share(len(images), rank) for rank in range(self.world.size)]
        first, end = shares[self.world.rank]
        shape = self.model.graph().output_shape
        own = np.empty(0, self.model.dtype)
        if end > first:
            own = self._local.logits(images[first:end])
        size = int(np.prod(shape))
        whole = self.world.join_parts(own.reshape(-1), [size * (b - a) for a, b in shares])
        return whole.reshape(len(images), *shape)

    def evaluate(self, samples: Samples) -> tuple[float, float, np.ndarray]:
        logits = self.logits(samples.images)
        return *mean_score(self.model, self.loss, logits, samples), logits
