"""Atomic replacement of files, and paths given by users."""

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastcnn.files as files
from fastcnn.benchmark.records import Records
from fastcnn.errors import CheckpointError, ConfigurationError, DataError
from fastcnn.files import LOCK_FILE, FolderLock, atomic_write, cache_folder, expanded
from fastcnn.layers.definition import read_definition
from fastcnn.recipes import NamedRecipe
from fastcnn.recipes.records import records
from fastcnn.training.run_config import read_config


@pytest.mark.parametrize(
    "read", [read_definition, NamedRecipe.read, records, Records.read, read_config]
)
def test_readers_say_in_words_why_a_file_cannot_be_read(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").mkdir()  # a run's
    name = "" if read is read_config else "config.json"
    with pytest.raises((CheckpointError, ConfigurationError, DataError)) as caught:
        read(tmp_path / name)
    text = str(caught.value)
    assert text.count(str(tmp_path)) == 1
    assert re.search(r"\((Is a directory|Permission denied|it is not a regular file)\)$", text), (
        text
    )


@pytest.mark.posix
def test_links_devices_and_pipes_are_kept(tmp_path: Path) -> None:
    link, target, pipe = (tmp_path / name for name in ("link", "folder/target", "pipe"))
    link.symlink_to("folder/target")
    for content in (b"1", b"2"):
        atomic_write(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert len(list(target.parent.iterdir())) == 1
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    atomic_write(pipe, b"3")
    assert os.read(reader, 10) == b"3"
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.posix
def test_links_to_read_only_files_and_to_themselves_are_refused(tmp_path: Path) -> None:
    stored, link, loop = (tmp_path / name for name in ("stored", "link", "loop"))
    stored.write_bytes(b"kept")
    stored.chmod(0o444)
    link.symlink_to(stored)
    loop.symlink_to(loop)
    for each in (loop, link) if os.geteuid() else (loop,):  # root may write to any file
        with pytest.raises(OSError, match=re.escape(str(each))):
            atomic_write(each, b"lost")
        assert each.is_symlink()
    assert stored.read_bytes() == b"kept"


@pytest.mark.posix
@pytest.mark.parametrize("mask", [0o077, 0o022, 0o027])
def test_files_have_the_permissions_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        atomic_write(tmp_path / "a", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


@pytest.mark.posix
def test_the_umask_of_the_process_is_never_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files created by other threads at the same time would be affected."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    atomic_write(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


def refuse_to_replace(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let os.replace fail, as on Windows while another program reads the old file."""
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


@pytest.mark.posix
def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(NotADirectoryError, match="taken is a file, not a folder"):
        atomic_write(tmp_path / "taken" / "x", b"1")


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


def test_one_writer_of_a_folder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()


CHILD = """
import os, sys, time
from pathlib import Path
from fastcnn.files import FolderLock
lock = FolderLock(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    if sys.argv[2] == "ends":
        sys.exit(0)
    print(os.getpid(), flush=True)
    time.sleep(600)
if sys.argv[2] == "ends":
    os.waitpid(child, 0)
    print("child has ended", flush=True)
    sys.stdin.read()
os._exit(0)
"""


def forking(folder: Path, child: str) -> "subprocess.Popen[str]":
    """A process that locks a folder, then forks a child that ``ends`` or that ``stays``."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(folder), child],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.posix
def test_a_child_does_not_keep_the_lock_of_a_parent_that_has_ended(tmp_path: Path) -> None:
    with forking(tmp_path, "stays") as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            parent.wait(timeout=300)
            FolderLock(tmp_path).release()
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.posix
def test_a_child_that_ends_leaves_its_parent_the_lock(tmp_path: Path) -> None:
    with forking(tmp_path, "ends") as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "child has ended\n"
        with pytest.raises(BlockingIOError):
            FolderLock(tmp_path)
        parent.communicate("", timeout=300)


@pytest.mark.posix
def test_others_of_a_group_may_lock_a_shared_folder(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        FolderLock(tmp_path).release()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / LOCK_FILE).stat().st_mode) == 0o664


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FASTCNN_CACHE_DIR", "~/mine")
    assert cache_folder() == expanded("~/mine")
    monkeypatch.delenv("FASTCNN_CACHE_DIR")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "fastcnn"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_folder() == tmp_path / ".cache" / "fastcnn"
    assert cache_folder().is_absolute()
    assert "fastcnn" in str(cache_folder())


def no_home(*names: str, **options: object) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("answer", [no_home, lambda *names, **options: Path("~/.cache/fastcnn")])
def test_where_the_cache_is_without_a_home(
    answer: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTCNN_CACHE_DIR", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", answer)
    assert cache_folder().parent == Path(tempfile.gettempdir())
    assert cache_folder().name.startswith("fastcnn-")


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
