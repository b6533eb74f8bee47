"""Gradients with respect to a network's input, such as for saliency maps."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arguments import plain_array
from fastcnn.backends import get_backend
from fastcnn.backends.graph import INPUT, Graph
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.execution import lanes
from fastcnn.execution.backend_choice import run
from fastcnn.execution.checks import as_batch, as_input, as_target, bound_loss, check_statistics
from fastcnn.execution.engine_arguments import input_factors
from fastcnn.execution.parts import Part, backward_parts, forward_parts
from fastcnn.execution.step import INFERENCE
from fastcnn.layers.packing import unpack
from fastcnn.losses import PythonLoss

if TYPE_CHECKING:
    from fastcnn.layers import Model

#: Quantities whose gradient can be computed.
OF = ("loss", "logit")


class Objective:
    """A scalar function of a network's output, a loss or logits, and its gradient.

    Parameters
    ----------
    y : ndarray or None
        Classes or targets; None for the most probable class.
    of : {"loss", "logit"}
    loss : Loss
    """

    def __init__(self, model: "Model", graph: Graph, y: Any, of: str | None, loss: Any):
        if of is None:
            of = "logit" if y is None else "loss"
        if not isinstance(of, str) or of not in OF:
            raise ConfigurationError(f"of must be one of {', '.join(OF)}, got {of!r}")
        if of == "loss" and y is None:
            raise ConfigurationError("the gradient of the loss needs targets y")
        if of == "logit" and loss is not None:
            raise ConfigurationError("loss has no effect with of='logit'")
        if of == "logit" and (graph.outputs or len(graph.output_shape) != 1):
            raise ConfigurationError(
                f"of='logit' needs one output of classes, the network has {graph.output_shape}"
            )
        self.model, self.graph, self.y, self.of = model, graph, y, of
        self.loss = bound_loss(model, loss) if of == "loss" else None

    def gradient(self, outputs: np.ndarray) -> np.ndarray:
        """The gradient with respect to all samples' outputs."""
        if self.loss is not None:
            y = as_target(self.loss, self.y, len(outputs), self.graph, outputs.dtype)
            if isinstance(self.loss, PythonLoss):
                return self.loss.value_and_gradient(outputs, y, None)[1]
            backward = getattr(get_backend("im2col"), f"{self.loss.operation}_backward")
            made: np.ndarray = backward(1.0, outputs, y, **self.loss.arguments, sample_weight=None)
            return made
        chosen = np.zeros_like(outputs)
        np.put_along_axis(chosen, self.classes(outputs)[:, None], 1.0, axis=1)
        return chosen

    def classes(self, outputs: np.ndarray) -> np.ndarray:
        """The class of each sample whose logit is differentiated."""
        if self.y is None:
            return outputs.argmax(axis=1)
        y, count = plain_array("classes", self.y), outputs.shape[1]
        if y.shape != (len(outputs),):
            raise ShapeError(
                f"expected a class for each sample, {len(outputs)} in all, got shape {y.shape}"
            )
        if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= count:
            raise ConfigurationError(f"classes must be integers from 0 to {count - 1}")
        return y


def input_gradient(
    model: "Model",
    x: Any,
    y: Any = None,
    *,
    of: str | None = None,
    loss: Any = None,
    backend: str | None = None,
) -> Any:
    """Gradient of a loss or a logit with respect to the samples, outside training.

    Parameters
    ----------
    model : Model
    x : array_like, shape (N, ...)
        Samples as the model accepts them.
    y : array_like, optional
        Classes or targets; by default the most probable class of each sample.
    of : {"loss", "logit"}, optional
        The loss, a mean over the batch as in :func:`fastcnn.gradients`, or for each sample the
        logit of its class. By default the loss if ``y`` is given, else the logit.
    loss : str or Loss, or a sequence or mapping of them, optional
        By default :class:`~fastcnn.losses.CrossEntropyLoss`.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, ...), floating-point
        In the units of ``x`` as given, before preprocessing: for bytes, the change of the loss per
        grey level of 255. A dictionary with one for each name if the model has several inputs.

    Raises
    ------
    ShapeError, DataError
        If ``x`` or ``y`` does not fit the model or the loss.
    ConfigurationError
        If arguments exclude each other.

    Examples
    --------
    >>> import numpy as np, fastcnn
    >>> model = fastcnn.models.report_cnn(seed=0)
    >>> fastcnn.input_gradient(model, np.zeros((2, 1, 28, 28)), [0, 2]).shape
    (2, 1, 28, 28)
    """
    x = as_batch(model, x)
    graph = model.graph(x.shape[1:])
    check_statistics(graph, len(x), training=False)
    objective = Objective(model, graph, y, of, loss)
    found = run(
        backend,
        lambda: lanes.network_input_gradient(model, x, graph, objective.gradient),
        lambda name: gradient_at(model, x, graph, objective, INPUT, name)[1],
    )
    scale, _ = input_factors(model.preprocessing, x)
    if not model.preprocessing.is_exact_in_float32(x):
        scale, _ = model.preprocessing.factors(x.dtype == np.uint8, x.shape[1])
    factors = np.asarray(scale, found.dtype)
    if factors.size == x.shape[1]:
        factors = factors.reshape(-1, *(1,) * (x.ndim - 2))
    else:
        factors = factors.reshape(x.shape[1:])
    found = found * factors
    return unpack(graph.inputs, found) if graph.inputs else found


def gradient_at(
    model: "Model", x: np.ndarray, graph: Graph, objective: Objective, place: int, backend: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A network's output, and the output of a node with its gradient; by default the input's."""
    part, operations = Part(as_input(model, x), INFERENCE), get_backend(backend)
    state = model.state_dict()
    forward_parts(graph, state, [part], operations)
    outputs = part.outputs[-1]
    part.pending = {len(graph.nodes) - 1: objective.gradient(outputs)}
    backward_parts(graph, state, [part], operations, place)
    value = part.x if place == INPUT else part.outputs[place]
    return outputs, part.pending.get(place, np.zeros_like(value)), value
