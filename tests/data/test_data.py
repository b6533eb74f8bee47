"""Readers, writers and sources of data."""

import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import data
from fastcnn.data import Preprocessing, sources
from fastcnn.data.dataset import Dataset
from fastcnn.errors import ConfigurationError, DataError, DataUnavailableError


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_small_set(folder: Path, count: int = 20, suffix: str = ".gz") -> None:
    """The four files of a tiny MNIST."""
    generator = np.random.default_rng(0)
    for name in sources.SOURCES["mnist"].archives:
        shape = (count, 28, 28) if "images" in name else (count,)
        values = generator.integers(0, 256 if len(shape) == 3 else 10, shape).astype(np.uint8)
        data.write_idx(folder / (name.removesuffix(".gz") + suffix), values)


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_idx_round_trip(tmp_path: Path, name: str, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    data.write_idx(tmp_path / name, array)
    back = data.read_idx(tmp_path / name)
    assert back.dtype == array.dtype
    assert (back == array).all()
    assert [path.name for path in tmp_path.iterdir()] == [name]


GOOD = idx_bytes(np.zeros((2, 3)))
BAD_IDX: list[tuple[bytes, str]] = [
    (b"", "not an IDX file"),
    (b"\x89PNG\r\n", "not an IDX file"),
    (b"\0\0\x07\x01", "not an IDX file"),
    (GOOD[:6], "truncated within its header"),
    (GOOD[:-1], r"truncated: 17 bytes, 18 expected for shape \(2, 3\)"),
    (GOOD + b"x", "longer than its header says"),
    (gzip.compress(GOOD, mtime=0)[:-9], "corrupt or truncated gzip"),
    (gzip.compress(GOOD, mtime=0)[:12] + b"\xff" * 20, "corrupt or truncated gzip"),
]


@pytest.mark.parametrize(("content", "message"), BAD_IDX)
def test_bad_idx(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.read_idx(tmp_path / "bad")


def test_idx_errors_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        data.read_idx(tmp_path / "none")
    with pytest.raises(DataError, match="IDX cannot hold"):
        data.write_idx(tmp_path / "x", np.zeros(3, complex))


def test_npz_has_the_reports_arrays(tmp_path: Path) -> None:
    train, test = data.digits_dataset(30, 10, classes=(0, 1, 2))
    path = tmp_path / "mnist012.npz"
    data.write_npz(path, train, test)
    with np.load(path) as file:
        assert sorted(file.files) == ["test_x012", "test_y012", "train_x012", "train_y012"]
        assert file["train_x012"].shape == (30, 28, 28)
    first, second = data.read_npz(path)
    assert (first.images == train.images).all()
    assert (second.labels == test.labels).all()
    assert first.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.full((3, 4, 4), 255.0), np.eye(3)),
        (np.ones((3, 16), np.float32), np.array([0, 1, 2], np.uint8)),
        (np.full((3, 1, 4, 4), 255, np.uint8), np.array([[0.0], [1.0], [2.0]])),
        (np.full((3, 4, 4, 1), 255, np.int64), np.array([0.0, 1.0, 2.0])),
    ],
)
def test_npz_layouts(tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    path = tmp_path / "keras.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    train, _ = data.read_npz(path)
    assert train.images.shape == (3, 1, 4, 4)
    assert train.labels.tolist() == [0, 1, 2]
    assert Preprocessing().apply(train.images).max() == 1.0


def test_bad_npz(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    images, labels = np.zeros((3, 4, 4)), np.array([0, 1, 2])

    def attempt(message: str, **arrays: Any) -> None:
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            data.read_npz(path)

    good = {"train_x": images, "train_y": labels, "test_x": images, "test_y": labels}
    attempt("needs one array named train_x", x=images)
    attempt("needs one array named train_x", **good, train_x2=images)
    attempt("Python objects", **{**good, "train_y": np.array([{}, 1, 2], object)})
    attempt("whole numbers", **{**good, "train_y": labels + 0.5})
    attempt("not be negative", **{**good, "test_y": labels - 1})
    attempt("not one-hot", **{**good, "train_y": np.ones((3, 3))})
    attempt("not square images", **{**good, "train_x": np.zeros((3, 5))})
    attempt("labels must be int64", **{**good, "train_y": np.array([0, 1])})
    attempt("NaN", **{**good, "train_x": np.full((3, 4, 4), np.nan)})
    np.savez(path, **good)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        data.read_npz(path)
    with pytest.raises(DataError, match="no such file"):
        data.read_npz(tmp_path / "none.npz")
    np.savez(path, x_train=np.zeros((2, 1, 2, 2)))
    for content, message in (
        (b"x,y\n1,2\n", r"it is not a zip archive\."),
        (b"", "it is empty"),
        (path.read_bytes()[:-30], "it is a zip archive whose end is missing"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"cannot be read \({message}"):
            data.read_npz(path)


def test_dataset_checks_and_selects() -> None:
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 2, 1])
    base = Dataset(images, labels, ("a", "b", "c"), Preprocessing())
    kept = base.select_classes(["c", "b"])
    assert kept.labels.tolist() == [1, 0, 1]
    assert kept.classes == ("c", "b")
    assert len(base.subset([0, 3])) == 2
    for change, message in (
        ({"labels": labels[:3]}, "labels must be int64"),
        ({"labels": labels + 1}, "do not index"),
        ({"images": images[:0]}, "images must be"),
        ({"images": images.astype(float)}, "uint8 or float32"),
        ({"preprocessing": Preprocessing((0.0,) * 3, (1.0,) * 3)}, "3 channels"),
    ):
        with pytest.raises(DataError, match=message):
            replace(base, **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot select"):
        base.select_classes(["d"])
    with pytest.raises(DataError, match="names must be a list of names, got 2"):
        base.select_classes(2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("indices", "labels"),
    [((1, -1), [1, 3]), ([True, False, True, True], [0, 2, 3]), (slice(None, 1, -1), [3, 2])],
)
def test_subsets(indices: Any, labels: list[int]) -> None:
    base = Dataset(np.zeros((4, 1, 2, 2), np.uint8), np.arange(4), tuple("abcd"), Preprocessing())
    assert base.subset(indices).labels.tolist() == labels


@pytest.mark.parametrize(
    "indices",
    [
        *(3, "a", None, True, {0, 1}, ..., slice(2, 2), slice("a"), slice(None, None, 0)),
        *([], [4], [-5], [0.5], [[0, 1]], [True, False], [False] * 4),
    ],
    ids=repr,
)
def test_subsets_that_are_refused(indices: Any) -> None:
    base = Dataset(np.zeros((4, 1, 2, 2), np.uint8), np.arange(4), tuple("abcd"), Preprocessing())
    with pytest.raises(DataError, match="data: subset: indices must select at least one image"):
        base.subset(indices)


def test_drawn_digits() -> None:
    images, labels = data.draw_digits(200, seed=3)
    again, _ = data.draw_digits(200, seed=3)
    other, _ = data.draw_digits(200, seed=4)
    assert (images == again).all()
    assert (images != other).any()
    assert set(labels) == set(range(10))
    assert images.shape == (200, 1, 28, 28)
    # Ink in every image, none at the border, bright on dark.
    assert (images.max(axis=(1, 2, 3)) > 180).all()
    assert (images.mean(axis=(1, 2, 3)) < 90).all()
    train, test = data.digits_dataset(50, 20, classes=(7, 1))
    assert (train.classes, len(test)) == (("7", "1"), 20)
    with pytest.raises(ConfigurationError, match="digits 0 to 9"):
        data.draw_digits(5, classes=(10,))


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_a_local_folder_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(sources, "_download", lambda *_: pytest.fail("went to the network"))
    (tmp_path / "mnist").mkdir()
    write_small_set(tmp_path / "mnist", suffix=suffix)
    for folder in (tmp_path, tmp_path / "mnist"):
        assert len(data.load("mnist", data_dir=folder)[0]) == 20
    monkeypatch.setenv("FASTCNN_DATA_DIR", str(tmp_path))
    train, test = data.load("mnist012")
    assert train.classes == ("0", "1", "2")
    assert (train.name, test.name) == ("mnist012", "mnist012")
    assert sources.find_folder(sources.SOURCES["fashion_mnist"]) is None
    (tmp_path / "other").mkdir()
    with pytest.raises(DataUnavailableError, match="does not hold the four files"):
        data.load("mnist", data_dir=tmp_path / "other")


def test_images_and_labels_of_different_length(tmp_path: Path) -> None:
    write_small_set(tmp_path)
    data.write_idx(tmp_path / sources.TRAIN_LABELS, np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="labels must be int64"):
        data.load("mnist", data_dir=tmp_path)
    data.write_idx(tmp_path / sources.TRAIN_IMAGES, np.zeros((3, 5, 5), np.uint8))
    with pytest.raises(DataError, match=r"must be bytes \(N, 28, 28\)"):
        data.load("mnist", data_dir=tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server for ``tmp_path/served`` on the loopback interface."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()


def tiny_source(folder: Path, mirrors: tuple[str, ...]) -> sources.Source:
    """A source with the hashes of the files in a folder."""
    mnist = sources.SOURCES["mnist"]
    contents = {name: (folder / name).read_bytes() for name in mnist.archives}
    return replace(
        mnist,
        mirrors=mirrors,
        archives={n: hashlib.sha256(c).hexdigest() for n, c in contents.items()},
        test_labels=hashlib.sha256(gzip.decompress(contents[sources.TEST_LABELS])).hexdigest(),
    )


def test_mirrors_are_tried_in_turn_and_hashes_checked(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTCNN_DATA_DIR", raising=False)
    good, bad = tmp_path / "served" / "good", tmp_path / "served" / "bad"
    for folder in (good, bad):
        folder.mkdir()
        write_small_set(folder)
    source = tiny_source(good, (f"{server}none/", f"{server}bad/", f"{server}good/"))
    # The second mirror has a truncated file.
    path = bad / sources.TRAIN_IMAGES
    path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setitem(sources.SOURCES, "mnist", source)
    assert len(data.load("mnist")[0]) == 20
    kept = tmp_path / "cache" / "mnist"
    assert sorted(item.name for item in kept.iterdir()) == sorted(source.archives)
    # From the cache, without any mirror.
    monkeypatch.setitem(sources.SOURCES, "mnist", replace(source, mirrors=()))
    assert len(data.load("mnist")[0]) == 20


def test_without_network_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("FASTCNN_DATA_DIR", raising=False)
    closed = replace(sources.SOURCES["mnist"], mirrors=("http://127.0.0.1:9/",))
    monkeypatch.setitem(sources.SOURCES, "mnist", closed)
    with pytest.raises(DataUnavailableError, match=r"--data-dir or FASTCNN_DATA_DIR.*drawn digits"):
        data.load("mnist")
    train, _, message = data.load_default()
    assert train.classes == ("0", "1", "2")
    assert message is not None
    assert "drawn" in message
    assert "\n" not in message


def save_picture(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_pictures(tmp_path: Path) -> None:
    dark = np.zeros((10, 10), np.uint8)
    dark[4:6, 4:6] = 255
    save_picture(tmp_path / "dark.png", dark)
    save_picture(tmp_path / "paper.png", 255 - dark)
    first = data.read_image(tmp_path / "dark.png", (1, 10, 10))
    assert (first[0] == dark).all()
    assert (data.read_image(tmp_path / "paper.png", (1, 10, 10)) == first).all()
    assert (
        data.read_image(tmp_path / "paper.png", (1, 10, 10), invert=False)[0] == 255 - dark
    ).all()
    assert data.read_image(tmp_path / "dark.png", (3, 28, 20)).shape == (3, 28, 20)
    clear = np.zeros((10, 10, 4), np.uint8)
    save_picture(tmp_path / "clear.png", clear)
    assert data.read_image(tmp_path / "clear.png", (3, 10, 10)).min() == 255
    (tmp_path / "text.png").write_text("hello")
    content = (tmp_path / "dark.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    for name, message in (
        ("text", "not a picture"),
        ("cut", "not a picture|damaged"),
        ("none", "no such file"),
    ):
        with pytest.raises(DataError, match=message):
            data.read_image(tmp_path / f"{name}.png", (1, 28, 28))


def test_folder_of_classes(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        for index in range(10):
            pixels = np.full((6, 8, 3), index, np.uint8)
            save_picture(tmp_path / "pets" / label / f"{index}.png", pixels)
    train, test = data.load(tmp_path / "pets")
    assert train.classes == ("cat", "dog")
    assert (len(train), len(test)) == (17, 3)
    assert train.input_shape == (3, 6, 8)
    for index in range(12):
        (tmp_path / "pets" / "cat" / f"bad{index}.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"bad0\.png: not(.*; ){5}and \d more pictures$"):
        data.load(tmp_path / "pets", image_size=8)
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="at least two classes"):
        data.load(tmp_path / "empty")
    with pytest.raises(DataError, match="no data set named"):
        data.load("imagenet")


@pytest.mark.mnist
def test_real_mnist(mnist: None) -> None:
    train, test = data.load("mnist012")
    assert (len(train), len(test)) == (18_623, 3_147)
    assert np.bincount(train.labels).tolist() == [5_923, 6_742, 5_958]
    report, _ = data.load("mnist012", validation_split=True)
    assert len(report) == 17_093


@pytest.mark.mnist
def test_real_mnist_has_the_known_content(mnist: None) -> None:
    source = sources.SOURCES["mnist"]
    folder = sources.find_folder(source)
    assert folder is not None
    path = sources._local(folder, sources.TEST_LABELS)
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    assert hashlib.sha256(content).hexdigest() == source.test_labels
