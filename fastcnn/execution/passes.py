"""One forward and one backward pass over a model's graph, on any backend."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arguments import as_count, as_flag
from fastcnn.backends import get_backend
from fastcnn.backends.graph import Graph
from fastcnn.backends.im2col.memory import zeros_like
from fastcnn.errors import ConfigurationError, counted
from fastcnn.execution import lanes
from fastcnn.execution.assigned import clear_outside, frozen_parameters
from fastcnn.execution.backend_choice import run
from fastcnn.execution.checks import (
    as_batch,
    as_input,
    as_target,
    bound_loss,
    check_statistics,
    no_outputs,
)
from fastcnn.execution.parts import Part, State, backward_parts, divided, forward_parts
from fastcnn.execution.step import FIRST_STEP, INFERENCE, Batch, Step
from fastcnn.execution.workers import one_blas_thread, workers
from fastcnn.losses import Loss

if TYPE_CHECKING:
    from fastcnn.layers import Model

log = logging.getLogger("fastcnn.execution")

#: Floating-point operations of the reference backend in a second, about.
LOOPED = 2e6


def forward(
    model: "Model",
    x: Any,
    *,
    backend: str | None = None,
    training: bool = False,
    seed: int = 0,
    step: int = 0,
    graph: Graph | None = None,
) -> np.ndarray:
    """Output of a model's last layer.

    Parameters
    ----------
    model : Model
    x : array_like, shape (N, ...)
    backend : str, optional
    training : bool
        Whether dropout is active, with masks that depend only on ``seed`` and ``step``, and batch
        normalisation uses the batch's statistics (and updates the running ones).
    graph : Graph, optional
        The model's graph, with frozen statistics.

    Returns
    -------
    ndarray, shape (N, ...), in the dtype of the model's parameters

    Raises
    ------
    ShapeError
        If ``x`` does not fit the model.
    """
    x = as_batch(model, x, empty=True)
    graph = model.graph(x.shape[1:]) if graph is None else graph
    if not len(x):
        return no_outputs(model, graph)
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
    parts = divided(graph, as_input(model, x), backend, step)
    graph = graph.pooled_first if backend == "im2col" else graph
    with one_blas_thread():
        forward_parts(graph, model.state_dict(), parts, get_backend(backend))
    return np.concatenate([part.outputs[-1] for part in parts])


def loss_and_gradients(
    model: "Model",
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    sample_weight: np.ndarray | None = None,
    backend: str | None = None,
    step: Step = FIRST_STEP,
    threads: int | None = None,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, logits and the gradient with respect to all parameters as one flat array.

    Parameters
    ----------
    x : array_like, shape (N, ...)
    y : array_like
        Integer classes of shape (N,), or targets in the shape of the output for MSE.
    sample_weight : ndarray of float64, shape (N,), optional
        Weights in the mean over the batch.
    step : Step
        Determines dropout's masks and the statistics of batch normalisation.
    threads : int, optional
        Threads of an engine that has its own.

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
    loss = bound_loss(model, loss)
    x = as_batch(model, x)
    graph = model.graph(x.shape[1:])
    batch = Batch(x, as_target(loss, y, len(x), graph, model.dtype), loss, sample_weight)
    check_statistics(graph, len(x), step.training)
    value, logits, gradient = run(
        backend,
        lambda: lanes.network_gradients(model, graph, batch, step, threads),
        lambda name: operation_gradients(model, graph, batch, name, step, frozen_parameters(model)),
    )
    clear_outside(gradient, model.trainable_ranges())
    return value, logits, gradient


def operation_gradients(
    model: "Model", graph: Graph, batch: Batch, backend: str, step: Step, frozen: Sequence[str] = ()
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, output and flat gradient of one batch, operation by operation.

    The gradient of the parameters whose names are ``frozen`` is zero.
    """
    state, operations = model.state_dict(), get_backend(backend)
    parts = divided(graph, as_input(model, batch.x), backend, step)
    graph = graph.pooled_first if backend == "im2col" else graph
    with one_blas_thread():
        forward_parts(graph, state, parts, operations)
        logits = np.concatenate([part.outputs[-1] for part in parts])
        value, grad = batch.value_and_gradient(logits, operations)
        begin_backward(model, graph, parts, grad, frozen)
        backward_parts(graph, state, parts, operations)
    gradient = parts[0].gradient
    for part in parts[1:]:
        gradient += part.gradient
    return value, logits, gradient


def begin_backward(
    model: "Model", graph: Graph, parts: list[Part], grad: np.ndarray, frozen: Sequence[str]
) -> None:
    """Initialise the parts' gradients with that of the outputs, and allocate the parameters'."""
    parameters = model.named_parameters()
    trained = parameters.keys() - set(frozen)
    wanted = graph.leads_to_parameters(trained)
    for part in parts:
        part.pending = {len(graph.nodes) - 1: grad[part.place]}
        part.gradient = zeros_like(model.parameter_vector)
        views = views_of(part.gradient, parameters)
        part.slots = {key: view for key, view in views.items() if key in trained}
        part.wanted = wanted


def gradients(
    model: "Model",
    x: Any,
    y: Any,
    *,
    loss: Any = None,
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
    loss : str or Loss, or a sequence or mapping of them, optional
        By default :class:`~fastcnn.losses.CrossEntropyLoss`.
    backend : str, optional
    training : bool
        Whether dropout is active, and batch normalisation uses the batch's statistics and updates
        the running ones.
    seed : int
        Determines dropout's masks.

    Returns
    -------
    loss : float
    gradients : dict of str to ndarray
        With the keys and shapes of ``model.named_parameters()``.

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
    step = Step(as_flag("gradients", "training", training), seed)
    value, _, gradient = loss_and_gradients(model, x, y, loss=loss, backend=backend, step=step)
    return value, views_of(gradient, model.named_parameters())


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
        Threads of an engine that has its own.

    Raises
    ------
    ConfigurationError
        If ``batch_size`` is not positive, or would change the result: batch normalisation without
        running statistics needs all samples together.
    """
    if batch_size is not None:
        batch_size = as_count("predict", "batch_size", batch_size)
    x = as_batch(model, x, empty=True)
    graph = model.graph(x.shape[1:])
    if not len(x):
        return no_outputs(model, graph)
    check_statistics(graph, len(x), training=False)
    whole = graph.batch_statistics(training=False)
    if whole and batch_size is not None and batch_size < len(x):
        raise ConfigurationError(
            f"layer {whole[0].name!r} has no running statistics and uses those of all {len(x)} "
            f"samples: batch_size={batch_size} would change the result; leave it out"
        )
    size = len(x) if whole else batch_size or 256
    batches = [x[start : start + size] for start in range(0, len(x), size)]

    def by_operations(name: str) -> np.ndarray:
        if name == "reference":
            minutes = len(x) * model.flops(x.shape[1:]) / LOOPED / 60.0
            if minutes > 1.0:
                log.warning(
                    "the reference backend computes %s in loops, which takes about %s",
                    counted(len(x), "sample"),
                    counted(round(minutes), "minute"),
                )
        with workers(threads):
            return np.concatenate([_outputs(model, graph, batch, name) for batch in batches])

    return run(
        backend, lambda: lanes.network_output(model, x, graph, threads=threads), by_operations
    )


def views_of(vector: np.ndarray, state: State) -> dict[str, np.ndarray]:
    """Views of a flat array in the shapes of some arrays, by name."""
    views, offset = {}, 0
    for key, value in state.items():
        views[key] = vector[offset : offset + value.size].reshape(value.shape)
        offset += value.size
    return views
