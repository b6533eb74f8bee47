"""CIFAR-10's formats, written and read back."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import data
from fastcnn.data import sources
from fastcnn.data.cifar import FORMS, META_FILE, TEST_FILE, TRAIN_FILES, parse
from fastcnn.errors import DataError, DataUnavailableError


def make_folder(folder: Path, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Six files of random images; returns all training images and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6, count, 3, 32, 32)).astype(np.uint8)
    labels = generator.integers(0, 10, (6, count))
    for name, x, y in zip((*TRAIN_FILES, TEST_FILE), images, labels, strict=True):
        data.write_cifar10(folder / name, x, y)
    return images[:5].reshape(-1, 3, 32, 32), labels[:5].reshape(-1)


def test_the_layout_is_class_then_red_green_blue() -> None:
    record = bytes([7]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes([3]) * 1023 + bytes([9])
    images, labels = parse(record, FORMS["cifar10"][0], "x")
    assert labels.tolist() == [7]
    assert images[0, :, 0, 0].tolist() == [1, 2, 3]
    assert images[0, 2, 31, 31] == 9


def test_folder_and_archive_give_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    images, labels = make_folder(folder)
    (folder / META_FILE).write_text("\n".join("abcdefghij") + "\n\n")
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, "cifar-10-batches-bin")
    for path in (folder, archive):
        train, test = data.read_cifar10(path)
        assert (train.images == images).all()
        assert (train.labels == labels).all()
        assert train.classes == tuple("abcdefghij")
        assert len(test) == 12
        assert fastcnn.data.load(path)[0].name == "cifar10"


@pytest.mark.parametrize("place", ["cifar-10-batches-bin", "cifar10", "."])
def test_found_by_name(place: str, tmp_path: Path) -> None:
    make_folder(tmp_path / place)
    train, _ = data.load("cifar10", data_dir=tmp_path)
    assert train.classes[:2] == ("airplane", "automobile")
    model = fastcnn.models.vgg_small(seed=0)
    history = fastcnn.fit(model, train, epochs=1, batch_size=32)
    assert np.isfinite(history.final["train_loss"])


def test_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataUnavailableError, match="does not hold cifar10: put cifar-10-binary"):
        data.load("cifar10", data_dir=tmp_path)
    monkeypatch.setenv("FASTCNN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sources, "CIFAR_MIRROR", "http://127.0.0.1:9/")
    with pytest.raises(DataUnavailableError, match="cannot be downloaded"):
        data.load("cifar10")


def test_bad_files(tmp_path: Path) -> None:
    make_folder(tmp_path)
    good = (tmp_path / TEST_FILE).read_bytes()
    for content, message in (
        (good[:-1], "not a whole number of records"),
        (b"", "not a whole number of records"),
        (bytes([10]) + good[1:], "class 10 found"),
    ):
        (tmp_path / TEST_FILE).write_bytes(content)
        with pytest.raises(DataError, match=message):
            data.read_cifar10(tmp_path)
    (tmp_path / TEST_FILE).write_bytes(good)
    (tmp_path / TRAIN_FILES[2]).unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin missing"):
        data.read_cifar10(tmp_path)
    broken = tmp_path / "x.tar.gz"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        file.add(tmp_path / TEST_FILE, TEST_FILE)
    for content in (b"no archive", buffer.getvalue()[:2000]):
        broken.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as CIFAR's archive"):
            data.read_cifar10(broken)
    with pytest.raises(DataError, match="holds bytes"):
        data.write_cifar10(tmp_path / "y.bin", np.zeros((1, 3, 32, 32)), np.zeros(1, int))


def pickled(count: int, key: str, classes: int, protocol: int) -> bytes:
    """A file of the Python version, with text as Python 2 wrote it for protocol 2."""
    generator = np.random.default_rng(count)
    labels = (np.arange(count) % classes).tolist()
    pixels = generator.integers(0, 256, (count, 3072)).astype(np.uint8)
    return pickle.dumps({"data": pixels, key: labels, "filenames": ["a"] * count}, protocol)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_the_python_version(protocol: int, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for index, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        (folder / name).write_bytes(pickled(10 + index, "labels", 10, protocol))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, 2))
    train, test = data.load("cifar10", data_dir=tmp_path)
    assert (len(train), len(test), train.classes) == (60, 15, tuple("abcdefghij"))
    expected = np.random.default_rng(10).integers(0, 256, (10, 3, 32, 32))
    assert (train.images[:10] == expected).all()
    assert train.labels[:10].tolist() == list(range(10))
    with tarfile.open(tmp_path / "renamed.tgz", "w:gz") as file:
        file.add(folder, folder.name)
    assert (data.load(tmp_path / "renamed.tgz")[0].images == train.images).all()


@pytest.mark.parametrize("binary", [False, True])
def test_cifar100(binary: bool, tmp_path: Path) -> None:
    folder = tmp_path / ("cifar-100-binary" if binary else "cifar-100-python")
    folder.mkdir()
    for name in ("train", "test"):
        if binary:
            records = np.zeros((200, 3074), np.uint8)
            records[:, 0], records[:, 1] = 3, np.arange(200) % 100
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            (folder / name).write_bytes(pickled(200, "fine_labels", 100, 2))
    for where in (folder, tmp_path / "x.tar.gz"):
        if where != folder:
            with tarfile.open(where, "w:gz") as file:
                file.add(folder, folder.name)
        train, test = data.load(where)
        assert (train.name, len(train.classes), len(test)) == ("cifar100", 100, 200)
        assert train.labels[:3].tolist() == [0, 1, 2]
    assert len(data.load("cifar100", data_dir=tmp_path)[0]) == 200
    with pytest.raises(DataError, match="missing"):
        data.read_cifar10(folder)


class Evil:
    """An object with code that unpickling would run."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": Evil(), "labels": [1]}, "is not plain data|not a path"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [Evil()]}, "is not plain data"),
        ({"data": np.zeros((1, 3072)), "labels": [1]}, "no array of bytes called data"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [1, 2]}, "2 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "class 10 found"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [-1]}, "class -1 found"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [2**80]}, "class 1208"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["a"]}, "no list of whole numbers"),
        ({"labels": [1]}, "no array of bytes"),
        ([1, 2], "not a dictionary"),
        (np.array([{}], object), "does not hold numbers|plain data|dictionary"),
    ],
)
def test_pickled_files_are_not_run(
    values: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in (2, 4, 5):
        content = pickle.dumps(values, protocol)
        for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            data.read_cifar10(tmp_path)
    assert not Path("ran").exists()
