"""The learning-rate finder."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import ConfigurationError
from fastcnn.training.figure import png
from fastcnn.training.rate_search import RateSearch, search, smoothed

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def train() -> fastcnn.Dataset:
    return fastcnn.data.digits_dataset(600, 10, classes=(0, 1, 2))[0]


@pytest.mark.parametrize(("optimizer", "low", "high"), [("sgd", 1e-3, 0.3), ("adam", 3e-4, 0.03)])
def test_a_rate_that_trains(optimizer: str, low: float, high: float, train: Any) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    before = model.copy_state()
    found = fastcnn.lr_find(model, train, optimizer=optimizer)
    assert low < found.suggestion < high
    assert all((value == before[key]).all() for key, value in model.state_dict().items())
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= 100
    assert np.allclose(np.diff(np.log(found.rates)), np.log(1e7) / 99)
    again = fastcnn.lr_find(model, train, optimizer=optimizer, threads=1)
    assert (again.losses == found.losses).all()


def test_a_network_without_a_fall_is_refused() -> None:
    x, y = np.zeros((64, 1, 4, 4), np.float32), np.arange(64) % 2
    model = fastcnn.Sequential(
        fastcnn.Flatten(), fastcnn.Linear(16, 2, seed=0), input_shape=(1, 4, 4)
    )
    with pytest.raises(
        ConfigurationError, match="the loss falls at no learning rate from 1e-06 to"
    ):
        fastcnn.lr_find(model, (x, y))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 3}, "epochs has no effect in lr_find"),
        ({"lr": 0.1}, "lr has no effect in lr_find"),
        ({"out": "run"}, "out has no effect in lr_find"),
        ({"lowest": 0.0}, "needs 0 < lowest < highest"),
        ({"lowest": 1.0, "highest": 0.1}, "needs 0 < lowest < highest"),
        ({"highest": np.inf}, "highest must be a finite number"),
        ({"steps": 5}, "at least 20 steps"),
        ({"highest": 1e-3}, "still falls at a learning rate of 0.001"),
        ({"optimizer": "lion9"}, "optimizer must be one of"),
    ],
)
def test_what_a_search_refuses(arguments: dict[str, Any], message: str, train: Any) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fastcnn.lr_find(fastcnn.models.report_cnn(seed=0), train, **arguments)


def test_a_rate_that_is_found_before_the_training(
    train: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    expected = fastcnn.lr_find(fastcnn.models.report_cnn(seed=0), train, batch_size=32)
    history = fastcnn.fit(
        fastcnn.models.report_cnn(seed=0), train, epochs=1, batch_size=32, lr="auto", out=tmp_path
    )
    rate = float(f"{expected.suggestion:.2g}")
    assert history.steps[0]["lr"] == rate
    assert fastcnn.training.Run.open(tmp_path).config["optimizer"]["lr"] == rate
    assert f"learning rate {expected.suggestion:.2g}" in caplog.text
    for wrong, message in (
        ({"lr": "fast"}, "lr must be a finite number or auto, got 'fast'"),
        ({"lr": "auto", "optimizer": fastcnn.optim.SGD()}, "optimizer that is given as an object"),
        ({"lr": "auto", "resume": True, "out": tmp_path}, "is for a new training"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            fastcnn.fit(fastcnn.models.report_cnn(seed=0), train, **wrong)


def test_what_is_of_epochs_is_not_searched_with(train: Any) -> None:
    found = fastcnn.lr_find(fastcnn.models.report_cnn(seed=0), train, backend="im2col")
    history = fastcnn.fit(
        fastcnn.models.report_cnn(seed=0), train, train.subset(slice(30)), epochs=3, lr="auto",
        max_steps=25, metrics="f1", early_stopping=1, monitor="validation_f1", backend="im2col",
        validation=train.subset(slice(30)),
    )  # fmt: skip
    assert history.steps[0]["lr"] == float(f"{found.suggestion:.2g}")
    assert history.epochs[0]["validation_f1"] is not None


def test_the_search_ends_where_the_loss_has_grown() -> None:
    taken = []

    class Start:
        history = fastcnn.History()

    def train_once(epochs: int, schedule: Any, callbacks: list[Any]) -> None:
        callbacks[0].on_train_begin(Start)
        for step in range(epochs):
            rate = schedule.lr(step, epochs, epochs, 1.0)
            taken.append(rate)
            loss = abs(np.log10(rate) + 2.0) + 0.5  # smallest at 0.01
            record = {"kind": "step", "epoch": 1, "step": step + 1, "loss": loss, "lr": rate}
            Start.history.steps.append(fastcnn.training.history.StepRecord(record))
            steps = fastcnn.training.callbacks.Steps(1, step + 1, 1, [loss], [rate], loss, 0.0, 1.0)
            callbacks[0].on_steps(steps)

    found = search(train_once, 1e-6, 1e4, 200)
    assert len(taken) < 200
    assert 5e-4 <= found.suggestion <= 2e-3  # a tenth of 0.01
    assert isinstance(found, RateSearch)
    assert png(found.figure()).startswith(b"\x89PNG")
    assert "learning rate 0.00" in str(found)


def test_the_mean_has_no_bias_of_its_start() -> None:
    assert np.allclose(smoothed([2.0] * 5), 2.0)
    assert smoothed([1.0, 3.0])[1] == pytest.approx((0.9 * 1.0 + 3.0) / 1.9)
