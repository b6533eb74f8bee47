"""Gradients against central differences in float64: every layer, loss and a whole model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from fastcnn.backends import BACKENDS, get_backend
from fastcnn.backends.operations import OPERATIONS
from fastcnn.errors import GradientError
from fastcnn.execution import gradients
from fastcnn.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    init,
)
from fastcnn.losses import CrossEntropyLoss, MSELoss

#: Largest accepted error relative to the largest gradient, with differences in float64.
TOLERANCE = 1e-6
STEP = 1e-5

CASES: tuple[tuple[Layer, tuple[int, ...]], ...] = (
    (Conv2d(2, 3, 3, padding=1, seed=0), (2, 5, 4)),
    (Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, seed=1),
     (2, 6, 5)),
    (Conv2d(3, 3, 3, stride=2, padding="valid", groups=3, bias=False, seed=2), (3, 5, 6)),
    (Conv2d(1, 2, (2, 4), padding="same", seed=3), (1, 4, 5)),
    (MaxPool2d(2), (2, 4, 6)),
    (MaxPool2d(3, stride=2, padding=1), (2, 5, 6)),
    (AvgPool2d(2), (2, 4, 6)),
    (AvgPool2d((3, 2), stride=(2, 1), padding=1), (2, 5, 4)),
    (AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (1, 5, 5)),
    (ReLU(), (2, 3, 3)),
    (Sigmoid(), (2, 3, 3)),
    (Tanh(), (2, 3, 3)),
    (Flatten(), (2, 3, 3)),
    (Linear(6, 4, seed=4), (6,)),
    (Dropout(0.4), (3, 4)),
)  # fmt: skip


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
        """Whether every gradient is right (and there is one at all)."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def failures(self) -> list[GradientRow]:
        """Rows that are not."""
        return [row for row in self.rows if not row.ok]


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


def gradcheck(
    *, backends: tuple[str, ...] | None = None, raise_on_failure: bool = False
) -> GradientReport:
    """Check every layer, every loss and a whole model on every backend.

    Parameters
    ----------
    backends : tuple of str, optional
        By default all.
    raise_on_failure : bool

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientError
        If a gradient is wrong and ``raise_on_failure``.
    """
    report = GradientReport()
    for backend in backends or BACKENDS:
        for layer, shape in CASES:
            report.rows += check_layer(layer, shape, backend)
        report.rows += _check_losses(backend)
        report.rows += _check_model(backend)
    if raise_on_failure and not report.ok:
        lines = [
            f"{row.backend}: {row.subject}, {row.gradient}: relative error {row.error:.2e}"
            for row in report.failures
        ]
        raise GradientError("wrong gradients:\n" + "\n".join(lines))
    return report


def check_layer(layer: Layer, shape: tuple[int, ...], backend: str) -> list[GradientRow]:
    """Check one layer's gradients for two samples of ``shape``."""
    operations = get_backend(backend)
    row = OPERATIONS[layer.operation]
    generator = np.random.default_rng(0)
    # Distinct values at a distance from 0 and from each other: no kink of max or ReLU is near.
    size = 2 * int(np.prod(shape))
    x = (generator.permutation(size) - size / 2 + 0.25).reshape(2, *shape) * (4.0 / size)
    values = {key: value.astype(np.float64) for key, value in layer.parameters.items()}
    arguments = dict(layer.arguments)
    if row.random:
        arguments["key"] = 12345

    def run(inputs: np.ndarray, parameters: dict[str, np.ndarray]) -> np.ndarray:
        taken = [parameters.get(name) for name in row.parameters]
        return getattr(operations, row.name)(inputs, *taken, **arguments)

    seed = generator.standard_normal(run(x, values).shape)
    returned = getattr(operations, f"{row.name}_backward")(
        seed, x, *(values[name] for name in row.backward_reads), **arguments
    )
    results = dict(
        zip(
            ("x", *row.parameters),
            returned if isinstance(returned, tuple) else (returned,),
            strict=True,
        )
    )
    rows = []
    for name, actual in results.items():
        if name != "x" and name not in values:
            continue

        def loss(value: np.ndarray, name: str = name) -> float:
            if name == "x":
                return float((run(value, values) * seed).sum())
            return float((run(x, {**values, name: value}) * seed).sum())

        expected = numerical_gradient(loss, x if name == "x" else values[name])
        error = relative_error(actual, expected)
        rows.append(GradientRow(backend, repr(layer), name, error, TOLERANCE))
    return rows


def _check_losses(backend: str) -> list[GradientRow]:
    operations: ModuleType = get_backend(backend)
    generator = np.random.default_rng(1)
    logits = generator.standard_normal((4, 5)) * 2
    classes = generator.integers(0, 5, 4)
    wanted = generator.standard_normal((4, 5))
    cases: tuple[tuple[Any, np.ndarray], ...] = (
        (CrossEntropyLoss(), classes),
        (CrossEntropyLoss(label_smoothing=0.1), classes),
        (MSELoss(), wanted),
    )
    rows = []
    for loss, target in cases:
        compute = getattr(operations, loss.operation)
        backward = getattr(operations, f"{loss.operation}_backward")

        def value(
            x: np.ndarray, compute: Any = compute, loss: Any = loss, target: Any = target
        ) -> float:
            return float(compute(x, target, **loss.arguments))

        expected = numerical_gradient(value, logits)
        error = relative_error(backward(1.0, logits, target, **loss.arguments), expected)
        rows.append(GradientRow(backend, repr(loss), "x", error, TOLERANCE))
    return rows


def _check_model(backend: str) -> list[GradientRow]:
    """Every layer kind at once, against differences along random directions."""
    model = Sequential(
        Conv2d(1, 2, 3, padding=1), Tanh(), MaxPool2d(2),
        Conv2d(2, 2, 2), Sigmoid(), AvgPool2d(2, stride=1),
        Flatten(), Linear(2, 4), ReLU(), Linear(4, 3),
        input_shape=(1, 6, 6),
    )  # fmt: skip
    model.initialize(init.Normal(0.5), init.Normal(0.5), seed=3).to(np.float64)
    generator = np.random.default_rng(2)
    x, y = generator.standard_normal((3, 1, 6, 6)), np.array([0, 2, 1])
    _, actual = gradients(model, x, y, backend=backend)
    rows = []
    for name, parameter in model.state_dict().items():
        kept = parameter.copy()

        def loss(value: np.ndarray, parameter: np.ndarray = parameter) -> float:
            parameter[...] = value
            return gradients(model, x, y, backend=backend)[0]

        expected = numerical_gradient(loss, kept)
        parameter[...] = kept
        error = relative_error(actual[name], expected)
        rows.append(GradientRow(backend, "whole model", name, error, TOLERANCE))
    return rows
