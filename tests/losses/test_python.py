"""Losses and optimisers in plain Python, with the engine's passes."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, ReLU, Sequential
from fastcnn.errors import CheckpointError, ConfigurationError, ShapeError
from fastcnn.losses import MSELoss, PythonLoss, as_loss
from fastcnn.optim import SGD

X = np.random.default_rng(0).random((40, 1, 6, 6)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "diagnose": False, "seed": 3}


def network() -> Sequential:
    return Sequential(
        Conv2d(1, 4, 3, seed=0),
        BatchNorm2d(4),
        ReLU(),
        Dropout(0.2),
        Flatten(),
        Linear(64, 3, seed=1),
        input_shape=(1, 6, 6),
    )


def square(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    error = outputs - targets
    return float((error * error).mean()), 2.0 * error / error.size


def weighted(
    outputs: np.ndarray, targets: np.ndarray, weight: np.ndarray
) -> tuple[float, np.ndarray]:
    share = (weight / weight.sum() / 3.0)[:, None]
    error = outputs - targets
    return float((share * error * error).sum()), 2.0 * share * error


class Plain:
    lr, slots = 0.05, ("velocity",)

    def update(self, p: Any, g: Any, slots: Any, lr: float, step: int) -> None:
        slots["velocity"] *= 0.9
        slots["velocity"] += g
        p -= lr * slots["velocity"]


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
def test_they_are_those_of_the_package(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    weight = np.linspace(0.5, 2.0, 40)
    for data, own in (((X, Y), square), ((X, Y, weight), weighted)):
        found = []
        for loss, optimizer in ((MSELoss(), SGD(0.05, 0.9)), (own, Plain()), (MSELoss(), Plain())):
            model = network()
            history = fastcnn.fit(
                model, data, data, loss=loss, optimizer=optimizer, backend=backend, **OPTIONS
            )
            found.append((model.state_dict(), history.final))
        for state, record in found[1:]:
            for key, value in state.items():
                assert value == pytest.approx(found[0][0][key], abs=1e-5), key
            assert record["train_loss"] == pytest.approx(found[0][1]["train_loss"], rel=1e-5)
            assert record["test_loss"] == pytest.approx(found[0][1]["test_loss"], rel=1e-4)
    found = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert not [entry for entry in found if entry.name != "fastcnn.codegen"]


def test_a_run_is_resumed_with_the_same_function(tmp_path: Path) -> None:
    whole, model = network(), network()
    fastcnn.fit(whole, (X, Y), loss=square, **OPTIONS | {"epochs": 4})
    fastcnn.fit(model, (X, Y), loss=square, out=tmp_path / "run", **OPTIONS)
    again = network()
    options = OPTIONS | {"epochs": 4, "out": tmp_path / "run", "resume": True}
    with pytest.raises(CheckpointError, match="loss"):
        fastcnn.fit(again, (X, Y), loss=weighted, **options)
    fastcnn.fit(again, (X, Y), loss=square, **options)
    assert np.array_equal(again.parameter_vector, whole.parameter_vector)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda o: 0.0, ConfigurationError, "must be a function of outputs, targets"),
        (lambda o, t: 0.0, ConfigurationError, "must return a number and its gradient"),
        (lambda o, t: (0.0, o[:, :2]), ShapeError, r"gradient of shape \(16, 2\), the outputs"),
    ],
)
def test_what_a_function_must_return(loss: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastcnn.fit(network(), (X, Y), loss=loss, **OPTIONS)


def test_targets_keep_their_own_weights() -> None:
    """The function gets each target's weight unchanged, on every backend."""
    weight = np.random.default_rng(2).random((40, 3))

    def own(outputs: Any, targets: Any, given: Any) -> tuple[float, np.ndarray]:
        assert given.shape == outputs.shape
        error = given * (outputs - targets)
        return float((error * (outputs - targets)).sum()), 2.0 * error

    states = []
    for backend in ("im2col", "lanes"):
        model = network()
        options = OPTIONS | {"lr": 0.01}
        fastcnn.fit(model, (X, Y, weight), loss=own, backend=backend, **options)
        states.append(model.parameter_vector)
    assert states[1] == pytest.approx(states[0], abs=1e-5)


def test_weights_are_not_forgotten() -> None:
    with pytest.raises(ConfigurationError, match="which square does not take"):
        fastcnn.fit(network(), (X, Y, np.ones(40)), loss=square, **OPTIONS)
    assert isinstance(as_loss(square), PythonLoss)
