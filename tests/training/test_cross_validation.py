"""Folds and views: samples are predicted by a network that has not seen them, or several times."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import data
from fastcnn.data.split import draw_folds
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.layers import BatchNorm2d, Conv2d, Flatten, Input, Linear, Model, Sequential
from fastcnn.training import EarlyStopping

pytestmark = pytest.mark.usefixtures("no_pictures")

TRAIN, TEST = data.digits_dataset(150, 60, classes=(0, 1, 2))


def network() -> Sequential:
    return Sequential(
        Conv2d(1, 2, 3, seed=0), Flatten(), Linear(1352, 3, seed=1), input_shape=(1, 28, 28)
    )


def test_each_fold_is_measured_by_a_training_on_the_others() -> None:
    found = fastcnn.cross_validate(network, TRAIN, folds=3, epochs=2, seed=4, lr=0.01)
    for index, held in enumerate(draw_folds(TRAIN.labels, 3, 4)):
        model = network()
        others = np.setdiff1d(np.arange(150), held)
        history = fastcnn.fit(model, TRAIN.subset(others), epochs=2, seed=4, lr=0.01)
        expected = fastcnn.evaluate(model, TRAIN.subset(held))
        assert found.losses[index] == expected.loss
        assert found.accuracies[index] == expected.accuracy
        assert (found.logits[held] == expected.logits).all()
        assert found.histories[index].column("train_loss") == history.column("train_loss")
    assert found.accuracy == found.accuracies.mean()
    assert f"3 folds: loss {found.loss:.4f} +- " in str(found)


def test_copies_of_a_model_and_values_with_weights() -> None:
    model = network()
    before = model.parameter_vector.copy()
    x, y = TRAIN.images, np.eye(3, dtype=np.float32)[TRAIN.labels]
    found = fastcnn.cross_validate(
        model, (x, y, np.linspace(0.5, 1, 150)), folds=2, epochs=3, loss="mse", early_stopping=1
    )
    assert (model.parameter_vector == before).all()
    assert np.isnan(found.accuracy)
    assert "accuracy" not in str(found)
    assert None not in found.histories[0].column("validation_loss")


@pytest.mark.parametrize(
    ("make", "options", "kind", "message"),
    [
        (network, {"folds": 1}, ConfigurationError, "folds must be an integer of at least 2"),
        (network, {"folds": 151}, DataError, "150 samples cannot be divided into 151 folds"),
        (network, {"out": "runs"}, ConfigurationError, "out is for a single run"),
        (network, {"callbacks": [EarlyStopping()]}, ConfigurationError, "callbacks is for a"),
        (lambda: 3, {}, ConfigurationError, "make_model must be a Model, or a function"),
        (network, {"speed": 1}, ConfigurationError, "no option named speed"),
    ],
)
def test_what_is_refused(make: Any, options: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        fastcnn.cross_validate(make, TRAIN, **options)


def test_batches_cannot_be_divided() -> None:
    with pytest.raises(ShapeError, match=r"data: expected a Dataset, \(x, y\) .*, got list"):
        fastcnn.cross_validate(network, [(TRAIN.images, TRAIN.labels)])


# -- views ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["lanes", "im2col"])
def test_views_are_weighted_means(backend: str) -> None:
    model = network()
    fastcnn.fit(model, TRAIN, epochs=1)

    padded = np.pad(TEST.images, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")

    def plain(row: int = 1, column: int = 1, step: int = 1) -> np.ndarray:
        images = padded[:, :, row : row + 28, column : column + 28][..., ::step]
        return fastcnn.evaluate(model, (np.ascontiguousarray(images), TEST.labels)).logits

    def both(corner: int) -> np.ndarray:
        return 0.5 * plain(corner, corner) + 0.5 * plain(corner, corner, -1)

    neighbours = plain(0, 1) + plain(2, 1) + plain(1, 0) + plain(1, 2)
    expected = {
        "flip": both(1),
        "five-view": 0.5 * plain() + 0.125 * neighbours,
        "six-view": 0.5 * both(1) + 0.25 * (both(0) + both(2)),
    }
    for tta, mean in expected.items():
        found = fastcnn.evaluate(model, TEST, tta=tta, backend=backend)
        np.testing.assert_allclose(found.logits, mean, atol=1e-4)
        assert found.accuracy == (found.logits.argmax(axis=1) == TEST.labels).mean()
        assert found.loss == pytest.approx(fastcnn.CrossEntropyLoss()(mean, TEST.labels), abs=1e-4)


@pytest.mark.parametrize("of_batch", [False, True])
def test_views_of_a_few_images_at_a_time(monkeypatch: pytest.MonkeyPatch, of_batch: bool) -> None:
    model = network()
    if of_batch:
        norm = BatchNorm2d(1, track_running_stats=False)
        model = Sequential(norm, *model, input_shape=(1, 28, 28))
    model.preprocessing = TEST.preprocessing
    whole = fastcnn.evaluate(model, TEST, tta="six-view", backend="im2col").logits
    monkeypatch.setattr("fastcnn.training.evaluation.BLOCK_BYTES", 7 * 784)
    parts = fastcnn.evaluate(model, TEST, tta="six-view", backend="im2col").logits
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_views_need_images() -> None:
    with pytest.raises(ConfigurationError, match="tta must be one of flip, five-view, six-view"):
        fastcnn.evaluate(network(), TEST, tta="ten-crop")
    flat = Sequential(Linear(4, 3, seed=0), input_shape=(4,))
    with pytest.raises(ShapeError, match="tta='flip' needs images"):
        fastcnn.evaluate(flat, (np.zeros((5, 4)), np.zeros(5, int)), tta="flip")
    x = Input((1, 6, 6))
    pixels = Conv2d(1, 2, 3, padding=1, seed=0)(x)
    images, classes = np.zeros((5, 1, 6, 6)), np.zeros((5, 6, 6), int)
    with pytest.raises(ShapeError, match=r"pixels of an output of shape \(2, 6, 6\) would move"):
        fastcnn.evaluate(Model(x, pixels), (images, classes), tta="flip")
    both = Model(x, {"whole": Linear(36, 2, seed=1)(Flatten()(x)), "pixels": pixels})
    targets = {"whole": classes[:, 0, 0], "pixels": classes}
    with pytest.raises(ShapeError, match="would move"):
        fastcnn.evaluate(both, (images, targets), loss=["cross_entropy"] * 2, tta="six-view")
    one = Sequential(Conv2d(1, 2, 6, seed=0), input_shape=(1, 6, 6))
    found = fastcnn.evaluate(one, (images, classes[:, :1, :1]), tta="flip")
    assert found.logits.shape == (5, 2, 1, 1)


def test_several_outputs_are_put_in_order() -> None:
    x = Input((1, 4, 4))
    y = Flatten()(x)
    model = Model(x, {"kind": Linear(16, 3, seed=0)(y), "size": Linear(16, 1, seed=1)(y)})
    images = np.random.default_rng(0).random((30, 1, 4, 4)).astype(np.float32)
    targets = {"kind": np.arange(30) % 3, "size": images.mean(axis=(1, 2, 3))}
    found = fastcnn.cross_validate(
        model, (images, targets), folds=3, loss=["cross_entropy", "mse"], epochs=1, lr=0.0
    )
    for name, logits in model.logits(images).items():
        assert found.logits[name] == pytest.approx(logits, abs=1e-6)
