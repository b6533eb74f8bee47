"""One forward and one backward pass over a model's graph, operation by operation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.errors import ConfigurationError
from fastcnn.execution import lanes
from fastcnn.execution.checks import as_batch, as_input, as_target, check_statistics
from fastcnn.execution.fallback import run
from fastcnn.execution.step import INFERENCE, Batch, Step
from fastcnn.execution.workers import one_blas_thread, run_all, workers
from fastcnn.losses import CrossEntropyLoss, Loss
from fastcnn.operations import OPERATIONS

if TYPE_CHECKING:
    from fastcnn.layers import Model

State = Mapping[str, np.ndarray]


def forward(
    model: "Model",
    x: Any,
    *,
    backend: str | None = None,
    training: bool = False,
    seed: int = 0,
    step: int = 0,
) -> np.ndarray:
    """Output of a model's last layer.

    Parameters
    ----------
    model : Model
    x : array_like, shape (N, ...)
    backend : str, optional
    training : bool
        Whether dropout is active, with masks that depend on ``seed`` and ``step`` alone, and batch
        normalisation takes the batch's statistics (which move the running ones).

    Returns
    -------
    ndarray, shape (N, ...), in the type of the model's parameters

    Raises
    ------
    ShapeError
        If ``x`` does not fit the model.
    """
    x = as_batch(model, x)
    graph = model.graph(x.shape[1:])
    check_statistics(graph, len(x), training)
    now = Step(training, seed, step)
    return run(
        backend,
        lambda: lanes.network_output(model, x, graph, step=now),
        lambda name: _outputs(model, graph, x, name, now),
    )


def _outputs(
    model: "Model", graph: Graph, x: np.ndarray, backend: str, step: Step = INFERENCE
) -> np.ndarray:
    """Output of the last layer, operation by operation."""
    parts = _parts(graph, as_input(model, x), backend, step)
    with one_blas_thread():
        _forward(graph, model.state_dict(), parts, get_backend(backend))
    return np.concatenate([part.outputs[-1] for part in parts])


def loss_and_gradients(
    model: "Model",
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    sample_weight: np.ndarray | None = None,
    backend: str | None = None,
    training: bool = True,
    seed: int = 0,
    step: int = 0,
    first_sample: int = 0,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, logits and the gradient with respect to all parameters as one flat array.

    Parameters
    ----------
    x : array_like, shape (N, ...)
    y : array_like
        Integer classes of shape (N,), or targets in the shape of the output for MSE.
    sample_weight : ndarray of float64, shape (N,), optional
        Weights in the mean over the batch.
    first_sample : int
        Place of the first sample in a batch that several processes share; dropout depends on it.

    Returns
    -------
    loss : float
        Mean over the batch.
    logits : ndarray, shape (N, ...)
    gradient : ndarray
        In the order and layout of ``model.parameter_vector``.

    Raises
    ------
    ShapeError, DataError
        If ``x`` or ``y`` does not fit the model or the loss.
    """
    loss = loss or CrossEntropyLoss()
    x = as_batch(model, x)
    graph = model.graph(x.shape[1:])
    batch = Batch(x, as_target(loss, y, len(x), graph, model.dtype), loss, sample_weight)
    check_statistics(graph, len(x), training)
    now = Step(training, seed, step, first_sample)
    value, logits, gradient = run(
        backend,
        lambda: lanes.network_gradients(model, graph, batch, now),
        lambda name: _gradients(model, graph, batch, name, now),
    )
    clear_frozen(model, gradient)
    return value, logits, gradient


def _gradients(
    model: "Model", graph: Graph, batch: Batch, backend: str, step: Step
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, output and flat gradient of one batch, operation by operation."""
    state, operations = model.state_dict(), get_backend(backend)
    parts = _parts(graph, as_input(model, batch.x), backend, step)
    name = batch.loss.operation
    arguments = {**batch.loss.arguments, "sample_weight": batch.weight}
    with one_blas_thread():
        _forward(graph, state, parts, operations)
        logits = np.concatenate([part.outputs[-1] for part in parts])
        value = getattr(operations, name)(logits, batch.target, **arguments)
        grad = getattr(operations, f"{name}_backward")(1.0, logits, batch.target, **arguments)
        for part in parts:
            part.pending = {len(graph.nodes) - 1: grad[part.place]}
            part.gradient = np.zeros_like(model.parameter_vector)
            part.slots = _views(part.gradient, model.named_parameters())
        _backward(graph, state, parts, operations)
    gradient = parts[0].gradient
    for part in parts[1:]:
        gradient += part.gradient
    return float(value), logits, gradient


def clear_frozen(model: "Model", gradient: np.ndarray) -> None:
    """Set the gradient of parameters that are not trained to zero."""
    start = 0
    for first, end in [*model.trainable_ranges(), (gradient.size, gradient.size)]:
        gradient[start:first] = 0.0
        start = end


def gradients(
    model: "Model",
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    backend: str | None = None,
    training: bool = False,
    seed: int = 0,
) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradient of every parameter by name.

    Parameters
    ----------
    model : Model
    x : array_like, shape (N, ...)
    y : array_like, shape (N,) of classes, or targets in the shape of the output for MSE
    loss : Loss, optional
        By default :class:`~fastcnn.losses.CrossEntropyLoss`.
    backend : str, optional
    training : bool
        Whether dropout is active, and batch normalisation takes the batch's statistics, which move
        the running ones.
    seed : int
        Decides dropout's masks.

    Returns
    -------
    loss : float
    gradients : dict of str to ndarray
        By the keys and in the shapes of ``model.named_parameters()``.

    Raises
    ------
    ShapeError, DataError
        If ``x`` or ``y`` does not fit the model or the loss.

    Examples
    --------
    >>> import numpy as np, fastcnn
    >>> model = fastcnn.models.report_cnn(seed=0)
    >>> loss, grads = fastcnn.gradients(model, np.zeros((2, 1, 28, 28)), [0, 2])
    >>> grads["conv1.weight"].shape
    (4, 1, 3, 3)
    """
    value, _, gradient = loss_and_gradients(
        model, x, y, loss=loss, backend=backend, training=training, seed=seed
    )
    return value, _views(gradient, model.named_parameters())


def predict_logits(
    model: "Model",
    x: Any,
    *,
    backend: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """:func:`forward` outside training, ``batch_size`` samples at a time.

    Parameters
    ----------
    batch_size : int, optional
        Bounds the memory of backends that run operation by operation, by default 256; it does not
        change the result.
    threads : int, optional
        Those of an engine that has its own.

    Raises
    ------
    ConfigurationError
        If ``batch_size`` is not positive, or would change the result: batch normalisation without
        running statistics needs all samples at once.
    """
    if batch_size is not None:
        batch_size = as_batch_size(batch_size)
    x = as_batch(model, x)
    graph = model.graph(x.shape[1:])
    check_statistics(graph, len(x), training=False)
    whole = graph.batch_statistics(training=False)
    if whole and batch_size is not None and batch_size < len(x):
        raise ConfigurationError(
            f"layer {whole[0].name!r} has no running statistics and takes those of all {len(x)} "
            f"samples: batch_size={batch_size} would change the result; leave it out"
        )
    size = len(x) if whole else batch_size or 256
    batches = [x[start : start + size] for start in range(0, len(x), size)]

    def by_operations(name: str) -> np.ndarray:
        with workers(threads):
            return np.concatenate([_outputs(model, graph, batch, name) for batch in batches])

    return run(
        backend, lambda: lanes.network_output(model, x, graph, threads=threads), by_operations
    )


def as_batch_size(value: Any) -> int:
    """A positive integer, or a ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ConfigurationError(f"batch_size must be a positive integer, got {value!r}")
    return int(value)


@dataclass
class Part:
    """Some samples of a batch on their way through a graph.

    Attributes
    ----------
    x : ndarray, shape (samples, ...)
    step : Step
    place : slice
        Where the samples are in the batch.
    is_whole : bool
        Whether they are all samples of the batch.
    outputs : list of ndarray
        Of the nodes computed so far.
    statistics : dict of int to (ndarray, ndarray)
        Mean and variance of the whole batch, by node, where this is a part of it.
    pending : dict of int to ndarray
        Gradients of outputs that wait for their node.
    gradient_means : dict of int to (ndarray, ndarray)
        Means over the whole batch that the gradient of batch normalisation needs, by node.
    gradient : ndarray, slots : mapping of str to ndarray
        The parameters' gradient, flat and by name.
    """

    x: np.ndarray
    step: Step
    place: slice = field(default_factory=lambda: slice(None))
    is_whole: bool = True
    outputs: list[np.ndarray] = field(default_factory=list)
    statistics: dict[int, Any] = field(default_factory=dict)
    pending: dict[int, np.ndarray] = field(default_factory=dict)
    gradient_means: dict[int, Any] = field(default_factory=dict)
    gradient: np.ndarray = field(default_factory=lambda: np.empty(0))
    slots: Mapping[str, np.ndarray] = field(default_factory=dict)


#: Bytes of the largest layer's output in a part of a batch, which stays in the cache.
PART_BYTES = 2**20
#: Samples of a part at most, and at least where a batch is divided only to use two cores.
MOST, LEAST = 32, 8


def _parts(graph: Graph, x: np.ndarray, backend: str, step: Step) -> list[Part]:
    """A batch as parts that are computed one by one or side by side.

    The division does not depend on the number of threads, so neither do the results.
    """
    count = len(x)
    largest = max([np.prod(node.output_shape, dtype=int) for node in graph.nodes], default=1)
    size = min(MOST, max(LEAST, -(-count // 2)), max(1, PART_BYTES // (largest * x.itemsize)))
    if backend != "im2col" or count <= size:
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
    _forward(graph, state, [part], operations)
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

    A node that feeds several others receives the sum of their gradients, and so does a parameter
    that several nodes have.
    """
    pending = {len(graph.nodes) - 1: grad_output}
    part = Part(x, step, outputs=outputs, pending=pending, slots=parameter_gradients)
    _backward(graph, state, [part], operations)
    return part.pending[INPUT]


def _forward(graph: Graph, state: State, parts: list[Part], operations: ModuleType) -> None:
    """Fill the outputs of all parts, which meet at nodes that need the whole batch."""
    nodes, step = list(enumerate(graph.nodes)), parts[0].step

    def compute(part: Part, begin: int, end: int) -> None:
        for index, node in nodes[begin:end]:
            part.outputs.append(_output(node, index, state, part, operations))

    begin = 0
    for place in _meetings(graph, parts):
        run_all(partial(compute, begin=begin, end=place), parts)
        xs = [_inputs(graph.nodes[place], part.x, part.outputs)[0] for part in parts]
        statistics = operations.joint_statistics(run_all(operations.moments, xs), xs[0].dtype)
        for part in parts:
            part.statistics[place] = statistics
        begin = place
    run_all(partial(compute, begin=begin, end=len(nodes)), parts)
    for index, node in nodes:
        if OPERATIONS[node.operation].normalises and step.training and node.buffers:
            xs = [_inputs(node, part.x, part.outputs)[0] for part in parts]
            count = sum(x.size for x in xs) // xs[0].shape[1]
            statistics = parts[0].statistics.get(index) or operations.batch_statistics(xs[0])
            _track(node, state, count, statistics)


def _backward(graph: Graph, state: State, parts: list[Part], operations: ModuleType) -> None:
    """Add to the gradients of all parts, and leave that of the input pending."""
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
    for place in reversed(_meetings(graph, parts)):
        run_all(partial(compute, begin=place + 1, end=end), parts)
        if all(place in part.pending for part in parts):
            means = operations.joint_means(
                run_all(partial(sums, place=place), parts), parts[0].x.dtype
            )
            for part in parts:
                part.gradient_means[place] = means
        end = place + 1
    run_all(partial(compute, begin=0, end=end), parts)


def _meetings(graph: Graph, parts: list[Part]) -> list[int]:
    """Nodes that read something of all samples of a batch, if it is divided."""
    training = parts[0].step.training
    return [
        index
        for index, node in enumerate(graph.nodes)
        if not parts[0].is_whole and node.takes_batch_statistics(training)
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
        returned = getattr(operations, f"{node.operation}_backward")(
            grad,
            *_inputs(node, part.x, part.outputs),
            *_parameters(node, state, row.backward_reads),
            **arguments,
        )
        results = returned if isinstance(returned, tuple) else (returned,)
    for source, grad_x in zip(node.inputs, results, strict=False):
        assert grad_x is not None
        held = part.pending.get(source)
        part.pending[source] = grad_x if held is None else held + grad_x
    for parameter, value in zip(row.parameters, results[len(node.inputs) :], strict=False):
        if parameter in node.parameters:
            part.slots[node.parameters[parameter]] += value


def _inputs(node: Node, x: np.ndarray, outputs: list[np.ndarray]) -> list[np.ndarray]:
    return [x if source == INPUT else outputs[source] for source in node.inputs]


def _parameters(node: Node, state: State, names: tuple[str, ...]) -> list[np.ndarray | None]:
    return [state[node.parameters[key]] if key in node.parameters else None for key in names]


def call_arguments(
    node: Node, state: State, step: Step = INFERENCE, place: int = 0
) -> dict[str, Any]:
    """Keyword arguments of the backend functions of a node.

    Parameters
    ----------
    state : mapping of str to ndarray
        Where running statistics are.
    step : Step
    place : int
        The node's place in the graph, on which the mask of a random operation depends.
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


def _track(node: Node, state: State, count: int, statistics: tuple[np.ndarray, np.ndarray]) -> None:
    """Move running statistics towards those of a batch of ``count`` values in each channel."""
    batches = state[node.buffers["num_batches_tracked"]]
    batches += 1
    momentum = node.arguments["momentum"]
    factor = 1.0 / float(batches) if momentum is None else momentum
    mean, variance = statistics
    unbiased = variance * (count / (count - 1))
    for name, value in (("running_mean", mean), ("running_var", unbiased)):
        running = state[node.buffers[name]]
        # Not running + factor * (value - running): where one of them is far larger, the
        # difference cancels. In float64, as PyTorch does.
        running[...] = factor * value.astype(np.float64) + (1.0 - factor) * running


def _views(vector: np.ndarray, state: State) -> dict[str, np.ndarray]:
    views, offset = {}, 0
    for key, value in state.items():
        views[key] = vector[offset : offset + value.size].reshape(value.shape)
        offset += value.size
    return views
