"""Classifiers of samples with several labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from scipy.sparse import csr_matrix
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastcnn
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.estimators import CNNClassifier
from fastcnn.layers import Flatten, Linear, Sequential, Softmax
from fastcnn.losses import BCEWithLogitsLoss

random = np.random.default_rng(0)
IMAGES = random.integers(0, 90, (240, 1, 8, 8)).astype(np.uint8)
Y = random.integers(0, 2, (240, 3))
for k, part in enumerate((slice(0, 2), slice(3, 5), slice(6, 8))):
    IMAGES[:, 0, part] += 150 * Y[:, k, None, None].astype(np.uint8)
OPTIONS: dict[str, Any] = {"epochs": 12, "batch_size": 32, "lr": 0.01, "random_state": 0}


def network(shape: Any = None, outputs: int = 3, seed: int = 0) -> Sequential:
    return Sequential(Flatten(), Linear(64, outputs, seed=seed))


def test_indicators_in_and_out() -> None:
    classifier = CNNClassifier("cnn", **OPTIONS).fit(IMAGES[:200], Y[:200])
    given = classifier.predict(IMAGES[200:])
    assert given.shape == (40, 3)
    assert given.dtype.kind == "i"
    probabilities = classifier.predict_proba(IMAGES[200:])
    assert np.array_equal(given, probabilities > 0.5)
    logits = classifier.decision_function(IMAGES[200:])
    assert probabilities == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
    # The share of samples with all labels correct.
    assert classifier.score(IMAGES[200:], Y[200:]) == accuracy_score(Y[200:], given)
    assert (given == Y[200:]).all(axis=1).mean() == classifier.score(IMAGES[200:], Y[200:])
    assert f1_score(Y[200:], given, average="macro") > 0.9
    assert classifier.model_.predicts == "labels"
    assert classifier.classes_.tolist() == [0, 1, 2]
    two = CNNClassifier("cnn", **OPTIONS | {"epochs": 1}).fit(IMAGES, Y[:, :2])
    assert two.decision_function(IMAGES).shape == two.predict_proba(IMAGES).shape == (240, 2)


@pytest.mark.parametrize("change", [csr_matrix, lambda y: y.astype(bool), lambda y: y.tolist()])
def test_labels_in_other_forms(change: Any) -> None:
    one, two = (
        CNNClassifier(network, **OPTIONS | {"epochs": 1}).fit(IMAGES, y) for y in (Y, change(Y))
    )
    assert np.array_equal(one.predict_proba(IMAGES), two.predict_proba(IMAGES))


def test_it_is_as_good_as_scikit_learns_own() -> None:
    X, y = make_multilabel_classification(600, 20, n_classes=4, random_state=1)
    ours = make_pipeline(StandardScaler(), CNNClassifier(epochs=40, random_state=0))
    theirs = make_pipeline(StandardScaler(), MLPClassifier(max_iter=400, random_state=0))
    scores = [cross_val_score(each, X, y, cv=3).mean() for each in (ours, theirs)]
    assert scores[0] > scores[1] - 0.05
    search = GridSearchCV(CNNClassifier(epochs=2, random_state=0), {"lr": [1e-5, 1e-2]}, cv=2)
    assert search.fit(X, y).best_params_ == {"lr": 1e-2}


def test_weights_are_those_of_each_label() -> None:
    """As in training on labels by hand; balanced as in a separate problem for each label."""
    weight = random.uniform(0.5, 2.0, 240)
    rare = Y & (np.arange(240) % 4 == 0)[:, None]
    counts = np.stack([np.bincount(column, weights=weight) for column in rare.T])
    expected = (counts.sum(axis=1, keepdims=True) / (2 * counts))[np.arange(3), rare]
    classifier = CNNClassifier(network, class_weight="balanced", **OPTIONS | {"epochs": 3})
    found = classifier._with_label_weight(rare, weight)
    assert found == pytest.approx(expected * weight[:, None])
    classifier.fit(IMAGES, rare, weight)
    model = network(seed=classifier._seed)
    model.preprocessing = fastcnn.data.Preprocessing(
        classifier.model_.preprocessing.mean, classifier.model_.preprocessing.std
    )
    fastcnn.fit(
        model, (IMAGES, rare.astype(float), expected * weight[:, None]), loss=BCEWithLogitsLoss(),
        epochs=3, batch_size=32, optimizer="adam", lr=0.01, seed=classifier._seed, diagnose=False,
    )  # fmt: skip
    assert classifier.model_.parameter_vector == pytest.approx(model.parameter_vector, abs=1e-6)
    listed = CNNClassifier(class_weight=[{0: 1, 1: 5}, {0: 1, 1: 1}, {0: 2, 1: 1}])
    assert listed._with_label_weight(Y, None)[:, 0].tolist() == (1 + 4 * Y[:, 0]).tolist()
    # One of the two values may be omitted, and a label may have only one of them.
    partial = CNNClassifier(class_weight=[{1: 5}, None, {0: 2}])
    assert partial._with_label_weight(Y[:1] | True, None).tolist() == [[5, 1, 1]]
    assert partial._with_label_weight(Y[:1] & False, None).tolist() == [[1, 1, 2]]
    ours = CNNClassifier(network, class_weight="balanced", **OPTIONS).fit(IMAGES, rare)
    theirs = OneVsRestClassifier(CNNClassifier(class_weight="balanced", **OPTIONS)).fit(
        IMAGES, rare
    )
    assert ours.predict(IMAGES).mean() > 0.5 * theirs.predict(IMAGES).mean()


def test_options_of_training() -> None:
    class Counter(fastcnn.training.Callback):
        epochs = 0

        def on_epoch_end(self, epoch: dict[str, Any], model: Any) -> None:
            self.epochs += 1
            assert 0.0 <= epoch["validation_f1"] <= 1.0

    counter = Counter()
    classifier = CNNClassifier(
        "cnn", augment="shift=1", ema_decay=0.9, callbacks=[counter], metrics="f1,auc",
        validation_fraction=0.2, early_stopping=True, label_smoothing=0.1, loss=None,
        **OPTIONS | {"epochs": 3},
    )  # fmt: skip
    classifier.fit(IMAGES.transpose(0, 2, 3, 1), Y)
    assert counter.epochs == 3
    assert classifier.input_layout_ == "NHWC"
    assert classifier.predict(IMAGES.transpose(0, 2, 3, 1)).shape == Y.shape
    focal = CNNClassifier("cnn", loss="sigmoid_focal", **OPTIONS).fit(IMAGES, Y)
    assert f1_score(Y, focal.predict(IMAGES), average="macro") > 0.8


def test_frames_of_paths(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    Image = pytest.importorskip("PIL.Image")
    paths = []
    for number, image in enumerate(IMAGES[:40]):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image[0]).save(paths[-1])
    X = pandas.DataFrame({"path": paths})
    y = pandas.DataFrame(Y[:40], columns=["top", "middle", "bottom"])
    classifier = CNNClassifier("cnn", **OPTIONS).fit(X, y)
    assert classifier.predict(X).shape == (40, 3)
    again = CNNClassifier("cnn", **OPTIONS).fit(IMAGES[:40], Y[:40])
    assert classifier.predict_proba(X) == pytest.approx(again.predict_proba(IMAGES[:40]), abs=1e-4)


def test_one_pass_after_the_other() -> None:
    classifier = CNNClassifier(network, **OPTIONS)
    for _ in range(20):
        classifier.partial_fit(IMAGES, Y, classes=[0, 1, 2])
    assert classifier.score(IMAGES, Y) > 0.8
    with pytest.raises(DataError, match="y has 2 labels, there are 3"):
        classifier.partial_fit(IMAGES, Y[:, :2])
    with pytest.raises(ShapeError, match="y has a class for each sample, and labels"):
        classifier.partial_fit(IMAGES, Y[:, 0])


@pytest.mark.parametrize(
    ("arguments", "y", "error", "message"),
    [
        ({"loss": "cross_entropy"}, Y, ConfigurationError, "is not a loss of labels"),
        ({"loss": "mse"}, Y, ConfigurationError, "is not a loss of labels"),
        ({"class_weight": [{0: 1}]}, Y, ConfigurationError, "class_weight has 1 entries, y 3"),
        ({"class_weight": {0: 1, 1: 2, 2: 3}}, Y, ConfigurationError, "dictionary of 0 and 1"),
        ({"class_weight": np.ones(3)}, Y, ConfigurationError, "dictionary of 0 and 1"),
        ({"label_smoothing": 1.5}, Y, ConfigurationError, "label_smoothing must be"),
        ({"label_smoothing": 0.1, "loss": "bce_with_logits"}, Y, ConfigurationError, "no effect"),
        ({}, Y + np.arange(3), ValueError, "y should be a 1d array"),
    ],
)
def test_what_labels_do_not_take(
    arguments: dict[str, Any], y: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CNNClassifier(network, **OPTIONS | arguments).fit(IMAGES, y)


def test_outputs_that_are_probabilities_already() -> None:
    """A user's network that ends in a softmax."""
    ends = Sequential(Flatten(), Linear(64, 3, seed=0), Softmax())
    classes = np.arange(240) % 3
    classifier = CNNClassifier(ends, **OPTIONS | {"epochs": 1}).fit(IMAGES, classes)
    found = classifier.predict_proba(IMAGES)
    assert found == pytest.approx(classifier.decision_function(IMAGES), abs=1e-6)
    assert found.sum(axis=1) == pytest.approx(np.ones(240), abs=1e-5)
