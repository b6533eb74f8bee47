"""Training with augmentation."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import data
from fastcnn.data import Augment
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.execution import loss_and_gradients, make_executor
from fastcnn.layers import BatchNorm1d, Flatten, Linear, ReLU, Sequential
from fastcnn.optim import SGD, Adam
from fastcnn.training import Callback, fit
from fastcnn.training.feed import Feed
from fastcnn.training.options import TrainingOptions
from fastcnn.training.recipe import Recipe
from fastcnn.training.run import Run

TRAIN, TEST = data.digits_dataset(500, 200, classes=(0, 1, 2))
CHANGES = Augment(shift=2, rotation=15, scale=0.1, elastic=0.7, cutout=4)


def network(seed: int = 0) -> Sequential:
    return Sequential(
        Flatten(), Linear(784, 16, seed=seed), ReLU(), Linear(16, 3, seed=1),
        input_shape=(1, 28, 28),
    )  # fmt: skip


def trained(**options: Any) -> np.ndarray:
    model = network()
    fit(model, TRAIN, epochs=2, batch_size=32, seed=3, augment=CHANGES, **options)
    return model.parameter_vector.copy()


def test_neither_threads_nor_chunks_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(threads=1)
    assert (trained(threads=2) == expected).all()
    monkeypatch.setattr(sys.modules["fastcnn.training.loop"], "CHUNK_SECONDS", 0.0)
    assert (trained(threads=2) == expected).all()
    monkeypatch.undo()
    monkeypatch.setattr(sys.modules["fastcnn.training.feed"], "BUFFER_BYTES", 1)
    assert (trained(threads=2) == expected).all()


def test_backends_see_the_same_images() -> None:
    assert trained(backend="im2col") == pytest.approx(trained(backend="lanes"), abs=1e-3)


def test_each_epoch_has_images_of_its_own() -> None:
    feed = Feed(TRAIN, TrainingOptions(augment=CHANGES, seed=1), threads=1)
    order = np.array([4, 9, 2])
    first = feed.pick(order, 1)
    images = first.samples.images.copy()
    assert (first.samples.labels == TRAIN.labels[order]).all()
    assert (images == feed.pick(order, 1).samples.images).all()
    assert (images != feed.pick(order, 2).samples.images).any()
    assert (images == CHANGES.apply(TRAIN.images, order, seed=1, epoch=1)).all()


def test_weights_of_samples_go_with_them() -> None:
    x, y = TRAIN.images[:40].astype(np.float32) / 255, TRAIN.labels[:40]
    weight = np.linspace(0.1, 2.0, 40)
    results = []
    for augment in (None, Augment(flip=1e-300)):
        model = network()
        fit(model, (x, y, weight), epochs=1, batch_size=16, augment=augment)
        results.append(model.parameter_vector.copy())
    assert results[0] == pytest.approx(results[1], abs=1e-6)


def test_it_helps_where_there_are_few_images() -> None:
    """On shifted test images, a network trained on shifts is better."""
    moved = data.Dataset(
        Augment(shift=4).apply(TEST.images, seed=9), TEST.labels, TEST.classes, TEST.preprocessing
    )
    accuracy = []
    for augment in (None, Augment(shift=4)):
        history = fit(
            network(), TRAIN, moved, epochs=20, optimizer=Adam(lr=3e-3), augment=augment
        )  # fmt: skip
        accuracy.append(history.final["test_accuracy"])
    assert accuracy[1] > accuracy[0] + 0.02


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_backends_agree_on_probabilities(
    smoothing: float, caplog: pytest.LogCaptureFixture
) -> None:
    loss = fastcnn.CrossEntropyLoss(smoothing)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((21, 1, 28, 28))
    y = generator.dirichlet(np.ones(3), 21)
    value, logits, gradient = loss_and_gradients(network(), x, y, loss=loss)
    expected = loss_and_gradients(network().to(np.float64), x, y, loss=loss, backend="reference")
    assert not caplog.records  # the engine does it itself
    assert value == pytest.approx(expected[0], rel=1e-5)
    assert gradient == pytest.approx(expected[2], abs=1e-5 * np.abs(expected[2]).max())
    executor = make_executor(network(), loss=loss, optimizer=SGD(lr=0.0), batch_size=21)
    steps = executor.train_steps(ArrayDataset(x.astype(np.float32), y), np.arange(21), np.zeros(1))
    assert steps.losses[0] == pytest.approx(expected[0], rel=1e-5)
    assert steps.correct[0] == (logits.argmax(axis=1) == y.argmax(axis=1)).sum()


def test_mixed_images_train_alike_on_both_backends() -> None:
    vectors, histories = [], []
    for backend in ("im2col", "lanes"):
        model = network()
        histories.append(
            fit(model, TRAIN, TEST, epochs=3, augment=Augment(mixup=0.3), backend=backend)
        )
        vectors.append(model.parameter_vector)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-3)
    assert histories[0].final["train_accuracy"] == histories[1].final["train_accuracy"]
    assert histories[1].final["test_accuracy"] > 0.8
    assert histories[1].final["train_loss"] > histories[1].final["test_loss"]


def test_what_cannot_be_changed_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    out, flat = tmp_path / "run", TRAIN.images.reshape(500, -1)[:20].astype(np.float32)
    model = Sequential(Linear(784, 3))
    with pytest.raises(ShapeError, match=r"must be \(N, C, H, W\), got shape \(20, 784\)"):
        fit(model, (flat, TRAIN.labels[:20]), augment=Augment(shift=1), out=out)
    with pytest.raises(ConfigurationError, match=r"fill must lie in 0\.\.255"):
        fit(network(), TRAIN, augment=Augment(shift=1, fill=-1), out=out)
    with pytest.raises(ConfigurationError, match="augment must be text or an Augment or a dict"):
        fit(network(), TRAIN, augment=3, out=out)  # type: ignore[arg-type]
    assert not out.exists()


def test_mix_up_needs_classes() -> None:
    x, y = TRAIN.images[:20], np.zeros((20, 3), np.float32)
    with pytest.raises(ConfigurationError, match="mix-up and CutMix mix classes"):
        fit(network(), (x, y), loss=fastcnn.MSELoss(), augment=Augment(mixup=1.0))
    with pytest.raises(ConfigurationError, match="FocalLoss takes single classes"):
        fit(network(), TRAIN, loss=fastcnn.FocalLoss(), augment=Augment(cutmix=1.0))
    with pytest.raises(ConfigurationError, match="ignore_index=2 is of single classes"):
        fit(network(), TRAIN, loss=fastcnn.CrossEntropyLoss(ignore_index=2), augment="mixup=1")


class Stop(Callback):
    """Sends this process Ctrl-C after some steps."""

    def on_steps(self, steps: Any) -> None:
        if steps.step == 17:
            signal.raise_signal(signal.SIGINT)


def test_running_statistics_and_changes_go_on_where_a_run_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["fastcnn.training.loop"], "CHUNK_SECONDS", 0.0)

    def model() -> Sequential:
        return Sequential(
            Flatten(), Linear(784, 12, seed=0), BatchNorm1d(12), ReLU(), Linear(12, 3, seed=1),
            input_shape=(1, 28, 28),
        )  # fmt: skip

    settings: dict[str, Any] = {"epochs": 3, "batch_size": 50, "augment": CHANGES, "seed": 2}
    whole = model()
    fit(whole, TRAIN, TEST, **settings, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(model(), TRAIN, TEST, **settings, callbacks=[Stop()], out=tmp_path / "parts")
    resumed = model()
    fit(resumed, TRAIN, TEST, **settings, out=tmp_path / "parts", resume=True)
    for key, value in whole.state_dict().items():
        assert (resumed.state_dict()[key] == value).all(), key
    assert resumed.state_dict()["2.num_batches_tracked"] == 30


def test_a_run_remembers_what_was_changed(tmp_path: Path) -> None:
    fit(network(), TRAIN, epochs=1, augment=CHANGES, out=tmp_path)
    assert Run.open(tmp_path).config["training"]["augment"]["elastic"] == 0.7
    assert json.loads((tmp_path / "config.json").read_text())["training"]["augment"]["shift"] == 2


def test_a_recipe_takes_words() -> None:
    recipe = Recipe(augment="digits,cutout=5", epochs=1)
    assert recipe.make_augment() == Augment(shift=2, rotation=10, scale=0.1, cutout=5)
    _, history = recipe.run(TRAIN, TEST)
    assert history.status == "finished"
    with pytest.raises(fastcnn.errors.ConfigurationError, match="no setting named 'spin'"):
        Recipe(augment="spin").make_augment()


@pytest.mark.parametrize("labels", [np.zeros((8, 6, 6), int), np.zeros((8, 1, 6, 6), np.float32)])
def test_images_do_not_move_without_their_maps(labels: np.ndarray) -> None:
    from fastcnn.layers import Conv2d, Sequential

    outputs = 2 if labels.dtype.kind == "i" else 1
    model = Sequential(Conv2d(1, outputs, 3, padding=1), input_shape=(1, 6, 6))
    loss = "cross_entropy" if outputs == 2 else "mse"
    x = np.random.default_rng(0).random((8, 1, 6, 6), np.float32)
    for augment in (Augment(flip=0.5), Augment(shift=1), Augment(rotation=5.0)):
        with pytest.raises(fastcnn.errors.ConfigurationError, match="not those of their targets"):
            fastcnn.fit(model, (x, labels), loss=loss, augment=augment, epochs=1)
    fastcnn.fit(model, (x, labels), loss=loss, augment=Augment(cutout=2), epochs=1)
