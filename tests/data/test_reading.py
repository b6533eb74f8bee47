"""Files with misleading sizes, kinds or packing."""

import gzip
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastcnn import data
from fastcnn.data import reading
from fastcnn.data import unpacked as unpacked_module
from fastcnn.data.reading import gunzip
from fastcnn.data.unpacked import unpacked
from fastcnn.errors import DataError


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (10, 28, 28)).astype(np.uint8)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    raw = idx(IMAGES)
    whole = b"".join(gzip.compress(raw[i : i + 1000]) for i in range(0, len(raw), 1000))
    for content in (whole, whole + bytes(512), gzip.compress(b"") + whole):
        (tmp_path / "a.gz").write_bytes(content)
        assert (data.read_idx(tmp_path / "a.gz") == IMAGES).all()
    for content in (whole[:-5], whole + b"junk"):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(DataError, match="corrupt or truncated gzip"):
            data.read_idx(tmp_path / "a.gz")


def test_gzip_that_unpacks_to_more_than_an_honest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FREE_BYTES", 2**21)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(2**23)))
    with pytest.raises(DataError, match="unpacks to more than 2,097,152 bytes"):
        data.read_idx(tmp_path / "a.gz")


def test_idx_headers_that_do_not_fit(tmp_path: Path) -> None:
    huge = (2**32 - 1).to_bytes(4, "big")
    for content, message in (
        (bytes((0, 0, 8, 3)) + huge * 3, "truncated"),
        (bytes((0, 0, 8, 200)) + huge * 200, "200 dimensions"),
        (bytes((0, 0, 8, 2)) + bytes(4) + huge, "holds no values"),
    ):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(DataError, match=message):
            data.read_idx(tmp_path / "a")


READERS: list[Callable[[Path], object]] = [
    data.load, data.read_idx, data.read_npz, data.read_csv, data.read_cifar10, data.read_cifar100,
]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("suffix", ["", ".npz", ".csv", ".tar.gz", ".npy"])
def test_pipes_sockets_and_devices_are_not_opened(
    read: Callable[[Path], object], suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(f"pipe{suffix}")
    Path(f"device{suffix}").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"socket{suffix}")
        for name, kind in (("pipe", "a pipe"), ("device", "a device"), ("socket", "a socket")):
            with pytest.raises(DataError, match=f"is {kind}"):
                read(Path(name + suffix))


@pytest.mark.parametrize("read", READERS)
def test_missing_files_and_folders_in_their_place(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match="folder"):
        read(tmp_path / "folder.npz")


def test_files_larger_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(idx(IMAGES))
    monkeypatch.setattr(reading, "machine_memory", lambda: 1000)
    with pytest.raises(DataError, match="this machine's memory has 1,000"):
        data.read_idx(tmp_path / "a")


def test_home_folder_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = data.digits_dataset(8, 4, classes=(0, 1))  # whose kernels go to the old home
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    data.write_idx("~/a.idx", IMAGES)
    assert (data.read_idx("~/a.idx") == IMAGES).all()
    data.write_npz("~/a.npz", train, test)
    assert len(data.load("~/a.npz")[0]) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.idx", "a.npz"]


def test_large_archives_are_kept_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(unpacked_module, "LEAST", 1000)
    plain = np.random.default_rng(0).bytes(10_000)
    packed = gzip.compress(plain)
    calls = []

    def counted(content: bytes, name: str) -> bytearray:
        calls.append(name)
        return gunzip(content, name)

    monkeypatch.setattr(unpacked_module, "gunzip", counted)
    assert unpacked(packed, "a") == plain
    again = unpacked(packed, "b")
    assert again == plain
    assert isinstance(again, bytearray)  # so that images can be changed in place in any run
    assert calls == ["a"]
    (kept,) = (tmp_path / "cache" / "unpacked").iterdir()
    kept.write_bytes(plain[:-1] + bytes([plain[-1] ^ 1]))
    assert unpacked(packed, "c") == plain
    assert "damaged" in caplog.text
    kept.write_bytes(plain[:-1])
    assert unpacked(packed, "d") == plain
    assert calls == ["a", "c", "d"]
    # The last bytes of several members say nothing of the first.
    for _ in range(2):
        assert unpacked(packed + gzip.compress(b"more"), "e") == plain + b"more"
    assert calls == ["a", "c", "d", "e", "e"]
    with pytest.raises(DataError, match="f: corrupt or truncated"):
        unpacked(packed[:5000] + packed[-8:], "f")
    assert list((tmp_path / "cache" / "unpacked").iterdir()) == [kept]


def test_archives_are_read_where_nothing_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(unpacked_module, "LEAST", 10)
    assert unpacked(gzip.compress(b"content"), "a") == b"content"
