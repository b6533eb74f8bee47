"""Every kind of layer runs on the engine itself, in training and inference, never on im2col."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.analysis.gradient_cases import CASES, CaseShape, shapes_of
from fastcnn.execution import loss_and_gradients, predict_logits
from fastcnn.execution.step import Step
from fastcnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Concat,
    Flatten,
    Input,
    Layer,
    LayerNorm,
    Linear,
    LogSoftmax,
    Model,
    Narrow,
    RMSNorm,
    Sequential,
    Sigmoid,
    Softmax,
    Unflatten,
)
from fastcnn.operations import OPERATIONS

#: Layers whose arguments name dimensions of a sequence, which is a map of one row in the engine.
SEQUENCES: list[tuple[Layer, CaseShape]] = [
    (layer, (3, 5))
    for layer in (
        *(LayerNorm((3, 5)), LayerNorm(5), RMSNorm((3, 5)), RMSNorm(5)),
        *(kind(dim) for kind in (Softmax, LogSoftmax) for dim in (1, 2, -1, -2)),
    )
]


def network(layer: Layer, shape: CaseShape) -> Model:
    """The layer between a sigmoid and a linear layer; its inputs are the network's."""
    shapes = shapes_of(shape, getattr(OPERATIONS.get(layer.operation), "inputs", 1) or 1)
    if len(shapes) > 1:
        inputs = [Input(one) for one in shapes]
        made = deepcopy(layer)(*(Sigmoid()(one) for one in inputs), name="tested")
        flat = made if len(made.shape) == 1 else Flatten()(made)
        return Model(inputs, Linear(flat.shape[0], 3, seed=7)(flat, name="fc"))
    (shape,), tested = shapes, deepcopy(layer)
    features = int(np.prod(tested.output_shape(shape)))
    return Sequential(
        {
            "first": Sigmoid(),
            "tested": tested,
            "flat": Flatten(),
            "fc": Linear(features, 3, seed=7),
        },
        input_shape=shape,
    )


@pytest.mark.parametrize(
    ("layer", "shape"), [*CASES, *SEQUENCES], ids=lambda value: repr(value)[:40]
)
def test_a_layer_is_the_engines(
    layer: Layer, shape: CaseShape, caplog: pytest.LogCaptureFixture
) -> None:
    single = network(layer, shape)
    double = deepcopy(single).to(np.float64)
    generator = np.random.default_rng(0)
    x: Any = generator.normal(0.0, 2.0, (21, *single.graph().input_shape))
    y = generator.integers(0, 3, 21)
    for training in (True, False):
        program = fastcnn.plan(single, 21, training=training, threads=2)
        passes = training or not OPERATIONS.get(getattr(layer, "operation", ""), _PLAIN).random
        if passes and not isinstance(layer, (Flatten, Concat, Narrow, Unflatten)):
            assert any(name.startswith("tested") for name in program.names)
        value, _, gradient = loss_and_gradients(single, x, y, step=Step(training, 5, 2))
        expected = loss_and_gradients(double, x, y, backend="im2col", step=Step(training, 5, 2))
        assert value == pytest.approx(expected[0], rel=1e-5)
        assert gradient == pytest.approx(expected[2], abs=2e-5 * np.abs(expected[2]).max())
    assert not [entry for entry in caplog.records if entry.name == "fastcnn.lanes"]


_PLAIN = OPERATIONS["relu"]


def test_every_operation_is_among_them() -> None:
    covered = {node.operation for layer, shape in CASES
               for node in network(layer, shape).graph().nodes}  # fmt: skip
    assert covered == {name for name in OPERATIONS if not name.endswith("_bands")}


@pytest.mark.parametrize("shape", [(28, 28), (3, 4), (2, 3, 4, 5)])
def test_samples_of_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((70, *shape)).astype(np.float32), np.arange(70) % 3
    found = []
    for backend in ("im2col", "lanes"):
        model = Sequential(
            Sigmoid(), Flatten(), Linear(int(np.prod(shape)), 3, seed=1), input_shape=shape
        )
        history = fastcnn.fit(model, (x, y), epochs=2, batch_size=30, backend=backend)
        found.append((history.final["train_loss"], model.logits(x, backend=backend)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert found[1][1] == pytest.approx(found[0][1], abs=1e-4)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("layer", [BatchNorm2d, BatchNorm1d])
def test_statistics_of_the_batch_outside_training(layer: Any, threads: int) -> None:
    """Without running statistics a prediction needs all blocks before it can normalise."""
    norm = layer(4, track_running_stats=False)
    layers = [Flatten(), norm] if layer is BatchNorm1d else [norm, Flatten()]
    model = Sequential(*layers, Linear(4, 2, seed=0), input_shape=(4, 1, 1))
    x = np.random.default_rng(0).standard_normal((90, 4, 1, 1)).astype(np.float32)
    expected = predict_logits(model, x, backend="im2col")
    actual = predict_logits(model, x, backend="lanes", threads=threads)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layer", "shape"), SEQUENCES, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("count", [1, 21])
def test_outputs_of_sequences(layer: Layer, shape: tuple[int, ...], count: int) -> None:
    single = network(layer, shape)
    x = np.random.default_rng(0).normal(0.0, 2.0, (count, *shape)).astype(np.float32)
    found, expected = (predict_logits(single, x, backend=name) for name in ("lanes", "reference"))
    assert found == pytest.approx(expected, abs=1e-5)
