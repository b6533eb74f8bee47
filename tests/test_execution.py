"""Whole models on every backend."""

import logging
from typing import Any

import numpy as np
import pytest

import fastcnn
import fastcnn.functional as F
from fastcnn.analysis.gradcheck import check_model
from fastcnn.backends import BACKENDS, get_backend
from fastcnn.backends.lanes.session import fallback
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.execution import loss_and_gradients
from fastcnn.execution.layer_outputs import node_outputs
from fastcnn.execution.parts import run_backward, run_forward
from fastcnn.execution.step import Step
from fastcnn.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Dropout2d,
    Flatten,
    GraphBuilder,
    Input,
    Linear,
    MaxPool2d,
    Model,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Tanh,
)
from fastcnn.optim import SGD, RMSprop


def small_model() -> Sequential:
    return Sequential(
        Conv2d(2, 4, 3, padding="same", groups=2, seed=0), Tanh(), MaxPool2d(3, 2, 1),
        Dropout(0.3), AvgPool2d(2), Flatten(), Linear(4, 5, seed=1), Sigmoid(),
        Linear(5, 3, seed=2),
        input_shape=(2, 4, 4),
    )  # fmt: skip


@pytest.mark.parametrize("loss", [fastcnn.CrossEntropyLoss(0.1), fastcnn.MSELoss()])
def test_backends_agree_on_loss_and_gradients(loss: Any) -> None:
    model = small_model().to(np.float64)
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((3, 2, 4, 4)), np.array([0, 1, 2])
    results = [
        loss_and_gradients(model, x, y, loss=loss, backend=name, step=Step(True, 5, 3))
        for name in BACKENDS
    ]
    for value, logits, gradient in results[1:]:
        assert value == pytest.approx(results[0][0], rel=1e-12)
        assert logits == pytest.approx(results[0][1], rel=1e-10)
        assert gradient == pytest.approx(results[0][2], rel=1e-9, abs=1e-12)


def test_gradients_have_the_names_and_shapes_of_the_state() -> None:
    model = small_model()
    loss, grads = fastcnn.gradients(model, np.ones((2, 2, 4, 4)), [0, 1])
    assert np.isfinite(loss)
    assert {key: value.shape for key, value in grads.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


def test_dropout_is_off_outside_training_and_seeded_inside() -> None:
    model = small_model()
    x, y = np.random.default_rng(0).standard_normal((4, 2, 4, 4)), [0, 1, 2, 0]
    assert fastcnn.gradients(model, x, y)[0] == fastcnn.gradients(model, x, y)[0]
    losses = [loss_and_gradients(model, x, y, step=Step(True, 0, step))[0] for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_batch_size_does_not_change_predictions() -> None:
    model = fastcnn.models.report_cnn(seed=0)
    x = np.random.default_rng(0).standard_normal((7, 1, 28, 28))
    assert model.logits(x, batch_size=2) == pytest.approx(model.logits(x), abs=1e-5)
    assert (model.predict(x) == model.predict_proba(x).argmax(axis=1)).all()


class Diamond(Model):
    """Two layers read the same input: their gradients must be added."""

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        shared = self.layers["shared"].connect(builder, "shared", source)
        left, right = (self.layers[key].connect(builder, key, shared) for key in ("left", "right"))
        return builder.add("sum", Add(), (left, right))


@pytest.mark.parametrize("backend", BACKENDS)
def test_there_may_be_nothing_to_predict(backend: str) -> None:
    """As in PyTorch, for example after a selection of samples."""
    left, right = Input((1, 4, 4), "left"), Input((1, 4, 4), "right")
    trunk = Conv2d(1, 3, 1)(left) + Conv2d(1, 3, 1)(right)
    model = Model((left, right), {"map": trunk, "value": Linear(48, 2)(Flatten()(trunk))})
    nothing = (np.zeros((0, 1, 4, 4), np.uint8),) * 2
    for found in model.predict(nothing, backend=backend), fastcnn.session(model).predict(nothing):
        assert {name: each.shape for name, each in found.items()} == {
            "map": (0, 4, 4),
            "value": (0,),
        }
    chances = fastcnn.session(small_model()).predict_proba(np.zeros((0, 2, 4, 4)))
    assert (chances.shape, chances.dtype) == ((0, 3), np.float32)
    maps = small_model().features(np.zeros((0, 2, 4, 4)), "0", backend=backend)
    assert maps.shape == (0, 4, 4, 4)
    with pytest.raises(ShapeError, match="there are no samples"):
        fastcnn.evaluate(small_model(), (np.zeros((0, 2, 4, 4)), []), backend=backend)


def test_a_graph_may_branch() -> None:
    model = Diamond({"shared": Linear(3, 4), "left": Tanh(), "right": Linear(4, 4)})
    graph = model.graph((3,))
    assert graph.consumers()[0] == [1, 2]
    model.input_shape = (3,)
    x = np.random.default_rng(0).standard_normal((2, 3))
    _, grads = fastcnn.gradients(model, x, [0, 1])
    assert np.abs(grads["shared.weight"]).max() > 0


def residual_model() -> Sequential:
    """Branches with and without a shortcut, nested, and a block directly after the input."""
    inner = Residual(Sequential(Tanh(), Conv2d(4, 4, 3, padding=1, seed=1)))
    outer = Residual(
        Sequential(Conv2d(2, 4, 3, padding=1, stride=2, seed=0), inner, Sigmoid()),
        Conv2d(2, 4, 1, stride=2, bias=False, seed=2),
    )
    return Sequential(
        Residual(Dropout(0.3)), outer, Tanh(), Flatten(), Linear(16, 3, seed=3),
        input_shape=(2, 4, 4),
    )  # fmt: skip


def test_a_residual_block_names_its_parameters_like_nested_modules() -> None:
    model = residual_model()
    assert list(model.state_dict()) == [
        "1.main.0.weight", "1.main.0.bias", "1.main.1.main.1.weight", "1.main.1.main.1.bias",
        "1.shortcut.weight", "4.weight", "4.bias",
    ]  # fmt: skip
    nodes = {node.name: node for node in model.graph().nodes}
    assert nodes["0.add"].inputs == (0, -1)
    assert nodes["1.add"].output_shape == (4, 2, 2)


def test_gradients_of_all_readers_of_a_node_are_added() -> None:
    model = residual_model().to(np.float64)
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((5, 2, 4, 4)), np.array([0, 1, 2, 0, 1])
    for name in BACKENDS:
        assert all(row.error <= row.tolerance for row in check_model(model, name, samples=3))
    results = [
        loss_and_gradients(model, x, y, backend=name, step=Step(True, 5, 3)) for name in BACKENDS
    ]
    for value, logits, gradient in results[1:]:
        assert value == pytest.approx(results[0][0], rel=1e-12)
        assert logits == pytest.approx(results[0][1], rel=1e-10)
        assert gradient == pytest.approx(results[0][2], rel=1e-9, abs=1e-12)


def test_the_engine_runs_residual_blocks_itself(caplog: Any) -> None:
    model, generator = residual_model(), np.random.default_rng(0)
    x, y = generator.standard_normal((37, 2, 4, 4)), generator.integers(0, 3, 37)
    value, _, gradient = loss_and_gradients(model, x, y, step=Step(True, 5, 3))
    assert not caplog.records
    model.to(np.float64)
    expected = loss_and_gradients(model, x, y, backend="im2col", step=Step(True, 5, 3))
    assert value == pytest.approx(expected[0], rel=1e-5)
    assert gradient == pytest.approx(expected[2], abs=1e-5 * np.abs(expected[2]).max())


def test_the_input_of_a_residual_block_has_the_gradient_of_both_branches() -> None:
    graph = Residual(ReLU()).graph((2,))
    x, operations = np.array([[-1.0, 2.0]]), get_backend("im2col")
    outputs = run_forward(graph, {}, x, operations, Step(training=True))
    grad = run_backward(graph, {}, x, outputs, np.ones((1, 2)), operations, {}, Step(training=True))
    assert outputs[-1].tolist() == [[-1.0, 4.0]]
    assert grad.tolist() == [[1.0, 2.0]]


class OwnOptimizer:
    """Plain gradient descent, of a kind unknown to the engine."""

    lr, slots = 0.1, ()

    def update(self, parameters: Any, gradient: Any, slots: Any, lr: float, step: int) -> None:
        parameters -= lr * gradient


def small_network(*layers: Any) -> Sequential:
    return Sequential(Conv2d(1, 2, 3, seed=0), *layers, Flatten(), Linear(8, 3, seed=1),
                      input_shape=(1, 4, 4))  # fmt: skip


@pytest.mark.parametrize(
    ("model", "optimizer", "reason"),
    [
        (small_network().to(np.float64), SGD(), "parameters of type float64"),
        (small_network(BatchNorm2d(2, momentum=None)), SGD(), "a plain mean of running statistics"),
    ],
)
def test_what_the_engine_leaves_to_im2col_is_logged_once(
    model: Model,
    optimizer: Any,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fallback._say_once.cache_clear()
    x, y = np.random.default_rng(0).random((6, 1, 4, 4)), np.array([0, 1, 2, 0, 1, 2])
    before = model.parameter_vector.copy()
    for _ in range(2):
        fastcnn.fit(model, (x, y), epochs=2, optimizer=optimizer, backend="lanes")
        fastcnn.execution.forward(model, x, training=True)
        fastcnn.gradients(model, x, y)
    assert (model.parameter_vector != before).any()
    assert [record.getMessage() for record in caplog.records if record.name == "fastcnn.lanes"] == [
        f"lanes does not support {reason}; using the slower im2col backend"
    ]


def test_functions_alone_say_once_what_they_leave_to_im2col_but_do_not_warn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fallback._say_once.cache_clear()
    x = np.ones((2, 1, 5, 5))
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert F.conv2d(x, np.ones((3, 1, 3, 3))).dtype == np.float64
            assert F.tanh(x).dtype == np.float64
            assert get_backend("lanes").tanh(x[:0].astype(np.float32)).size == 0
    said = [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "fastcnn.lanes"]
    assert said == [
        (logging.INFO, f"lanes does not support {what}; using the slower im2col backend")
        for what in ("arrays of float64", "empty arrays")
    ]


@pytest.mark.parametrize("optimizer", [SGD(), RMSprop(centered=True)])
def test_what_the_engine_covers_is_not_logged(
    optimizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fallback._say_once.cache_clear()
    x, y = np.random.default_rng(0).random((6, 1, 4, 4)), np.array([0, 1, 2, 0, 1, 2])
    data = (x, y, np.arange(1.0, 7.0))
    fastcnn.fit(small_network(), data, data, epochs=1, optimizer=optimizer, clip_norm=1.0)
    fastcnn.models.vgg_small(seed=0).logits(np.zeros((1, 3, 32, 32)))
    assert not [record for record in caplog.records if record.name == "fastcnn.lanes"]


@pytest.mark.parametrize("dropout", [Dropout(0.3), Dropout2d(0.3)])
def test_dropout_does_nothing_outside_training(dropout: Any) -> None:
    model = Sequential(
        Conv2d(1, 4, 3, stride=2, seed=0), ReLU(), dropout, Flatten(), Linear(4 * 9, 3, seed=1),
        input_shape=(1, 7, 7),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((70, 1, 7, 7))
    expected = fastcnn.execution.predict_logits(model, x, backend="im2col")
    for threads in (1, 2):
        got = fastcnn.execution.predict_logits(model, x, backend="lanes", threads=threads)
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_share_of_a_batch_has_its_part_of_the_masks(backend: str) -> None:
    """Loss and gradients of a batch are the means of those of its halves."""
    model = Sequential(
        Dropout2d(0.4), Flatten(), Dropout(0.3), Linear(12, 3, seed=1), input_shape=(3, 2, 2)
    )
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((40, 3, 2, 2)), generator.integers(0, 3, 40)
    whole = loss_and_gradients(model, x, y, backend=backend, step=Step(True, 2, 4))
    halves = [
        loss_and_gradients(
            model, x[i : i + 20], y[i : i + 20], backend=backend, step=Step(True, 2, 4, i)
        )
        for i in (0, 20)
    ]
    assert np.concatenate([halves[0][1], halves[1][1]]) == pytest.approx(whole[1], abs=1e-5)
    assert (halves[0][2] + halves[1][2]) / 2 == pytest.approx(whole[2], abs=1e-5)


@pytest.mark.parametrize("name", ["report_cnn", "resnet8"])
def test_outputs_of_all_nodes(name: str) -> None:
    """Nodes fused by the engine have the output of the last one, all others their own."""
    model = getattr(fastcnn.models, name)(seed=0)
    x = np.random.default_rng(0).standard_normal((20, *model.input_shape)).astype(np.float32)
    graph = model.graph()
    places = range(len(graph.nodes))
    found, expected = (
        [
            np.concatenate(parts)
            for parts in zip(*node_outputs(model, x, places, backend), strict=True)
        ]
        for backend in ("lanes", "im2col")
    )
    same = 0
    for node, one, other in zip(graph.nodes, found, expected, strict=True):
        if node.output_shape == other.shape[1:] and np.prod(one.shape) == other.size:
            values = one.reshape(other.shape)
            if np.allclose(values, other, atol=1e-4):
                same += 1
                continue
        # The output of a later node.
        behind = [later for later in expected if later.size == one.size]
        assert any(np.allclose(one.reshape(b.shape), b, atol=1e-4) for b in behind), node.name
    assert same >= len(graph.nodes) / 2
    assert found[-1].reshape(20, -1) == pytest.approx(model.logits(x), abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_in_training(backend: str) -> None:
    model = small_model()
    x, y = np.random.default_rng(0).standard_normal((4, 2, 4, 4)).astype(np.float32), [0, 1, 2, 0]
    loss, grads = fastcnn.gradients(model, x, y, backend=backend, training=True, seed=3)
    wanted, _, vector = loss_and_gradients(model, x, y, backend="im2col", step=Step(True, 3))
    assert loss == pytest.approx(wanted, rel=1e-5)
    found = np.concatenate([value.ravel() for value in grads.values()])
    assert found == pytest.approx(vector, abs=1e-5)
    other, _ = fastcnn.gradients(model, x, y, backend=backend, training=True, seed=4)
    outside, _ = fastcnn.gradients(model, x, y, backend=backend)
    assert len({loss, other, outside}) == 3


def test_a_loss_by_its_name() -> None:
    """As fit and evaluate take it; a name that is none lists those that are."""
    model = Sequential(Flatten(), Linear(4, 3, seed=0), input_shape=(1, 2, 2))
    x, y = np.ones((5, 1, 2, 2), np.float32), np.zeros((5, 3))
    named, given = (fastcnn.gradients(model, x, y, loss=loss) for loss in ("l1", fastcnn.L1Loss()))
    assert named[0] == given[0]
    assert (named[1]["1.weight"] == given[1]["1.weight"]).all()
    by_name = fastcnn.input_gradient(model, x, y, loss="l1")
    assert (by_name == fastcnn.input_gradient(model, x, y, loss=fastcnn.L1Loss())).all()
    with pytest.raises(ConfigurationError, match="loss must be one of cross_entropy"):
        fastcnn.gradients(model, x, y, loss="l3")


@pytest.mark.parametrize("takes_two", [False, True])
def test_a_slow_backend_says_how_long_it_takes(
    takes_two: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Model = Sequential(Linear(4, 3, seed=0), input_shape=(4,))
    x: Any = np.zeros((6, 4), np.float32)
    if takes_two:
        one, two = Input((4,), name="one"), Input((4,), name="two")
        model, x = Model([one, two], Linear(4, 3, seed=0)(Add()(one, two))), (x, x)
    model.logits(x, backend="reference")
    assert not caplog.messages
    monkeypatch.setattr("fastcnn.execution.passes.LOOPED", 1.0)
    model.logits(x, backend="im2col")
    assert not caplog.messages
    model.logits(x, backend="reference")
    assert "the reference backend computes 6 samples in loops, which takes about" in caplog.text
