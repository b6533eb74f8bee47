"""Networks for regression: metrics, figures, findings and predictions follow the loss."""

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.analysis.runs import compare_runs
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.interop import load_state, save_state
from fastcnn.layers import Linear, Sequential
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import to_definition
from fastcnn.losses import CrossEntropyLoss, MSELoss
from fastcnn.optim import Adam
from fastcnn.training import EarlyStopping, Run, evaluate, fit
from fastcnn.training.curves import curves
from fastcnn.training.progress import progress_callback

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 5)).astype(np.float32)
SLOPES = RNG.standard_normal((5, 2))
TARGETS: dict[str, np.ndarray] = {
    "value": X @ SLOPES[:, 0],
    "column": X @ SLOPES[:, :1],
    "values": X @ SLOPES,
    "zeros and ones": (X[:, 0] > 0).astype(int),
}


def network(outputs: int) -> Sequential:
    return Sequential(Linear(5, outputs, seed=0), input_shape=(5,))


def trained(name: str, **options: Any) -> tuple[Sequential, Any]:
    y = TARGETS[name]
    model = network(2 if name == "values" else 1)
    settings: dict[str, Any] = {"epochs": 30, "diagnose": False, **options}
    return model, fit(model, (X, y), (X, y), loss=MSELoss(), **settings)


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
@pytest.mark.parametrize("name", TARGETS)
def test_there_is_no_accuracy(name: str, backend: str) -> None:
    model, history = trained(name, backend=backend)
    assert history.loss == "mse"
    assert set(history.column("train_accuracy")) == set(history.column("test_accuracy")) == {None}
    assert "accuracy" not in repr(history)
    assert "accuracy" not in history._repr_html_().split("<img")[0]
    loss, accuracy, outputs = evaluate(model, (X, TARGETS[name]), loss=MSELoss(), backend=backend)
    assert math.isnan(accuracy)
    assert loss == pytest.approx(history.final["test_loss"], rel=1e-5)
    # Predictions have the targets' shape: their difference does not broadcast to all pairs.
    predicted = model.predict(X, backend=backend)
    assert predicted.shape == TARGETS[name].shape
    assert ((predicted - TARGETS[name]) ** 2).mean() == pytest.approx(loss, rel=1e-4)
    assert predicted.reshape(outputs.shape) == pytest.approx(outputs)
    with pytest.raises(ConfigurationError, match="trained on values, not on classes"):
        model.predict_proba(X)


def test_classes_in_one_hot_rows_have_an_accuracy() -> None:
    model = network(3)
    labels = np.arange(80) % 3
    history = fit(model, (X, labels), epochs=1, loss=MSELoss())
    assert model.predicts == "classes"
    assert 0 <= history.final["train_accuracy"] <= 1
    assert model.predict(X).dtype == np.int64
    assert evaluate(model, (X, labels), loss=MSELoss())[1] == (model.predict(X) == labels).mean()


def test_one_output_cannot_tell_classes_apart() -> None:
    model = network(1)
    for method in ("predict", "predict_proba"):
        with pytest.raises(ConfigurationError, match=f"{method}: one output cannot tell"):
            getattr(model, method)(X)
    with pytest.raises(ShapeError, match="a single output, is always 0"):
        fit(model, (X, np.zeros(80, int)), epochs=1)


def test_figures_name_the_loss(tmp_path: Path) -> None:
    _, history = trained("value", out=tmp_path / "a")
    trained("value", epochs=10, out=tmp_path / "b")
    panels = curves(history)
    assert [panel.title for panel in panels] == ["Training loss", "Test loss"]
    assert {panel.unit for panel in panels} == {"mean squared error"}
    comparison = compare_runs([tmp_path / "a", tmp_path / "b"])
    assert comparison.header == ["run", "epochs", "train loss", "test loss", "best", "seconds"]
    assert {axes.get_ylabel() for axes in comparison.figure().axes} == {"mean squared error"}
    assert "accuracy" not in comparison.table()
    epochs = (tmp_path / "a" / "epochs.csv").read_text().splitlines()
    assert epochs[1].split(",")[2] == ""
    assert "nan" not in (tmp_path / "a" / "metrics.jsonl").read_text().lower()


def test_it_is_kept(tmp_path: Path) -> None:
    model, _ = trained("value", out=tmp_path / "run")
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["model"]["predicts"] == "value"
    )
    assert (Run.open(tmp_path / "run").load_model().predict(X) == model.predict(X)).all()
    assert from_definition(to_definition(model)).predicts == "value"
    save_state(model, tmp_path / "w.safetensors")
    other = network(1)
    load_state(other, tmp_path / "w.safetensors")
    assert (other.predict(X) == model.predict(X)).all()
    with pytest.raises(ConfigurationError, match="predicts must be one of"):
        model.predicts = "text"


def test_the_accuracy_cannot_be_monitored() -> None:
    with pytest.raises(ConfigurationError, match="targets are not classes: monitor test_loss"):
        trained("value", callbacks=[EarlyStopping("test_accuracy")])


@pytest.mark.parametrize("name", ["value", "values", "zeros and ones"])
def test_findings_compare_with_guessing_the_mean(name: str) -> None:
    _, history = trained(name, diagnose=True, epochs=60, optimizer=Adam(lr=0.02))
    assert [finding.kind for finding in history.findings] == []
    noise = RNG.standard_normal((80, 5)).astype(np.float32) * 1e-6
    model, y = network(1), RNG.standard_normal(80)
    y -= y.mean()
    history = fit(model, (noise, y), epochs=60, loss=MSELoss())
    finding = next(finding for finding in history.findings if finding.kind == "chance")
    assert f"that of guessing ({y.var():.4f})" in finding.message


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("loss", [MSELoss(), CrossEntropyLoss()], ids=["mse", "entropy"])
def test_progress_shows_an_accuracy_where_there_is_one(loss: Any, terminal: bool) -> None:
    from rich.console import Console

    printed = io.StringIO()
    console = Console(file=printed, force_terminal=terminal, width=200, highlight=False)
    y = TARGETS["values"] if loss.operation == "mse" else np.arange(80) % 2
    fit(
        network(2), (X, y), (X, y), loss=loss, epochs=2, callbacks=[progress_callback(console)],
        diagnose=False,
    )  # fmt: skip
    assert "epoch 2/2  train loss" in printed.getvalue()
    assert bool(re.search(r"\.\d+ %", printed.getvalue())) == (loss.operation != "mse")
