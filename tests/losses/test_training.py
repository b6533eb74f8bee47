"""Training with each loss: names, objects, weights of targets, records of a run, resuming."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import Conv2d, Flatten, Linear, ReLU, Sequential
from fastcnn.backends import BACKENDS
from fastcnn.errors import CheckpointError, ConfigurationError, DataError, ShapeError
from fastcnn.layers import LogSoftmax
from fastcnn.losses import (
    LOSSES,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    Loss,
    MSELoss,
)
from fastcnn.training import Run

OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "diagnose": False, "lr": 0.05, "seed": 3}


def images(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).random((count, 1, 6, 6)).astype(np.float32)


def classifier(outputs: int = 3) -> Sequential:
    return Sequential(
        Conv2d(1, 4, 3, seed=0),
        ReLU(),
        Flatten(),
        Linear(64, outputs, seed=1),
        input_shape=(1, 6, 6),
    )


def segmenter(classes: int = 3) -> Sequential:
    return Sequential(
        Conv2d(1, 6, 3, padding=1, seed=0),
        ReLU(),
        Conv2d(6, classes, 3, padding=1, seed=1),
        input_shape=(1, 6, 6),
    )


@pytest.mark.parametrize("name", LOSSES)
def test_by_name_on_all_backends(name: str, caplog: pytest.LogCaptureFixture) -> None:
    x, y = images(), np.arange(40) % 3
    found = {}
    for backend in BACKENDS:
        model = classifier()
        history = fastcnn.fit(model, (x, y), (x, y), loss=name, backend=backend, **OPTIONS)
        found[backend] = model.parameter_vector.copy(), history.final
    for backend in ("im2col", "lanes"):
        assert found[backend][0] == pytest.approx(found["reference"][0], abs=1e-5)
        for key in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
            assert found[backend][1][key] == pytest.approx(found["reference"][1][key], rel=1e-4)
    assert not [entry for entry in caplog.records if "im2col" in entry.message]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reported_losses_are_means_over_targets(reduction: str) -> None:
    """Without a step, an epoch's loss is that of its data, for any batch size."""
    x, generator = images(), np.random.default_rng(1)
    y = generator.integers(0, 3, (40, 6, 6))
    y[generator.random(y.shape) < 0.4] = 255
    loss = CrossEntropyLoss(0.1, (1.0, 2.0, 0.5), 255, reduction)
    model = segmenter()
    before = model.parameter_vector.copy()
    options = OPTIONS | {"epochs": 1, "lr": 0.0, "batch_size": 7}
    history = fastcnn.fit(model, (x, y), (x, y), loss=loss, **options)
    assert np.array_equal(model.parameter_vector, before)
    expected = loss(model.logits(x), y) / (len(x) if reduction == "sum" else 1)
    assert history.final["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert history.final["test_loss"] == pytest.approx(expected, rel=1e-5)
    known = y != 255
    right = (model.predict(x) == y)[known].mean()
    assert history.final["train_accuracy"] == pytest.approx(right)
    assert history.final["test_accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_batches_may_be_ignored_as_a_whole(
    backend: str, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have no effect, even as the first batches of a training."""
    monkeypatch.setattr(sys.modules["fastcnn.training.loop"], "CHUNK_SECONDS", 0.0)
    x = images()
    y = np.full(40, 9)
    first = np.random.default_rng(3).permutation(40)[:8]
    y[np.setdiff1d(np.arange(40), first)] = 1
    loss = CrossEntropyLoss(ignore_index=9)
    model, seen = classifier(), []

    class Look(fastcnn.training.Callback):
        def on_steps(self, steps: Any) -> None:
            seen.extend(steps.losses)

    before = model.parameter_vector.copy()
    options = OPTIONS | {"batch_size": 8 // accumulate, "accumulate": accumulate, "epochs": 1}
    fastcnn.fit(
        model, (x, y), loss=loss, backend=backend, steps_per_epoch=1, callbacks=[Look()], **options
    )
    assert seen == [0.0]
    assert np.array_equal(model.parameter_vector, before)
    history = fastcnn.fit(model, (x, y), loss=loss, backend=backend, **options)
    assert history.final["train_loss"] > 0.0


@pytest.mark.parametrize("ends", [False, True])
def test_log_probabilities_are_asked_for(ends: bool, caplog: pytest.LogCaptureFixture) -> None:
    layers = [Conv2d(1, 4, 3, seed=0), Flatten(), Linear(64, 3, seed=1)]
    model = Sequential(*layers, *([LogSoftmax()] if ends else []), input_shape=(1, 6, 6))
    fastcnn.fit(model, (images(), np.arange(40) % 3), loss="nll", **OPTIONS | {"epochs": 1})
    assert ("does not end with LogSoftmax" in caplog.text) == (not ends)


def test_weights_of_classes_that_are_all_0() -> None:
    loss = CrossEntropyLoss(weight=(0.0, 1.0, 1.0))
    with pytest.raises(DataError, match="train: all targets have weight 0"):
        fastcnn.fit(classifier(), (images(), np.zeros(40, int)), loss=loss, **OPTIONS)


def test_a_segmentation_is_learned() -> None:
    x = images(200)
    y = (x[:, 0] > 0.5).astype(np.uint8) + (x[:, 0] > 0.8)
    model = segmenter()
    history = fastcnn.fit(
        model, (x, y), loss="cross_entropy", **OPTIONS | {"epochs": 30, "lr": 0.3}
    )
    assert history.final["train_accuracy"] > 0.9
    assert model.predict(x).shape == (200, 6, 6)
    assert model.predict_proba(x).sum(axis=1) == pytest.approx(np.ones((200, 6, 6)), abs=1e-5)


def test_labels_are_learned() -> None:
    y = np.random.default_rng(1).integers(0, 2, (200, 2)).astype(bool)
    x = images(200)
    x[:, 0, :3] += y[:, :1, None]
    x[:, 0, 3:] += y[:, 1:, None]
    model = classifier(2)
    loss = BCEWithLogitsLoss(pos_weight=(1.0, 1.5))
    fastcnn.fit(model, (x, y), loss=loss, **OPTIONS | {"epochs": 20, "lr": 0.1})
    assert model.predicts == "labels"
    assert (model.predict(x) == y).mean() > 0.85
    assert ((model.predict_proba(x) > 0.5) == y).mean() > 0.85
    one = classifier(1)
    fastcnn.fit(one, (x, y[:, 0]), loss="bce_with_logits", **OPTIONS)
    assert one.predicts == "label"
    assert one.predict(x).shape == (200,)


def test_a_masked_loss_teaches_chosen_outputs_alone() -> None:
    """As in deep Q-learning: each sample has a known value for one action only."""
    x, generator = images(64), np.random.default_rng(2)
    actions = generator.integers(0, 2, 64)  # never the third
    mask = np.eye(3)[actions]
    wanted = generator.standard_normal((64, 3))
    chosen = np.arange(64), actions
    model = classifier()
    history = fastcnn.fit(
        model,
        (x, wanted, mask),
        (x, wanted, mask),
        loss=HuberLoss(),
        **OPTIONS | {"epochs": 1, "lr": 0.0},
    )
    expected = HuberLoss()(model.logits(x)[chosen][:, None], wanted[chosen])
    assert history.final["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert history.final["test_loss"] == pytest.approx(expected, rel=1e-5)
    third = {key: value[2].copy() for key, value in model.state_dict().items() if "3." in key}
    fastcnn.fit(model, (x, wanted, mask), loss="huber", **OPTIONS)
    for key, before in third.items():
        assert np.array_equal(model.state_dict()[key][2], before)
    assert HuberLoss()(model.logits(x), wanted, sample_weight=mask) < expected


@pytest.mark.parametrize("loss", [HuberLoss(2), CrossEntropyLoss(0.1, (1, 2, 3), 7, "sum")])
def test_a_run_keeps_its_loss(loss: Loss, tmp_path: Path) -> None:
    x, y, options = images(), np.arange(40) % 3, OPTIONS | {"epochs": 2}
    whole = classifier()
    fastcnn.fit(whole, (x, y), loss=loss, **options | {"epochs": 4})
    model = classifier()
    fastcnn.fit(model, (x, y), loss=loss, out=tmp_path / "run", **options)
    assert Run.open(tmp_path / "run").loss == loss
    again = classifier()
    with pytest.raises(CheckpointError, match="loss"):
        fastcnn.fit(again, (x, y), loss=MSELoss(), out=tmp_path / "run", resume=True, **options)
    fastcnn.fit(
        again, (x, y), loss=loss, out=tmp_path / "run", resume=True, **options | {"epochs": 4}
    )
    assert np.array_equal(again.parameter_vector, whole.parameter_vector)


def test_threads_and_chunks_change_no_bit() -> None:
    x, generator = images(), np.random.default_rng(1)
    y = generator.integers(0, 3, (40, 6, 6))
    weight = generator.integers(0, 3, y.shape).astype(float)
    vectors = []
    for threads in (1, 2):
        model = segmenter()
        fastcnn.fit(model, (x, y, weight), threads=threads, **OPTIONS)
        vectors.append(model.parameter_vector.copy())
    assert np.array_equal(*vectors)


@pytest.mark.parametrize(
    ("data", "loss", "error", "message"),
    [
        (
            (images(), np.full(40, 9)),
            CrossEntropyLoss(ignore_index=9),
            DataError,
            "all targets are",
        ),
        (
            (images(), np.zeros((40, 3)), np.zeros((40, 3))),
            "mse",
            DataError,
            "all targets have weight 0",
        ),
        ((images(), np.zeros((40, 3)), np.ones((40, 2))), "mse", ShapeError, r"\(40, 3\), got"),
        ((images(), np.zeros(40, int), -np.ones((40, 1))), "mse", DataError, "finite and above 0"),
        ((images(), np.zeros(40, int)), "hinge", ConfigurationError, "loss must be one of"),
    ],
)
def test_bad_data(data: Any, loss: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastcnn.fit(classifier(), data, loss=loss, **OPTIONS)


def quartic(p: Any, t: Any) -> Any:
    return (p - t) * (p - t) * (p - t) * (p - t)


def quartic_slope(p: Any, t: Any) -> Any:
    return 4.0 * (p - t) * (p - t) * (p - t)


@pytest.mark.usefixtures("own_kernels")
def test_an_own_loss_that_cannot_be_compiled(caplog: pytest.LogCaptureFixture) -> None:
    def value(p: Any, t: Any) -> Any:
        return 1.0 - np.cos(p - t)  # which the engine's vectors do not have

    kind = fastcnn.kernel.loss("Waves", value, lambda p, t: np.sin(p - t))
    x, y = images(), np.arange(40) % 3
    vectors = []
    for backend in ("lanes", "im2col"):
        model = classifier()
        with caplog.at_level(logging.WARNING):
            fastcnn.fit(model, (x, y), loss=kind(), backend=backend, **OPTIONS)
        vectors.append(model.parameter_vector.copy())
    assert np.array_equal(*vectors)
    assert any("waves" in entry.message for entry in caplog.records)


@pytest.mark.usefixtures("own_kernels")
def test_an_own_loss_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kind = fastcnn.kernel.loss("Quartic", quartic, quartic_slope)
    x, y = images(), np.arange(40) % 3
    vectors = []
    with caplog.at_level(logging.WARNING):
        for loss in ("quartic", kind()):
            model = classifier()
            fastcnn.fit(model, (x, y), loss=loss, out=tmp_path / str(len(vectors)), **OPTIONS)
            vectors.append(model.parameter_vector.copy())
    assert np.array_equal(*vectors)
    assert Run.open(tmp_path / "0").loss == kind()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_part_of_a_batch_whose_classes_weigh_nothing(backend: str) -> None:
    """Its smoothed labels still count in the batch's loss."""
    x, y = images(8), np.array([1, 1, 1, 0, 1, 1, 1, 1])
    loss = CrossEntropyLoss(weight=[1.0, 0.0, 2.0], label_smoothing=0.2)
    found = []
    for accumulate, batch_size in ((1, 8), (2, 4)):
        model = classifier()
        settings = OPTIONS | {"epochs": 1, "batch_size": batch_size, "accumulate": accumulate}
        fastcnn.fit(model, (x, y), loss=loss, backend=backend, **settings)
        found.append(model.parameter_vector.copy())
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)
