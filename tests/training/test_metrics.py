"""Metrics, compared with scikit-learn, and their use in training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import Flatten, Linear, ReLU, Sequential
from fastcnn.analysis.metrics import confusion_matrix
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Input, Model
from fastcnn.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from fastcnn.training import EarlyStopping, Run
from fastcnn.training.history import EpochRecord, History
from fastcnn.training.metrics import METRICS, Metric, as_metrics, compute, r2
from fastcnn.training.progress import describe_epoch

GENERATOR = np.random.default_rng(0)


def test_classes_as_scikit_learn_counts_them() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    outputs, y = GENERATOR.standard_normal((200, 4)), GENERATOR.integers(0, 4, 200)
    given = outputs.argmax(axis=1)
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    found = compute(tuple(METRICS[n] for n in ("precision", "recall", "f1", "iou", "top3", "auc")),
                    outputs, y, CrossEntropyLoss())  # fmt: skip
    assert found["precision"] == pytest.approx(sk.precision_score(y, given, average="macro"))
    assert found["recall"] == pytest.approx(sk.recall_score(y, given, average="macro"))
    assert found["f1"] == pytest.approx(sk.f1_score(y, given, average="macro"))
    assert found["iou"] == pytest.approx(sk.jaccard_score(y, given, average="macro"))
    assert found["top3"] == pytest.approx(sk.top_k_accuracy_score(y, probabilities, k=3))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, probabilities, multi_class="ovr"))


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_of_a_network_that_gives_probabilities(classes: int) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    y = np.arange(90) % classes
    outputs = 3 * GENERATOR.standard_normal((90, classes)) + np.eye(classes)[y]
    given = fastcnn.functional.softmax(outputs.astype(np.float32))
    found = compute((METRICS["auc"],), given, y, CrossEntropyLoss())["auc"]
    assert found == pytest.approx(sk.roc_auc_score(np.eye(classes)[y], given), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 45.0])
def test_auc_of_equal_and_of_certain_outputs(shift: float) -> None:
    """Equal scores count half; probabilities that would be rounded to 1 are not equal."""
    pytest.importorskip("sklearn")
    y = GENERATOR.integers(0, 2, 200)
    scores = shift + np.round(2 * (GENERATOR.standard_normal(200) + y)) / 2
    first = GENERATOR.integers(-4, 4, 200) / 2
    outputs = np.stack([first, first + scores], axis=1).astype(np.float32)
    true, false = scores[y == 1][:, None], scores[y == 0]
    expected = ((true > false) + 0.5 * (true == false)).mean()
    found = compute((METRICS["auc"],), outputs, y, CrossEntropyLoss())["auc"]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ignored", [0, 2, -100])
def test_a_class_that_is_ignored_does_not_count(ignored: int) -> None:
    """As in the accuracy, even if its number could be a class."""
    generator = np.random.default_rng(5)
    outputs, y = generator.standard_normal((60, 4)), generator.integers(0, 4, 60)
    y[:9] = ignored
    loss, kept = CrossEntropyLoss(ignore_index=ignored), y != ignored
    found = compute(as_metrics("precision,recall,f1,iou,top1,top2"), outputs, y, loss)
    assert found == compute(
        as_metrics("precision,recall,f1,iou,top1,top2"), outputs[kept], y[kept], CrossEntropyLoss()
    )
    assert found["top1"] == pytest.approx(loss.correct(outputs, y) / kept.sum())


def test_pixels_that_are_ignored_do_not_count() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    outputs, y = GENERATOR.standard_normal((9, 3, 4, 5)), GENERATOR.integers(0, 3, (9, 4, 5))
    y[GENERATOR.random(y.shape) < 0.3] = 255
    known = y != 255
    loss = CrossEntropyLoss(ignore_index=255)
    found = compute((METRICS["iou"], METRICS["f1"]), outputs, y, loss)
    given = outputs.argmax(axis=1)[known]
    assert found["iou"] == pytest.approx(sk.jaccard_score(y[known], given, average="macro"))
    assert found["f1"] == pytest.approx(sk.f1_score(y[known], given, average="macro"))


def test_labels_and_values() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    outputs, y = GENERATOR.standard_normal((90, 3)), GENERATOR.integers(0, 2, (90, 3))
    found = compute((METRICS["f1"], METRICS["auc"]), outputs, y, BCEWithLogitsLoss())
    assert found["f1"] == pytest.approx(sk.f1_score(y, outputs > 0, average="macro"))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, outputs, average="macro"))
    values = GENERATOR.standard_normal((90, 3))
    found = compute(tuple(METRICS[n] for n in ("mae", "rmse", "r2")), outputs, values, MSELoss())
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(values, outputs))
    assert found["rmse"] == pytest.approx(np.sqrt(sk.mean_squared_error(values, outputs)))
    assert found["r2"] == pytest.approx(sk.r2_score(values, outputs))


def test_r2_leaves_out_outputs_whose_targets_are_equal() -> None:
    """Also if their mean, and so their spread, has a rounding error."""
    targets = np.stack([np.full(48, 0.1), np.linspace(0.0, 1.0, 48)], axis=1)
    assert np.var(targets[:, 0]) > 0.0
    alone = r2(np.zeros((48, 1)), targets[:, 1:])
    assert r2(np.zeros((48, 2)), targets) == pytest.approx(alone)
    assert np.isnan(r2(np.zeros((48, 1)), targets[:, :1]))


def test_one_label_in_every_sample_is_not_a_class() -> None:
    """Whether outputs are labels or classes depends on the loss, not on the values in the data."""
    sk = pytest.importorskip("sklearn.metrics")
    outputs, y = GENERATOR.standard_normal((60, 3)), np.eye(3)[GENERATOR.integers(0, 3, 60)]
    metrics = as_metrics("precision, recall, f1, iou")
    found = compute(metrics, outputs, y, BCEWithLogitsLoss())
    assert found["precision"] == pytest.approx(sk.precision_score(y, outputs > 0, average="macro"))
    assert found["recall"] == pytest.approx(sk.recall_score(y, outputs > 0, average="macro"))
    assert found["f1"] == pytest.approx(sk.f1_score(y, outputs > 0, average="macro"))
    assert found["iou"] == pytest.approx(sk.jaccard_score(y, outputs > 0, average="macro"))
    soft = np.where(y > 0, 0.9, 0.1)
    assert compute(metrics, outputs, soft, BCEWithLogitsLoss()) == found
    classes = compute(metrics, outputs, y.argmax(axis=1), BCEWithLogitsLoss())
    assert classes == compute(metrics, outputs, y.argmax(axis=1), CrossEntropyLoss())
    assert classes["f1"] != found["f1"]


def test_a_class_that_is_only_given() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    outputs, y = np.eye(4)[[0, 1, 2, 2, 1]], np.array([0, 1, 1, 0, 1])
    given = outputs.argmax(axis=1)
    found = compute(as_metrics("precision, recall, f1, iou"), outputs, y, CrossEntropyLoss())
    options = {"average": "macro", "zero_division": 0}
    assert found["precision"] == pytest.approx(sk.precision_score(y, given, **options))
    assert found["recall"] == pytest.approx(sk.recall_score(y, given, **options))
    assert found["f1"] == pytest.approx(sk.f1_score(y, given, **options))
    assert found["iou"] == pytest.approx(sk.jaccard_score(y, given, **options))


def test_equal_outputs_are_not_all_among_the_first() -> None:
    """A network with equal outputs for all classes guesses; it is not always right."""
    y = np.arange(10)
    assert compute(as_metrics("top3"), np.zeros((10, 10)), y, CrossEntropyLoss())["top3"] == 0.3
    maps = compute(as_metrics("top3"), np.zeros((5, 10, 2)), y.reshape(5, 2), CrossEntropyLoss())
    assert maps["top3"] == 0.3


def network() -> Sequential:
    return Sequential(
        Flatten(), Linear(16, 8, seed=0), ReLU(), Linear(8, 3, seed=1), input_shape=(1, 4, 4)
    )


X = GENERATOR.random((120, 1, 4, 4)).astype(np.float32)
Y = np.digitize(X.mean(axis=(1, 2, 3)), [0.46, 0.54])
OPTIONS: dict[str, Any] = {"batch_size": 16, "diagnose": False, "lr": 0.1}


def spread(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float(outputs.std())


def test_records_have_them(tmp_path: Path) -> None:
    history = fastcnn.fit(
        network(), (X, Y), (X, Y), epochs=2, validation=0.2, metrics=["f1", spread],
        out=tmp_path / "run", **OPTIONS,
    )  # fmt: skip
    for name in ("validation_f1", "test_f1", "validation_spread", "test_spread"):
        assert isinstance(history.final[name], float)
    opened = Run.open(tmp_path / "run")
    assert opened.config["training"]["metrics"] == ["f1", "spread"]
    assert opened.metrics()[-1]["test_f1"] == history.final["test_f1"]


@pytest.mark.parametrize("monitor", ["validation_f1", "validation_falling"])
def test_the_best_is_chosen_by_them(monitor: str, tmp_path: Path) -> None:
    values = iter([0.5, 0.1, 0.4, 0.2, 0.3])

    def falling(outputs: np.ndarray, targets: np.ndarray) -> float:
        return next(values)

    falling.larger_is_better = False  # type: ignore[attr-defined]
    stopper = EarlyStopping(monitor, patience=9)
    history = fastcnn.fit(
        network(), (X, Y), epochs=5, validation=0.2, metrics=["f1", falling], monitor=monitor,
        callbacks=[stopper], out=tmp_path / "run", **OPTIONS,
    )  # fmt: skip
    column = history.column(monitor)
    best = min(column) if monitor.endswith("falling") else max(column)
    assert stopper.best == best
    assert stopper.best_epoch == column.index(best) + 1


def test_early_stopping_by_name() -> None:
    history = fastcnn.fit(
        network(), (X, Y), epochs=50, early_stopping=2, metrics="f1", monitor="validation_f1",
        **OPTIONS | {"lr": 0.0},
    )  # fmt: skip
    assert len(history.epochs) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["f2"]}, "metrics must be among top3, top5, precision"),
        ({"metrics": ["f1", "f1"]}, "two are called f1"),
        ({"metrics": "accuracy"}, "every record has accuracy"),
        ({"metrics": {"policy": "f1"}, "validation": 0.2}, "has the outputs output, none called"),
        ({"metrics": [3]}, "must be names, functions of outputs and targets"),
        ({"monitor": "validation_f1"}, "monitor must be one of validation_loss"),
        ({"metrics": "f1"}, "metrics has no effect without validation or test data"),
        ({"metrics": [lambda o, t: "a"], "validation": 0.2}, "Python name"),
        ({"metrics": [Metric("odd", lambda o, t: "a")], "validation": 0.2}, "must return a number"),
    ],
)
def test_bad_metrics(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fastcnn.fit(network(), (X, Y), epochs=1, **OPTIONS, **options)


def test_what_is_not_finite_is_none() -> None:
    found = compute(as_metrics([Metric("odd", lambda o, t: np.nan)]), X, X, MSELoss())
    assert found == {"odd": None}


def test_any_number_of_the_best() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    outputs, y = GENERATOR.standard_normal((200, 4)), GENERATOR.integers(0, 4, 200)
    found = compute(as_metrics("top1,top2"), outputs, y, CrossEntropyLoss())
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    assert found["top2"] == pytest.approx(sk.top_k_accuracy_score(y, probabilities, k=2))
    assert found["top1"] == pytest.approx((outputs.argmax(axis=1) == y).mean())


def two_outputs() -> Model:
    x = Input((1, 4, 4))
    y = ReLU()(Linear(16, 8, seed=0)(Flatten()(x)))
    outputs = {"kind": Linear(8, 3, seed=1)(y), "size": Linear(8, 2, seed=2)(y)}
    return Model(x, outputs)


def test_each_output_has_its_own(tmp_path: Path) -> None:
    """Compared with the metrics of the output alone; an ignored class does not count."""
    sizes = np.stack([X.mean(axis=(1, 2, 3)), X.max(axis=(1, 2, 3))], axis=1)
    kinds = np.where(np.arange(120) % 5, Y, -100)

    def both(outputs: Any, targets: Any) -> float:
        return float(np.abs(outputs["size"] - targets["size"]).mean() + len(targets["kind"]))

    def train(folder: str, **more: Any) -> Any:
        model = two_outputs()
        losses = {"kind": CrossEntropyLoss(ignore_index=-100), "size": MSELoss()}
        held = X[90:], (kinds[90:], sizes[90:])
        history = fastcnn.fit(
            model,
            (X[:90], (kinds[:90], sizes[:90])),
            validation=held,
            loss=losses,
            epochs=3,
            out=tmp_path / folder,
            **OPTIONS,
            **more,
        )
        return model, history

    model, history = train(
        "run",
        metrics={"kind": ["f1", "top2"], "size": "mae"},
        early_stopping=9,
        monitor="validation_size_mae",
    )
    alone = two_outputs()
    alone.load_state_dict(model.state_dict())
    found = alone.logits(X[90:])
    loss = CrossEntropyLoss(ignore_index=-100)
    best = history.column("validation_size_mae").index(min(history.column("validation_size_mae")))
    expected = compute(as_metrics("f1,top2"), found["kind"], kinds[90:], loss)
    record = history.epochs[best]
    assert record["validation_kind_f1"] == pytest.approx(expected["f1"])
    assert record["validation_kind_top2"] == pytest.approx(expected["top2"])
    error = np.abs(found["size"] - sizes[90:]).mean()
    assert record["validation_size_mae"] == pytest.approx(error, rel=1e-5)
    opened = Run.open(tmp_path / "run")
    assert opened.config["training"]["metrics"] == {"kind": ["f1", "top2"], "size": ["mae"]}
    model, history = train("other", metrics=both)
    error = np.abs(model.logits(X[90:])["size"] - sizes[90:]).mean()
    assert history.final["validation_both"] == pytest.approx(30 + error, rel=1e-5)
    for name in ("f1", "top2", "top3"):
        with pytest.raises(ConfigurationError, match="name one"):
            train("wrong", metrics=name)


def test_values_are_no_classes() -> None:
    """They are refused before an epoch is trained; rows of probabilities are classes."""
    outputs = GENERATOR.standard_normal((30, 3))
    shares = GENERATOR.dirichlet(np.ones(3), 30)
    found = compute(as_metrics("f1"), outputs, shares, MSELoss())
    assert found == compute(as_metrics("f1"), outputs, shares.argmax(axis=1), CrossEntropyLoss())
    for name in ("f1", "top2", "auc"):
        model = network()
        before = model.parameter_vector.copy()
        with pytest.raises(ConfigurationError, match=f"metrics: {name}: .* mae, rmse or r2"):
            fastcnn.fit(
                model, (X, X[:, 0, 0, :3]), loss="mse", metrics=name, validation=0.2, epochs=1
            )
        assert np.array_equal(model.parameter_vector, before)
    with pytest.raises(ConfigurationError, match="metrics: top3: top3 is always 1 for 3 classes"):
        fastcnn.fit(network(), (X, Y), metrics="top3", validation=0.2, epochs=1)
    with pytest.raises(ConfigurationError, match="metrics: mae: a metric of values"):
        fastcnn.fit(network(), (X, Y), metrics="mae", validation=0.2, epochs=1)


def test_progress_shows_them() -> None:
    epoch = {
        "epoch": 3,
        "train_loss": 0.5,
        "train_accuracy": 0.9,
        "validation_loss": 0.4,
        "validation_accuracy": 0.8,
        "test_loss": None,
        "test_accuracy": None,
        "seconds": 1.0,
        "validation_f1": 0.75,
        "validation_size_mae": None,
    }
    first, second = describe_epoch(epoch, 10).split("\n")
    assert first.startswith("epoch  3/10  train loss 0.5000, 90.00 %")
    assert second.split() == ["valid", "f1", "0.7500", "size_mae", "none"]
    assert max(len(first), len(second)) <= 80
    assert "validation_f1=0.7500" in repr(History([EpochRecord(epoch)]))


def test_a_metric_may_be_given_by_itself() -> None:
    x, y = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32), np.arange(20) % 3
    model = fastcnn.Sequential(fastcnn.Linear(4, 3, seed=0), input_shape=(4,))
    half = Metric("half", lambda outputs, targets: 0.5)
    assert fastcnn.fit(model, (x, y), (x, y), epochs=1, metrics=half).final["test_half"] == 0.5


def test_labels_of_narrow_types() -> None:
    """More classes than the square root of what their type can hold."""
    outputs = GENERATOR.standard_normal((300, 30))
    y = GENERATOR.integers(0, 30, 300)
    given = outputs.argmax(axis=1)
    wanted = [METRICS[name].function(outputs, y) for name in ("precision", "recall", "f1", "iou")]
    counted = np.zeros((30, 30), int)
    np.add.at(counted, (y, given), 1)
    for kind in (np.int8, np.uint8):
        narrow = y.astype(kind)
        found = [METRICS[n].function(outputs, narrow) for n in ("precision", "recall", "f1", "iou")]
        assert found == wanted
        assert (confusion_matrix(narrow, given.astype(kind), 30) == counted).all()
