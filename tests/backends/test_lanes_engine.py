"""Whole networks on the engine, compared with im2col and between settings."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes.session.batches import Batches
from fastcnn.backends.lanes.session.engine import Engine
from fastcnn.execution import loss_and_gradients
from fastcnn.execution.step import Step
from fastcnn.layers import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)


def places(model: Any) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Position of each parameter in the flat array."""
    found, offset = {}, 0
    for key, value in model.named_parameters().items():
        found[key] = (offset, value.shape)
        offset += value.size
    return found


def run(model: Any, count: int, threads: int, batch: int | None = None) -> tuple[Any, ...]:
    """Loss, hits and gradient of one step, by the engine and by im2col."""
    generator = np.random.default_rng(0)
    shape = model.input_shape
    x = generator.standard_normal((count, *shape)).astype(np.float32)
    y = generator.integers(0, model.output_shape(shape)[0], count)
    engine = Engine(
        model.graph(), batch or count, model.parameter_vector, places(model), threads,
        loss=fastcnn.CrossEntropyLoss(0.1).engine_key,
    )  # fmt: skip
    losses, hits, _ = engine.run(Batches(x, np.arange(count), labels=y))
    loss, logits, gradient = loss_and_gradients(
        model, x, y, loss=fastcnn.CrossEntropyLoss(0.1), backend="im2col", step=Step(False)
    )
    return losses[0], hits[0], engine.gradient, loss, (logits.argmax(1) == y).sum(), gradient


MODELS = {
    "report_cnn": lambda: fastcnn.models.report_cnn(seed=0),
    "sigmoid": lambda: fastcnn.models.report_cnn("sigmoid", seed=0),
    "lenet5": lambda: fastcnn.models.lenet5(seed=0),
    "strided": lambda: Sequential(
        Conv2d(2, 6, (3, 2), stride=2, padding=(1, 0), seed=0), Tanh(),
        Conv2d(6, 9, 3, dilation=(1, 2), padding=2, groups=3, seed=1), ReLU(), MaxPool2d(3, 2, 1),
        Conv2d(9, 9, 2, stride=(1, 3), groups=9, bias=False, seed=2), AvgPool2d(2, 1, 1),
        Flatten(), Linear(72, 5, seed=3), Sigmoid(), Linear(5, 4, bias=False, seed=4),
        input_shape=(2, 9, 11),
    ),
    "winograd": lambda: Sequential(
        Conv2d(2, 32, 1, seed=0), Sigmoid(), Conv2d(32, 48, 3, padding=1, seed=1), ReLU(),
        Conv2d(48, 36, 3, padding=2, bias=False, seed=2), ReLU(), MaxPool2d(2),
        Conv2d(36, 32, 3, padding=(0, 1), seed=3), ReLU(), Flatten(), Linear(32 * 12, 3, seed=4),
        input_shape=(2, 6, 10),
    ),
    "winograd along rows": lambda: Sequential(
        Conv2d(2, 9, 5, padding=2, seed=0), ReLU(), MaxPool2d(2),
        Conv2d(9, 13, 3, padding=1, bias=False, seed=1), ReLU(),
        Conv2d(13, 8, (2, 3), padding=(0, 2), seed=2), ReLU(), Sigmoid(),
        Conv2d(8, 10, (1, 5), padding=(2, 0), seed=3), MaxPool2d(2), Flatten(),
        Linear(150, 3, seed=4), input_shape=(2, 15, 17),
    ),
    "winograd of long kernels": lambda: Sequential(
        Conv2d(2, 8, 7, padding=3, seed=0), ReLU(), MaxPool2d(2),
        Conv2d(8, 9, (3, 9), padding=(1, 4), seed=1), ReLU(), Sigmoid(), Flatten(),
        Linear(9 * 60, 3, seed=2), input_shape=(2, 13, 20),
    ),
    "winograd of sequences": lambda: Sequential(
        Conv2d(2, 40, (1, 9), padding=(0, 4), seed=0), ReLU(),
        Conv2d(40, 60, (1, 15), padding=(0, 2), seed=1), ReLU(), MaxPool2d((1, 2)),
        Conv2d(60, 12, (1, 5), padding=(0, 5), bias=False, seed=2), Sigmoid(), Flatten(),
        Linear(12 * 39, 3, seed=3), input_shape=(2, 1, 77),
    ),
    "convolution last": lambda: Sequential(
        Conv2d(1, 3, 3, padding="same", seed=0), ReLU(), Conv2d(3, 2, 3, padding=1, seed=1),
        ReLU(), Flatten(), Linear(32, 3, seed=2), input_shape=(1, 4, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("count", "threads"), [(16, 1), (37, 2), (3, 2), (64, 3)])
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients(name: str, count: int, threads: int) -> None:
    loss, hits, gradient, expected, right, wanted = run(MODELS[name](), count, threads)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert hits == right
    assert np.abs(gradient - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize(
    "name", [name for name in MODELS if name == "report_cnn" or "winograd" in name]
)
def test_results_do_not_depend_on_the_number_of_threads(name: str) -> None:
    results = [run(MODELS[name](), 90, threads) for threads in (1, 2, 4, 8)]
    for other in results[1:]:
        assert other[0] == results[0][0]
        assert (other[2] == results[0][2]).all()


def test_a_last_batch_may_be_short() -> None:
    assert run(MODELS["report_cnn"](), 20, 2, batch=64)[0] == run(MODELS["report_cnn"](), 20, 1)[0]
