"""The passes of some steps on the engine, and the Python code that runs between them.

This is a loss or an optimiser in Python, the sum of the gradients of several smaller batches, or a
callback that watches the training. The engine calls it in the middle of a run, which saves the cost
of starting a new run each time.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastcnn.execution.assigned import constrain
from fastcnn.execution.engine_arguments import batches_of, moment_of
from fastcnn.execution.executor import StepResults, count_correct
from fastcnn.losses import PythonLoss

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Engine
    from fastcnn.execution.lanes import LanesExecutor

#: Maximum bytes of outputs that a loss in Python reads in one run.
MOST_OUTPUTS = 32 * 2**20
NOTHING = np.empty((0, 0), np.float32)


class Piece(NamedTuple):
    """Some consecutive steps.

    Attributes
    ----------
    samples : ndarray of int64
    rates : ndarray of float64
        The learning rate of each step.
    step_size : int
        Samples of a step.
    """

    samples: np.ndarray
    rates: np.ndarray
    step_size: int


class Passes:
    """The passes of some steps.

    Parameters
    ----------
    executor : LanesExecutor
    piece : Piece
    whole : ndarray of int64, optional
        The samples of the step of which these are a part: then only their part of its gradient is
        computed.
    """

    def __init__(
        self, executor: "LanesExecutor", piece: Piece, whole: np.ndarray | None = None
    ) -> None:
        self.executor = executor
        self.samples, self.rates, step_size = piece
        self.engine: Engine = executor.engine()
        self.takes = whole is None
        self.gathers = self.takes and step_size > executor.batch_size
        self._schedule(step_size)
        count = len(self.schedule)
        self.shares, self.mean_weights = np.ones(count), np.empty(0)
        is_part = whole is not None and whole is not piece.samples
        if self.gathers or is_part or executor.totals is not None:
            self._share(whole)
        self.total = np.empty_like(self.engine.gradient if self.gathers else NOTHING)
        self.outputs = self.gradients = NOTHING
        if isinstance(executor.loss, PythonLoss):
            self.outputs = np.empty((len(self.samples), *executor.graph.output_shape), np.float32)
            self.gradients = np.empty_like(self.outputs)
        self.losses, self.hits = np.zeros(count), np.zeros(count, np.int64)

    def _schedule(self, step_size: int) -> None:
        from fastcnn.backends.lanes import Place

        executor, size = self.executor, self.executor.batch_size
        steps = np.arange(len(self.rates))[:, None]
        places = np.arange(0, step_size, size)[None]
        starts = steps * step_size + places
        ends = np.minimum((steps + 1) * step_size, len(self.samples))
        counts, is_last = np.minimum(size, ends - starts), starts + size >= ends
        calls = np.where(is_last, 0, Place.KEEP)
        if isinstance(executor.loss, PythonLoss):
            calls |= Place.MIDDLE
        if self.gathers:
            calls |= Place.READY
        if self.takes and (executor.has_python_update or executor.watch is not None):
            every = 1 if executor.watch is None else executor.watch.every
            is_due = (executor.step + steps + 1) % every == 0
            calls |= np.where(is_last & (is_due | executor.has_python_update), Place.AFTER, 0)
        numbers, firsts = executor.step + steps, executor.first_sample + places
        columns = np.broadcast_arrays(starts, counts, numbers, firsts, calls)
        self.schedule = np.stack(columns, axis=-1)[starts < ends]
        passes = (starts < ends).sum(axis=1)
        self.lasts = np.cumsum(passes) - 1
        self.firsts = self.lasts + 1 - passes

    def _share(self, whole: np.ndarray | None) -> None:
        """Compute each pass's weight in its step."""
        each, count = self.executor.totals, self.executor.loss.count
        sums = np.repeat(self.schedule[:, 1:2].astype(np.float64), count, axis=1)
        if each is not None:
            sums = np.add.reduceat(each[self.samples], self.schedule[:, 0])
        lengths = self.lasts - self.firsts + 1
        totals = np.repeat(np.add.reduceat(sums, self.firsts), lengths, axis=0)
        if whole is not None:
            totals[:] = len(whole) if each is None else each[whole].sum(axis=0)
        self.mean_weights = (totals / self.schedule[:, 1:2]).reshape(-1)
        # A loss in Python counts as one loss.
        first, total = sums[:, 0], totals[:, 0]
        self.shares = np.divide(first, total, out=np.zeros_like(first), where=total > 0.0)

    def run(self, threads: int | None = None) -> StepResults:
        """Run the steps."""
        from fastcnn.backends.lanes import Between

        executor = self.executor
        arrays = executor.targets
        if len(self.outputs):
            arrays = {"outputs": self.outputs.reshape(-1), "targets": self.gradients.reshape(-1)}
        losses, hits, norms = self.engine.run(
            batches_of(executor.stored, self.samples, mean_weights=self.mean_weights, **arrays),
            np.repeat(self.rates, self.lasts - self.firsts + 1),
            update=executor.engine_update if self.takes else None,
            moment=moment_of(executor.now()),
            threads=threads,
            between=Between(self.schedule, self._called),
        )
        if len(self.outputs):
            losses, hits = self.losses, self.hits
        if self.gathers:
            losses = np.add.reduceat(losses, self.firsts)
            hits, norms = np.add.reduceat(hits, self.firsts), norms[self.lasts]
        return StepResults(losses, hits, norms)

    def _called(self, index: int, place: int) -> None:
        from fastcnn.backends.lanes import Place

        if place == Place.MIDDLE:
            self._loss(index)
        elif place == Place.READY:
            self._gather(index)
        else:
            self._after(index)

    def _loss(self, index: int) -> None:
        executor, loss = self.executor, self.executor.loss
        start, count = self.schedule[index, :2]
        place = slice(start, start + count)
        samples, outputs = self.samples[place], self.outputs[place]
        targets, weight = executor.python_targets
        y = targets[samples]
        assert isinstance(loss, PythonLoss)
        value, gradient = loss.value_and_gradient(
            outputs, y, None if weight is None else weight[samples]
        )
        self.gradients[place] = gradient * gradient.dtype.type(self.shares[index])
        self.losses[index] = value * self.shares[index]
        self.hits[index] = count_correct(outputs, y, loss)

    def _step(self, index: int) -> int:
        return int(self.schedule[index, 2] - self.schedule[0, 2])

    def _gather(self, index: int) -> None:
        step, gradient = self._step(index), self.engine.gradient
        if index > self.firsts[step]:
            gradient += self.total
        if index < self.lasts[step]:
            self.total[...] = gradient

    def _after(self, index: int) -> None:
        executor, step = self.executor, self._step(index)
        number = executor.step + step + 1
        if executor.has_python_update:
            lr = float(self.rates[step])
            executor.assigned.update(self.engine.gradient, lr, number)
        if self.engine.program.constrains:
            constrain(executor.model, executor.assigned.frozen)
        executor.note(number)
