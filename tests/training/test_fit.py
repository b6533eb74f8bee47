"""Training: its accuracy, records, refusals and files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import (
    CheckpointError,
    ConfigurationError,
    DataError,
    NonFiniteError,
    ShapeError,
)
from fastcnn.layers import Flatten, Linear, Sequential, init
from fastcnn.optim import SGD, Cosine
from fastcnn.training import Callback, Run, evaluate, fit

pytestmark = pytest.mark.usefixtures("all_cores")


@pytest.fixture(scope="module")
def digits() -> tuple[fastcnn.Dataset, fastcnn.Dataset]:
    return fastcnn.data.digits_dataset(3_000, 600, classes=(0, 1, 2), seed=1)


def blobs(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = generator.standard_normal((count, 1, 2, 2)) + 3 * y[:, None, None, None]
    return x, y


def dense() -> Sequential:
    return Sequential(Flatten(), Linear(4, 3, seed=0))


def test_drawn_digits_are_learned(digits: Any, tmp_path: Path) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    history = fit(model, *digits, epochs=3, out=tmp_path / "run")
    assert history.final["test_accuracy"] > 0.97
    loss, accuracy, logits = evaluate(model, digits[1])
    assert loss == pytest.approx(history.final["test_loss"])
    assert accuracy == history.final["test_accuracy"]
    assert logits.shape == (600, 3)


@pytest.mark.mnist
@pytest.mark.parametrize("backend", ["lanes", pytest.param("im2col", marks=pytest.mark.slow)])
def test_real_digits_reach_99_5_percent(backend: str, mnist: None) -> None:
    train, test = fastcnn.data.load("mnist012")
    history = fit(fastcnn.models.report_cnn(seed=0), train, test, epochs=5, backend=backend)
    assert history.final["test_accuracy"] >= 0.995


def test_a_run_folder_has_all_its_files(digits: Any, tmp_path: Path) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    train = digits[0].subset(slice(0, 100))
    history = fit(model, train, digits[1], epochs=2, batch_size=32, out=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        ".lock", "checkpoints", "config.json", "curves.png", "epochs.csv", "metrics.jsonl",
        "model.safetensors",
    ]  # fmt: skip
    lines = (tmp_path / "epochs.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,train_loss,train_accuracy,validation_loss,validation_acc")
    values = [float(value) if value else None for value in lines[2].split(",")]
    assert values == list(history.final.values())[1:]
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [record["kind"] for record in records] == (["step"] * 4 + ["epoch"]) * 2
    assert set(records[-1]) == {
        "kind", "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds",
        "samples_per_second", "validation_loss", "validation_accuracy",
    }  # fmt: skip
    assert records[-1] == history.final
    assert [r["step"] for r in records if r["kind"] == "step"] == list(range(1, 9))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["status"] == "finished"
    assert config["optimizer"]["name"] == "sgd"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_repeats_itself(digits: Any) -> None:
    train = digits[0].subset(slice(0, 200))
    results = []
    for seed in (0, 0, 1):
        model = fastcnn.models.report_cnn(seed=0)
        fit(model, train, epochs=1, seed=seed)
        results.append(model.parameter_vector.copy())
    assert (results[0] == results[1]).all()
    assert (results[0] != results[2]).any()


def test_records_have_attributes(digits: Any, tmp_path: Path) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    train = digits[0].subset(slice(0, 100))
    history = fit(model, train, digits[1], epochs=1, out=tmp_path)
    assert history.final.test_accuracy == history.final["test_accuracy"]
    assert history.steps[0].lr == 0.02
    assert "train_loss" in dir(history.final)
    with pytest.raises(AttributeError, match="no record of 'loss': there are kind, epoch, train"):
        _ = history.final.loss
    resumed = fit(model, train, digits[1], epochs=2, out=tmp_path, resume=True)
    assert [epoch.epoch for epoch in resumed.epochs] == [1, 2]
    assert [step.step for step in resumed.steps] == [1, 2, 3, 4]
    found = evaluate(model, digits[1])
    assert (found.loss, found.accuracy) == (found[0], found[1])
    assert fastcnn.evaluate is evaluate
    assert found.accuracy == resumed.final.test_accuracy


def test_epoch_means_weigh_a_short_last_batch() -> None:
    x, y = blobs(10)
    model = dense()
    history = fit(model, (x, y), epochs=1, batch_size=8, optimizer=SGD(lr=0.0))
    loss, accuracy, _ = evaluate(model, (x, y))
    assert history.final["train_loss"] == pytest.approx(loss)
    assert history.final["train_accuracy"] == pytest.approx(accuracy)
    assert history.final["test_loss"] is None


def test_schedule_and_clipping_are_used() -> None:
    x, y = blobs()
    history = fit(dense(), (x, y), epochs=2, batch_size=10, schedule=Cosine())
    rates = [record["lr"] for record in history.steps]
    assert rates[0] == 0.02
    assert rates == sorted(rates, reverse=True)
    model = dense()
    before = model.parameter_vector.copy()
    fit(model, (x, y), epochs=1, batch_size=60, optimizer=SGD(lr=1.0), clip_norm=1e-3)
    assert np.linalg.norm(model.parameter_vector - before) == pytest.approx(1e-3, rel=1e-3)


def test_mean_squared_error_fits_numbers_and_classes() -> None:
    x, y = blobs()
    target = x.reshape(60, 4) @ np.array([[1.0], [2.0], [-1.0], [0.5]])
    model = Sequential(Flatten(), Linear(4, 1, seed=0))
    history = fit(model, (x, target), epochs=1000, optimizer=SGD(lr=0.005), loss=fastcnn.MSELoss())
    assert history.final["train_loss"] < 1e-2
    history = fit(dense(), (x, y), epochs=1, loss=fastcnn.MSELoss())
    assert 0 < history.final["train_accuracy"] <= 1


def test_divergence_is_explained_and_the_last_good_weights_kept(tmp_path: Path) -> None:
    x, y = blobs()
    model = dense().initialize(init.Normal(1.0), seed=0)
    before = model.parameter_vector.copy()
    message = r"became .* step \d+ .*learning rate 1e\+38"
    with pytest.raises(NonFiniteError, match=message):
        fit(model, (x, y), epochs=3, batch_size=4, optimizer=SGD(lr=1e38), out=tmp_path)
    assert (model.parameter_vector == before).all()
    assert json.loads((tmp_path / "config.json").read_text())["status"] == "failed"


class Interrupt(Callback):
    def on_steps(self, steps: Any) -> None:
        if steps.epoch == 2:
            raise KeyboardInterrupt


def test_an_interrupted_run_is_usable(digits: Any, tmp_path: Path) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    with pytest.raises(KeyboardInterrupt):
        fit(model, digits[0], digits[1], epochs=5, callbacks=[Interrupt()], out=tmp_path)
    run = Run.open(tmp_path)
    assert run.config["status"] == "interrupted"
    assert len(run.metrics("epoch")) == 1
    from safetensors.numpy import load_file

    saved = load_file(tmp_path / "model.safetensors")
    assert all((saved[key] == value).all() for key, value in model.state_dict().items())


def test_runs_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text('{"format": "other"}')
    with pytest.raises(CheckpointError, match="not the config of a fastcnn run"):
        Run.open(tmp_path)
    with pytest.raises(ConfigurationError, match="not empty"):
        Run.create(tmp_path, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Run.create(tmp_path / "file" / "run", {})
    config = {
        "format": "fastcnn-run-1",
        "model": {"name": "report_cnn", "arguments": {"num_classes": 3}},
        "preprocessing": {},
    }
    run = Run.create(tmp_path / "run", config)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        run.load_model()
    (tmp_path / "run" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(CheckpointError, match="damaged"):
        run.load_model()
    run.save_weights(fastcnn.models.report_cnn(num_classes=4))
    with pytest.raises(CheckpointError, match=r"fc3.weight: the model has shape \(3, 128\)"):
        run.load_model()


def test_weights_that_are_not_contiguous_are_saved_right(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    model = dense()
    layer = model.layers["1"]
    layer.parameters["weight"] = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    Run.create(tmp_path, {}).save_weights(model)
    assert (load_file(tmp_path / "model.safetensors")["1.weight"] == layer.weight).all()  # type: ignore[attr-defined]


X, Y = blobs()


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.bool_])
def test_other_integers_and_booleans_are_values(dtype: Any) -> None:
    """Only bytes are pixels, which are divided by 255."""
    integers = (X > 1).astype(dtype)
    found = []
    for x in (integers, integers.astype(np.float32)):
        model, stream = dense(), dense()
        fit(model, (x, Y), epochs=1)
        fit(stream, [(x, Y)], epochs=1)
        loss = evaluate(model, (x, Y)).loss
        found.append((model.parameter_vector, stream.parameter_vector, model.predict(x), loss))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train": (X[:0], Y[:0])}, ShapeError, "train: there are no samples"),
        ({"train": (X, Y[:5])}, ShapeError, "expected a target for each sample, 60"),
        ({"train": (X, Y + 1)}, DataError, r"train: classes must lie in 0..2, got 1..3"),
        ({"train": (X, Y + 0.5)}, DataError, "classes must be integers of shape"),
        ({"train": (np.where(X > 3, np.nan, X), Y)}, DataError, "contain NaN or infinity"),
        (
            {"train": (X, np.full((len(X), 3), 1e300)), "test": None, "loss": "mse"},
            DataError,
            "train: targets contain values too large for float32",
        ),
        (
            {"train": (X + 1j, Y)},
            DataError,
            "train: samples must be real numbers, got dtype complex",
        ),
        ({"test": (X[:, :, :1], Y)}, ShapeError, "model takes"),
        ({"train": (X, Y, Y[:5])}, ShapeError, "expected a weight for each sample, 60"),
        ({"train": (X, Y, Y)}, DataError, "weights must be finite and above 0"),
        ({"train": (X, Y, Y.astype(str))}, DataError, "weights must be numbers, got <U"),
        ({"train": (X, Y, Y + 1j)}, DataError, "weights must be numbers, got complex128"),
        ({"augment": {}}, ConfigurationError, "augment={} changes nothing: leave it out"),
        ({"augment": "shift=0"}, ConfigurationError, "augment='shift=0' changes nothing"),
        ({"train": (X, Y, Y, Y)}, ShapeError, r"expected \(x, y\) or"),
        ({"ema_decay": 1.0}, ConfigurationError, "ema_decay must be"),
        ({"epochs": -1}, ConfigurationError, "epochs must be an integer of at least 0"),
        ({"batch_size": 0}, ConfigurationError, "batch_size must be"),
        ({"threads": 0}, ConfigurationError, "threads must be"),
        ({"clip_norm": 0.0}, ConfigurationError, "clip_norm must be a finite number above 0"),
        ({"backend": "gpu"}, ConfigurationError, "backend must be one of"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"train": (X, Y), "test": (X, Y), "epochs": 1, **change}
    model = dense()
    model.input_shape = (1, 2, 2)
    before = model.parameter_vector.copy()
    with pytest.raises(error, match=message):
        fit(model, **arguments)
    assert (model.parameter_vector == before).all()
