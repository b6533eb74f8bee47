"""Layers that divide channels: shapes, refusals, files, and that the engine copies nothing."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import execution
from fastcnn.backends import BACKENDS
from fastcnn.errors import ConfigurationError, FastcnnError, ShapeError
from fastcnn.layers import (
    ChannelShuffle,
    Chunk,
    Concat,
    Conv1d,
    Conv2d,
    Flatten,
    Input,
    Linear,
    MaxPool2d,
    Model,
    Narrow,
    ReLU,
    Sequential,
    Sigmoid,
    Split,
    Tanh,
)
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import to_definition
from fastcnn.losses import MSELoss
from fastcnn.optim import SGD


def shuffle_net() -> Model:
    """Two units of ShuffleNetV2."""
    x = Input((3, 8, 8))
    value = ReLU()(Conv2d(3, 8, 3, padding=1, seed=0)(x))
    for unit in range(2):
        kept, rest = Chunk(2)(value)
        rest = ReLU()(Conv2d(4, 4, 1, seed=3 * unit + 1)(rest))
        rest = Conv2d(4, 4, 3, padding=1, groups=4, seed=3 * unit + 2)(rest)
        rest = ReLU()(Conv2d(4, 4, 1, seed=3 * unit + 3)(rest))
        value = ChannelShuffle(2)(Concat()(kept, rest))
    return Model(x, Linear(8 * 64, 4, seed=9)(Flatten()(value)))


def overlapping() -> Model:
    """Parts of parts, overlapping parts, and channels in no part."""
    x = Input((3, 6, 7))
    whole = ReLU()(Conv2d(3, 8, 3, padding=1, seed=0)(x))
    part = Narrow(2, 3)(whole)
    inner = MaxPool2d(3, 1, 1)(ReLU()(Narrow(1, 2)(part)))
    sums = Narrow(0, 2)(whole) + Narrow(5, 2)(whole)
    conv = Conv2d(3, 2, 3, padding=1, seed=1)(part)
    return Model(x, Concat()(conv, Narrow(4, 3)(whole), inner, sums, whole))


def moments() -> Model:
    """Mean and log-variance, as in a variational autoencoder."""
    x = Input((6,))
    mean, variance = Chunk(2)(Tanh()(Linear(6, 10, seed=0)(x)))
    return Model(x, Linear(5, 4, seed=5)(Sigmoid()(variance) * mean + mean))


def sequences() -> Model:
    """Parts of the input itself, one of which is not read."""
    x = Input((4, 9))
    _, middle, last = Split((1, 2, 1))(x)
    return Model(x, Concat()(Conv1d(2, 3, 3, padding=1, seed=0)(middle), last))


def first_alone() -> Model:
    """The layer's last node is not its output."""
    x = Input((4, 9))
    return Model(x, Chunk(3)(Conv1d(4, 6, 3, padding=1, seed=0)(x))[0])


NETWORKS = (shuffle_net, overlapping, moments, sequences, first_alone)


def data(model: Model, count: int = 21) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    assert model.input_shape is not None
    x = generator.standard_normal((count, *model.input_shape)).astype(np.float32)
    y = generator.standard_normal((count, *model.output_shape(model.input_shape)))
    return x, y.astype(np.float32)


@pytest.mark.parametrize("make", NETWORKS)
def test_backends_agree(make: Any) -> None:
    model = make()
    x, y = data(model)
    found = {
        name: execution.loss_and_gradients(model, x, y, loss=MSELoss(), backend=name)
        for name in BACKENDS
    }
    for value, output, gradient in found.values():
        np.testing.assert_allclose(value, found["reference"][0], rtol=1e-5)
        np.testing.assert_allclose(output, found["reference"][1], atol=2e-6)
        np.testing.assert_allclose(gradient, found["reference"][2], atol=1e-6)


@pytest.mark.parametrize("make", NETWORKS)
def test_channels_that_nobody_reads_stay_without_gradient(make: Any) -> None:
    """After several steps, which reuse the same memory for gradients."""
    vectors = []
    for backend in ("im2col", "lanes"):
        model = make()
        x, y = data(model)
        given: dict[str, Any] = {"loss": MSELoss(), "optimizer": SGD(lr=0.02), "seed": 1}
        fastcnn.fit(model, (x, y), epochs=3, batch_size=7, backend=backend, **given)
        vectors.append(model.parameter_vector.copy())
    np.testing.assert_allclose(*vectors, atol=2e-6)


@pytest.mark.parametrize("make", NETWORKS)
def test_definitions_and_files(make: Any, tmp_path: Any) -> None:
    model = make()
    x, _ = data(model)
    made = from_definition(to_definition(model))
    made.load_state_dict(model.state_dict())
    model.save(tmp_path / "net.safetensors")
    loaded = fastcnn.load(tmp_path / "net.safetensors")
    for other in (made, loaded):
        assert (execution.forward(other, x) == execution.forward(model, x)).all()
    assert "svg" in model.draw()._repr_svg_()


@pytest.mark.parametrize("make", NETWORKS)
def test_sessions(make: Any) -> None:
    model = make()
    x, _ = data(model)
    session = fastcnn.session(model)
    for count in (1, 3, 21):
        expected = execution.forward(model, x[:count])
        np.testing.assert_allclose(session.logits(x[:count]), expected, atol=2e-6)


def test_sixteen_channels_begin_at_a_lane() -> None:
    """With a channel in each lane, parts are slices of the map, too."""
    x = Input((3, 8, 8))
    kept, rest = Chunk(2)(ReLU()(Conv2d(3, 64, 3, padding=1, seed=0)(x)))
    kept = Conv2d(32, 32, 3, padding=1, seed=1)(kept)
    model = Model(x, Flatten()(Concat()(kept, ReLU()(rest))))
    inputs, _ = data(model, 2)
    session = fastcnn.session(model)
    np.testing.assert_allclose(session.logits(inputs), execution.forward(model, inputs), atol=2e-6)


def test_the_engine_copies_no_part() -> None:
    """Forward, a part is a slice; backward, its reader writes the gradient into the slice."""
    x = Input((3, 8, 8))
    left, right = Chunk(2)(Conv2d(3, 8, 3, padding=1, seed=0)(x))
    left, right = (Conv2d(4, 4, 3, padding=1, seed=1)(part) for part in (left, right))
    model = Model(x, Linear(256, 4, seed=2)(Flatten()(left - right)))
    names = [name for name in fastcnn.plan(model, batch_size=32).names if "chunk" in name]
    assert names == []


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: Narrow(-1, 2),
            ConfigurationError,
            "Narrow: start must be an integer of at least 0",
        ),
        (lambda: Narrow(0, 0), ConfigurationError, "Narrow: length must be a positive integer"),
        (lambda: Narrow(3, 2)(Input((4, 5, 5))), ShapeError, "at least 5 channels"),
        (lambda: Split(4), ConfigurationError, r"Chunk\(n\) makes n equal parts"),
        (lambda: Split(()), ConfigurationError, "sizes must be a tuple"),
        (lambda: Split((2, 0)), ConfigurationError, "each of sizes must be a positive integer"),
        (lambda: Split((2, 3))(Input((4, 5, 5))), ShapeError, "5 channels, got 4"),
        (lambda: Chunk(0), ConfigurationError, "chunks must be a positive integer"),
        (lambda: Chunk(3)(Input((4,))), ShapeError, "must divide the channels, got 4"),
        (
            lambda: Sequential(Chunk(2), input_shape=(4, 3, 3)),
            ConfigurationError,
            "has 2 outputs, and a chain takes layers with one",
        ),
    ],
)
def test_refusal(make: Any, kind: type[FastcnnError], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_functions_refuse() -> None:
    x = np.zeros((2, 4, 3), np.float32)
    for given, kind, message in (
        ((3, 2), ShapeError, "narrow: expects samples of at least 5 channels"),
        ((-1, 2), ConfigurationError, "narrow: start must be an integer of at least 0"),
        ((0, 1.5), ConfigurationError, "narrow: length must be a positive integer"),
    ):
        with pytest.raises(kind, match=message):
            fastcnn.functional.narrow(x, *given)
