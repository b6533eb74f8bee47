"""Gradients of a batch shared by several processes, with batch normalisation over all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.backends.graph import Graph
from fastcnn.execution.backend_choice import run
from fastcnn.execution.checks import as_input
from fastcnn.execution.engine_arguments import input_factors, moment_of, stored_samples
from fastcnn.execution.engines import Lease, room_for
from fastcnn.execution.parts import Part, backward_parts, divided, forward_parts, track
from fastcnn.execution.passes import begin_backward
from fastcnn.execution.step import Batch, Step
from fastcnn.execution.workers import one_blas_thread

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Meeting
    from fastcnn.layers import Model

#: The number of values, and two sums for each channel.
Row = tuple[float, np.ndarray, np.ndarray]


class Ranks(Protocol):
    """The processes that share a batch."""

    rank: int
    size: int

    def add(self, array: np.ndarray) -> None:
        """Replace an array by the sum over all processes."""
        ...


@dataclass(frozen=True)
class Share:
    """A process' share of a batch.

    Attributes
    ----------
    batch : Batch
        May be empty; ``totals`` are those of the whole batch.
    frozen : sequence of str
        Parameters whose gradients are not needed.
    """

    batch: Batch
    step: Step
    frozen: Sequence[str]
    ranks: Ranks

    @property
    def is_empty(self) -> bool:
        """Whether the process has no samples of the batch."""
        return len(self.batch.x) == 0

    def loss(self, outputs: np.ndarray) -> tuple[float, np.ndarray]:
        """The share's part of the loss, and its gradient with respect to the outputs."""
        return self.batch.value_and_gradient(outputs, get_backend("im2col"))


def joint_gradients(
    model: "Model", graph: Graph, share: Share, backend: str | None, threads: int | None
) -> tuple[float, np.ndarray, np.ndarray]:
    """A share's part of the loss, its outputs, and its part of the gradient.

    All processes call this together; the sum of their parts is the gradient of the whole batch.
    """
    return run(
        backend,
        lambda: _on_engine(model, graph, share, threads),
        lambda name: _by_operations(model, graph, share, name),
    )


def gathered(rows: list[Row], channels: int, ranks: Ranks, moments: bool) -> list[Row]:
    """One row for each process that has samples, in rank order.

    Parameters
    ----------
    rows : list of (float, ndarray, ndarray)
        This process' parts: count, means and squared deviations (``moments``), or count and two
        sums.
    """
    message = np.zeros((ranks.size, 1 + 2 * channels))
    if rows:
        count = sum(row[0] for row in rows)
        first = np.sum([row[1] * (row[0] if moments else 1) for row in rows], axis=0)
        second = np.sum([row[2] for row in rows], axis=0)
        if moments:
            first = first / count
            second = second + np.sum([n * (mean - first) ** 2 for n, mean, _ in rows], axis=0)
        message[ranks.rank] = np.concatenate([[count], first, second])
    ranks.add(message)
    return [(row[0], row[1 : 1 + channels], row[1 + channels :]) for row in message if row[0] > 0]


def _by_operations(
    model: "Model", graph: Graph, share: Share, backend: str
) -> tuple[float, np.ndarray, np.ndarray]:
    state, operations = model.state_dict(), get_backend("im2col")
    parts: list[Part] = []
    if not share.is_empty:
        parts = divided(graph, as_input(model, share.batch.x), "im2col", share.step)

    def meet(rows: list[Any], channels: int, moments: bool) -> list[Any]:
        return gathered(rows, channels, share.ranks, moments)

    value, outputs = 0.0, np.empty((0, *graph.output_shape), model.dtype)
    with one_blas_thread():
        forward_parts(graph, state, parts, operations, meet)
        if parts:
            outputs = np.concatenate([part.outputs[-1] for part in parts])
            value, grad = share.loss(outputs)
            begin_backward(model, graph, parts, grad, share.frozen)
        backward_parts(graph, state, parts, operations, meet=meet)
    gradient = np.zeros_like(model.parameter_vector)
    for part in parts:
        gradient += part.gradient
    return value, outputs, gradient


def _on_engine(
    model: "Model", graph: Graph, share: Share, threads: int | None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Run the engine's program in pieces, and exchange all processes' sums between them."""
    from fastcnn.backends.lanes import Batches, norm_meetings

    x, count = share.batch.x, len(share.batch.x)
    build = {"backward": True, "arrays": True, "training": True, "outputs": True}
    outputs = np.empty((count, *graph.output_shape), np.float32)
    moment = moment_of(share.step)
    value, tracked = 0.0, []
    room = room_for(max(count, 1))
    with Lease(model, graph, room, threads, **build, frozen=tuple(share.frozen)) as engine:
        engine.normalise(*input_factors(model.preprocessing, x))
        program, begin = engine.program, 0
        images = stored_samples(model.preprocessing, x)
        kept = {name: [a.copy() for a in arrays] for name, arrays in engine.running.items()}

        def piece(first: int, end: int, targets: dict[str, Any]) -> None:
            if count and end > first:
                engine.run(
                    Batches(images, np.arange(count), outputs=outputs.reshape(-1), **targets),
                    moment=moment,
                    phases=program.phases[first:end],
                )

        targets: dict[str, Any] = {}

        def until(end: int) -> None:
            nonlocal begin, value, targets
            middle = program.first_backward
            if begin < middle <= end:
                piece(begin, middle, {})
                begin = middle
                if count:
                    value, grad = share.loss(outputs)
                    targets = {"targets": np.require(grad, np.float32, ["C", "W"]).reshape(-1)}
            piece(begin, end, targets)
            begin = end

        for meeting in norm_meetings(program):
            until(meeting.phase)
            total, sums = _exchanged(meeting, engine.arena, count, share.ranks)
            if meeting.running is not None:
                tracked.append((meeting.running, total, sums))
        until(len(program.phases))
        for name, arrays in kept.items():
            for array, before in zip(engine.running[name], arrays, strict=True):
                array[...] = before
        gradient = engine.gradient.copy() if count else np.zeros_like(engine.gradient)
    # In program order, which may differ from the order of layers.
    state = model.state_dict()
    nodes = {node.buffers.get("running_mean"): node for node in graph.nodes}
    for key, total, statistics in tracked:
        track(nodes[key], state, total, statistics)
    return value, outputs, gradient


def _exchanged(
    meeting: "Meeting", arena: np.ndarray, count: int, ranks: Ranks
) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
    """Set the sums of a batch normalisation to those of all processes' samples.

    Returns the number of values, and their mean and variance, or the means of the gradient's sums.
    """
    rows = meeting.read(arena, count)
    found = gathered(rows, meeting.channels, ranks, meeting.is_forward)
    total = sum(row[0] for row in found)
    if meeting.is_forward:
        joint_statistics = get_backend("im2col").joint_statistics
        mean, variance = joint_statistics(found, np.dtype(np.float32))
        meeting.write_moments(arena, count, mean, variance)
        return int(total), (mean, variance)
    first = np.sum([row[1] for row in found], axis=0) / total
    second = np.sum([row[2] for row in found], axis=0) / total
    meeting.write_means(arena, count, first, second)
    return int(total), (first, second)
