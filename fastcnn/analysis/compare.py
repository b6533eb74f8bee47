"""Comparison of backends: differences and times of each layer, forward and backward."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np

from fastcnn.arguments import as_count
from fastcnn.backends import BACKENDS, get_backend
from fastcnn.backends.graph import Graph, Node
from fastcnn.errors import ConfigurationError
from fastcnn.execution.checks import as_batch, as_input, as_target, bound_loss
from fastcnn.execution.parts import call_arguments, run_forward
from fastcnn.execution.step import Step
from fastcnn.layers import Model
from fastcnn.losses import Loss
from fastcnn.operations import OPERATIONS
from fastcnn.text_table import text_table
from fastcnn.timing import measure, repeated, timed


@dataclass(frozen=True)
class ComparisonRow:
    """One layer on one backend.

    Attributes
    ----------
    absolute, relative : float
        Largest difference from the reference over output and all gradients; relative ones are
        divided by the largest magnitude in the reference's array, or by a thousandth of the largest
        in the layer's arrays, whichever is larger.
    forward, backward : float
        Seconds per sample.
    """

    layer: str
    operation: str
    backend: str
    absolute: float
    relative: float
    forward: float
    backward: float

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, with times in microseconds per sample."""
        times = (f"{1e6 * seconds:,.2f}" for seconds in (self.forward, self.backward))
        return (self.layer, self.backend, *times, f"{self.absolute:.1e}", f"{self.relative:.1e}")


@dataclass
class Comparison:
    """All layers on all backends."""

    rows: list[ComparisonRow] = field(default_factory=list)

    def seconds(self, backend: str) -> float:
        """Seconds per sample for forward and backward of all layers."""
        return sum(row.forward + row.backward for row in self.rows if row.backend == backend)

    def speedup(self, backend: str) -> float:
        """Speed-up over the reference."""
        return self.seconds("reference") / self.seconds(backend)

    @property
    def largest_relative(self) -> float:
        """Largest relative difference over all rows."""
        return max(row.relative for row in self.rows)

    @property
    def largest_absolute(self) -> float:
        """Largest absolute difference over all rows."""
        return max(row.absolute for row in self.rows)

    def table(self) -> str:
        """All rows as text, with times in microseconds per sample."""
        return text_table(
            ("layer", "backend", "forward us", "backward us", "largest difference", "relative"),
            [row.cells for row in self.rows],
        )


def compare_backends(
    model: Model,
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    backends: tuple[str, ...] = BACKENDS,
    repeats: int = 5,
    reference_samples: int = 2,
) -> Comparison:
    """Run each layer on each backend with the same inputs and compare results and times.

    Every layer receives the same activations and gradients on all backends, so that a row shows
    only that layer's difference. The reference's nested loops are slow: they run only on the first
    ``reference_samples`` samples, on which results are compared; the other backends are timed on
    the whole batch.

    Parameters
    ----------
    model : Model
    x : array_like, shape (N, ...)
    y : array_like, shape (N,)
    loss : Loss, optional
    backends : tuple of str
    repeats : int
        Number of timed runs after one warm-up, whose median is reported; the reference runs once.
    reference_samples : int

    Returns
    -------
    Comparison
    """
    repeats = as_count("compare_backends", "repeats", repeats)
    if not isinstance(backends, (tuple, list)):
        raise ConfigurationError(
            f"compare_backends: backends must be a tuple of names, got {backends!r}"
        )
    reference_samples = as_count("compare_backends", "reference_samples", reference_samples)
    loss = bound_loss(model, loss)
    x = as_input(model, as_batch(model, x))
    graph = model.graph(x.shape[1:])
    target = as_target(loss, y, len(x), graph, x.dtype)
    few = min(reference_samples, len(x))
    state = model.copy_state()  # a forward pass in training updates running statistics
    small = _Pass(graph, state, x[:few], target[:few], loss)
    large = _Pass(graph, state, x, target, loss)
    comparison = Comparison()
    for index, node in enumerate(graph.nodes):
        results: dict[str, list[np.ndarray]] = {}
        for backend in ("reference", *(name for name in backends if name != "reference")):
            is_reference = backend == "reference"
            run, samples = (small, few) if is_reference else (large, len(x))
            calls = run.calls(index, node, backend)
            if is_reference:
                spent = [timed(call)[1] / samples for call in calls]
            else:
                runs = dict(enumerate(map(repeated, calls)))
                timings = measure(runs, rounds=repeats, most=1, pause=0.0)
                spent = [timing.median / samples for timing in timings.values()]
            forward, backward = small.calls(index, node, backend)
            returned = backward()
            gradients = returned if isinstance(returned, tuple) else (returned,)
            wanted = [True] * len(node.inputs)
            wanted += [key in node.parameters for key in OPERATIONS[node.operation].parameters]
            results[backend] = [forward(), *compress(gradients, wanted)]
            pairs = list(zip(results[backend], results["reference"], strict=True))
            differences = [float(np.abs(a - b).max()) for a, b in pairs]
            scales = [float(np.abs(b).max()) for _, b in pairs]
            # A gradient that is only rounding error, such as that of a bias before batch
            # normalisation, is not a scale.
            scales = [max(scale, 1e-3 * max(scales), 1e-30) for scale in scales]
            relative = max(d / s for d, s in zip(differences, scales, strict=True))
            comparison.rows.append(
                ComparisonRow(
                    node.name, node.operation, backend, max(differences), relative, *spent
                )
            )
    return comparison


class _Pass:
    """Inputs and output gradients of every node for one batch, computed by im2col."""

    def __init__(
        self,
        graph: Graph,
        state: dict[str, np.ndarray],
        x: np.ndarray,
        target: np.ndarray,
        loss: Loss,
    ) -> None:
        operations = get_backend("im2col")
        self.graph, self.state, self.x = graph, state, x
        self.outputs = run_forward(graph, state, x, operations, Step(training=True))
        backward = getattr(operations, f"{loss.operation}_backward")
        last = len(graph.nodes) - 1
        self.gradients: dict[int, np.ndarray] = {
            last: backward(1.0, self.outputs[-1], target, **loss.arguments)
        }
        for index in range(last, -1, -1):
            node = graph.nodes[index]
            returned = self.calls(index, node, "im2col")[1]()
            parts = returned if isinstance(returned, tuple) else (returned,)
            for source, part in zip(node.inputs, parts, strict=False):
                self.gradients[source] = self.gradients.get(source, 0) + part

    def calls(
        self, index: int, node: Node, backend: str
    ) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """The node's forward and backward as functions without arguments."""
        operations = get_backend(backend)
        row = OPERATIONS[node.operation]
        inputs = [self.x if source < 0 else self.outputs[source] for source in node.inputs]
        parameters = {key: self.state.get(name) for key, name in node.parameters.items()}
        arguments = call_arguments(node, self.state, Step(training=True), index)
        taken = [parameters.get(name) for name in row.parameters]
        read = [parameters.get(name) for name in row.backward_reads]
        # An unused branch has no gradient; it is compared with zeros.
        grad = self.gradients.get(index)
        if grad is None:
            grad = np.zeros_like(self.outputs[index])
        forward = getattr(operations, row.name)
        backward = getattr(operations, f"{row.name}_backward")
        return (
            lambda: forward(*inputs, *taken, **arguments),
            lambda: backward(grad, *inputs, *read, **arguments),
        )
