"""Data sets by name: the folders in which they are found, and the checks of their files."""

import gzip
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn import data
from fastcnn.data import sources
from fastcnn.data.idx import write_idx
from fastcnn.errors import ConfigurationError, DataError, DataUnavailableError

FILES = (
    ("train-images-idx3-ubyte", (30, 28, 28)), ("train-labels-idx1-ubyte", (30,)),
    ("t10k-images-idx3-ubyte", (20, 28, 28)), ("t10k-labels-idx1-ubyte", (20,)),
)  # fmt: skip


def put(folder: Path, suffix: str = "", dots: bool = False) -> None:
    generator = np.random.default_rng(0)
    for name, shape in FILES:
        name = (name.replace("-idx", ".idx") if dots else name) + suffix
        write_idx(folder / name, generator.integers(0, 10, shape).astype(np.uint8))


@pytest.fixture
def mnist_folder() -> Path:
    folder = sources.find_folder(sources.SOURCES["mnist"])
    if folder is None:
        pytest.skip("MNIST is in no local folder: set FASTCNN_DATA_DIR")
    return folder


@pytest.fixture(autouse=True)
def no_network(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if "mnist_folder" in request.fixturenames:
        request.getfixturevalue("mnist_folder")  # before the environment is emptied
    monkeypatch.setattr(sources, "_download", lambda *_: pytest.fail("went to the network"))
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTCNN_DATA_DIR", raising=False)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dots", [False, True])
def test_torchvisions_folders(suffix: str, dots: bool, tmp_path: Path) -> None:
    for name, place in (("mnist", "MNIST/raw"), ("fashion_mnist", "FashionMNIST/raw")):
        put(tmp_path / place, suffix, dots)
        for root in (tmp_path, tmp_path / place, (tmp_path / place).parent):
            assert len(data.load(name, data_dir=root)[0]) == 30
    for name, place in (("mnist", "FashionMNIST/raw"), ("fashion_mnist", "MNIST/raw")):
        with pytest.raises(DataUnavailableError, match="does not hold the four files"):
            data.load(name, data_dir=tmp_path / place)


@pytest.mark.parametrize("place", ["KMNIST/raw", "EMNIST/raw", "kmnist", "QMNIST"])
def test_other_sets_of_the_same_file_names_are_not_mnist(place: str, tmp_path: Path) -> None:
    put(tmp_path / place)
    with pytest.raises(DataUnavailableError):
        data.load("mnist", data_dir=tmp_path / place)


def test_the_content_tells_before_the_folders_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib
    from dataclasses import replace

    put(tmp_path / "plain", ".gz")
    content = gzip.decompress((tmp_path / "plain" / sources.TEST_LABELS).read_bytes())
    fashion = sources.SOURCES["fashion_mnist"]
    known = replace(fashion, test_labels=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(sources.SOURCES, "fashion_mnist", known)
    assert data.load("fashion_mnist", data_dir=tmp_path / "plain")[0].classes[1] == "trouser"
    with pytest.raises(DataUnavailableError, match="but those of fashion_mnist"):
        data.load("mnist", data_dir=tmp_path / "plain")
    put(tmp_path / "MNIST" / "raw", ".gz")
    with pytest.raises(DataUnavailableError, match="but those of fashion_mnist"):
        data.load("mnist", data_dir=tmp_path / "MNIST")


def test_folders_that_are_given_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mnist", "cifar10", "cifar100", "fashion_mnist"):
        with pytest.raises(DataError, match=r"data_dir \(--data-dir\): .*nowhere does not exist"):
            data.load(name, data_dir=tmp_path / "nowhere")
    with pytest.raises(DataError, match="does not exist"):
        data.load_default(tmp_path / "nowhere")
    with pytest.raises(DataUnavailableError, match="does not hold"):
        data.load_default(tmp_path)
    monkeypatch.setenv("FASTCNN_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"FASTCNN_DATA_DIR: .*nowhere does not exist"):
        data.load_default()


def test_home_folder_in_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    put(tmp_path / "sets" / "mnist")
    assert len(data.load("mnist", data_dir="~/sets")[0]) == 30
    monkeypatch.setenv("FASTCNN_DATA_DIR", "~/sets")
    assert len(data.load("mnist")[0]) == 30


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"data_dir": "."}, "data_dir is for data sets of files by name"),
        ("a.npz", {"data_dir": "."}, "data_dir is for data sets of files by name"),
        ("digits", {"validation_split": True}, "validation_split is for mnist"),
        ("cifar10", {"validation_split": True}, "validation_split is for mnist"),
        (".", {"validation_split": True}, "validation_split is for mnist"),
        ("mnist", {"layout": "NCHW"}, "layout is for .npz files"),
        (".", {"layout": "NCHW"}, "layout is for .npz files"),
    ],
)
def test_options_that_would_do_nothing(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        data.load(name, **options)


def test_paths_that_are_no_data_sets(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set named 'imagenet'.*\.npz file"):
        data.load("imagenet")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match=r"it is not a zip archive\. Data sets are \.npz, "):
        data.load(tmp_path / "a.txt")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat/a.png", b"x")
    with pytest.raises(DataError, match=r"needs a subfolder with pictures .* found cat"):
        data.load(tmp_path / "a.zip")
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8)))
    with pytest.raises(DataError, match=r"a single array, \.npy: put images and labels"):
        data.load(tmp_path / "a.npy")
    (tmp_path / "a.tar.gz").write_bytes(b"no")
    with pytest.raises(DataError, match=r"it is not a zip archive\. .* zip or tar archives of"):
        data.load(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("name", [None, 5, b"mnist", ["mnist"], "a\0b"])
def test_names_that_are_not_names(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"a data set must be|cannot be a path"):
        data.load(name)
    with pytest.raises(DataError, match="no data set named"):
        data.load("a" * 5000)


def test_a_layout_is_passed_on(tmp_path: Path) -> None:
    x, y = np.zeros((6, 8, 8, 8), np.uint8), np.arange(6) % 2
    x[:, 1] = 9
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(DataError, match="layout='NCHW'"):
        data.load(tmp_path / "a.npz")
    assert (data.load(tmp_path / "a.npz", layout="NHWC")[0].images[:, :, 1] == 9).all()
    assert (data.load(tmp_path / "a.npz", layout="NCHW")[0].images[:, 1] == 9).all()


@pytest.mark.mnist
@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_real_files_are_told_by_their_content(mnist_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "FashionMNIST").mkdir()
    (tmp_path / "FashionMNIST" / "raw").symlink_to(mnist_folder)
    assert len(data.load("mnist", data_dir=tmp_path / "FashionMNIST" / "raw")[1]) == 10_000
    with pytest.raises(DataUnavailableError, match="but those of mnist"):
        data.load("fashion_mnist", data_dir=tmp_path / "FashionMNIST")


def test_files_without_their_names(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(DataError, match="corrupt or truncated gzip"):
        data.load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("linked", [False, True])
def test_one_picture_is_no_data_set(tmp_path: Path, linked: bool) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path)
    if linked:
        (tmp_path / "link.png").symlink_to(path)
        path = tmp_path / "link.png"
    with pytest.raises(DataError, match="is one picture: give a folder"):
        data.load(path)


def test_names_of_classes_that_files_cannot_hold() -> None:
    train, _ = data.load("digits012")
    with pytest.raises(DataError, match="cannot be the name of a class"):
        replace(train, classes=("a", "b\udcff", "c"))
    with pytest.raises(DataError, match="two classes have the same name"):
        replace(train, classes=("a", "b", "a"))
