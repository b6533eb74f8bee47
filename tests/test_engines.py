"""A model's engines: a few are kept, for a few batch sizes, and results do not depend on them."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import BACKENDS
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.execution import engines, forward, loss_and_gradients, prepared
from fastcnn.execution.layer_outputs import node_outputs
from fastcnn.execution.passes import predict_logits
from fastcnn.execution.step import Step
from fastcnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    ReLU,
    Sequential,
)


def test_sizes_are_few_and_at_most_a_quarter_too_large() -> None:
    sizes = [engines.room_for(count) for count in range(1, 2000)]
    assert all(count <= size for count, size in enumerate(sizes, 1))
    assert all(size <= 1.25 * count for count, size in enumerate(sizes, 1) if count > 128)
    assert all(size % 16 == 0 for size in sizes)
    assert len(set(sizes)) < 30


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All engines created, as weak references."""
    found: list[Any] = []
    make = engines.make_engine

    def spy(*arguments: Any, **build: Any) -> Any:
        engine = make(*arguments, **build)
        found.append(weakref.ref(engine))
        return engine

    monkeypatch.setattr(engines, "make_engine", spy)
    return found


def alive(made: list[Any]) -> int:
    gc.collect()
    return sum(reference() is not None for reference in made)


def test_few_engines_live(made: list[Any]) -> None:
    model = Sequential(Conv2d(1, 2, 3, seed=0), GlobalAvgPool2d(), Flatten(), Linear(2, 3, seed=1))
    x = np.random.default_rng(0).standard_normal((300, 1, 24, 24)).astype(np.float32)
    y = np.arange(300) % 3
    model.input_shape = (1, 24, 24)
    for count in range(1, 300, 7):
        fastcnn.gradients(model, x[:count], y[:count])
    assert len(made) <= 16
    for size in range(4, 24):
        model.input_shape = None
        assert model.logits(x[:20, :, :size]).shape == (20, 3)
    assert alive(made) <= engines.KEPT_ENGINES
    del model
    assert alive(made) == 0


def test_memory_of_idle_engines_is_bounded(
    made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "KEPT_BYTES", 1)
    model = fastcnn.models.report_cnn(seed=0)
    x, y = np.zeros((300, 1, 28, 28), np.float32), np.zeros(300, np.int64)
    for count in (300, 40, 1):
        fastcnn.gradients(model, x[:count], y[:count])
    assert alive(made) == 1


def test_an_engine_of_an_older_state_is_dropped(made: list[Any]) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    x, y = np.zeros((20, 1, 28, 28), np.float32), np.zeros(20, np.int64)
    for seed in range(5):
        model.replace("fc3", Linear(128, 3, seed=seed))
        fastcnn.gradients(model, x, y)
    assert (len(made), alive(made)) == (5, 1)


def test_a_prepared_pass_of_an_older_state_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    make = prepared.make_inference

    def spy(*arguments: Any) -> Any:
        inference = make(*arguments)
        made.append(weakref.ref(inference))
        return inference

    monkeypatch.setattr(prepared, "make_inference", spy)
    model = fastcnn.models.report_cnn(seed=0)
    x = np.zeros((20, 1, 28, 28), np.float32)
    for seed in range(3):
        model.replace("fc3", Linear(128, 3, seed=seed))
        for count in (1, 20, 1):
            model.logits(x[:count])
        model.parameter_vector[0] += 1.0
        model.logits(x)
    assert (len(made), alive(made)) == (6, 1)
    del model
    assert alive(made) == 0


@pytest.mark.parametrize("count", [1, 15, 17, 33, 70, 150])
@pytest.mark.parametrize("training", [False, True])
def test_a_larger_engine_gives_the_same_bits(
    count: int, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def network() -> Sequential:
        return Sequential(
            Conv2d(2, 16, 3, padding=1, seed=0), BatchNorm2d(16), ReLU(),
            Conv2d(16, 16, 3, padding=1, seed=1), Dropout(0.3), Flatten(),
            Linear(16 * 36, 130, seed=2), ReLU(), Linear(130, 3, seed=3), input_shape=(2, 6, 6),
        )  # fmt: skip

    generator = np.random.default_rng(0)
    x = generator.standard_normal((count, 2, 6, 6)).astype(np.float32)
    y = generator.integers(0, 3, count)
    rounded = loss_and_gradients(network(), x, y, step=Step(training, 1))
    outputs = forward(network(), x, training=training, seed=1)
    monkeypatch.setattr("fastcnn.execution.lanes.room_for", lambda count: count)
    exact = loss_and_gradients(network(), x, y, step=Step(training, 1))
    assert rounded[0] == exact[0]
    assert (rounded[1] == exact[1]).all()
    assert (rounded[2] == exact[2]).all()
    assert (outputs == forward(network(), x, training=training, seed=1)).all()


def statistics_of_the_batch() -> Sequential:
    return Sequential(
        Conv2d(1, 3, 3, seed=0), BatchNorm2d(3, track_running_stats=False), ReLU(), Flatten(),
        Linear(48, 5, seed=1), BatchNorm1d(5, affine=False, track_running_stats=False),
        Linear(5, 2, seed=2), input_shape=(1, 6, 6),
    )  # fmt: skip


@pytest.mark.parametrize("count", [2, 3, 16, 17, 40, 300])
def test_statistics_are_those_of_all_samples(count: int) -> None:
    model = statistics_of_the_batch()
    x = np.random.default_rng(0).standard_normal((count, 1, 6, 6)).astype(np.float32)
    wanted = predict_logits(statistics_of_the_batch().to(np.float64), x, backend="im2col")
    for threads in (1, 2, 3):
        assert predict_logits(model, x, threads=threads) == pytest.approx(wanted, abs=1e-4)
    assert model.logits(x, backend="im2col") == pytest.approx(wanted, abs=1e-4)
    assert model.logits(x, batch_size=count) == pytest.approx(wanted, abs=1e-4)
    for backend in ("im2col", "lanes"):
        last = len(model.graph().nodes) - 1
        parts = [part[0] for part in node_outputs(model, x, [last], backend)]
        assert np.concatenate(parts).reshape(wanted.shape) == pytest.approx(wanted, abs=1e-4)
    loss, _, gradient = loss_and_gradients(model, x, np.arange(count) % 2, step=Step(False))
    other = loss_and_gradients(model, x, np.arange(count) % 2, backend="im2col", step=Step(False))
    assert loss == pytest.approx(other[0], rel=1e-5)
    assert gradient == pytest.approx(other[2], abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_would_change_the_result_is_refused(backend: str) -> None:
    model = statistics_of_the_batch()
    x = np.zeros((8, 1, 6, 6), np.float32)
    for call in (model.logits, model.predict, model.predict_proba, model):
        with pytest.raises(ConfigurationError, match=r"'1' has no running .*batch_size=4"):
            call(x, backend=backend, batch_size=4)
    with pytest.raises(ShapeError, match="'5': batch normalisation without running statistics"):
        model.logits(x[:1], backend=backend)
    for wrong in (0, -1, 2.5, True, "4"):
        with pytest.raises(ConfigurationError, match="batch_size must be a positive integer"):
            model.logits(x, backend=backend, batch_size=wrong)  # type: ignore[arg-type]


def test_evaluation_during_training_takes_all_samples() -> None:
    model = statistics_of_the_batch()
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((100, 1, 6, 6)).astype(np.float32), np.arange(100) % 2
    history = fastcnn.fit(model, (x, y), (x, y), epochs=1, batch_size=10, diagnose=False)
    outputs = model.logits(x, backend="reference")
    right = (outputs.argmax(axis=1) == y).mean()
    assert history.final.test_accuracy == pytest.approx(right)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_without_parameters_has_a_type(backend: str) -> None:
    model = Sequential(BatchNorm2d(1, affine=False), ReLU(), Flatten(), input_shape=(1, 2, 2))
    x = np.array([[[[1.0, 1e-9], [1 / 3, -1]]]])
    assert model.dtype == np.float32
    assert model.logits(x, backend=backend).dtype == np.float32
    assert model.to(np.float64).dtype == np.float64
    found = model.logits(x, backend=backend)
    assert found.dtype == np.float64
    assert found[0, 2] == pytest.approx((1 / 3) / np.sqrt(1 + 1e-5), rel=1e-15)
    assert model.to(np.float32).logits(x, backend=backend).dtype == np.float32
