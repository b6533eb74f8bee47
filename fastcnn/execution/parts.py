"""Forward and backward passes of a batch in parts, one operation at a time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.im2col.memory import empty_like
from fastcnn.execution.step import INFERENCE, Step
from fastcnn.execution.workers import run_all
from fastcnn.operations import OPERATIONS

State = Mapping[str, np.ndarray]
#: From this process' sums, the channels, and whether they are moments, to all processes' sums.
Meet = Callable[[list[Any], int, bool], list[Any]]


@dataclass
class Part:
    """Some samples of a batch during a pass through a graph.

    Attributes
    ----------
    x : ndarray, shape (samples, ...)
    place : slice
        The samples' slice of the batch.
    is_whole : bool
        Whether they are all samples of the batch.
    outputs : list of ndarray
        Outputs of the nodes computed so far.
    statistics : dict of int to (ndarray, ndarray)
        Mean and variance of the whole batch, by node, if this is a part of it.
    pending : dict of int to ndarray
        Gradients of outputs whose node has not been processed yet.
    gradient_means : dict of int to (ndarray, ndarray)
        Means over the whole batch for the gradient of batch normalisation, by node.
    gradient_sums : dict of int to tuple
        This part's sums, from which those means were computed.
    gradient : ndarray, slots : mapping of str to ndarray
        The flat gradient of the parameters, and its views by name of the trained ones.
    wanted : set of int or None
        Nodes whose gradients are passed on; None for all.
    """

    x: np.ndarray
    step: Step
    place: slice = field(default_factory=lambda: slice(None))
    is_whole: bool = True
    outputs: list[np.ndarray] = field(default_factory=list)
    statistics: dict[int, Any] = field(default_factory=dict)
    pending: dict[int, np.ndarray] = field(default_factory=dict)
    gradient_means: dict[int, Any] = field(default_factory=dict)
    gradient_sums: dict[int, Any] = field(default_factory=dict)
    gradient: np.ndarray = field(default_factory=lambda: np.empty(0))
    slots: Mapping[str, np.ndarray] = field(default_factory=dict)
    wanted: set[int] | None = None


#: Bytes of the largest layer's output in a part of a batch: some layers stay in the cache. Each
#: part has its own gradient of all parameters, so a few parts are better than many.
PART_BYTES = 2**22
#: Outputs of all layers in half a batch from which on this is worth a core of its own: a part costs
#: some 0.5 ms of Python, which runs on one core at a time.
WORTH_A_CORE = 400_000


def divided(graph: Graph, x: np.ndarray, backend: str, step: Step) -> list[Part]:
    """A batch as parts that are computed one by one or in parallel.

    The division does not depend on the number of threads, so neither do the results.
    """
    count = len(x)
    if backend != "im2col":
        return [Part(x, step)]
    sizes = [math.prod(node.output_shape) for node in graph.nodes] or [1]
    parts = -(-count * max(sizes) * x.itemsize // PART_BYTES)
    if parts > 1 or count * sum(sizes) >= 2 * WORTH_A_CORE:
        parts += parts % 2  # equally many for each of two cores
        parts = max(parts, 2)
    size = max(1, -(-count // max(parts, 1)))
    if count <= size:
        return [Part(x, step)]
    places = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    return [
        Part(x[place], replace(step, first_sample=step.first_sample + place.start), place, False)
        for place in places
    ]


def run_forward(
    graph: Graph, state: State, x: np.ndarray, operations: ModuleType, step: Step = INFERENCE
) -> list[np.ndarray]:
    """Output of every node of the graph."""
    part = Part(x, step)
    forward_parts(graph, state, [part], operations)
    return part.outputs


def run_backward(
    graph: Graph,
    state: State,
    x: np.ndarray,
    outputs: list[np.ndarray],
    grad_output: np.ndarray,
    operations: ModuleType,
    parameter_gradients: Mapping[str, np.ndarray],
    step: Step = INFERENCE,
) -> np.ndarray:
    """Add the gradient of every parameter, and return that of the input ``x``.

    A node that feeds several others gets the sum of their gradients, and so does a parameter that
    several nodes share.
    """
    pending = {len(graph.nodes) - 1: grad_output}
    part = Part(x, step, outputs=outputs, pending=pending, slots=parameter_gradients)
    backward_parts(graph, state, [part], operations)
    return part.pending[INPUT]


def forward_parts(
    graph: Graph, state: State, parts: list[Part], operations: ModuleType, meet: Meet | None = None
) -> None:
    """Fill the outputs of all parts, which synchronise at nodes that need the whole batch.

    With ``meet`` they synchronise with those of other processes; there may then be no part.
    """
    nodes = list(enumerate(graph.nodes))
    training = parts[0].step.training if parts else True

    def compute(part: Part, begin: int, end: int) -> None:
        for index, node in nodes[begin:end]:
            part.outputs.append(_output(node, index, state, part, operations))

    begin = 0
    totals: dict[int, tuple[int, Any]] = {}
    for place in _meetings(graph, parts, meet):
        run_all(partial(compute, begin=begin, end=place), parts)
        node = graph.nodes[place]
        xs = [_inputs(node, part.x, part.outputs)[0] for part in parts]
        rows = list(run_all(operations.moments, xs))
        if meet is not None:
            rows = meet(rows, node.input_shapes[0][0], True)
        dtype = xs[0].dtype if xs else next(iter(state.values())).dtype
        statistics = operations.joint_statistics(rows, dtype)
        totals[place] = int(sum(row[0] for row in rows)), statistics
        for part in parts:
            part.statistics[place] = statistics
        begin = place
    run_all(partial(compute, begin=begin, end=len(nodes)), parts)
    for index, node in nodes:
        if OPERATIONS[node.operation].normalises and node.tracks(training):
            if index in totals:
                track(node, state, *totals[index])
                continue
            xs = [_inputs(node, part.x, part.outputs)[0] for part in parts]
            count = sum(x.size for x in xs) // xs[0].shape[1]
            track(node, state, count, operations.batch_statistics(xs[0]))


def backward_parts(
    graph: Graph,
    state: State,
    parts: list[Part],
    operations: ModuleType,
    last: int = INPUT,
    meet: Meet | None = None,
) -> None:
    """Accumulate all parts' gradients; those of the input, or of a given node, stay pending."""
    nodes = list(enumerate(graph.nodes))

    def compute(part: Part, begin: int, end: int) -> None:
        for index, node in reversed(nodes[begin:end]):
            if index in part.pending:
                _take_back(node, index, state, part, operations)

    def sums(part: Part, place: int) -> Any:
        node, (mean, variance) = graph.nodes[place], part.statistics[place]
        x, eps = _inputs(node, part.x, part.outputs)[0], node.arguments["eps"]
        return operations.gradient_sums(part.pending[place], x, mean, variance, eps)

    end = len(nodes)
    for place in reversed(_meetings(graph, parts, meet)):
        if place <= last:
            break
        run_all(partial(compute, begin=place + 1, end=end), parts)
        has_gradient = all(place in part.pending for part in parts)
        rows = list(run_all(partial(sums, place=place), parts)) if has_gradient else []
        for part, row in zip(parts, rows, strict=False):
            part.gradient_sums[place] = row
        if meet is not None:
            rows = meet(rows, graph.nodes[place].input_shapes[0][0], False)
        if rows and parts and has_gradient:
            means = operations.joint_means(rows, parts[0].x.dtype)
            for part in parts:
                part.gradient_means[place] = means
        end = place + 1
    run_all(partial(compute, begin=last + 1, end=end), parts)


def _meetings(graph: Graph, parts: list[Part], meet: Meet | None = None) -> list[int]:
    """Nodes that depend on all samples of a batch, if it is divided."""
    training = parts[0].step.training if parts else True
    is_divided = meet is not None or not parts[0].is_whole
    return [
        index
        for index, node in enumerate(graph.nodes)
        if is_divided and node.takes_batch_statistics(training)
    ]


def _output(node: Node, index: int, state: State, part: Part, operations: ModuleType) -> np.ndarray:
    inputs = _inputs(node, part.x, part.outputs)
    row = OPERATIONS[node.operation]
    if row.random and not part.step.training:
        return inputs[0]
    arguments = call_arguments(node, state, part.step, index)
    if index in part.statistics:
        arguments["mean"], arguments["variance"] = part.statistics[index]
    parameters = _parameters(node, state, row.parameters)
    output: np.ndarray = getattr(operations, node.operation)(*inputs, *parameters, **arguments)
    return output


def _take_back(node: Node, index: int, state: State, part: Part, operations: ModuleType) -> None:
    """Pass a node's gradient on to its inputs and parameters."""
    grad = part.pending.pop(index)
    row = OPERATIONS[node.operation]
    if row.random and not part.step.training:
        results: tuple[np.ndarray | None, ...] = (grad,)
    else:
        arguments = call_arguments(node, state, part.step, index)
        if index in part.statistics:
            arguments["mean"], arguments["variance"] = part.statistics[index]
            arguments["gradient_means"] = part.gradient_means[index]
            arguments["sums"] = part.gradient_sums[index]
        if row.output_mask and part.wanted is not None:
            arguments["output_mask"] = (
                *(source in part.wanted for source in node.inputs),
                *(node.parameters.get(name) in part.slots for name in row.parameters),
            )
        returned = getattr(operations, f"{node.operation}_backward")(
            grad,
            *_inputs(node, part.x, part.outputs),
            *_parameters(node, state, row.backward_reads),
            **arguments,
        )
        results = returned if isinstance(returned, tuple) else (returned,)
    for source, grad_x in zip(node.inputs, results, strict=False):
        if part.wanted is not None and source not in part.wanted:
            continue
        assert grad_x is not None
        held = part.pending.get(source)
        if held is not None:
            grad_x = np.add(held, grad_x, out=empty_like(held))
        part.pending[source] = grad_x
    for parameter, value in zip(row.parameters, results[len(node.inputs) :], strict=False):
        if node.parameters.get(parameter) in part.slots:
            part.slots[node.parameters[parameter]] += value


def _inputs(node: Node, x: np.ndarray, outputs: list[np.ndarray]) -> list[np.ndarray]:
    return [x if source == INPUT else outputs[source] for source in node.inputs]


def _parameters(node: Node, state: State, names: tuple[str, ...]) -> list[np.ndarray | None]:
    keys = node.parameters
    return [state[keys[name]] if name in keys else None for name in names]


def call_arguments(
    node: Node, state: State, step: Step = INFERENCE, place: int = 0
) -> dict[str, Any]:
    """Keyword arguments of a node's backend functions.

    Parameters
    ----------
    state : mapping of str to ndarray
        Holds the running statistics.
    step : Step
    place : int
        The node's index in the graph, on which the mask of a random operation depends.
    """
    arguments = dict(node.arguments)
    row = OPERATIONS[node.operation]
    if row.random:
        arguments |= {"key": step.key(place), "first_sample": step.first_sample}
    if row.normalises:
        frozen = not node.takes_batch_statistics(step.training)
        arguments.pop("track_running_stats")
        arguments.pop("momentum")
        arguments["mean"] = state[node.buffers["running_mean"]] if frozen else None
        arguments["variance"] = state[node.buffers["running_var"]] if frozen else None
    return arguments


def track(node: Node, state: State, count: int, statistics: tuple[np.ndarray, np.ndarray]) -> None:
    """Update running statistics by those of a batch of ``count`` values per channel."""
    batches = state[node.buffers["num_batches_tracked"]]
    batches += 1
    momentum = node.arguments["momentum"]
    factor = 1.0 / float(batches) if momentum is None else momentum
    mean, variance = statistics
    unbiased = variance * (count / (count - 1))
    for name, value in (("running_mean", mean), ("running_var", unbiased)):
        running = state[node.buffers[name]]
        # Not running + factor * (value - running), which cancels if one of them is far larger. In
        # float64, as in PyTorch.
        running[...] = factor * value.astype(np.float64) + (1.0 - factor) * running
