"""Each diagnosis is made on a run that has the illness, and not on one that is well."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data import Dataset
from fastcnn.layers import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential, Sigmoid, Tanh
from fastcnn.losses import MSELoss, NLLLoss
from fastcnn.optim import SGD, MultiStep
from fastcnn.training import ReduceLROnPlateau
from fastcnn.training.diagnosis import Diagnosis


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset]:
    return fastcnn.data.digits_dataset(600, 200, classes=(0, 1, 2))


def findings(model: Any, train: Any, test: Any = None, **options: Any) -> dict[str, Any]:
    history = fastcnn.fit(model, train, test, **({"epochs": 2, "batch_size": 32} | options))
    return {finding.kind: finding for finding in history.findings}


def scaled(factor: float, activation: str = "relu") -> Sequential:
    model = fastcnn.models.report_cnn(activation, seed=0)
    model.parameter_vector[...] *= factor
    return model


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_a_run_that_is_well(data: tuple[Dataset, Dataset], activation: str) -> None:
    model = fastcnn.models.report_cnn(activation, seed=0)
    assert not findings(model, *data, epochs=8)


def test_a_run_with_batch_normalisation_is_well(data: tuple[Dataset, Dataset]) -> None:
    model = Sequential(
        Conv2d(1, 8, 5, stride=4, bias=False, seed=0), BatchNorm2d(8), ReLU(), Flatten(),
        Linear(8 * 36, 3, seed=1), input_shape=(1, 28, 28),
    )  # fmt: skip
    assert not findings(model, *data, epochs=4)


def test_a_regression_is_well(data: tuple[Dataset, Dataset]) -> None:
    train = data[0]
    model = Sequential(Flatten(), Linear(784, 1, seed=0), input_shape=(1, 28, 28))
    target = train.images.mean(axis=(1, 2, 3))[:, None] / 255.0
    images = train.images / np.float32(255)
    assert not findings(model, (images, target), loss=MSELoss(), optimizer=SGD(0.01))


def test_small_weights_stay_at_chance(data: tuple[Dataset, Dataset]) -> None:
    """The report's first observation: the loss stays near ln 3."""
    found = findings(scaled(1e-3), *data, optimizer=SGD(5e-4))
    assert "1.09" in found["chance"].message
    assert "guessing (1.09" in found["chance"].message
    assert "raise the learning rate" in found["chance"].advice


def test_a_small_learning_rate_moves_nothing(data: tuple[Dataset, Dataset]) -> None:
    found = findings(fastcnn.models.report_cnn(seed=0), *data, optimizer=SGD(1e-6))
    assert set(found) == {"still"}
    assert "fc1 by " in found["still"].message


@pytest.mark.parametrize("way", ["freeze=True", "freeze_after=1", "freeze_until=1"])
def test_frozen_weights_may_rest(data: tuple[Dataset, Dataset], way: str) -> None:
    key, _, value = way.partition("=")
    group = {"match": "fc1.*", key: value == "True" or int(value)}
    model = fastcnn.models.report_cnn(seed=0)
    found = findings(model, *data, optimizer=SGD(1e-6), groups=[group], epochs=2)
    assert "fc2 by " in found["still"].message
    assert "fc1 by " not in found["still"].message


def test_dead_units(data: tuple[Dataset, Dataset]) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    model.state_dict()["fc1.bias"][:100] = -100.0
    found = findings(model, *data)
    assert found["dead"].layer == "relu3"
    assert found["dead"].message.startswith(("78 %", "79 %", "8"))


@pytest.mark.parametrize("layer", [Sigmoid, Tanh])
def test_saturated_units(data: tuple[Dataset, Dataset], layer: Any) -> None:
    def make(scale: float) -> Sequential:
        model = Sequential(
            Flatten(), Linear(784, 32, seed=0), layer(), Linear(32, 3, seed=1),
            input_shape=(1, 28, 28),
        )  # fmt: skip
        model.parameter_vector[...] *= scale
        return model

    found = findings(make(300.0), *data, optimizer=SGD(1e-4))
    assert found["saturated"].layer == "2"
    assert "where it has no slope" in found["saturated"].message
    assert "saturated" not in findings(make(1.0), *data)


def test_divergence_before_the_loss_is_not_finite(data: tuple[Dataset, Dataset]) -> None:
    model = Sequential(Flatten(), Linear(784, 3, seed=0), input_shape=(1, 28, 28))
    found = findings(model, *data, optimizer=SGD(30.0))
    assert "lower the learning rate" in found["diverging"].advice


def test_losses_below_0(data: tuple[Dataset, Dataset]) -> None:
    model = Sequential(Flatten(), Linear(784, 3, seed=0), input_shape=(1, 28, 28))
    found = Diagnosis(data[0], NLLLoss())
    # Epochs after which it looks at losses alone.
    for number, (train, test) in enumerate([(-1.0, -1.0), (-1.01, -0.99), (-1.02, -0.98)], 5):
        found.on_epoch_end(epoch_record(number, train, test), model)
    for number in (9, 10):
        found.on_epoch_end(epoch_record(number, -1.03, -0.98), model)
    assert not found.findings
    found.on_epoch_end(epoch_record(11, -1.04, -0.8), model)
    found.on_epoch_end(epoch_record(12, -1.04, -0.8), model)
    found.on_epoch_end(epoch_record(13, -1.05, -0.8), model)
    found.on_epoch_end(epoch_record(14, 2.0, -0.8), model)
    assert [each.kind for each in found.findings] == ["overfitting", "diverging"]


def epoch_record(number: int, train: float, test: float) -> dict[str, Any]:
    return {"epoch": number, "train_loss": train, "test_loss": test, "validation_loss": None}


class Epochs:
    """Batches of digits, whose targets are ignored in the first epoch."""

    def __init__(self, train: Dataset) -> None:
        self.train, self.epoch = train, 0

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self.epoch += 1
        for part in (slice(0, 32), slice(32, 64)):
            labels = self.train.labels[part]
            yield self.train.images[part], np.full(32, -100) if self.epoch == 1 else labels


def test_epochs_without_targets_are_no_start_to_rise_from(data: tuple[Dataset, Dataset]) -> None:
    loss = fastcnn.CrossEntropyLoss(ignore_index=-100)
    model = fastcnn.models.report_cnn(seed=0)
    assert "diverging" not in findings(model, Epochs(data[0]), loss=loss, optimizer=SGD(0.0))


def test_overfitting(data: tuple[Dataset, Dataset]) -> None:
    generator = np.random.default_rng(0)
    train, test = data[0].subset(slice(0, 60)), data[1]
    noisy = Dataset(
        train.images, generator.integers(0, 3, len(train)), train.classes, train.preprocessing
    )  # fmt: skip
    options = {"epochs": 40, "optimizer": SGD(0.02, momentum=0.9)}
    found = findings(fastcnn.models.report_cnn(seed=0), noisy, test, **options)
    assert "while the training loss fell" in found["overfitting"].message
    found = findings(fastcnn.models.report_cnn(seed=0), *data, **options)
    assert "overfitting" not in found


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"schedule": "cosine"}, False),
        ({"schedule": MultiStep((3, 6, 7))}, False),
        ({"schedule": "one-cycle"}, False),
        ({"callbacks": [ReduceLROnPlateau("train_loss", patience=0, threshold=0.5)]}, False),
        ({"warmup_steps": 8}, False),
        ({}, False),
        ({"lr": 1e-5}, True),
        ({"lr": 1e-5, "schedule": "one-cycle"}, True),
    ],
)
def test_weights_that_a_schedule_lets_rest_are_no_finding(
    options: dict[str, Any], found: bool
) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((256, 8)).astype(np.float32)
    model = Sequential(Linear(8, 16, seed=0), ReLU(), Linear(16, 1, seed=1), input_shape=(8,))
    y = generator.standard_normal((256, 1))
    history = fastcnn.fit(model, (x, y), loss="huber", **{"epochs": 8, "lr": 0.02} | options)
    assert ("still" in [finding.kind for finding in history.findings]) == found


def test_findings_are_logged_once_and_kept(
    data: tuple[Dataset, Dataset], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fastcnn.training"):
        model = fastcnn.models.report_cnn(seed=0)
        history = fastcnn.fit(model, *data, epochs=4, optimizer=SGD(1e-6), out=tmp_path / "run")
    assert [record.getMessage() for record in caplog.records] == [str(history.findings[0])]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [finding["kind"] for finding in config["findings"]] == ["still"]
    caplog.clear()
    history = fastcnn.fit(
        model, *data, epochs=6, optimizer=SGD(1e-6), out=tmp_path / "run", resume=True
    )  # fmt: skip
    assert len(history.findings) == 1
    assert not caplog.records
    assert not fastcnn.fit(model, *data, epochs=1, optimizer=SGD(1e-6), diagnose=False).findings
