"""One forward and one backward pass over a model's graph, operation by operation."""

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.errors import ConfigurationError
from fastcnn.execution import lanes
from fastcnn.execution.checks import (
    as_batch,
    as_batch_size,
    as_input,
    as_target,
    check_statistics,
)
from fastcnn.execution.fallback import run
from fastcnn.execution.step import INFERENCE, Batch, Step
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
    operations = get_backend(backend)
    return run_forward(graph, model.state_dict(), as_input(model, x), operations, step)[-1]


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
    x, state, operations = as_input(model, batch.x), model.state_dict(), get_backend(backend)
    outputs = run_forward(graph, state, x, operations, step)
    logits, name = outputs[-1], batch.loss.operation
    arguments = {**batch.loss.arguments, "sample_weight": batch.weight}
    value = getattr(operations, name)(logits, batch.target, **arguments)
    grad = getattr(operations, f"{name}_backward")(1.0, logits, batch.target, **arguments)
    gradient = np.zeros_like(model.parameter_vector)
    slots = _views(gradient, model.named_parameters())
    run_backward(graph, state, x, outputs, grad, operations, slots, step)
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
    parts = [x[start : start + size] for start in range(0, len(x), size)]
    return run(
        backend,
        lambda: lanes.network_output(model, x, graph, threads=threads),
        lambda name: np.concatenate([_outputs(model, graph, part, name) for part in parts]),
    )


def run_forward(
    graph: Graph,
    state: State,
    x: np.ndarray,
    operations: ModuleType,
    step: Step = INFERENCE,
) -> list[np.ndarray]:
    """Output of every node of the graph."""
    outputs: list[np.ndarray] = []
    for index, node in enumerate(graph.nodes):
        inputs = _inputs(node, x, outputs)
        row = OPERATIONS[node.operation]
        if row.random and not step.training:
            outputs.append(inputs[0])
            continue
        run = getattr(operations, node.operation)
        outputs.append(
            run(
                *inputs,
                *_parameters(node, state, row.parameters),
                **call_arguments(node, state, step, index),
            )
        )
        if row.normalises and step.training and node.buffers:
            _track(node, state, inputs[0], operations.batch_statistics(inputs[0]))
    return outputs


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
    pending: dict[int, np.ndarray] = {len(graph.nodes) - 1: grad_output}
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        if index not in pending:
            continue
        grad = pending.pop(index)
        row = OPERATIONS[node.operation]
        if row.random and not step.training:
            results: tuple[np.ndarray | None, ...] = (grad,)
        else:
            returned = getattr(operations, f"{node.operation}_backward")(
                grad,
                *_inputs(node, x, outputs),
                *_parameters(node, state, row.backward_reads),
                **call_arguments(node, state, step, index),
            )
            results = returned if isinstance(returned, tuple) else (returned,)
        for source, grad_x in zip(node.inputs, results, strict=False):
            assert grad_x is not None
            pending[source] = pending[source] + grad_x if source in pending else grad_x
        for parameter, value in zip(row.parameters, results[len(node.inputs) :], strict=False):
            if parameter in node.parameters:
                parameter_gradients[node.parameters[parameter]] += value
    return pending[INPUT]


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


def _track(
    node: Node, state: State, x: np.ndarray, statistics: tuple[np.ndarray, np.ndarray]
) -> None:
    """Move running statistics towards those of a batch."""
    batches = state[node.buffers["num_batches_tracked"]]
    batches += 1
    momentum = node.arguments["momentum"]
    factor = 1.0 / float(batches) if momentum is None else momentum
    count = x.size // x.shape[1]
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
