"""How compiled kernels are kept: a small function stands for the interpreter."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import njit, types

import fastcnn
from fastcnn.backends.lanes import compiled


def fresh_interpreter() -> Any:
    """What a new process would have: a function that is not compiled yet."""

    @njit(nogil=True)
    def run(x):  # type: ignore[no-untyped-def]
        return x + 1

    return SimpleNamespace(run=run, SIGNATURE=(types.int64,))


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A start of the engine in a process of its own, as far as the cache can see."""
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "cache"))

    def begin() -> compiled.Start:
        interpreter = fresh_interpreter()
        monkeypatch.setattr(compiled, "interpreter", interpreter)
        done = compiled._compile()
        assert interpreter.run(1) == 2
        return done

    return begin


def test_compiled_once_then_loaded(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert not compiled.are_kept()
    first = start()
    assert first.compiled
    assert first.folder is not None
    assert "once; they are kept in" in caplog.text
    assert compiled.are_kept()
    caplog.clear()
    assert not start().compiled
    assert caplog.text == ""


def test_another_version_compiles_its_own(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old = start().folder
    monkeypatch.setattr(fastcnn, "__version__", "0.0.0")
    new = start()
    assert new.compiled
    assert new.folder != old


def test_another_processor_compiles_its_own(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old = start().folder
    monkeypatch.setattr(compiled, "processor", lambda: ("x86_64", "haswell", ""))
    assert compiled.kernel_folder() != old


def test_kernels_that_nobody_uses_are_removed(start: Any) -> None:
    """Only long ago, and never where another fastcnn still loads them."""
    used = start().folder
    unused, recent = used.with_name("kernels-unused"), used.with_name("kernels-recent")
    downloads = used.with_name("mnist")
    for folder in (unused, recent, downloads):
        folder.mkdir()
        (folder / "run.nbi").write_text("")
    long_ago = time.time() - compiled.UNUSED - 60
    for folder in (used, unused, downloads):
        os.utime(folder, (long_ago, long_ago))
    assert not start().compiled
    assert time.time() - used.stat().st_mtime < 60
    assert unused.exists()
    for path in used.glob("*.nb?"):
        path.unlink()
    assert start().compiled
    assert not unused.exists()
    assert recent.exists()
    assert downloads.exists()


@pytest.mark.parametrize("content", [b"", b"not a kernel", None])
@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
def test_a_damaged_file_is_replaced(
    start: Any, pattern: str, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = start().folder
    for path in folder.glob(pattern):
        path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    caplog.clear()
    assert start().compiled
    assert "compiling" in caplog.text
    assert not start().compiled


def test_a_folder_that_cannot_be_written(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    caplog.set_level(logging.WARNING)
    done = start()
    assert done.compiled
    assert done.folder is None
    assert "every process compiles them anew" in caplog.text


PROCESS = """
import sys
sys.path.insert(0, {root!r})
from fastcnn.backends.lanes import compiled
from tests.backends.test_lanes_cache import fresh_interpreter
compiled.interpreter = fresh_interpreter()
for _ in range(20):
    compiled._compile()
    assert compiled.interpreter.run(1) == 2
    compiled.interpreter = fresh_interpreter()
    for path in compiled.kernel_folder().glob("*.nb?"):
        path.unlink(missing_ok=True)
"""


def test_processes_that_start_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each writes, loads and removes the same files while the others do."""
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path))
    script = PROCESS.format(root=str(Path(__file__).resolve().parents[2]))
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_kernels_run_outside_the_lock_of_python() -> None:
    """Threads may predict with one model at once, and all get what one alone gets."""
    import threading

    model = fastcnn.models.lenet5(seed=0)
    x = np.random.default_rng(0).random((70, 1, 28, 28), np.float32)
    counts = (1, 7, 16, 33, 70)
    expected = {count: model.logits(x[:count]) for count in counts}
    failures: list[str] = []

    def predict(count: int) -> None:
        same = [(model.logits(x[:count]) == expected[count]).all() for _ in range(30)]
        if not all(same):
            failures.append(f"{count} images")

    threads = [threading.Thread(target=predict, args=(count,)) for count in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
