"""Forward and backward of each operation on every backend, in one group each.

``make bench`` runs it. All backends of a group get the same arrays, and their results are compared
with the reference before anything is timed.
"""

from typing import Any

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn.backends import BACKENDS

SAMPLES = 16
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None, dict[str, Any]]] = {
    "conv2d": ((4, 14, 14), (8, 4, 3, 3), {"padding": 1}),
    "conv_transpose2d": ((8, 7, 7), (8, 4, 3, 3), {"stride": 2, "padding": 1}),
    "max_pool2d": ((8, 14, 14), None, {"kernel_size": 2}),
    "avg_pool2d": ((8, 14, 14), None, {"kernel_size": 2}),
    "adaptive_avg_pool2d": ((8, 14, 14), None, {"output_size": 4}),
    "batch_norm": ((8, 14, 14), None, {"training": True}),
    "linear": ((392,), (128, 392), {}),
    "relu": ((8, 14, 14), None, {}),
    "sigmoid": ((128,), None, {}),
    "tanh": ((8, 14, 14), None, {}),
    "leaky_relu": ((8, 14, 14), None, {}),
    "elu": ((8, 14, 14), None, {}),
    "gelu": ((8, 14, 14), None, {}),
    "silu": ((8, 14, 14), None, {}),
    "softplus": ((8, 14, 14), None, {}),
    "dropout": ((8, 14, 14), None, {"p": 0.5, "key": 7}),
    "dropout2d": ((8, 14, 14), None, {"p": 0.25, "key": 7}),
}


def arrays(shape: tuple[int, ...], weight: tuple[int, ...] | None) -> list[np.ndarray]:
    """Input and, if there is one, weight."""
    generator = np.random.default_rng(0)
    shapes = [shape] if weight is None else [shape, weight]
    return [generator.standard_normal(size).astype(np.float32) for size in shapes]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", CASES)
def test_operation(benchmark: Any, name: str, direction: str, backend: str) -> None:
    shape, weight, arguments = CASES[name]
    inputs = arrays((SAMPLES, *shape), weight)
    few = [inputs[0][:1], *inputs[1:]]
    function = getattr(F, name)
    if direction == "backward":
        function = getattr(F, f"{name}_backward")
        inputs = [np.ones_like(getattr(F, name)(*inputs, **arguments)), *inputs]
        few = [inputs[0][:1], *few]
    ours = function(*few, **arguments, backend=backend)
    expected = function(*few, **arguments, backend="reference")
    pairs = zip(ours, expected, strict=True) if isinstance(ours, tuple) else [(ours, expected)]
    for actual, wanted in pairs:
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)
    benchmark.group = f"{name} {direction}"
    benchmark.pedantic(
        function,
        inputs,
        {**arguments, "backend": backend},
        rounds=3 if backend == "reference" else 50,
        warmup_rounds=1,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_step(benchmark: Any, backend: str) -> None:
    """Forward, loss, backward and update of the report's network."""
    import fastcnn
    from fastcnn.execution import make_executor
    from fastcnn.optim import SGD

    model = fastcnn.models.report_cnn(seed=0)
    executor = make_executor(
        model,
        loss=fastcnn.CrossEntropyLoss(),
        optimizer=SGD(lr=0.01, momentum=0.9),
        backend=backend,
        batch_size=SAMPLES,
    )
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (SAMPLES, 1, 28, 28)).astype(np.uint8)
    labels = generator.integers(0, 3, SAMPLES)
    arguments = (images, labels, np.arange(SAMPLES), np.array([0.01]))
    benchmark.group = "training step, report's network"
    benchmark.pedantic(
        executor.train_steps,
        arguments,
        rounds=3 if backend == "reference" else 50,
        warmup_rounds=1,
    )
