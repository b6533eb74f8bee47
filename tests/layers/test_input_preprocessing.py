"""Normalisation and augmentation of each of several inputs, in training, files and exports."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data import Augment, Preprocessing
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.layers import Concat, Conv2d, Flatten, Input, Linear, Model, ReLU
from fastcnn.training import Run

COUNT = 40
random = np.random.default_rng(0)
PICTURES = random.integers(0, 256, (COUNT, 3, 6, 6)).astype(np.uint8)
PICTURES[:, 1] //= 4
NUMBERS = (random.standard_normal((COUNT, 5)) * [1, 2, 3, 4, 5] + 7).astype(np.float32)
Y = (NUMBERS[:, 0] > 7).astype(np.int64)
OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 8, "lr": 0.05, "diagnose": False}


def network() -> Model:
    picture, numbers = Input((3, 6, 6), "picture"), Input((5,), "numbers")
    y = Concat()(Flatten()(ReLU()(Conv2d(3, 4, 3, seed=0)(picture))), numbers)
    return Model((picture, numbers), Linear(69, 2, seed=1)(y))


def by_hand() -> tuple[np.ndarray, np.ndarray]:
    """The input that the layers should get."""
    pictures = PICTURES.astype(np.float64) / 255
    mean, std = pictures.mean(axis=(0, 2, 3)), pictures.std(axis=(0, 2, 3))
    pictures = (pictures - mean[:, None, None]) / std[:, None, None]
    return pictures, (NUMBERS - NUMBERS.mean(axis=0)) / NUMBERS.std(axis=0)


@pytest.mark.parametrize("backend", ["reference", "im2col", "lanes"])
def test_each_channel_has_mean_and_deviation(backend: str) -> None:
    model, plain = network(), network()
    model.normalise((PICTURES, NUMBERS))
    assert len(model.preprocessing.mean) == 3 + 5
    expected = plain.logits(by_hand(), backend=backend)
    found = model.logits({"numbers": NUMBERS, "picture": PICTURES}, backend=backend)
    assert found == pytest.approx(expected, abs=1e-4)
    x = by_hand()
    fastcnn.fit(model, ((PICTURES, NUMBERS), Y), backend=backend, **OPTIONS)
    fastcnn.fit(plain, (x, Y), backend=backend, **OPTIONS)
    assert model.parameter_vector == pytest.approx(plain.parameter_vector, abs=1e-4)


def test_runs_files_and_exports_keep_them(tmp_path: Path) -> None:
    model = network()
    model.normalise((PICTURES, NUMBERS))
    fastcnn.fit(model, ((PICTURES, NUMBERS), Y), out=tmp_path / "run", **OPTIONS)
    opened = Run.open(tmp_path / "run").load_model()
    expected = model.logits((PICTURES, NUMBERS))
    assert opened.preprocessing == model.preprocessing
    assert np.array_equal(opened.logits((PICTURES, NUMBERS)), expected)
    model.save(tmp_path / "model.safetensors")
    assert np.array_equal(
        fastcnn.load(tmp_path / "model.safetensors").logits((PICTURES, NUMBERS)), expected
    )
    with pytest.raises(ConfigurationError, match="its weights depend on its preprocessing"):
        model.normalise((PICTURES, NUMBERS))
    with pytest.raises(DataError, match="preprocessing has 113 channels"):
        model.preprocessing.check(np.zeros((1, 9), np.float32))


def test_onnx_there_and_back(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pictures = PICTURES.astype(np.float32) / 255
    model = network()
    model.normalise((pictures, NUMBERS))
    expected = model.logits((pictures, NUMBERS))
    export_onnx(model, tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx")
    (found,) = session.run(None, {"picture": pictures, "numbers": NUMBERS})
    assert found == pytest.approx(expected, abs=1e-4)
    read = import_onnx(tmp_path / "net.onnx")
    assert read.preprocessing == model.preprocessing
    assert read.logits((pictures, NUMBERS)) == pytest.approx(expected, abs=1e-5)
    model.preprocessing = Preprocessing((0.5,) * 113, (2.0,) * 113)
    with pytest.raises(ConfigurationError, match="must have numbers for their channels"):
        export_onnx(model, tmp_path / "net.onnx")


def test_one_input_is_normalised_too() -> None:
    model = fastcnn.models.report_cnn(seed=0)
    x = random.integers(0, 256, (8, 1, 28, 28)).astype(np.uint8)
    model.normalise(x)
    assert model.preprocessing.mean == pytest.approx((x.mean() / 255,))
    assert model.preprocessing.std == pytest.approx((x.std() / 255,))
    with pytest.raises(DataError, match="NaN"):
        model.normalise(np.full((2, 1, 4, 4), np.nan))
    for shape in ((8, 1, 27, 28), (8, 28, 28), (8, 784)):
        with pytest.raises(ShapeError, match=r"takes samples of shape \(1, 28, 28\)"):
            model.normalise(np.zeros(shape))
    for kind in (np.complex64, object, str):
        with pytest.raises(DataError, match="samples: must be real numbers, got dtype"):
            model.normalise(np.zeros((2, 1, 28, 28), kind))


def test_one_input_alone_is_augmented(tmp_path: Path) -> None:
    """Training on augmented pictures equals training on copies augmented in advance."""
    model, other = network(), network()
    augment = {"picture": "flip=1,shift=1"}
    data = (PICTURES, NUMBERS), Y
    fastcnn.fit(model, data, augment=augment, seed=3, out=tmp_path / "run", **OPTIONS)
    config = Run.open(tmp_path / "run").config["training"]["augment"]
    assert config["inputs"]["picture"]["shift"] == 1
    changed = Augment(flip=1.0, shift=1).apply(PICTURES, seed=3, epoch=1)
    assert not np.array_equal(changed, PICTURES)
    # A step is the whole data, in any order.
    whole = OPTIONS | {"batch_size": COUNT, "epochs": 1}
    model, other = network(), network()
    fastcnn.fit(model, data, augment=augment, seed=3, **whole)
    fastcnn.fit(other, ((changed, NUMBERS), Y), seed=3, **whole)
    assert model.parameter_vector == pytest.approx(other.parameter_vector, abs=1e-6)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ("shift=1", "has the inputs picture, numbers: name one, as in augment={'picture'"),
        ({"image": "shift=1"}, "no input 'image'"),
        ({"numbers": "shift=1"}, r"'numbers' of shape \(5,\) has no images"),
        ({"picture": "mixup=1"}, "would not mix the others"),
        ({"picture": 3}, "must be text or an Augment"),
        ({"picture": "shift=9"}, "shift must be smaller"),
    ],
)
def test_wrong_augmentations(augment: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fastcnn.fit(network(), ((PICTURES, NUMBERS), Y), augment=augment, **OPTIONS)


def test_inputs_are_named_where_there_are_several() -> None:
    model = fastcnn.models.report_cnn(seed=0)
    x = np.zeros((4, 1, 28, 28), np.uint8)
    with pytest.raises(ConfigurationError, match="a dictionary names one of several inputs"):
        fastcnn.fit(model, (x, [0, 1, 2, 0]), augment={"a": "shift=1"}, epochs=1)


def test_pixels_of_one_output_do_not_stay_where_images_move() -> None:
    x = Input((1, 6, 6))
    model = Model(x, (Conv2d(1, 2, 3, padding=1)(x), Linear(36, 2)(Flatten()(x))))
    images = random.random((8, 1, 6, 6)).astype(np.float32)
    pixels = random.integers(0, 2, (8, 6, 6))
    with pytest.raises(ConfigurationError, match="not those of their targets"):
        fastcnn.fit(model, (images, (pixels, Y[:8])), loss=["cross_entropy"] * 2, augment="flip")


def test_batches_of_several_inputs_and_outputs() -> None:
    """As tuples or by name, in training and evaluation: the same results as from arrays."""
    torch = pytest.importorskip("torch")
    values = NUMBERS[:, :1].copy()

    def make() -> Model:
        picture, numbers = Input((3, 6, 6), "picture"), Input((5,), "numbers")
        y = Concat()(Flatten()(picture), numbers)
        outputs = {"kind": Linear(113, 2, seed=0)(y), "size": Linear(113, 1, seed=1)(y)}
        model = Model((picture, numbers), outputs)
        model.normalise((PICTURES, NUMBERS))
        return model

    def by_name() -> Any:
        for start in range(0, COUNT, 8):
            rows = slice(start, start + 8)
            x = {"numbers": NUMBERS[rows], "picture": PICTURES[rows]}
            yield x, {"size": values[rows], "kind": Y[rows]}

    order = np.random.default_rng(0).permutation(COUNT)  # that of fit
    samples = [((PICTURES[i], NUMBERS[i]), (Y[i], values[i])) for i in order]
    loader = torch.utils.data.DataLoader(samples, batch_size=8)
    losses = ["cross_entropy", "mse"]
    options = {"loss": losses, "epochs": 1, "lr": 0.01, "diagnose": False}
    augment = {"picture": "flip=1"}
    arrays = (PICTURES, NUMBERS), (Y, values)
    expected, model, named = make(), make(), make()
    fastcnn.fit(expected, arrays, batch_size=8, augment=augment, **options)
    history = fastcnn.fit(model, loader, loader, augment=augment, **options)
    assert model.parameter_vector == pytest.approx(expected.parameter_vector, abs=1e-6)
    found = fastcnn.evaluate(model, loader, loss=losses)
    assert history.final["test_loss"] == pytest.approx(found.loss)
    assert found.loss == pytest.approx(fastcnn.evaluate(model, arrays, loss=losses).loss, rel=1e-5)
    fastcnn.fit(named, by_name, steps_per_epoch=5, **options)
    assert np.isfinite(named.parameter_vector).all()
