"""How arrays are interpreted: layouts, units, labels."""

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import data
from fastcnn.data.arrays import as_image_sets, as_label_sets, image_layout
from fastcnn.data.dataset import Dataset
from fastcnn.data.preprocessing import Preprocessing, measure_normalisation
from fastcnn.errors import ConfigurationError, DataError

NAMES = ("train", "test")
GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((9, 1, 28, 28), "NCHW"),
        ((9, 28, 28, 1), "NHWC"),
        ((9, 32, 32, 4), "NHWC"),
        ((9, 32, 32, 2), "NHWC"),
        ((9, 4, 32, 32), "NCHW"),
        ((9, 2, 20, 30), "NCHW"),
        ((9, 20, 30, 3), "NHWC"),
        ((9, 3, 4, 4), "NCHW"),
        ((9, 4, 4, 3), "NHWC"),
        ((9, 16, 32, 32), "NCHW"),
        ((9, 32, 32, 16), "NHWC"),
        ((9, 1, 1, 1), "NCHW"),
        ((9, 1, 1, 128), "NCHW"),
    ],
)
def test_layouts_that_a_shape_tells(shape: tuple[int, ...], layout: str) -> None:
    assert image_layout(shape) == layout


@pytest.mark.parametrize(
    "shape", [(9, 3, 3, 3), (9, 8, 8, 8), (9, 16, 20, 30), (9, 3, 20, 3), (9, 2, 30, 4)]
)
def test_layouts_that_may_be_either_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="layout='NCHW' or layout='NHWC'"):
        image_layout(shape)
    assert image_layout(shape, "NHWC") == "NHWC"
    with pytest.raises(ConfigurationError, match="NCHW or NHWC"):
        image_layout(shape, "CHWN")


def test_the_training_images_decide_for_both(caplog: pytest.LogCaptureFixture) -> None:
    images = GENERATOR.integers(0, 256, (6, 12, 12, 4)).astype(np.uint8)
    train, test = as_image_sets(images, images[:2], NAMES)
    assert (train == images.transpose(0, 3, 1, 2)).all()
    assert test.shape == (2, 4, 12, 12)
    assert "channels are last" in caplog.text


def test_dark_test_images_are_scaled_like_the_training_images(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bright = np.linspace(0, 255, 5 * 16).reshape(5, 4, 4)
    train, test = as_image_sets(bright, np.ones((2, 4, 4)), NAMES)
    assert train.max() == 1.0
    assert test == pytest.approx(1 / 255)
    assert "divided by 255" in caplog.text
    assert "other units" in caplog.text
    with pytest.raises(DataError, match=r"train lies in 1\.\.1, test goes up to 255"):
        as_image_sets(np.ones((2, 4, 4)), bright, NAMES)


def test_classes_without_samples_are_said(caplog: pytest.LogCaptureFixture) -> None:
    as_label_sets(np.array([1, 2, 4], np.float16), np.array([1]), NAMES)
    assert "train: 5 classes from 0, no sample of 0, 3" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16, np.float32, np.float16, bool])
def test_types_of_pixels(dtype: Any) -> None:
    images = (GENERATOR.integers(0, 2, (4, 5, 5)) * (1 if dtype is bool else 255)).astype(dtype)
    train, _ = as_image_sets(images, images, NAMES)
    expected = (images != 0).astype(np.float32)[:, None]
    assert (Preprocessing().apply(train) == expected).all()
    if np.dtype(dtype).kind in "uib":
        assert train.dtype == np.uint8


def test_bytes_are_not_copied() -> None:
    images = np.zeros((4, 1, 5, 5), np.uint8)
    images.flags.writeable = False
    train, _ = as_image_sets(images, images, NAMES)
    assert np.shares_memory(train, images)


BAD_IMAGES: list[tuple[np.ndarray, np.ndarray, str]] = [
    (np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8), "not square"),
    (np.zeros(4), np.zeros(4), "must be numbers of shape"),
    (np.zeros((4, 5, 5), complex), np.zeros((4, 5, 5)), "must be numbers of shape"),
    (np.zeros((0, 5, 5)), np.zeros((4, 5, 5)), "must be numbers of shape"),
    (np.zeros((4, 5, 5)), np.zeros((4, 6, 6)), r"images of shape \(1, 5, 5\), test"),
    (np.zeros((4, 5, 5, 1)), np.zeros((4, 1, 5, 5)), "images of shape"),
    (np.full((4, 5, 5), 256), np.zeros((4, 5, 5), int), r"256\.\.256, not in 0\.\.255"),
    (np.zeros((4, 5, 5), int), np.full((4, 5, 5), -1), "not in 0"),
    (np.zeros((4, 5, 5), np.uint8), np.zeros((4, 5, 5)), "store both"),
    (np.zeros((4, 5, 5)), np.full((4, 5, 5), np.inf), "NaN or infinity"),
    (np.full((4, 5, 5), np.nan, np.float16), np.zeros((4, 5, 5)), "NaN or infinity"),
    (np.full((4, 5, 5), 1e300), np.zeros((4, 5, 5)), "do not fit float32"),
    (1e9 + GENERATOR.random((4, 5, 5)), np.zeros((4, 5, 5)), "distinguished in float32"),
]


@pytest.mark.parametrize(("train", "test", "message"), BAD_IMAGES)
def test_bad_images(train: np.ndarray, test: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_image_sets(train, test, NAMES)


def test_a_layout_needs_channels() -> None:
    images = np.zeros((4, 5, 5))
    with pytest.raises(ConfigurationError, match="has no channels"):
        as_image_sets(images, images, NAMES, "NHWC")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 2, 1]),
        np.array([[0], [2], [1]], np.uint8),
        np.array([0.0, 2.0, 1.0], np.float32),
        np.array([[0.0], [2.0], [1.0]]),
        np.eye(3)[[0, 2, 1]],
        np.eye(3, dtype=bool)[[0, 2, 1]],
        np.eye(3, dtype=np.int8)[[0, 2, 1]],
        np.array([0, 2, 1], np.uint64),
    ],
)
def test_labels_of_numbers(labels: np.ndarray) -> None:
    train, test, classes = as_label_sets(labels, labels[:2], NAMES)
    assert train.tolist() == [0, 2, 1]
    assert test.tolist() == [0, 2]
    assert train.dtype == test.dtype == np.int64
    assert classes == ("0", "1", "2")


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_of_text(kind: str) -> None:
    words = np.array(["dog", "cat", "émeu", "dog"])
    words = np.char.encode(words, "utf-8") if kind == "S" else words
    train, test, classes = as_label_sets(words[:, None], words[1:2], NAMES)
    assert classes == ("cat", "dog", "émeu")
    assert train.tolist() == [1, 0, 2, 1]
    assert test.tolist() == [0]


def test_labels_of_truth() -> None:
    train, _, classes = as_label_sets(np.array([True, False]), np.array([True]), NAMES)
    assert (train.tolist(), classes) == ([1, 0], ("0", "1"))


BAD_LABELS: list[tuple[Any, Any, str]] = [
    ([0.5, 1], [0, 1], "whole numbers"),
    ([np.nan, 1], [0, 1], "whole numbers"),
    ([0, 1], [0, np.inf], "whole numbers"),
    ([0, -1], [0, 1], "must not be negative"),
    ([0, 1], [0, 2**32 - 1], "cannot be a class index"),
    ([0, 1], [0, 50_000_000], "would make 50,000,001 classes"),
    ([0, 1], np.array([0, 2**64 - 1], np.uint64), "cannot be a class index"),
    ([[1, 1], [0, 1]], [[1, 0]], "not one-hot"),
    ([[0.5, 0.5]], [[1, 0]], "not one-hot"),
    ([[1, 0]], [0], "has shape"),
    ([[1, 0]], [[1, 0, 0]], "has shape"),
    (["a", "b"], [0, 1], "make them alike"),
    (["a", "b"], ["c"], "classes that train lacks: c"),
    ([], [0], "must be whole numbers, one-hot rows or text"),
    (np.zeros((2, 2, 2), int), [0], "must be whole numbers, one-hot rows or text"),
    (np.zeros(2, "M8[s]"), [0], "must be whole numbers, one-hot rows or text"),
    ([b"\xff", b"a"], [b"a"], "not UTF-8"),
    (np.array([0x110000, 1], np.uint32).view("U1"), ["a"], "not valid text"),
    (np.array([0xD800, 1], np.uint32).view("U1"), ["a"], "not valid text"),
]


@pytest.mark.parametrize(("train", "test", "message"), BAD_LABELS)
def test_bad_labels(train: Any, test: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_label_sets(np.asarray(train), np.asarray(test), NAMES)


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("train_x", "train_y", "test_x", "test_y"),
        ("train_x01", "train_y01", "test_x01", "test_y01"),
    ],
)
def test_names_of_arrays(names: tuple[str, ...], tmp_path: Path) -> None:
    x, y = GENERATOR.integers(0, 256, (6, 5, 5)).astype(np.uint8), np.arange(6) % 2
    values = dict(zip(names, (x, y[:, None], x[:2], y[:2, None]), strict=True))
    np.savez(tmp_path / "a.npz", **values, val_images=x, val_labels=y)
    train, test = data.read_npz(tmp_path / "a.npz")
    assert (train.images[:, 0] == x).all()
    assert test.labels.tolist() == [0, 1]
    assert train.classes == ("0", "1")


def test_names_of_classes_survive(tmp_path: Path) -> None:
    labels = np.array([0, 1, 1])
    images = np.zeros((3, 3, 4, 4), np.uint8)
    first = Dataset(images, labels, ("ankle boot", "t-shirt"), Preprocessing(), "a")
    data.write_npz(tmp_path / "a.npz", first, first)
    second, _ = data.read_npz(tmp_path / "a.npz")
    assert second.classes == first.classes
    np.savez(tmp_path / "b.npz", x_train=images, y_train=labels, x_test=images, y_test=labels,
             classes=np.array(["a"]))  # fmt: skip
    with pytest.raises(DataError, match="classes must be 2 different names"):
        data.read_npz(tmp_path / "b.npz")


@pytest.mark.parametrize("shape", [(3, 3, 3), (8, 8, 8), (16, 20, 30), (4, 6, 6), (1, 5, 4)])
def test_images_of_any_shape_survive(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = GENERATOR.integers(0, 256, (4, *shape)).astype(np.uint8)
    first = Dataset(images, np.array([0, 1, 0, 1]), ("0", "1"), Preprocessing(), "a")
    data.write_npz(tmp_path / "a.npz", first, first)
    assert (data.read_npz(tmp_path / "a.npz")[1].images == images).all()


def test_a_file_may_say_its_layout(tmp_path: Path) -> None:
    x, y = GENERATOR.integers(0, 256, (6, 8, 8, 8)).astype(np.uint8), np.arange(6) % 2
    good = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    np.savez(tmp_path / "a.npz", **good, layout="NHWC")
    assert (data.read_npz(tmp_path / "a.npz")[0].images == x.transpose(0, 3, 1, 2)).all()
    assert (data.read_npz(tmp_path / "a.npz", layout="NCHW")[0].images == x).all()
    np.savez(tmp_path / "a.npz", **good, layout="HWCN")
    with pytest.raises(ConfigurationError, match="layout must be NCHW or NHWC, got 'HWCN'"):
        data.read_npz(tmp_path / "a.npz")


def test_statistics_are_exact() -> None:
    images = np.zeros((1000, 2, 3, 3), np.uint8)
    images[0, 0, 0, 0] = 1
    images[:, 1] = 7
    found = measure_normalisation(images)
    assert found.mean[0] == pytest.approx(1 / 9000 / 255, rel=1e-12)
    assert found.std[0] == pytest.approx(images[:, 0].std() / 255, rel=1e-9)
    assert found.std[1] == 1.0


def _bomb(path: Path, header: bytes, content: bytes, claimed: int | None = None) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", header + content)
    if claimed is not None:
        raw = path.read_bytes()
        size = (len(header) + len(content)).to_bytes(4, "little")
        path.write_bytes(raw.replace(size, claimed.to_bytes(4, "little")))


def test_sizes_in_archives_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    magic = b"\x93NUMPY\x01\x00\x76\x00"
    claims = "{'descr': '|u1', 'fortran_order': False, 'shape': (4000000000,), }"
    header = magic + claims.ljust(117).encode() + b"\n"
    _bomb(path, header, bytes(1000))
    with pytest.raises(DataError, match="its header says"):
        data.read_npz(path)
    _bomb(path, header, bytes(100_000), claimed=4_000_000_128)
    with pytest.raises(DataError, match="suspiciously many"):
        data.read_npz(path)
    path.write_bytes(magic)
    with pytest.raises(DataError, match="it is a single array"):
        data.read_npz(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_takes_no_more_memory_than_its_images(save: Any, tmp_path: Path) -> None:
    images, labels = np.zeros((20_000, 16, 16), np.uint8), np.arange(20_000) % 2
    images[:, 3] = np.arange(16)
    save(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images[:4], y_test=labels[:4])
    tracemalloc.start()
    try:
        train, _ = data.read_npz(tmp_path / "a.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (train.images[:, 0] == images).all()
    assert peak < 3 * 2**20 + 1.5 * (images.nbytes + labels.nbytes)
