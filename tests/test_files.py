"""Files that are replaced as a whole, and the paths that users give."""

import os
import stat
import threading
from pathlib import Path

import pytest

import fastcnn.files as files
from fastcnn.errors import ConfigurationError
from fastcnn.files import atomic_write, expanded

posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX systems")


@posix
@pytest.mark.parametrize("mask", [0o077, 0o022, 0o027])
def test_files_have_the_permissions_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        atomic_write(tmp_path / "a", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


@posix
def test_the_umask_of_the_process_is_never_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads create files at the same time: they would do so under that umask."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    atomic_write(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


def refuse_to_replace(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let os.replace fail as on Windows while another program reads the old file."""
    calls: list[int] = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        calls.append(1)
        if len(calls) <= times:
            raise PermissionError(13, "Access is denied", str(target))
        real(source, target)

    monkeypatch.setattr(files, "REPLACE_ATTEMPTS", 5)
    monkeypatch.setattr(files, "REPLACE_PAUSE", 0.0)
    monkeypatch.setattr(os, "replace", replace)
    return calls


def test_a_file_held_open_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    calls = refuse_to_replace(monkeypatch, times=3)
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert len(calls) == 4


def test_a_file_held_open_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    calls = refuse_to_replace(monkeypatch, times=100)
    with pytest.raises(PermissionError) as caught:
        atomic_write(path, b"new")
    assert caught.value.filename == str(path)
    assert len(calls) == 5
    assert [found.name for found in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"


@posix
def test_readers_see_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = {bytes([letter]) * 100_000 for letter in b"abc"}
    atomic_write(path, min(contents))
    over = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not over.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        for content in contents:
            atomic_write(path, content)
    over.set()
    reader.join()
    assert seen <= contents
    assert len(list(tmp_path.iterdir())) == 1


def test_home_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expanded("~/runs/a") == tmp_path / "runs" / "a"
    assert expanded(Path("~")) == tmp_path
    assert expanded("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    assert expanded("a/~") == Path("a/~")
    atomic_write("~/b", b"1")
    assert (tmp_path / "b").read_bytes() == b"1"


@pytest.mark.parametrize("path", [None, 3, b"a", "a\0b", ["a"]])
def test_what_is_not_a_path(path: object) -> None:
    with pytest.raises(ConfigurationError, match="path"):
        expanded(path)  # type: ignore[arg-type]
