"""Rounding errors of whole networks in float32, and decisions that they leave undetermined.

A sum in float32 has an error of a few units in the last place, and so has a smooth function of it.
A ReLU, or the maximum of a window, makes a decision: where two values differ by less than rounding
error, float32 may decide the other way, and the gradient then takes another path. The resulting
difference is unrelated to the size of the rounding error.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.backends.graph import INPUT, Graph
from fastcnn.execution import loss_and_gradients
from fastcnn.execution.checks import as_batch, as_input, as_target, bound_loss
from fastcnn.execution.parts import run_backward, run_forward
from fastcnn.execution.passes import views_of
from fastcnn.execution.step import Step
from fastcnn.layers import Model
from fastcnn.losses import Loss
from fastcnn.text_table import text_table

#: Multiple of im2col's rounding error within which a decision is undetermined: Winograd's errors
#: are larger.
ERRORS = 2.0


@dataclass(frozen=True)
class Difference:
    """Largest difference of one backend in float32 from float64, over all elements.

    Attributes
    ----------
    logits, gradient : float
        Absolute differences.
    parameter : str
        The parameter with the largest difference of gradients.
    """

    backend: str
    logits: float
    gradient: float
    parameter: str


@dataclass(frozen=True)
class Rounding:
    """One network and batch in float32 against float64.

    Attributes
    ----------
    largest_logit, largest_gradient : float
        Largest magnitudes in float64.
    relus, windows : int
        Numbers of ReLU inputs whose sign, and of max pooling windows whose maximum, is undetermined
        within float32 rounding.
    undecided : float
        Largest change of a gradient if all of these are decided the other way.
    """

    differences: tuple[Difference, ...]
    largest_logit: float
    largest_gradient: float
    relus: int
    windows: int
    undecided: float

    def cells(self) -> tuple[str, ...]:
        """A line of :func:`rounding_table`, without its first column."""
        return (
            *(f"{d.logits:.1e}" for d in self.differences),
            *(f"{d.gradient:.1e}" for d in self.differences),
            f"{self.relus:,}",
            f"{self.windows:,}",
            f"{self.undecided:.1e}",
        )


def rounding_table(found: Mapping[int, Rounding]) -> str:
    """One line per network, by seed."""
    backends = [d.backend for d in next(iter(found.values())).differences]
    header = (
        "seed",
        *(f"{name} logits" for name in backends),
        *(f"{name} grad" for name in backends),
        "ReLUs",
        "windows",
        "other way",
    )
    return text_table(header, [(str(seed), *r.cells()) for seed, r in found.items()], left=1)


def compare_rounding(
    model: Model,
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    backends: tuple[str, ...] = ("im2col", "lanes"),
) -> Rounding:
    """Run a network's training pass in float32 on several backends, and once in float64.

    Parameters
    ----------
    model : Model
        Not changed.
    x : array_like, shape (N, ...)
    y : array_like, shape (N,)
    loss : Loss, optional
        By default cross-entropy.
    backends : tuple of str

    Returns
    -------
    Rounding

    Raises
    ------
    ShapeError, DataError
        If ``x`` or ``y`` does not match the model or the loss.
    """
    loss = bound_loss(model, loss)
    single, double = deepcopy(model).to(np.float32), deepcopy(model).to(np.float64)
    samples = as_batch(single, x)
    graph = single.graph(samples.shape[1:])
    target = as_target(loss, y, len(samples), graph, np.float64)
    _, logits, gradient = loss_and_gradients(double, x, y, loss=loss, backend="im2col")
    names = _owners(single)
    differences = []
    for backend in backends:
        _, other_logits, other = loss_and_gradients(
            deepcopy(single), x, y, loss=loss, backend=backend
        )
        apart = np.abs(other - gradient)
        where = int(apart.argmax()) if apart.size else 0
        differences.append(
            Difference(
                backend,
                float(np.abs(other_logits - logits).max()),
                float(apart.max(initial=0.0)),
                names[where] if apart.size else "",
            )
        )
    relus, windows, turned = _turned(single, double, graph, samples, target, loss)
    return Rounding(
        tuple(differences),
        float(np.abs(logits).max()),
        float(np.abs(gradient).max(initial=0.0)),
        relus,
        windows,
        float(np.abs(turned - gradient).max(initial=0.0)),
    )


def _owners(model: Model) -> list[str]:
    """The parameter of each element of the flat array."""
    return [name for name, value in model.named_parameters().items() for _ in range(value.size)]


def _turned(
    single: Model, double: Model, graph: Graph, x: np.ndarray, target: np.ndarray, loss: Loss
) -> tuple[int, int, np.ndarray]:
    """Undetermined signs and windows, and the gradient in float64 with all of them flipped."""
    operations = get_backend("im2col")
    state = {key: value.copy() for key, value in double.state_dict().items()}
    few, many = as_input(single, x), as_input(double, x)
    training = Step(training=True)
    rounded = run_forward(graph, single.copy_state(), few, operations, training)
    exact = run_forward(graph, state, many, operations, training)
    relus = windows = 0
    for node in graph.nodes:
        source = node.inputs[0]
        if node.operation not in ("relu", "max_pool2d") or source == INPUT:
            continue
        error = ERRORS * float(np.abs(rounded[source] - exact[source]).max())
        values = exact[source]
        if node.operation == "relu":
            close = (np.abs(values) <= error) & (values != 0)
            relus += int(close.sum())
            values[close] *= -1
        else:
            windows += _turn_windows(values, node.arguments, 2 * error)
    vector = np.zeros_like(double.parameter_vector)
    slots = views_of(vector, double.named_parameters())
    backward = getattr(operations, f"{loss.operation}_backward")
    grad = backward(1.0, exact[-1], target, **loss.arguments)
    run_backward(graph, state, many, exact, grad, operations, slots, training)
    return relus, windows, vector


def _turn_windows(values: np.ndarray, arguments: Mapping[str, Any], error: float) -> int:
    """In windows with a near tie, raise the second largest value above the largest; count them.

    Windows whose two largest values are zero are skipped: a preceding ReLU blocks both gradients.
    """
    (height, width), (down, along), padding = (
        arguments[name] for name in ("kernel_size", "stride", "padding")
    )
    top, left = padding
    padded = np.pad(values, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=-np.inf)
    found = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    found = found[:, :, ::down, ::along]
    flat = found.reshape(*found.shape[:4], -1)
    if flat.shape[-1] < 2:
        return 0
    order = np.argsort(flat, axis=-1)
    largest, second = (
        np.take_along_axis(flat, order[..., -k, None], axis=-1)[..., 0] for k in (1, 2)
    )
    close = (largest - second <= error) & (largest > second)
    n, c, oh, ow = np.nonzero(close)
    place = order[n, c, oh, ow, -2]
    h, w = oh * down + place // width - top, ow * along + place % width - left
    values[n, c, h, w] = 2 * largest[close] - second[close]
    return len(n)
