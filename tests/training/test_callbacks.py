"""Callbacks, sample weights, and the moving average of parameters."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Flatten, Linear, Sequential
from fastcnn.optim import SGD
from fastcnn.training import Callback, EarlyStopping, ReduceLROnPlateau, evaluate, fit
from fastcnn.training.callbacks import TrainingStart, uncalled
from fastcnn.training.fit_arguments import FitArguments
from fastcnn.training.history import History
from fastcnn.training.unreached import unreached


def blobs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 3, count)
    x = generator.standard_normal((count, 1, 2, 2)) + y[:, None, None, None]
    return x, y


def dense() -> Sequential:
    return Sequential(Flatten(), Linear(4, 3, seed=0), input_shape=(1, 2, 2))


class Recorder(Callback):
    """Records calls, and the parameters after each epoch."""

    def __init__(self, name: str = "", calls: list[str] | None = None) -> None:
        self.name = name
        self.calls = [] if calls is None else calls
        self.vectors: list[np.ndarray] = []

    def on_train_begin(self, start: TrainingStart) -> None:
        self.calls.append(f"begin {self.name}")

    def on_epoch_end(self, epoch: dict[str, Any], model: Any) -> None:
        self.calls.append(f"epoch {self.name}")
        self.vectors.append(model.parameter_vector.copy())

    def on_train_end(self, history: History) -> None:
        self.calls.append(f"end {self.name}")


def test_what_begins_first_ends_last() -> None:
    calls: list[str] = []
    fit(dense(), blobs(20), epochs=1, callbacks=[Recorder("a", calls), Recorder("b", calls)])
    assert calls == ["begin a", "begin b", "epoch a", "epoch b", "end b", "end a"]


def play(callback: Callback, values: list[float], metric: str = "validation_loss") -> list[float]:
    """Feed a metric, one value per epoch; return the factor of the learning rate after each."""
    model = dense()
    start = TrainingStart(model, History(), len(values), 1, 1, tested=True, validated=True)
    callback.on_train_begin(start)
    factors = []
    for index, value in enumerate(values, start=1):
        model.parameter_vector[...] = index
        callback.on_epoch_end({"epoch": index, metric: value}, model)
        factors.append(start.control.lr_factor)
        if start.control.stop_reason is not None:
            break
    model.parameter_vector[...] = -1.0
    callback.on_train_end(History(status="finished"))
    factors.append(float(model.parameter_vector[0]))
    return factors


@pytest.mark.parametrize(
    ("arguments", "metric", "values", "epochs", "kept"),
    [
        ({"patience": 2}, "test_loss", [3.0, 2.0, 2.5, 2.1, 1.0], 4, 2),
        ({"patience": 1}, "test_loss", [3.0, 2.0, 1.0], 3, 3),
        ({"patience": 2, "min_delta": 0.5}, "test_loss", [3.0, 2.6, 2.55, 1.0], 3, 1),
        ({"patience": 1}, "test_accuracy", [0.5, 0.6, 0.6, 0.9], 3, 2),
        ({"patience": 1, "restore_best": False}, "train_loss", [3.0, 4.0, 1.0], 2, -1),
    ],
)
def test_early_stopping(
    arguments: dict[str, Any], metric: str, values: list[float], epochs: int, kept: int
) -> None:
    *factors, first_weight = play(EarlyStopping(metric, **arguments), values, metric)
    assert len(factors) == epochs
    assert first_weight == kept


def test_early_stopping_ends_fit_with_the_best_weights() -> None:
    train, held = blobs(30), blobs(200, seed=1)
    model = dense()
    stopper = EarlyStopping(patience=3)
    history = fit(
        model,
        train,
        validation=held,
        epochs=500,
        optimizer=SGD(lr=0.5),
        batch_size=5,
        callbacks=[stopper],
    )
    assert len(history.epochs) == stopper.best_epoch + 3 < 500
    assert history.status == "finished"
    assert history.stop_reason is not None
    assert "validation loss has not improved since epoch" in history.stop_reason
    losses = history.column("validation_loss")
    assert evaluate(model, held)[0] == pytest.approx(min(losses))
    assert stopper.best == min(losses)


def test_the_learning_rate_falls_on_a_plateau() -> None:
    values = [1.0, 0.9, 0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8]
    *factors, _ = play(ReduceLROnPlateau(factor=0.5, patience=1), values)
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    *factors, _ = play(ReduceLROnPlateau(factor=0.5, patience=0, min_factor=0.3), [1.0] * 4)
    assert factors == [1, 0.5, 0.3, 0.3]


def test_a_bound_does_not_raise_what_another_callback_has_lowered() -> None:
    plateau = ReduceLROnPlateau(patience=0, min_factor=0.3)
    start = TrainingStart(dense(), History(), 2, 1, 1, tested=True, validated=True)
    plateau.on_train_begin(start)
    start.control.lr_factor = 0.1
    for epoch in (1, 2):
        plateau.on_epoch_end({"epoch": epoch, "validation_loss": 1.0}, start.model)
    assert start.control.lr_factor == 0.1


@pytest.mark.torch
@pytest.mark.parametrize("metric", ["test_loss", "test_accuracy"])
@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (1, 2), (3, 1)])
def test_plateaus_are_pytorchs(metric: str, patience: int, cooldown: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    values = np.random.default_rng(0).uniform(0.5, 1.0, 60).tolist()
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="min" if metric == "test_loss" else "max", factor=0.5,
        patience=patience, cooldown=cooldown, threshold=0.05, eps=0.0,
    )  # fmt: skip
    expected = []
    for value in values:
        scheduler.step(value)
        expected.append(optimizer.param_groups[0]["lr"])
    callback = ReduceLROnPlateau(metric, 0.5, patience, threshold=0.05, cooldown=cooldown)
    assert play(callback, values, metric)[:-1] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "values", "factors"),
    [
        ("test_loss", [-1.0, -1.0, -0.99], [1, 0.5, 0.25]),
        ("test_loss", [-1.0, -1.2, -1.2], [1, 1, 0.5]),
        ("test_accuracy", [-1.0, -1.0, -0.5], [1, 0.5, 0.5]),
    ],
)
def test_negative_values_can_be_a_plateau(
    metric: str, values: list[float], factors: list[float]
) -> None:
    callback = ReduceLROnPlateau(metric, 0.5, patience=0, threshold=0.1)
    assert play(callback, values, metric)[:-1] == factors


def test_fit_uses_the_lowered_rate() -> None:
    plateau = ReduceLROnPlateau("train_loss", factor=0.1, patience=0)
    history = fit(
        dense(), blobs(20), epochs=4, batch_size=20, optimizer=SGD(lr=0.0), callbacks=[plateau]
    )
    assert [record["lr"] for record in history.steps] == [0.0] * 4
    plateau = ReduceLROnPlateau("train_loss", factor=0.1, patience=0, threshold=10.0)
    history = fit(
        dense(), blobs(20), epochs=4, batch_size=20, optimizer=SGD(lr=0.1), callbacks=[plateau]
    )
    assert [record["lr"] for record in history.steps] == pytest.approx([0.1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_state_survives_an_interruption(kind: Any) -> None:
    values = [1.0, 0.8, 0.9, 0.9, 0.9, 0.9]
    whole, first, second = (kind(patience=2) for _ in range(3))
    play(whole, values)
    play(first, values[:3])
    second.load_state_dict(first.state_dict())
    model = dense()
    start = TrainingStart(model, History(epochs=[{}] * 3), 6, 1, 1, tested=True, validated=True)
    second.on_train_begin(start)
    for index, value in enumerate(values[3:], start=4):
        second.on_epoch_end({"epoch": index, "validation_loss": value}, model)
        if start.control.stop_reason:
            break
    assert second.best == whole.best
    assert second.waited == whole.waited


def average_of(model: Sequential, epochs: int, batch_size: int, decay: float) -> np.ndarray:
    """The moving average, computed step by step from the parameters after each."""
    x, y = blobs(30)
    vectors = [model.parameter_vector.copy()]

    class Watch(Callback):
        def on_steps(self, steps: Any) -> None:
            assert len(steps.losses) == 1
            vectors.append(model.parameter_vector.copy())

    # The package's name "fit" is the function, not its module.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["fastcnn.training.loop"], "CHUNK_SECONDS", 0.0)
        fit(model, (x, y), epochs=epochs, batch_size=batch_size, callbacks=[Watch()])
    average, last = vectors[0].astype(np.float64), 0
    per_epoch = -(-30 // batch_size)
    for step in range(1, len(vectors)):
        if step % 10 == 0 or step % per_epoch == 0:
            keep = min(decay, (1 + step) / (10 + step)) ** (step - last)
            average = keep * average + (1 - keep) * vectors[step]
            last = step
    return average


@pytest.mark.parametrize(("batch_size", "epochs"), [(2, 3), (30, 12)])
def test_the_model_ends_with_the_average(batch_size: int, epochs: int) -> None:
    expected = average_of(dense(), epochs, batch_size, 0.9)
    model, seen = dense(), Recorder()
    history = fit(
        model, blobs(30), blobs(50, 1), epochs=epochs, batch_size=batch_size, ema_decay=0.9,
        callbacks=[seen],
    )  # fmt: skip
    assert model.parameter_vector == pytest.approx(expected, abs=1e-5)
    assert (seen.vectors[-1] == model.parameter_vector).all()
    assert evaluate(model, blobs(50, 1))[0] == pytest.approx(history.final["test_loss"])


def test_an_average_of_nothing_is_plain_training() -> None:
    plain, averaged = dense(), dense()
    fit(plain, blobs(30), epochs=2, batch_size=4)
    fit(averaged, blobs(30), epochs=2, batch_size=4, ema_decay=0.0)
    assert averaged.parameter_vector == pytest.approx(plain.parameter_vector)


def test_whole_weights_are_repetitions() -> None:
    x, y = blobs(12)
    weight = np.arange(1, 13)
    weighted, repeated = dense().to(np.float64), dense().to(np.float64)
    first = fit(weighted, (x, y, weight), (x, y, weight), epochs=20, batch_size=100)
    many = (x.repeat(weight, axis=0), y.repeat(weight))
    second = fit(repeated, many, many, epochs=20, batch_size=100)
    assert weighted.parameter_vector == pytest.approx(repeated.parameter_vector, rel=1e-9)
    for name in ("train_loss", "test_loss"):
        assert first.column(name) == pytest.approx(second.column(name), rel=1e-9)


def test_the_mean_loss_of_an_epoch_is_weighted() -> None:
    x, y = blobs(10)
    weight = np.linspace(0.1, 3.0, 10)
    history = fit(dense(), (x, y, weight), epochs=1, batch_size=4, optimizer=SGD(lr=0.0))
    loss, _, _ = evaluate(dense(), (x, y, weight))
    assert history.final["train_loss"] == pytest.approx(loss)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping("accuracy"), "monitor must be one of"),
        (lambda: EarlyStopping(patience=-1), "patience must be"),
        (lambda: EarlyStopping(min_delta=-0.1), "min_delta must be at least 0"),
        (lambda: ReduceLROnPlateau(factor=1.0), "factor must lie between"),
        (lambda: ReduceLROnPlateau(threshold=-1e-4), "threshold must be at least 0"),
        (lambda: ReduceLROnPlateau(min_factor=-0.1), "min_factor must be at least 0"),
        (lambda: ReduceLROnPlateau(min_factor=2), "min_factor must be at most 1"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_metric_needs_its_data(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there are no test data"):
        fit(dense(), blobs(20), epochs=1, callbacks=[EarlyStopping("test_loss")])
    with pytest.raises(ConfigurationError, match="there are no validation data"):
        fit(dense(), blobs(20), epochs=1, callbacks=[EarlyStopping()], validation=0)
    with pytest.raises(ConfigurationError, match="no validation data: hold some out"):
        fit(dense(), blobs(20), epochs=1, out=tmp_path / "run", monitor="validation_accuracy")
    fit(dense(), blobs(20), blobs(9), epochs=1, callbacks=[EarlyStopping("test_loss")])
    assert "a model selected on test data" in caplog.text
    assert fastcnn.training.EarlyStopping is EarlyStopping


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf, "2", True])
def test_factors_of_the_rate_that_are_refused(factor: Any) -> None:
    class Factor(Callback):
        def on_train_begin(self, start: TrainingStart) -> None:
            start.control.lr_factor = factor

    with pytest.raises(ConfigurationError, match=r"control\.lr_factor must be a finite number"):
        fit(dense(), blobs(20), epochs=1, callbacks=[Factor()])


def test_control_has_no_other_settings() -> None:
    class Rate(Callback):
        def on_train_begin(self, start: TrainingStart) -> None:
            start.control.lr = 0.5  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="'Control' object has no attribute 'lr'"):
        fit(dense(), blobs(20), epochs=1, callbacks=[Rate()])


def test_states_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    class Stateful(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"seen": {1, 2}}

    with pytest.raises(ConfigurationError, match=r"type set .* state_dict\(\) of a callback must"):
        fit(dense(), blobs(20), epochs=1, callbacks=[Stateful()], out=tmp_path / "run")


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
def test_an_optimizer_that_returns_new_parameters_is_refused(backend: str) -> None:
    class Returns:
        lr, slots = 0.1, ()

        def update(self, parameters: Any, gradient: Any, slots: Any, lr: float, step: int) -> Any:
            return parameters - lr * gradient

    with pytest.raises(ConfigurationError, match=r"Returns\.update must change .* in place"):
        fit(dense(), blobs(20), epochs=1, optimizer=Returns(), backend=backend)  # type: ignore[arg-type]


def test_a_column_that_records_lack() -> None:
    history = fit(dense(), blobs(20), epochs=1)
    with pytest.raises(ConfigurationError, match=r"have kind, epoch, train_loss, .* not 'loss'"):
        history.column("loss")


def test_methods_that_cannot_be_called_are_refused() -> None:
    class Short(Callback):
        def on_epoch_end(self, epoch: Any) -> None:  # type: ignore[override]
            raise AssertionError

    with pytest.raises(
        ConfigurationError, match=r"Short.on_epoch_end must take epoch, model \(too"
    ):
        FitArguments(callbacks=[Short()])


def test_methods_without_a_signature_are_accepted() -> None:
    class Compiled(Callback):
        on_train_end = dict[str, Any]().update  # type: ignore[assignment]

    FitArguments(callbacks=[Compiled()])


def test_methods_that_are_never_called_are_said() -> None:
    class Own(EarlyStopping):
        on_disk = True

        def on_improvement(self, *given: Any) -> None: ...

        def on_batch_end(self) -> None: ...

    said = list(uncalled(Own(patience=3)))
    assert len(said) == 1
    assert said[0].startswith("Own.on_batch_end is not called during training: the methods of")
    assert said[0] in unreached(FitArguments(), [Own(patience=3)], 100, 10)
