"""CIFAR-10's binary format, written and read back."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn import data
from fastcnn.data import sources
from fastcnn.data.cifar import META_FILE, TEST_FILE, TRAIN_FILES, parse_cifar10
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
    images, labels = parse_cifar10(record, "x")
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
