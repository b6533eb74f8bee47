"""Training data as streams of batches, and memory-mapped arrays."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import data
from fastcnn.data import Augment
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.layers import Flatten, Linear, Sequential
from fastcnn.training import EarlyStopping, fit

pytestmark = pytest.mark.usefixtures("no_pictures")

TRAIN, TEST = data.digits_dataset(96, 40, classes=(0, 1, 2))
X, Y = TRAIN.images, TRAIN.labels


def network() -> Sequential:
    return Sequential(Flatten(), Linear(784, 3, seed=0), input_shape=(1, 28, 28))


def trained(train: Any, **options: Any) -> tuple[Sequential, Any]:
    model = network()
    return model, fit(model, train, **{"epochs": 2, "lr": 0.01} | options)


def batches(size: int = 16) -> Iterator[tuple[Any, Any]]:
    for start in range(0, len(X), size):
        yield X[start : start + size], Y[start : start + size]


class Loader:
    """Has a length and can be iterated repeatedly, like a DataLoader."""

    def __init__(self, size: int = 16) -> None:
        self.size = size
        self.begun = 0

    def __len__(self) -> int:
        return -(-len(X) // self.size)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        self.begun += 1
        return batches(self.size)


def by_hand(epochs: int = 2, size: int = 16) -> np.ndarray:
    """The parameters after training on the same batches in the same order, step by step."""
    model = network()
    model.preprocessing = fastcnn.data.Preprocessing().trained(X[:size])
    sgd = fastcnn.optim.SGD(lr=0.01, momentum=0.9)
    executor = fastcnn.execution.make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=sgd, batch_size=size
    )
    for _ in range(epochs):
        for start in range(0, len(X), size):
            rows = np.arange(start, min(start + size, len(X)))
            executor.train_steps(ArrayDataset(X, Y), rows, np.array([0.01]))
    return model.parameter_vector


def endless() -> Iterator[tuple[Any, Any]]:
    while True:
        yield from batches()


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda: Loader(), None),
        (lambda: list(batches()), None),
        (lambda: batches, 6),  # a function, called in each epoch
        (lambda: endless(), 6),  # goes on
    ],
    ids=["length", "list", "function", "generator"],
)
def test_each_batch_is_a_step(make: Any, steps: int | None) -> None:
    model, history = trained(make(), steps_per_epoch=steps)
    assert (model.parameter_vector == by_hand()).all()
    assert len(history.steps) == 12


def test_the_last_batch_may_be_smaller() -> None:
    model, history = trained(Loader(40))
    assert (model.parameter_vector == by_hand(size=40)).all()
    assert len(history.steps) == 6


def test_an_array_that_is_filled_again_and_again() -> None:
    """With a dtype that is converted, so that an earlier conversion must not be reused."""
    x, y = np.empty((16, 1, 28, 28)), np.empty(16, np.int32)

    def refilled() -> Iterator[tuple[Any, Any]]:
        for images, labels in batches():
            x[...], y[...] = images / 255, labels
            yield x, y

    model, _ = trained(refilled, steps_per_epoch=6)
    other, _ = trained(lambda: ((a / 255, b) for a, b in batches()), steps_per_epoch=6)
    assert (model.parameter_vector == other.parameter_vector).all()


@pytest.mark.torch
def test_a_dataloader() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    samples = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    model, _ = trained(torch.utils.data.DataLoader(samples, batch_size=16))
    assert (model.parameter_vector == by_hand()).all()
    shuffled = []
    for _ in range(2):
        torch.manual_seed(3)
        loader = torch.utils.data.DataLoader(samples, batch_size=16, shuffle=True)
        shuffled.append(trained(loader, validation=loader, early_stopping=2)[0])
    assert (shuffled[0].parameter_vector == shuffled[1].parameter_vector).all()


def test_validation_and_test_data_batch_by_batch() -> None:
    _, history = trained(TRAIN, validation=Loader(), epochs=1)
    _, expected = trained(TRAIN, validation=(X, Y), epochs=1)
    assert history.column("validation_loss") == expected.column("validation_loss")
    model = network()
    assert fastcnn.evaluate(model, Loader()).loss == fastcnn.evaluate(model, (X, Y)).loss


@pytest.mark.parametrize("augment", [Augment(shift=2, flip=0.5), Augment(mixup=0.3)], ids=str)
def test_batches_are_augmented_by_their_place_in_the_epoch(augment: Augment) -> None:
    first, _ = trained(Loader(), augment=augment, threads=1)
    again, _ = trained(batches, steps_per_epoch=6, augment=augment, threads=2)
    assert (first.parameter_vector == again.parameter_vector).all()
    assert (first.parameter_vector != by_hand()).any()
    if not augment.mixes:
        whole = augment.apply(X, seed=0, epoch=1)
        part = augment.apply(X[16:32], names=np.arange(16, 32), seed=0, epoch=1)
        assert (part == whole[16:32]).all()


def test_weights_come_with_the_batches() -> None:
    weight = np.linspace(0.5, 2.0, 96)
    weighted = [(X[a : a + 16], Y[a : a + 16], weight[a : a + 16]) for a in range(0, 96, 16)]
    _, history = trained(lambda: weighted, steps_per_epoch=6, epochs=1, lr=0.0)
    expected = fastcnn.evaluate(network(), (X, Y, weight)).loss
    assert history.final["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("train", "options", "kind", "message"),
    [
        (batches, {}, ConfigurationError, "give steps_per_epoch"),
        (Loader(), {"steps_per_epoch": 7}, ConfigurationError, "train has 6 batches"),
        (batches, {"steps_per_epoch": 7}, DataError, "ended after 6 batches, and an epoch has 7"),
        (batches(), {"steps_per_epoch": 6, "epochs": 2}, DataError, "an iterator is read once: gi"),
        (Loader(), {"batch_size": 32}, ConfigurationError, "batch_size=32 has no effect: train gi"),
        (Loader(), {"validation": 0.1}, ConfigurationError, "nothing can be held out of batches"),
        (Loader(), {"early_stopping": 1}, ConfigurationError, "nothing can be held out of batches"),
        (Loader(), {"callbacks": [EarlyStopping()]}, ConfigurationError, "nothing can be held out"),
        (Loader(), {"accumulate": 2}, ConfigurationError, "each batch of train is a step"),
        (Loader(), {"lr": "auto"}, ConfigurationError, "lr='auto' would use up batches"),
        (Loader(), {"sampling": "balanced"}, ConfigurationError, "needs all samples at once"),
        (Loader(), {"validation": batches}, ConfigurationError, "validation: batches without"),
        (lambda: [], {"steps_per_epoch": 1}, DataError, "train: gives no batch"),
        (lambda: 3, {"steps_per_epoch": 1}, ConfigurationError, "must return something to iterate"),
        (lambda: [X], {"steps_per_epoch": 1}, ShapeError, r"batch 1: expected \(x, y\)"),
        (lambda: [(X, Y[:9])], {"steps_per_epoch": 1}, ShapeError, "a target for each sample, 96"),
        ([X, Y], {}, ShapeError, "a list is read as batches"),
        (X, {}, ShapeError, r"train: expected a Dataset, \(x, y\) or"),
        ({"x": X}, {}, ShapeError, "got dict"),
    ],
)  # fmt: skip
def test_what_a_stream_cannot_do(train: Any, options: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        trained(train, **options)


@pytest.mark.parametrize(
    ("second", "kind", "message"),
    [
        ((X[:17], Y[:17]), ShapeError, "batch 2: has 17 samples, the first batch 16"),
        ((X[:16], Y[:16] + 1), DataError, "batch 2: classes must lie in 0..2"),
        ((X[:16, :, :20], Y[:16]), ShapeError, "batch 2: samples have shape"),
        ((X[:16].astype(np.float32), Y[:16]), DataError, "batch 2: the model was trained on bytes"),
        ((np.full((16, 1, 28, 28), np.nan), Y[:16]), DataError, "batch 2: samples contain NaN"),
    ],
)
def test_a_batch_that_is_not_like_the_first(second: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        trained(lambda: [(X[:16], Y[:16]), second], steps_per_epoch=2)


def test_averaged_statistics_need_all_samples() -> None:
    model = Sequential(
        Flatten(), fastcnn.BatchNorm1d(784), Linear(784, 3, seed=0), input_shape=(1, 28, 28)
    )
    with pytest.raises(
        ConfigurationError, match=r"swa_start: the statistics .* train cannot be read again"
    ):
        fit(model, Loader(), epochs=2, swa_start=1)
    trained(Loader(), swa_start=1)  # without such statistics


def test_a_stream_writes_a_run_that_is_not_resumed(tmp_path: Path) -> None:
    trained(Loader(), out=tmp_path, epochs=1)
    assert fastcnn.training.Run.open(tmp_path).config["data"]["train_samples"] == 96
    with pytest.raises(ConfigurationError, match="cannot be read again"):
        trained(Loader(), out=tmp_path, resume=True)


# -- arrays that are files --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_memory_maps_are_trained_on_without_a_copy(dtype: Any, tmp_path: Path) -> None:
    count = 24_000 if dtype == np.uint8 else 6_000
    shape = (count, 1, 28, 28)
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", dtype, shape)
    y = np.arange(count) % 3
    for start in range(0, count, 1000):
        x[start : start + 1000] = (y[start : start + 1000] * (80 if dtype == np.uint8 else 0.4))[
            :, None, None, None
        ]
    x.flush()
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    trained((x[:100], y[:100]), epochs=1, augment="shift=1")  # loads the kernels
    tracemalloc.start()
    try:
        _, history = trained((x, y), epochs=1, validation=0.01)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert x.nbytes > 18e6
    assert most < 12e6
    assert history.final["validation_accuracy"] > 0.5
    model, _ = trained((x, y), epochs=1, validation=0.01, augment="shift=1")
    copy, _ = trained((np.array(x), y), epochs=1, validation=0.01, augment="shift=1")
    assert (model.parameter_vector == copy.parameter_vector).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_other_types_and_layouts_are_converted_piece_by_piece(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.asfortranarray(X if dtype == np.uint8 else (X / 255).astype(dtype))
    data = (x, Y, np.linspace(0.5, 1.0, 96))
    expected, _ = trained(data, batch_size=20)
    monkeypatch.setattr("fastcnn.training.feed.MOST_CONVERTED", 1)
    monkeypatch.setattr("fastcnn.training.feed.BUFFER_BYTES", 50_000)
    model, _ = trained(data, batch_size=20)
    assert (model.parameter_vector == expected.parameter_vector).all()


def test_what_does_not_fit_into_memory_is_kept_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected, _ = trained(TRAIN, validation=0.5)
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("fastcnn.data.storage.SHARE_OF_MEMORY", 1e-12)
    model, _ = trained(TRAIN, validation=0.5)
    assert (model.parameter_vector == expected.parameter_vector).all()
    assert "kept in a temporary file" in caplog.text
    assert isinstance(TRAIN.subset([1, 2]).images, np.memmap)
    assert not list((tmp_path / "arrays").iterdir())  # the file is gone with the array
    with pytest.raises(DataError, match=r"x: needs .* bytes, more than half .* and the disk of"):
        fastcnn.data.storage.allocate((2**62,), np.uint8, "x")


@pytest.mark.parametrize("ignored", [0, 2])
def test_all_targets_of_a_batch_may_be_ignored(ignored: int) -> None:
    """As in a batch of arrays, its loss is 0."""
    made = list(batches(32))
    made[ignored] = made[ignored][0], np.full(32, 255)
    loss = fastcnn.CrossEntropyLoss(ignore_index=255)
    _, history = trained(made, loss=loss, epochs=1)
    assert [step.loss == 0.0 for step in history.steps] == [place == ignored for place in range(3)]
    counted = [part for place, part in enumerate(made) if place != ignored]
    _, alone = trained(counted[:1], loss=loss, epochs=1)
    first = history.steps[1 if ignored == 0 else 0]
    assert first.loss == alone.steps[0].loss
    assert 0.0 < history.final.train_loss < 3.0
