"""Gradient checks against central differences in float64: layers, losses, whole models."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fastcnn import layers
from fastcnn.analysis.gradient_cases import CASES, CaseShape, loss_cases, shapes_of
from fastcnn.backends import BACKENDS, get_backend
from fastcnn.backends.graph import Node
from fastcnn.errors import ConfigurationError, GradientError
from fastcnn.execution import gradients
from fastcnn.execution.parts import call_arguments, run_forward
from fastcnn.execution.step import Step
from fastcnn.layers.connections import as_model
from fastcnn.losses import CrossEntropyLoss, JointLoss, Loss, MSELoss
from fastcnn.operations import OPERATIONS
from fastcnn.text_table import text_table

#: Largest accepted error relative to the largest gradient, with differences in float64.
TOLERANCE = 1e-6
#: Backends that compute in float32, with the tolerance of their gradients; the differences are then
#: computed by im2col in float64.
SINGLE_PRECISION: dict[str, float] = {"lanes": 1e-5}
STEP = 1e-5
#: Standard deviation of what is added to a model's parameters.
SHIFT = 0.01
#: Error of differences, relative to the largest gradient in the whole model.
OF_DIFFERENCES = 1e-10
#: Points next to the model at which the errors of single precision are measured, their relative
#: distance, and the multiple of the standard error of the errors' median that is not an error.
POINTS, DISTANCE, DEVIATIONS = 9, 1e-3, 8.0
#: The largest such error, as a share of the gradient; or the tolerance of the model's largest.
MOST = 0.1
#: Arrays up to this size are differenced element by element, larger ones along random directions.
FEW_ELEMENTS = 64


@dataclass(frozen=True)
class GradientRow:
    """One checked gradient: its largest error relative to the largest element."""

    backend: str
    subject: str
    gradient: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the error is finite and within the tolerance."""
        return bool(self.error <= self.tolerance)


@dataclass
class GradientReport:
    """All rows of a gradient check."""

    rows: list[GradientRow] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every gradient is correct, and there is at least one."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def failures(self) -> list[GradientRow]:
        """Rows that failed."""
        return [row for row in self.rows if not row.ok]

    def table(self) -> str:
        """All rows as text."""
        return text_table(
            ("backend", "layer or loss", "gradient of", "relative error", ""),
            [
                (
                    row.backend,
                    row.subject,
                    row.gradient,
                    f"{row.error:.1e}",
                    "ok" if row.ok else "WRONG",
                )
                for row in self.rows
            ],
        )


def numerical_gradient(
    function: Callable[[np.ndarray], float], x: np.ndarray, step: float = STEP
) -> np.ndarray:
    """Central differences of a scalar function, ``(f(x + h) - f(x - h)) / 2h`` per element."""
    x = np.array(x, dtype=np.float64)
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + step
        above = function(x)
        x[index] = kept - step
        below = function(x)
        x[index] = kept
        gradient[index] = (above - below) / (2.0 * step)
    return gradient


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the largest magnitude; infinite if shapes differ."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-8)
    return float(np.abs(actual - expected).max(initial=0.0)) / scale


def check_gradient(
    function: Callable[[np.ndarray], Any],
    gradient: Callable[[Any, np.ndarray], Any],
    x: Any,
    *,
    name: str = "function",
    tolerance: float = TOLERANCE,
    raise_on_failure: bool = False,
) -> GradientRow:
    """Check the gradient of your own operation, in the same way as those of layers.

    Parameters
    ----------
    function : callable
        ``function(x)`` returns an array or a number.
    gradient : callable
        ``gradient(grad_output, x)`` returns the gradient with respect to ``x``, for a
        ``grad_output`` in the shape of the function's result.
    x : array_like
        Converted to float64. Keep it away from kinks: differences across a kink are meaningless.
    name : str
        Name of the operation in the row and in the error.
    tolerance : float
        Largest accepted error relative to the largest element of the gradient.
    raise_on_failure : bool

    Returns
    -------
    GradientRow

    Raises
    ------
    GradientError
        If the gradient is wrong and ``raise_on_failure``.

    Examples
    --------
    >>> row = check_gradient(np.exp, lambda dy, x: dy * np.exp(x), [0.0, 1.0])
    >>> row.ok
    True
    """
    x = np.array(x, dtype=np.float64)
    grad_output = np.random.default_rng(0).standard_normal(np.shape(function(x.copy())))
    actual = gradient(grad_output, x.copy())

    def value(inputs: np.ndarray) -> float:
        return float((function(inputs) * grad_output).sum())

    error = relative_error(actual, numerical_gradient(value, x))
    row = GradientRow("", name, "x", error, tolerance)
    if raise_on_failure and not row.ok:
        raise GradientError(
            f"{name}: wrong gradient, relative error {error:.2e} (tolerance {tolerance:.0e})"
        )
    return row


def gradcheck(
    *,
    backends: tuple[str, ...] | None = None,
    model: layers.Model | None = None,
    raise_on_failure: bool = False,
) -> GradientReport:
    """Check every layer, every loss and a whole model on every backend.

    Parameters
    ----------
    backends : tuple of str, optional
        By default all.
    model : Model, optional
        A network to check in addition, with :func:`check_model`; it is not changed.
    raise_on_failure : bool

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientError
        If a gradient is wrong and ``raise_on_failure``.
    """
    if backends is not None and not isinstance(backends, (tuple, list)):
        raise ConfigurationError(f"gradcheck: backends must be a tuple of names, got {backends!r}")
    report = GradientReport()
    if model is not None:
        model = as_model(model)
    for backend in backends or BACKENDS:
        for layer, shape in CASES:
            report.rows += check_layer(layer, shape, backend)
        report.rows += _check_losses(backend)
        report.rows += _check_model(backend)
        if model is not None:
            report.rows += check_model(model, backend)
    if raise_on_failure and not report.ok:
        lines = [
            f"{row.backend}: {row.subject}, {row.gradient}: relative error {row.error:.2e}"
            for row in report.failures
        ]
        raise GradientError("wrong gradients:\n" + "\n".join(lines))
    return report


def check_layer(layer: layers.Layer, shape: CaseShape, backend: str) -> list[GradientRow]:
    """Check one layer's gradients for two samples of ``shape``, or of one shape per input."""
    operations = get_backend(_yardstick(backend))
    row = OPERATIONS[layer.operation]
    generator = np.random.default_rng(0)
    # Values well separated from 0 and from each other: away from the kinks of max and ReLU.
    shapes = shapes_of(shape, row.inputs or 1)
    names = ("x", "other", "third")[: len(shapes)]
    values = {}
    for name, one in zip(names, shapes, strict=True):
        size = 2 * int(np.prod(one))
        distinct = generator.permutation(size) - size / 2 + 0.25
        values[name] = distinct.reshape(2, *one) * (4.0 / size)
    values |= {key: value.astype(np.float64) for key, value in layer.parameters.items()}
    output = layer.output_shape(*shapes)
    node = Node("layer", layer.operation, (), layer.arguments_for(*shapes), {}, shapes, output)
    arguments = call_arguments(node, {}, Step(training=True, seed=12345))

    def run(given: dict[str, np.ndarray]) -> np.ndarray:
        taken = [given.get(name) for name in (*names, *row.parameters)]
        return getattr(operations, row.name)(*taken, **arguments)

    seed = generator.standard_normal(run(values).shape)
    arrays = [seed, *(values.get(name) for name in (*names, *row.backward_reads))]
    returned = getattr(get_backend(backend), f"{row.name}_backward")(
        *(None if array is None else array.astype(_dtype(backend)) for array in arrays), **arguments
    )
    parts = returned if isinstance(returned, tuple) else (returned,)
    rows = []
    for name, actual in zip((*names, *row.parameters), parts, strict=True):
        if name not in values:
            continue

        def loss(value: np.ndarray, name: str = name) -> float:
            return float((run({**values, name: value}) * seed).sum())

        error = relative_error(actual, numerical_gradient(loss, values[name]))
        rows.append(GradientRow(backend, repr(layer), name, error, _tolerance(backend)))
    return rows


def check_model(
    model: layers.Model, backend: str, *, samples: int = 1, directions: int = 2, seed: int = 0
) -> list[GradientRow]:
    """Check the parameter gradients of a copy of ``model`` against differences in float64.

    Differences of large arrays are computed along random directions, since one evaluation per
    element would take hours. The copy's parameters are all trained, and are moved a little: biases
    of 0 would leave maps of zeros exactly at the kink of a ReLU. A backend that computes in single
    precision is also run at points next to the model: an error is wrong if it is about the same at
    all of them, and larger than the errors' deviations explain.

    Parameters
    ----------
    model : Model
        With a known ``input_shape``. Vectors are compared with classes, other outputs, and single
        numbers, with values.
    backend : str
    samples, directions : int
        Samples in the batch; directions per array of more than ``FEW_ELEMENTS`` elements.
    seed : int
        Seed of samples, classes and directions.

    Returns
    -------
    list of GradientRow
        One per parameter.

    Raises
    ------
    ShapeError
        If the model's input shape is unknown.
    """
    model = deepcopy(model).to(np.float64)
    model.requires_grad = True
    graph = model.graph()
    generator = np.random.default_rng(seed)
    model.parameter_vector[...] += SHIFT * generator.standard_normal(model.num_parameters)
    x = generator.standard_normal((samples, *graph.input_shape))
    criterion: Loss = CrossEntropyLoss()
    y: np.ndarray = generator.integers(0, graph.output_shape[0], samples)
    if graph.outputs or graph.output_shape[:1] == (1,) or len(graph.output_shape) > 1:
        criterion = MSELoss()
        y = generator.standard_normal((samples, *graph.output_shape))
    if graph.outputs:
        criterion = JointLoss((criterion,) * len(graph.outputs)).bound(graph.outputs)
    find = partial(gradients, y=y, loss=criterion)
    actual = find(deepcopy(model), x, backend=_yardstick(backend))[1]
    apart: list[dict[str, np.ndarray]] = []
    if backend in SINGLE_PRECISION:
        apart = [_apart(model, x, backend, find, generator) for _ in range(POINTS)]
    operations = get_backend(_yardstick(backend))
    state = model.state_dict()
    tolerance = _tolerance(backend)
    largest = max((float(np.abs(g).max()) for g in actual.values()), default=0.0)

    def loss() -> float:
        logits = run_forward(graph, state, x, operations)[-1]
        return float(getattr(operations, criterion.operation)(logits, y, **criterion.arguments))

    rows = []
    for name, parameter in model.named_parameters().items():
        rays = _directions(parameter.shape, directions, generator)
        if not all(np.isfinite(each[name]).all() for each in (actual, *apart)):
            rows.append(GradientRow(backend, "model", name, float("inf"), tolerance))
            continue
        found = np.array([(actual[name] * ray).sum() for ray in rays])
        root = float(np.sqrt((actual[name] ** 2).mean()))
        least = OF_DIFFERENCES * largest
        if apart:
            errors = np.array([[(each[name] * ray).sum() for ray in rays] for each in apart])
            # Rounding errors differ from point to point, and so do decisions at kinks.
            median = np.median(errors, axis=0)
            # In a normal distribution, three quarters are within 1.15 standard deviations.
            deviation = np.quantile(np.abs(errors - median), 0.75, axis=0)
            explained = DEVIATIONS * float(np.sqrt((deviation**2).mean() / POINTS))
            least = max(least, min(explained, max(MOST * root, tolerance * largest)))
            found += median
        scale = max(root, least / tolerance, 1e-8)
        # A difference across a kink of ReLU or max is not a derivative; a smaller step avoids the
        # kink, while a wrong gradient is wrong with any step.
        for step in (STEP, STEP / 10, STEP / 100, STEP / 1000):
            expected = _derivatives(loss, parameter, rays, step)
            error = float(np.abs(found - expected).max()) / scale
            if error <= tolerance:
                break
        rows.append(GradientRow(backend, "model", name, error, tolerance))
    return rows


def _apart(
    model: layers.Model, x: np.ndarray, backend: str, find: Any, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Gradients of a backend minus those in float64, at a random point next to the model."""
    single, x = deepcopy(model), x.copy()
    for values in (single.parameter_vector, x):
        values *= 1.0 + DISTANCE * generator.standard_normal(values.shape)
    single, x = single.to(_dtype(backend)), x.astype(_dtype(backend))
    exact = find(deepcopy(single).to(np.float64), x, backend=_yardstick(backend))[1]
    return {name: g - exact[name] for name, g in find(single, x, backend=backend)[1].items()}


def _directions(
    shape: tuple[int, ...], count: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """All unit vectors for a small array, some random unit directions for a large one."""
    size = int(np.prod(shape))
    if size <= FEW_ELEMENTS:
        return list(np.eye(size).reshape(size, *shape))
    drawn = generator.standard_normal((count, *shape))
    return [ray / np.linalg.norm(ray) for ray in drawn]


def _derivatives(
    loss: Callable[[], float], parameter: np.ndarray, rays: list[np.ndarray], step: float
) -> np.ndarray:
    """Central differences along directions; changes the parameter meanwhile."""
    kept, found = parameter.copy(), []
    for ray in rays:
        parameter[...] = kept + step * ray
        above = loss()
        parameter[...] = kept - step * ray
        found.append((above - loss()) / (2.0 * step))
    parameter[...] = kept
    return np.array(found)


def _tolerance(backend: str) -> float:
    return SINGLE_PRECISION.get(backend, TOLERANCE)


def _dtype(backend: str) -> Any:
    return np.float32 if backend in SINGLE_PRECISION else np.float64


def _yardstick(backend: str) -> str:
    """The backend that computes the differences."""
    return "im2col" if backend in SINGLE_PRECISION else backend


def _check_losses(backend: str) -> list[GradientRow]:
    operations: ModuleType = get_backend(_yardstick(backend))
    rows = []
    for loss, output, target, sample_weight in loss_cases():
        arguments = {**loss.arguments, "sample_weight": sample_weight}
        compute = getattr(operations, loss.operation)
        backward = getattr(get_backend(backend), f"{loss.operation}_backward")

        def value(
            x: np.ndarray, compute: Any = compute, target: Any = target, arguments: Any = arguments
        ) -> float:
            return float(compute(x, target, **arguments))

        expected = numerical_gradient(value, output)
        error = relative_error(backward(1.0, output, target, **arguments), expected)
        subject = repr(loss) if sample_weight is None else f"{loss!r} with weights"
        subject += " of maps" if output.ndim > 2 else ""
        rows.append(GradientRow(backend, subject, "x", error, _tolerance(backend)))
    return rows


def _check_model(backend: str) -> list[GradientRow]:
    """Check a model with every kind of layer."""
    model = layers.Sequential(
        layers.Conv2d(1, 2, 3, padding=1),
        layers.Tanh(),
        layers.MaxPool2d(2),
        layers.Conv2d(2, 2, 2),
        layers.Sigmoid(),
        layers.AvgPool2d(2, stride=1),
        layers.Flatten(),
        layers.Linear(2, 4),
        layers.ReLU(),
        layers.Linear(4, 3),
        input_shape=(1, 6, 6),
    )
    model.initialize(layers.init.Normal(0.5), layers.init.Normal(0.5), seed=3).to(np.float64)
    rows = check_model(model, backend, samples=3)
    return [replace(row, subject="whole model") for row in rows]
