"""Estimators: augmentation, callbacks, averages, layouts, paths of pictures, features."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import fastcnn
from fastcnn.data import Augment, draw_digits
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.estimators import CNNClassifier, CNNRegressor, CNNTransformer
from fastcnn.losses import CrossEntropyLoss
from fastcnn.training import Callback, EarlyStopping

X, Y = draw_digits(120, classes=(0, 1, 2), seed=3)
X = X[:, None] if X.ndim == 3 else X


def classifier(**options: Any) -> CNNClassifier:
    return CNNClassifier("mlp", **{"epochs": 2, "random_state": 0} | options)


def test_options_reach_the_training() -> None:
    plain = classifier().fit(X, Y)
    changed = classifier(augment="shift=2").fit(X, Y)
    assert (plain.model_.parameter_vector != changed.model_.parameter_vector).any()
    same = classifier(augment=Augment(shift=2), threads=1).fit(X, Y)
    assert (same.model_.parameter_vector == changed.model_.parameter_vector).all()
    averaged = classifier(ema_decay=0.9).fit(X, Y)
    assert (averaged.model_.parameter_vector != plain.model_.parameter_vector).any()
    with pytest.raises(ConfigurationError, match="ema_decay must be"):
        classifier(ema_decay=1.0).fit(X, Y)


def test_losses_by_name_object_and_function() -> None:
    def doubled(logits: Any, classes: Any) -> Any:
        loss = CrossEntropyLoss()
        return 2.0 * loss(logits, classes), 2.0 * loss.gradient(logits, classes)

    plain = classifier().fit(X, Y)
    same = clone(classifier(loss=CrossEntropyLoss())).fit(X, Y)
    assert (same.model_.parameter_vector == plain.model_.parameter_vector).all()
    weighted = CrossEntropyLoss(weight=(1.0, 5.0, 1.0))
    for loss in ("focal", weighted, doubled):
        changed = classifier(loss=loss)
        assert changed.get_params()["loss"] is loss
        changed.fit(X, Y)
        assert (changed.model_.parameter_vector != plain.model_.parameter_vector).any()
        assert changed.predict(X).shape == (len(X),)
    values = X.reshape(len(X), -1)[:, :64] / 255.0
    options: dict[str, Any] = {"epochs": 2, "random_state": 0, "input_shape": (64,)}
    squares = CNNRegressor("mlp", **options).fit(values, Y)
    absolute = CNNRegressor("mlp", loss="l1", **options).fit(values, Y)
    assert (squares.model_.parameter_vector != absolute.model_.parameter_vector).any()


def test_metrics_by_their_names() -> None:
    made = classifier(metrics="f1,recall", validation_fraction=0.25).fit(X, Y)
    assert {"validation_f1", "validation_recall"} <= set(made.history_.final)


def test_metrics_are_of_samples_that_are_held_out() -> None:
    made = classifier(metrics=["f1"], validation_fraction=0.25).fit(X, Y)
    assert 0.0 <= made.history_.final["validation_f1"] <= 1.0
    assert classifier().fit(X, Y).history_.final["validation_loss"] is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classifier(loss="mse"), "loss='mse' is not a loss of classes"),
        (lambda: classifier(loss="focal", label_smoothing=0.1), "label_smoothing=0.1 has no eff"),
        (lambda: classifier(loss="none"), "loss"),
        (lambda: classifier(metrics=["speed"]), "speed"),
        (lambda: CNNRegressor("mlp", loss="focal"), "loss='focal' is a loss of classes"),
    ],
)
def test_what_an_estimator_does_not_take(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make().fit(X, Y.astype(float) if isinstance(make(), CNNRegressor) else Y)
    with pytest.raises(ConfigurationError, match="partial_fit does not support metrics"):
        classifier(metrics=["f1"]).partial_fit(X, Y, classes=[0, 1, 2])


class Counts(Callback):
    def __init__(self) -> None:
        self.epochs = 0

    def on_epoch_end(self, epoch: Any, model: Any) -> None:
        self.epochs += 1


def test_callbacks_are_called_and_hold_samples_out() -> None:
    counts = Counts()
    estimator = classifier(callbacks=[counts]).fit(X, Y)
    assert counts.epochs == 2
    assert estimator.history_.column("validation_loss") == [None, None]
    stopped = classifier(callbacks=[EarlyStopping(patience=1)], epochs=60, lr=0.05).fit(X, Y)
    assert None not in stopped.history_.column("validation_loss")
    assert stopped.n_iter_ < 60
    assert clone(stopped).callbacks[0].patience == 1
    own = classifier(early_stopping=True, n_iter_no_change=1, epochs=60, lr=0.05, tol=0.0)
    first = own.fit(X, Y).history_.column("validation_loss")
    assert first == stopped.history_.column("validation_loss")
    for share in (0.0, 1.0, 3):
        with pytest.raises(ConfigurationError, match="validation_fraction must be a number above"):
            classifier(early_stopping=True, validation_fraction=share).fit(X, Y)


@pytest.mark.parametrize(
    ("name", "value"), [("augment", "flip"), ("callbacks", [Counts()]), ("ema_decay", 0.9)],
    ids=["augment", "callbacks", "ema_decay"],
)  # fmt: skip
def test_one_pass_refuses_what_it_does_not_use(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"partial_fit does not support {name}"):
        classifier(**{name: value}).partial_fit(X, Y, classes=[0, 1, 2])


def test_layouts_are_told() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 4)).astype(np.uint8)
    y = np.arange(40) % 2
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    first = classifier(layout="NCHW").fit(images, y)
    other = classifier(layout="NHWC").fit(last, y)
    assert other.input_shape_ == (3, 4, 4)
    assert (first.predict_proba(images) == other.predict_proba(last)).all()
    # An ambiguous shape.
    square = np.zeros((10, 3, 3, 3), np.uint8)
    assert classifier(layout="NHWC").fit(square, y[:10]).input_layout_ == "NHWC"
    with pytest.raises(ConfigurationError, match="layout has no effect: X of shape"):
        classifier(layout="NHWC").fit(X.reshape(len(X), -1), Y)
    with pytest.raises(ConfigurationError, match="layout must be NCHW or NHWC"):
        classifier(layout="HWC").fit(last, y)
    with pytest.raises(ShapeError, match="samples of shape"):
        classifier(layout="NCHW", input_shape=(3, 4, 4)).fit(last, y)


# -- paths ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], np.ndarray]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    labels = np.array(["dark", "light"] * 15)
    paths = []
    for index, label in enumerate(labels):
        pixels = rng.integers(0, 100, (12, 10, 3)) + 150 * (label == "light")
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths, labels


def test_paths_are_read(files: Any) -> None:
    paths, labels = files
    images = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths])
    expected = classifier().fit(images, labels)
    for given in (paths, [str(path) for path in paths], np.array(list(map(str, paths)))):
        estimator = classifier().fit(given, labels)
        assert estimator.input_shape_ == (3, 12, 10)
        assert (estimator.predict_proba(given) == expected.predict_proba(images)).all()
        assert (estimator.predict_proba(images) == expected.predict_proba(images)).all()
    small = classifier(image_size=(6, 5), gray=True, epochs=20).fit(paths, labels)
    assert small.input_shape_ == (1, 6, 5)
    assert small.model_.preprocessing.pictures.shape == (1, 6, 5)
    assert (small.predict(paths) == labels).mean() > 0.9
    assert classifier(input_shape=(1, 8, 8)).fit(paths, labels).input_shape_ == (1, 8, 8)
    scores = cross_val_score(classifier(epochs=5), np.array(list(map(str, paths))), labels, cv=2)
    assert scores.mean() > 0.8


def test_frames_of_paths(files: Any) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    paths, labels = files
    expected = classifier().fit(paths, labels).predict_proba(paths)
    frame = pandas.DataFrame({"file": list(map(str, paths)), "label": labels})
    for given in (frame[["file"]], frame["file"], pandas.Series(paths)):
        estimator = classifier().fit(given, frame["label"])
        assert (estimator.predict_proba(given) == expected).all()


def test_paths_that_are_none(files: Any) -> None:
    paths, labels = files
    with pytest.raises(fastcnn.errors.DataError, match="no such file"):
        classifier().fit([*paths[:-1], "missing.png"], labels)
    with pytest.raises(ShapeError, match="give arrays, not paths"):
        classifier().fit(X, Y).predict(paths)
    with pytest.raises(ConfigurationError, match="image_size and gray are for X of paths"):
        classifier(image_size=4).fit(X, Y)
    with pytest.raises(ValueError, match="could not convert string to float"):
        classifier().fit(np.array([["a", "b"], ["c", "d"]], object), [0, 1])


# -- features ---------------------------------------------------------------------------------


def test_features_of_a_layer() -> None:
    network = CNNClassifier("cnn", epochs=2, random_state=0)
    transformer = CNNTransformer(network).fit(X, Y)
    model = transformer.model_
    features = transformer.transform(X)
    assert features.shape == (len(X), model[-1].in_features)
    logits = features @ model[-1].weight.T + model[-1].bias
    np.testing.assert_allclose(logits, transformer.estimator_.decision_function(X), atol=1e-4)
    first = CNNTransformer(network, layer="0").fit(X, Y).transform(X)
    assert first.min() < 0.0  # the convolution's own output, before its ReLU
    assert transformer.get_feature_names_out()[0] == "cnntransformer0"
    chain = make_pipeline(CNNTransformer(network), LogisticRegression(max_iter=500))
    assert chain.fit(X[:90], Y[:90]).score(X[90:], Y[90:]) > 0.6


def test_features_of_a_trained_model() -> None:
    model = fastcnn.models.report_cnn(seed=0)
    fastcnn.fit(model, (X, Y), epochs=1)
    before = model.parameter_vector.copy()
    transformer = CNNTransformer(model)
    features = transformer.fit_transform(X)
    assert (model.parameter_vector == before).all()
    assert features.shape[0] == len(X)
    named = model.features(X, transformer.layer_)
    np.testing.assert_array_equal(features, named.reshape(len(X), -1))
    values = CNNTransformer(CNNRegressor("mlp", epochs=1, random_state=0)).fit(X, Y * 1.0)
    assert values.transform(X[:3]).shape == (3, 100)


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (CNNTransformer(classifier(), layer="fc9"), "no layer named 'fc9': there are 0, 1, 2, 3"),
        (CNNTransformer(LogisticRegression()), "estimator must be a CNNClassifier, a CNNRegressor"),
    ],
    ids=["layer", "estimator"],
)
def test_features_that_there_are_not(transformer: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        transformer.fit(X, Y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early_stopping": "False"}, "CNNClassifier: early_stopping must be True or False"),
        ({"early_stopping": np.zeros(0)}, "early_stopping must be True or False"),
        ({"callbacks": 5}, "callbacks must be a list of callbacks or None, got 5"),
        ({"architecture": ["lenet5"]}, r"architecture must be a name, a Model.*\['lenet5'\]"),
        ({"architecture": int}, "architecture must be a name, a Model"),
        ({"layout": 3}, "layout must be NCHW or NHWC, got 3"),
    ],
)
def test_options_of_the_wrong_kind(options: dict[str, Any], message: str) -> None:
    x, y = np.random.default_rng(0).random((12, 1, 6, 6)), np.arange(12) % 3
    with pytest.raises(ConfigurationError, match=message):
        CNNClassifier(epochs=1, **options).fit(x, y)
