"""Non-finite values are never kept, saved or returned without NonFiniteError."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastcnn
from fastcnn.errors import NonFiniteError
from fastcnn.interop import export_onnx, load_state, save_state
from fastcnn.interop.c import export_c
from fastcnn.interop.numpy_source import export_numpy
from fastcnn.layers import BatchNorm1d, Linear, Model, ReLU, Sequential
from fastcnn.losses import L1Loss, MSELoss
from fastcnn.optim import SGD, Adam, AdamW, Optimizer, RMSprop, clip_gradient_norm
from fastcnn.training import Callback, EarlyStopping
from fastcnn.weights import not_finite

pytestmark = pytest.mark.usefixtures("no_pictures")
BACKENDS = ("lanes", "im2col")


def samples(scale: float = 1.0, count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = scale * generator.standard_normal((count, 6))
    return x.astype(np.float32), generator.integers(0, 3, count)


def linear(outputs: int = 3) -> Sequential:
    return Sequential(Linear(6, outputs, seed=0), input_shape=(6,))


def is_refused(model: Model, data: Any, test: Any = None, **options: Any) -> str:
    """Train, which must raise and leave finite weights; returns the message."""
    with pytest.raises(NonFiniteError) as caught:
        fastcnn.fit(model, data, test, diagnose=False, **options)
    assert not_finite(model.state_dict()) is None
    return str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tested", [True, False])
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_step_at_an_epochs_end(epochs: int, tested: bool, backend: str, tmp_path: Path) -> None:
    data, model = samples(1e4), linear()
    before = model.parameter_vector.copy()
    message = is_refused(
        model, data, data if tested else None, epochs=epochs, optimizer=SGD(lr=1e38),
        backend=backend, out=tmp_path, callbacks=[EarlyStopping(monitor="train_loss")],
    )  # fmt: skip
    assert "0.weight" in message or "weights" in message
    assert (model.parameter_vector == before).all()
    for path in tmp_path.rglob("*.safetensors"):
        assert not_finite(load_file(path)) is None, path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("optimizer", [SGD(lr=0.1), Adam(), AdamW(), RMSprop()])
def test_an_infinite_gradient(optimizer: Optimizer, backend: str) -> None:
    x, _ = samples(count=32)
    target = np.full((32, 1), 3e38, np.float32)
    for clip_norm in (1.0, None):
        is_refused(
            linear(1), (x, target), epochs=1, loss=MSELoss(), clip_norm=clip_norm,
            optimizer=optimizer, backend=backend,
        )  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_running_statistics(backend: str) -> None:
    model = Sequential(BatchNorm1d(6), Linear(6, 3, seed=0), input_shape=(6,))
    message = is_refused(model, samples(1e20), epochs=1, backend=backend)
    assert "running_var" in message


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("optimizer", [Adam(lr=1e-9), AdamW(lr=1e-9), RMSprop(lr=1e-9)])
def test_the_optimisers_state(optimizer: Optimizer, backend: str) -> None:
    """An infinite mean square would stop all updates of its weight."""
    x, _ = samples(1e23, count=32)
    message = is_refused(
        linear(1), (x, np.zeros((32, 1), np.float32)), epochs=1, loss=L1Loss(),
        optimizer=optimizer, backend=backend,
    )  # fmt: skip
    assert "_sq" in message or "square_avg" in message


class Spoil(Callback):
    """Writes a NaN into the model in one of its calls."""

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def on_train_begin(self, start: Any) -> None:
        self.model = start.model

    def on_steps(self, steps: Any) -> None:
        if self.moment == "steps":
            self.model.parameter_vector[0] = np.nan

    def on_epoch_end(self, epoch: Any, model: Model) -> None:
        if self.moment == "epoch":
            model.parameter_vector[0] = np.nan


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("moment", ["steps", "epoch"])
def test_what_a_callback_writes(moment: str, ema_decay: float | None, tmp_path: Path) -> None:
    model, data = linear(), samples()
    if moment == "epoch" and ema_decay is not None:
        # Evaluation uses the average: the weights are restored after the callback.
        fastcnn.fit(model, data, epochs=1, callbacks=[Spoil(moment)], ema_decay=ema_decay)
    else:
        options = {"epochs": 1, "ema_decay": ema_decay, "out": tmp_path}
        is_refused(model, data, callbacks=[Spoil(moment)], **options)
    assert not_finite(model.state_dict()) is None


def test_an_interrupt_before_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastcnn.training.loop import TrainingLoop

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingLoop, "_agree_that_finite", interrupt)
    model = linear()
    with pytest.raises(KeyboardInterrupt):
        fastcnn.fit(model, samples(1e4), epochs=1, optimizer=SGD(lr=1e38), diagnose=False)
    assert not_finite(model.state_dict()) is None


def test_a_model_that_is_not_finite() -> None:
    model = Sequential(Linear(6, 6, seed=0), BatchNorm1d(6), ReLU(), Linear(6, 3, seed=0))
    for key in ("0.weight", "1.running_var", "3.bias"):
        before = model.copy_state()
        model.state_dict()[key][0] = np.inf
        with pytest.raises(NonFiniteError, match=rf"before training: .* of {key}"):
            fastcnn.fit(model, samples(), epochs=1)
        model.load_state_dict(before)


def test_a_test_loss_that_is_not_finite() -> None:
    x, y = samples()
    far = np.full((4, 6), 3e38, np.float32)
    model = linear()
    model.state_dict()["0.weight"][...] = 2.0
    message = is_refused(model, (x, y), (far, y[:4]), epochs=1)
    assert "test loss became" in message


def test_the_norm_of_a_gradient_whose_squares_overflow() -> None:
    gradient = np.array([3e200, 4e200])
    assert clip_gradient_norm(gradient, 1.0) == pytest.approx(5e200)
    np.testing.assert_allclose(gradient, [0.6, 0.8])
    for bad in (np.inf, np.nan):
        gradient = np.array([1.0, bad])
        assert not np.isfinite(clip_gradient_norm(gradient, 1.0))
        np.testing.assert_array_equal(gradient, [1.0, bad])


def test_a_whole_pass_of_an_estimator() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from fastcnn.estimators import CNNClassifier

    x, y = samples(1e4)
    estimator = CNNClassifier(linear(), optimizer=SGD(lr=1e38), batch_size=64)
    with pytest.raises(NonFiniteError):
        estimator.partial_fit(x, y, classes=[0, 1, 2])
    assert not_finite(estimator.model_.state_dict()) is None


@pytest.mark.parametrize("suffix", ["safetensors", "pytorch", "onnx", "h", "py"])
def test_files_of_weights_that_are_not_finite_are_not_written(suffix: str, tmp_path: Path) -> None:
    model = Sequential(Linear(6, 6, seed=0), BatchNorm1d(6), Linear(6, 3, seed=0), input_shape=(6,))
    model.state_dict()["1.running_var"][2] = np.nan
    path = tmp_path / f"net.{suffix}"
    write = {
        "safetensors": model.save,
        "pytorch": lambda path: save_state(model, path),
        "onnx": lambda path: export_onnx(model, path),
        "h": lambda path: export_c(model, path),
        "py": lambda path: export_numpy(model, path),
    }[suffix]
    if suffix == "onnx":
        pytest.importorskip("onnx")
    with pytest.raises(NonFiniteError, match=r"1 of 6 values of 1\.running_var"):
        write(path)
    assert not path.exists()


def test_files_of_weights_that_are_not_finite_are_not_read(tmp_path: Path) -> None:
    model, path = linear(), tmp_path / "net.safetensors"
    before = model.copy_state()
    save_file({**before, "0.bias": np.full(3, np.inf, np.float32)}, path)
    with pytest.raises(NonFiniteError, match=r"net\.safetensors: .* of 0\.bias"):
        load_state(model, path)
    assert (model.state_dict()["0.bias"] == before["0.bias"]).all()
