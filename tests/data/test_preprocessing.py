"""One conversion from samples to input: the same at every entry point, stored with the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data import Dataset, Preprocessing
from fastcnn.data.dataset import ArrayDataset
from fastcnn.data.preprocessing import measure_normalisation
from fastcnn.errors import ConfigurationError, DataError
from fastcnn.execution import forward, loss_and_gradients, make_executor
from fastcnn.interop import load_state, save_state
from fastcnn.layers import Conv2d, Flatten, Linear, Sequential, Tanh
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import to_definition
from fastcnn.training import Run, evaluate

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 2, 6, 6)).astype(np.uint8)
CLASSES = RNG.integers(0, 3, 40)
NORMALISED = Preprocessing((0.3, 0.6), (0.5, 0.2))


def network() -> Sequential:
    return Sequential(
        Conv2d(2, 4, 3, seed=0), Tanh(), Flatten(), Linear(64, 3, seed=1), input_shape=(2, 6, 6)
    )


def dataset(images: np.ndarray = BYTES, preprocessing: Preprocessing = NORMALISED) -> Dataset:
    return Dataset(images, CLASSES[: len(images)], ("a", "b", "c"), preprocessing)


def by_executor(model: Any, x: np.ndarray, backend: str) -> np.ndarray:
    loss, optimizer = fastcnn.CrossEntropyLoss(), fastcnn.optim.SGD(lr=0.0)
    executor = make_executor(
        model, loss=loss, optimizer=optimizer, backend=backend, batch_size=len(x)
    )
    executor.train_steps(ArrayDataset(x, CLASSES[: len(x)]), np.arange(len(x)), np.zeros(1))
    return executor.logits(x)


ENTRIES: dict[str, Callable[[Any, np.ndarray, str], np.ndarray]] = {
    "logits": lambda m, x, b: m.logits(x, backend=b),
    "predict_proba": lambda m, x, b: m.predict_proba(x, backend=b),
    "forward": lambda m, x, b: forward(m, x, backend=b),
    "forward in training": lambda m, x, b: forward(m, x, backend=b, training=True),
    "evaluate": lambda m, x, b: evaluate(m, (x, CLASSES[: len(x)]), backend=b)[2],
    "loss": lambda m, x, b: loss_and_gradients(m, x, CLASSES[: len(x)], backend=b)[1],
    "gradients": lambda m, x, b: fastcnn.gradients(m, x, CLASSES[: len(x)], backend=b)[1]["3.bias"],
    "executor": by_executor,
}


@pytest.mark.parametrize("backend", ["reference", "im2col", "lanes"])
@pytest.mark.parametrize("preprocessing", [Preprocessing(), NORMALISED], ids=["fresh", "set"])
@pytest.mark.parametrize("name", ENTRIES)
def test_bytes_are_converted_everywhere(
    name: str, preprocessing: Preprocessing, backend: str
) -> None:
    model, plain = network(), network()
    model.preprocessing = preprocessing
    for count in (1, 5):  # few samples take another way through the engine
        x = BYTES[:count]
        mean = np.reshape(preprocessing.mean or (0.0, 0.0), (1, 2, 1, 1))
        std = np.reshape(preprocessing.std or (1.0, 1.0), (1, 2, 1, 1))
        expected = ENTRIES[name](plain, (x / 255 - mean) / std, backend)
        assert ENTRIES[name](model, x, backend) == pytest.approx(expected, abs=2e-5)
        assert ENTRIES[name](model, x / 255, backend) == pytest.approx(expected, abs=2e-5)


def test_flat_samples_are_bytes_too() -> None:
    model = Sequential(Linear(7, 3, seed=0), input_shape=(7,))
    x = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
    for backend in ("reference", "im2col", "lanes"):
        assert model.logits(x, backend=backend) == pytest.approx(
            model.logits(x / 255, backend=backend), abs=1e-6
        )


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
def test_fit_sets_it_and_everything_agrees(backend: str) -> None:
    model = network()
    fastcnn.fit(model, dataset(), epochs=1, backend=backend, diagnose=False)
    assert (model.preprocessing.mean, model.preprocessing.std) == (NORMALISED.mean, NORMALISED.std)
    assert model.preprocessing.trained_on == "uint8"
    logits = evaluate(model, dataset(), backend=backend)[2]
    assert model.logits(BYTES, backend=backend) == pytest.approx(logits, abs=1e-6)
    assert (model.predict(BYTES) == logits.argmax(axis=1)).all()


def test_a_model_keeps_its_preprocessing(caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    fastcnn.fit(model, dataset(), epochs=1, diagnose=False)
    first = model.preprocessing
    assert not caplog.records
    other = dataset(preprocessing=Preprocessing((0.1, 0.1), (0.4, 0.4)))
    fastcnn.fit(model, other, epochs=1, diagnose=False)
    assert model.preprocessing == first
    assert "the model keeps its preprocessing" in caplog.text
    by_hand = network()
    by_hand.preprocessing = NORMALISED
    fastcnn.fit(by_hand, (BYTES, CLASSES), epochs=0, diagnose=False)
    assert by_hand.preprocessing == NORMALISED.trained(BYTES)


def test_evaluating_a_fresh_model_says_that_a_preprocessing_is_unused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = network()
    assert (evaluate(model, dataset())[2] == model.logits(BYTES)).all()
    assert "is not used" in caplog.text


def test_a_refused_fit_changes_nothing() -> None:
    model = network()
    with pytest.raises(DataError):
        fastcnn.fit(model, dataset(), (BYTES.astype(np.float32), CLASSES), epochs=1)
    assert model.preprocessing == Preprocessing()


FLOATS = BYTES / 255
CONTINUED: dict[str, tuple[np.ndarray, np.ndarray, str]] = {
    "normalised twice": (BYTES, (FLOATS - 0.3) / 0.2, "do not normalise them"),
    "floats of 0..255": (BYTES, BYTES.astype(np.float32), "give pixels as uint8"),
    "integers": (BYTES, BYTES.astype(np.int64), "uint8"),
    "bytes after 0..255": (BYTES.astype(np.float32), BYTES, "got bytes"),
    "bytes after normalised": ((FLOATS - 0.3) / 0.2, BYTES, "got bytes"),
    "0..255 after 0..1": (FLOATS, BYTES.astype(np.float32), "scale them as in training"),
}


@pytest.mark.parametrize("case", CONTINUED)
@pytest.mark.parametrize("name", ["logits", "predict_proba", "evaluate", "gradients"])
def test_other_units_than_those_of_training_are_refused(case: str, name: str) -> None:
    trained, given, message = CONTINUED[case]
    model = network()
    fastcnn.fit(model, (trained, CLASSES), epochs=0, diagnose=False)
    with pytest.raises(DataError, match=message):
        ENTRIES[name](model, given, "lanes")


def test_much_smaller_numbers_than_those_of_training_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They may be dark pictures."""
    model = network()
    fastcnn.fit(model, (BYTES.astype(np.float32), CLASSES), epochs=0, diagnose=False)
    model.logits(BYTES.astype(np.float32))
    model.logits(np.zeros_like(FLOATS))
    assert "in other units" not in caplog.text
    model.logits(FLOATS)
    assert "samples: values lie in 0..1, those of training in 0..255: are they in" in caplog.text


@pytest.mark.parametrize("case", CONTINUED)
def test_fit_refuses_other_units(case: str) -> None:
    trained, given, message = CONTINUED[case]
    model = network()
    with pytest.raises(DataError, match=f"test: .*{message}"):
        fastcnn.fit(model, (trained, CLASSES), (given, CLASSES), epochs=1, diagnose=False)
    fastcnn.fit(model, (trained, CLASSES), epochs=0, diagnose=False)
    with pytest.raises(DataError, match=f"train: .*{message}"):
        fastcnn.fit(model, (given, CLASSES), epochs=1)


def test_the_same_units_in_another_type_are_converted() -> None:
    model = network()
    fastcnn.fit(model, (FLOATS.astype(np.float32), CLASSES), (BYTES, CLASSES), epochs=1)
    assert model.logits(BYTES) == pytest.approx(model.logits(FLOATS), abs=1e-5)
    assert model.preprocessing.trained_on == "float"
    assert model.preprocessing.bounds == (0.0, 1.0)


def test_it_is_kept_by_runs_files_and_definitions(tmp_path: Path) -> None:
    model = network()
    train = dataset(preprocessing=measure_normalisation(BYTES))
    fastcnn.fit(model, train, train, epochs=1, out=tmp_path / "run", diagnose=False)
    expected = model.preprocessing
    assert expected.mean == pytest.approx(BYTES.mean(axis=(0, 2, 3)) / 255, rel=1e-14)  # unrounded
    loaded = Run.open(tmp_path / "run").load_model()
    assert loaded.preprocessing == expected
    assert (loaded.logits(BYTES) == model.logits(BYTES)).all()
    assert from_definition(to_definition(model)).preprocessing == expected
    save_state(model, tmp_path / "weights.safetensors")
    files = ["weights.safetensors", "run/model.safetensors", "run/checkpoints/best.safetensors"]
    for name in files:
        other = network()
        load_state(other, tmp_path / name)
        assert other.preprocessing == expected


def test_weights_of_other_tools_leave_it(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    model = network()
    save_file(model.copy_state(), tmp_path / "theirs.safetensors")
    model.preprocessing = NORMALISED
    load_state(model, tmp_path / "theirs.safetensors")
    assert model.preprocessing == NORMALISED


def test_resuming_with_another_preprocessing_is_refused(tmp_path: Path) -> None:
    fastcnn.fit(network(), dataset(), epochs=1, out=tmp_path / "run", diagnose=False)
    model = network()
    model.preprocessing = Preprocessing((0.1, 0.1), (0.4, 0.4))
    with pytest.raises(fastcnn.errors.CheckpointError, match=r"preprocessing\.mean was"):
        fastcnn.fit(model, dataset(), epochs=2, out=tmp_path / "run", resume=True)


def test_differences_from_a_large_mean_are_taken_in_double_precision() -> None:
    x = RNG.random((6, 2, 5, 5)) + 1e8
    preprocessing = measure_normalisation(x)
    assert preprocessing.std == pytest.approx(x.std(axis=(0, 2, 3)), rel=1e-6)
    expected = (x - x.mean(axis=(0, 2, 3), keepdims=True)) / x.std(axis=(0, 2, 3), keepdims=True)
    assert preprocessing.apply(x) == pytest.approx(expected, abs=1e-5)
    model = Sequential(Flatten(), Linear(50, 3, seed=0), input_shape=(2, 5, 5))
    logits = model.logits(expected)
    model.preprocessing = preprocessing
    for backend in ("im2col", "lanes"):
        assert model.logits(x, backend=backend) == pytest.approx(logits, abs=1e-4)
        executor = by_executor(model, x, backend)
        assert executor == pytest.approx(logits, abs=1e-4)


def test_measuring() -> None:
    measured = measure_normalisation(BYTES)
    assert measured.std == pytest.approx((BYTES / 255).std(axis=(0, 2, 3)), rel=1e-12)
    flat = np.full((3, 1, 2, 2), 0.1, np.float64)
    assert measure_normalisation(flat).std == (1.0,)
    assert measure_normalisation(np.zeros((3, 1, 2, 2), np.uint8)).std == (1.0,)


def test_measuring_and_applying_take_little_memory() -> None:
    import tracemalloc

    images = np.zeros((4000, 1, 40, 40), np.uint8)
    tracemalloc.start()
    made = measure_normalisation(images).apply(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < made.nbytes + 8 * 2**20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean": (0.0,), "std": (0.0,)}, "positive std"),
        ({"mean": (0.0, 1.0), "std": (1.0,)}, "one mean and one positive std"),
        ({"mean": (float("nan"),), "std": (1.0,)}, "finite"),
        ({"mean": "0", "std": (1.0,)}, "finite"),
        ({"mean": (10**400,), "std": (1.0,)}, "finite"),
        ({"trained_on": "text"}, "trained_on"),
        ({"bounds": (2.0, 1.0)}, "bounds"),
        ({"bounds": (2.0,)}, "bounds"),
        ({"gamma": 2.2}, "must be a table with mean"),
    ],
)
def test_bad_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Preprocessing.from_dict(values)


def test_damaged_metadata() -> None:
    for text in ("", "[", "[1]", "[" * 100_000, '{"mean": 1}'):
        with pytest.raises(ConfigurationError):
            Preprocessing.from_metadata({"fastcnn.preprocessing": text})


def test_a_model_takes_nothing_else() -> None:
    model = network()
    with pytest.raises(ConfigurationError, match="preprocessing must be a Preprocessing"):
        model.preprocessing = (0.5, 0.5)  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="3 channels"):
        model.preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3)


def test_unscaled_pixels_are_found() -> None:
    pixels = BYTES.astype(np.float32)
    history = fastcnn.fit(network(), (pixels, CLASSES), epochs=1)
    finding = history.findings[0]
    assert finding.kind == "unscaled"
    assert "0..255" in finding.message
    assert "scale your pixels" in finding.advice
    for x in (pixels / 255, BYTES):
        assert "unscaled" not in [
            f.kind for f in fastcnn.fit(network(), (x, CLASSES), epochs=1).findings
        ]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_that_may_not_be_written_are_not_copied(dtype: Any, tmp_path: Path) -> None:
    import tracemalloc

    model = Sequential(Flatten(), Linear(200, 3, seed=0), input_shape=(2, 10, 10))
    np.save(tmp_path / "x.npy", RNG.integers(0, 256, (20_000, 2, 10, 10)).astype(dtype))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    model.preprocessing = NORMALISED
    expected = model.logits(np.array(x))
    tracemalloc.start()
    assert (model.logits(x) == expected).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 2
