"""Validation data: held out of the training data, never the test data; balanced, short epochs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import data
from fastcnn.data.split import draw_validation
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.layers import Conv2d, Flatten, Linear, Sequential
from fastcnn.training import Callback, EarlyStopping, ReduceLROnPlateau, fit
from fastcnn.training.feed import Feed
from fastcnn.training.options import TrainingOptions

pytestmark = pytest.mark.usefixtures("no_pictures")

TRAIN, TEST = data.digits_dataset(200, 60, classes=(0, 1, 2))


def network() -> Sequential:
    return Sequential(Flatten(), Linear(784, 3, seed=0), input_shape=(1, 28, 28))


def trained(train: Any = TRAIN, test: Any = None, **options: Any) -> tuple[Any, Any]:
    model = network()
    return model, fit(model, train, test, **{"epochs": 2, "lr": 0.01, "seed": 7} | options)


def test_held_out_samples_are_measured_and_not_trained_on() -> None:
    rows, held = draw_validation(TRAIN.labels, 0.25, 7)
    model, history = trained(validation=0.25)
    other, expected = trained(TRAIN.subset(rows), validation=TRAIN.subset(held))
    assert (model.parameter_vector == other.parameter_vector).all()
    for name in ("train_loss", "validation_loss", "validation_accuracy"):
        assert history.column(name) == expected.column(name)
    assert history.column("test_loss") == [None, None]
    assert len(history.steps) == 2 * 3  # 150 samples
    found = fastcnn.evaluate(model, TRAIN.subset(held))
    assert history.final["validation_loss"] == pytest.approx(found.loss)
    assert history.final["validation_accuracy"] == found.accuracy


@pytest.mark.parametrize(
    "chosen",
    [
        {"early_stopping": 5},
        {"reduce_on_plateau": 0, "epochs": 3},
        {"callbacks": [EarlyStopping()]},
        {"callbacks": [ReduceLROnPlateau("validation_accuracy")]},
    ],
    ids=["stopping", "plateau", "stopping as an object", "plateau as an object"],
)
def test_a_tenth_is_held_out_where_it_is_needed(
    chosen: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    _, history = trained(TRAIN, TEST, **chosen)
    assert None not in history.column("validation_loss")
    lines = [line for line in caplog.messages if line.startswith("validation: 20 of the 200 ")]
    assert len(lines) == 1
    caplog.clear()
    trained(TRAIN, TEST, validation=0.1, **chosen)
    assert not [line for line in caplog.messages if line.startswith("validation: ")]


def test_test_data_choose_nothing(tmp_path: Path) -> None:
    """Training stops, and weights are kept, at the same epoch with misleading test data."""
    rng = np.random.default_rng(0)
    wrong = dataclasses.replace(TEST, labels=rng.integers(0, 3, len(TEST)))
    runs = []
    for index, test in enumerate((TEST, wrong, None)):
        out = tmp_path / str(index)
        runs.append(trained(TRAIN, test, epochs=40, lr=0.5, early_stopping=2, out=out))
        best = (out / "checkpoints" / "best.safetensors").read_bytes()
        assert best == (tmp_path / "0" / "checkpoints" / "best.safetensors").read_bytes()
    (first, history), *others = runs
    assert len(history.epochs) < 40
    for model, other in others:
        assert (model.parameter_vector == first.parameter_vector).all()
        assert other.column("validation_loss") == history.column("validation_loss")
        assert other.stop_reason == history.stop_reason


def test_without_need_all_samples_are_trained_on() -> None:
    _, history = trained(TRAIN, TEST)
    assert history.column("validation_loss") == [None, None]
    assert len(history.steps) == 2 * 4


def test_a_data_sets_own_validation_part_is_taken() -> None:
    own = dataclasses.replace(TRAIN, validation=TEST)
    _, history = trained(own, early_stopping=3)
    assert history.column("validation_loss") == trained(validation=TEST)[1].column(
        "validation_loss"
    )
    assert len(history.steps) == 2 * 4
    _, history = trained(own, validation=0.5)
    assert len(history.steps) == 2 * 2
    assert own.select_classes("02").validation.classes == ("0", "2")  # type: ignore[union-attr]


def test_values_and_weights_are_held_out_too() -> None:
    x = TRAIN.images.astype(np.float32) / 255
    y = np.random.default_rng(0).random((200, 3)).astype(np.float32)
    weight = np.linspace(0.5, 2.0, 200)
    _, history = trained((x, y, weight), loss="mse", validation=0.1)
    rows, held = draw_validation(y, 0.1, 7)
    _, expected = trained(
        (x[rows], y[rows], weight[rows]), loss="mse", validation=(x[held], y[held], weight[held])
    )
    assert history.column("train_loss") == expected.column("train_loss")
    assert history.column("validation_loss") == expected.column("validation_loss")
    assert history.column("validation_accuracy") == [None, None]


@pytest.mark.parametrize(
    ("validation", "kind", "message"),
    [
        ((TEST.images[:, :, :20], TEST.labels), ShapeError, "validation: samples have shape"),
        (
            (TEST.images, TEST.labels[:9]),
            ShapeError,
            "validation: expected a target for each sample, 60",
        ),
        ((TEST.images, TEST.labels + 1), DataError, "validation: classes must lie in 0..2"),
        ((TEST.images,), ShapeError, r"validation: expected \(x, y\)"),
    ],
)
def test_validation_data_that_do_not_fit(validation: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        trained(validation=validation)


def test_a_run_says_what_was_held_out_and_is_resumed(tmp_path: Path) -> None:
    whole, _ = trained(validation=0.1, epochs=4, early_stopping=4)
    trained(validation=0.1, epochs=2, early_stopping=4, out=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["training"]["validation"] == 0.1
    assert config["data"]["train_samples"] == 180
    assert config["data"]["validation_samples"] == 20
    model, _ = trained(validation=0.1, epochs=4, early_stopping=4, out=tmp_path, resume=True)
    assert (model.parameter_vector == whole.parameter_vector).all()
    with pytest.raises(fastcnn.errors.CheckpointError, match="validation"):
        trained(validation=0.2, epochs=5, early_stopping=4, out=tmp_path, resume=True)


# -- balanced and short epochs ----------------------------------------------------------------


def drawn(labels: np.ndarray, rows: np.ndarray | None = None, **options: Any) -> np.ndarray:
    """The samples of an epoch, as indices."""
    x = np.zeros((len(labels), 1, 2, 2), np.uint8)
    samples = dataclasses.replace(TRAIN, images=x, labels=labels)
    chosen = TrainingOptions(batch_size=8, **options)
    feed = Feed(samples, chosen, rows=rows)
    feed.begin_epoch(np.random.default_rng(1), 0)
    batches = feed.take(0, feed.steps, 1)
    assert len(batches.sizes) == feed.steps
    return batches.order


def test_balanced_epochs_have_all_classes_equally_often() -> None:
    labels = np.repeat([0, 1, 2], [70, 25, 6])
    order = drawn(labels, sampling="balanced")
    assert len(order) == 101
    counts = np.bincount(labels[order])
    assert counts.sum() == 101
    assert np.ptp(counts) <= 1
    times = np.bincount(order, minlength=101)
    for label in range(3):
        assert np.ptp(times[labels == label]) <= 1  # in turns
    held = np.setdiff1d(np.arange(101), np.arange(0, 101, 2))
    assert set(drawn(labels, held, sampling="balanced")) <= set(held)
    order = drawn(labels, sampling="balanced", loss=fastcnn.CrossEntropyLoss(ignore_index=1))
    assert np.bincount(labels[order]).tolist() in ([51, 0, 50], [50, 0, 51])


def test_balanced_training_sees_the_rare_class() -> None:
    kept = np.concatenate([np.flatnonzero(TRAIN.labels == 0), np.flatnonzero(TRAIN.labels)[:9]])
    rare = TRAIN.subset(kept)
    plain, _ = trained(rare, epochs=3)
    balanced, _ = trained(rare, epochs=3, sampling="balanced")
    recall = [
        (model.predict(TEST.images) == TEST.labels)[TEST.labels > 0].mean()
        for model in (plain, balanced)
    ]
    assert recall[1] > recall[0] + 0.1
    again, _ = trained(rare, epochs=3, sampling="balanced", threads=2)
    assert (again.parameter_vector == balanced.parameter_vector).all()
    with pytest.raises(ConfigurationError, match="sampling='balanced' balances classes"):
        trained((TRAIN.images, np.eye(3)[TRAIN.labels]), sampling="balanced")


class Counts(Callback):
    def on_train_begin(self, start: Any) -> None:
        self.start = start


def test_short_epochs() -> None:
    labels = np.arange(100) % 3
    assert len(drawn(labels, steps_per_epoch=4)) == 32
    assert len(drawn(labels, steps_per_epoch=13)) == 100
    counts = Counts()
    _, history = trained(steps_per_epoch=2, batch_size=16, callbacks=[counts])
    assert len(history.steps) == 4
    assert (counts.start.steps_per_epoch, counts.start.samples) == (2, 32)
    with pytest.raises(ConfigurationError, match="200 samples make 4 steps of batch_size=64"):
        trained(steps_per_epoch=5)


@pytest.mark.parametrize("part", ["left to train on", "held out for validation"])
def test_a_part_whose_targets_are_all_ignored_is_refused(part: str) -> None:
    """Its loss would always be 0."""
    labels = np.zeros((20, 1, 1), np.int64)
    rows, held = draw_validation(labels, 0.1)
    labels[held if part.startswith("held") else rows] = 255
    model = Sequential(Conv2d(1, 3, 2, seed=0), input_shape=(1, 2, 2))
    images = np.ones((20, 1, 2, 2), np.float32)
    loss = fastcnn.CrossEntropyLoss(ignore_index=255)
    with pytest.raises(DataError, match=f"samples {part}: all targets are ignored"):
        fit(model, (images, labels), validation=0.1, loss=loss)
