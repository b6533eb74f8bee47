"""Averages of a model's weights over the course of training."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn.errors import CheckpointError
from fastcnn.execution import forward
from fastcnn.execution.assigned import running_means, with_frozen_statistics
from fastcnn.layers import Model
from fastcnn.optim import Lookahead
from fastcnn.optim.base import lerp
from fastcnn.training.feed import Feed
from fastcnn.training.options import TrainingOptions
from fastcnn.training.stream import StreamFeed

#: Steps between updates: updating at every step would take longer than a small network's steps.
EVERY_STEPS = 10


class WeightAverage:
    """Base of averages, which replace the weights while a model is evaluated.

    With ``buffers``, running statistics are averaged as well.

    Attributes
    ----------
    every : int or None
        Number of steps between calls of :meth:`update`; None to update only at the end of epochs.
    average : ndarray
        The averages of the parameters, followed by those of the running statistics.
    step : int
        The last step included in the average.
    """

    every: int | None = None

    def __init__(self, model: Model, buffers: bool) -> None:
        self.arrays = [model.parameter_vector]
        if buffers:
            found = {id(v): v for v in model.buffers.values() if v.dtype.kind == "f"}
            self.arrays += found.values()
        self.average = self.values()
        self.step = 0

    def values(self) -> np.ndarray:
        """The model's own values, as one array in the layout of the average."""
        return np.concatenate([array.reshape(-1) for array in self.arrays])

    def put(self, values: np.ndarray) -> None:
        """Copy such an array into the model."""
        start = 0
        for array in self.arrays:
            array[...] = values[start : start + array.size].reshape(array.shape)
            start += array.size

    def update(self, step: int, share: float) -> None:
        """Include the weights after step ``step``, at a fraction ``share`` of the training."""
        raise NotImplementedError

    def end_epoch(self, epoch: int, step: int) -> None:
        """Include the weights at the end of an epoch."""

    def move(self, weight: float) -> None:
        """Move the average towards the model's own values."""
        start = 0
        for array in self.arrays:
            lerp(self.average[start : start + array.size], array.reshape(-1), weight)
            start += array.size

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Copy the average into the model, and restore the model's own values at the end."""
        own = self.values()
        self.replace()
        try:
            yield
        finally:
            self.put(own)

    def replace(self) -> None:
        """Replace the model's values by the average permanently."""
        self.put(self.average)

    def state_dict(self) -> dict[str, Any]:
        """The average and the last step included in it."""
        return {"average": self.average, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state. Raises CheckpointError if it does not match or is not finite."""
        average, step = state["average"], state["step"]
        fits = isinstance(average, np.ndarray) and average.shape == self.average.shape
        if not fits or average.dtype != self.average.dtype or not np.isfinite(average).all():
            raise CheckpointError("the average of the weights does not match the model")
        if type(step) is not int or step < 0:
            raise CheckpointError(f"the average of the weights has step {step!r}")
        self.average[...] = average
        self.step = step


class MovingAverage(WeightAverage):
    """An exponential moving average of parameters.

    Each step counts as ``average += (1 - decay) * (parameters - average)``, applied several steps
    at a time. Early in a run the decay is at most ``(1 + step) / (10 + step)``, so that the initial
    weights are quickly forgotten.

    References
    ----------
    Polyak and Juditsky, SIAM J. Control Optim. 30 (1992); the warm-up is that of
    ``tf.train.ExponentialMovingAverage`` with ``num_updates``.
    """

    every = EVERY_STEPS

    def __init__(self, model: Model, decay: float) -> None:
        super().__init__(model, buffers=False)
        self.decay = decay

    def update(self, step: int, share: float) -> None:
        """Include the parameters, with the weight of the steps since the last call."""
        self.move(1.0 - min(self.decay, (1 + step) / (10 + step)) ** (step - self.step))
        self.step = step

    def end_epoch(self, epoch: int, step: int) -> None:
        """Include the last steps."""
        self.update(step, 0.0)


class SlowWeights(WeightAverage):
    """The slow weights of :class:`~fastcnn.optim.Lookahead`."""

    def __init__(self, model: Model, lookahead: Lookahead) -> None:
        super().__init__(model, buffers=True)
        self.lookahead = lookahead
        self.every = lookahead.every

    def update(self, step: int, share: float) -> None:
        """Move towards the model's own values, and reset the model to the result."""
        self.move(self.lookahead.weight(share))
        self.replace()
        self.step = step


class EpochAverage(WeightAverage):
    """The mean of the weights after each epoch from ``first`` on: stochastic weight averaging.

    Running statistics are those of the averaged network's activations, recomputed by ``measure``
    after each epoch.

    References
    ----------
    Izmailov et al., arXiv:1803.05407, algorithm 1.
    """

    def __init__(self, model: Model, first: int, measure: Callable[[], None]) -> None:
        super().__init__(model, buffers=True)
        self.first = first
        self.measure = measure
        self.count = 0

    def end_epoch(self, epoch: int, step: int) -> None:
        """Add the weights to the mean."""
        self.step = step
        own, size = self.values(), self.arrays[0].size
        if epoch < self.first:
            self.average[...] = own
            return
        self.count += 1
        weights = self.average[:size]
        lerp(weights, own[:size], 1.0 / self.count)
        if len(self.arrays) > 1:
            self.put(self.average)
            self.measure()
            self.average[size:] = self.values()[size:]
            self.put(own)

    def replace(self) -> None:
        """Replace the model's values by the average permanently, once there is one."""
        if self.count:
            super().replace()

    def state_dict(self) -> dict[str, Any]:
        """The average, and the number of epochs in it."""
        return {**super().state_dict(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        super().load_state_dict(state)
        if type(state["count"]) is not int or state["count"] < 0:
            raise CheckpointError(f"the average of the weights has {state['count']!r} epochs")
        self.count = state["count"]


def make_average(
    model: Model, options: TrainingOptions, measure: Callable[[], None]
) -> WeightAverage | None:
    """The average that the options request, if any."""
    if options.ema_decay is not None:
        return MovingAverage(model, options.ema_decay)
    if options.lookahead is not None:
        return SlowWeights(model, Lookahead.of(options.lookahead))
    if options.swa_start is not None:
        return EpochAverage(model, options.swa_start, measure)
    return None


def measure_statistics(model: Model, feed: Feed | StreamFeed, options: TrainingOptions) -> None:
    """Set running statistics to their means over all full batches of the training images.

    As ``torch.optim.swa_utils.update_bn`` does; images are not augmented or shuffled. A layer that
    is used in several places has the mean over these.
    """
    graph, state = model.graph(), model.state_dict()
    frozen = options.make_assignment().frozen_statistics(running_means(graph))
    nodes, uses = [], Counter[int]()
    for node in with_frozen_statistics(graph, frozen).nodes:
        if node.tracks(training=True):
            uses[layer := id(state[node.buffers["running_mean"]])] += 1
            node = replace(node, arguments={**node.arguments, "momentum": 1.0 / uses[layer]})
        nodes.append(node)
    graph = replace(graph, nodes=tuple(nodes))
    moved = {
        node.buffers[name]
        for node in nodes
        if node.tracks(training=True)
        for name in ("running_mean", "running_var")
    }
    if not moved:
        return
    assert isinstance(feed, Feed)  # refused for streams
    counters = {key: state[key].copy() for key in state if key.endswith("num_batches_tracked")}
    rows = np.arange(len(feed.data)) if feed.rows is None else feed.rows
    size = min(options.batch_size, len(rows))
    totals = {key: np.zeros(state[key].shape) for key in moved}
    batches = len(rows) // size
    for index in range(batches):
        images = feed.data.images[rows[index * size : (index + 1) * size]]
        forward(
            model, images, backend=options.backend, training=True, seed=options.seed, step=index,
            graph=graph,
        )  # fmt: skip
        for key in moved:
            totals[key] += state[key]
    for key, total in totals.items():
        state[key][...] = total / batches
    for key, value in counters.items():
        state[key][...] = value
