"""Compiled functions and their cache, tested with small functions instead of kernels."""

import logging
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastcnn import extras
from fastcnn.backends.lanes.kernel_table import all_sources
from fastcnn.codegen import build, compiled, linked, objects, store
from fastcnn.codegen.build import Source
from fastcnn.codegen.entry import ArgumentEntry
from fastcnn.errors import IncompatibleNumbaError
from fastcnn.training.interrupts import DeferredInterrupts, Terminated

posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes are POSIX's")


@linked
def doubled(x):  # type: ignore[no-untyped-def]
    return x + x


@compiled("real[:]", "out real[:]", "float64", "uint64")
def fill(x, y, summand, times):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y[i] = doubled(x[i]) * times + summand


def add_one(x):  # type: ignore[no-untyped-def]
    x[0] += 1


def source() -> Source:
    return Source(add_one, ArgumentEntry("test_add_one", ("int64[:]",)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_said", set())
    return tmp_path / "cache" / "kernels"


def start() -> bool:
    """Run as a new process would; returns whether it compiled."""
    build._addresses.pop("test_add_one", None)
    before = len(build.report.compiled)
    assert build.addresses([source()])[0]
    return len(build.report.compiled) > before


def test_stacks_are_aligned_to_vectors() -> None:
    """So that no vector on the stack spans two cache lines."""
    from fastcnn.codegen.numba_frontend import lower

    module = str(lower(add_one, source().entry))
    assert "alignstack=64" in module or "alignstack(64)" in module


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_function_of_arrays(kind: type) -> None:
    x, y = np.arange(6, dtype=kind)[::2], np.zeros(3, kind)
    fill(x, y, 0.5, 3)
    assert (y == 6 * x + 0.5).all()


def test_read_only_input_and_an_output_that_cannot_be_written() -> None:
    x, y = np.ones(4, np.float32), np.zeros(8, np.float32)
    x.flags.writeable = False
    fill(x, y[:4], 0.0, 1)
    assert (y[:4] == 2).all()
    with pytest.raises(TypeError, match="C-contiguous array of float32"):
        fill(x, y[::2], 0.0, 1)
    with pytest.raises(TypeError, match="C-contiguous array of float32"):
        fill(x, np.zeros(4), 0.0, 1)


def test_plain_python_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    asked = build.disabled_by.__wrapped__
    assert asked() == "NUMBA_DISABLE_JIT"
    monkeypatch.setattr("fastcnn.codegen.functions.is_disabled", asked)
    y = np.zeros(2)
    fill(np.array([1.0, 2.0]), y, 1.0, 2)
    assert (y == [5, 9]).all()


def test_compiled_once_then_loaded(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastcnn.codegen")
    assert build.kept([source()]) == 0
    assert start()
    assert "once; they are cached in" in caplog.text
    assert build.kept([source()]) == 1
    caplog.clear()
    assert not start()
    assert caplog.text == ""


def test_another_processor_or_version_has_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = source().key()
    monkeypatch.setattr(build, "versions", lambda: "another")
    assert source().key() != known


def test_the_search_for_addresses_is_left_out_where_a_source_says_so() -> None:
    kernel = next(s for s in all_sources() if s.name == "fastcnn_winograd1d_weights")
    plain = replace(kernel, strength_reduction=True)
    without = replace(kernel, strength_reduction=False)
    assert plain.key() != without.key()
    made = plain.compile()
    assert without.compile() != made
    assert plain.compile() == made  # LLVM's default is back


def test_a_function_of_its_own_is_known_by_its_code() -> None:
    def make(number: int) -> Source:
        def function(x):  # type: ignore[no-untyped-def]
            x[0] = number

        return Source(function, ArgumentEntry("test_closure", ("int64[:]",)))

    assert make(1).key() == make(1).key()
    assert make(1).key() != make(2).key()


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "another"])
def test_a_damaged_file_is_replaced(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    start()
    (path,) = folder.glob("*.o")
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-100] ^= 4
    path.write_bytes(
        {"empty": b"", "short": content[:-20], "flipped": bytes(flipped), "another": b"\x7fELF"}[
            damage
        ]
    )
    caplog.clear()
    assert start()
    assert "is damaged" in caplog.text
    assert not start()


@posix
def test_the_folder_is_private(folder: Path) -> None:
    start()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (path,) = folder.glob("*.o")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_that_others_can_write_is_refused(
    folder: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    start()
    folder.chmod(mode)
    for _ in range(2):
        assert start()
    assert caplog.text.count("is writable by other users") == 1
    folder.chmod(0o700)
    assert not start()


@posix
def test_a_folder_of_another_user_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert start()
    assert "belongs to another user" in caplog.text


@posix
def test_a_file_that_others_can_write_is_refused(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start()
    (path,) = folder.glob("*.o")
    path.chmod(0o666)
    assert start()
    assert "is writable by other users" in caplog.text


def test_a_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "_said", set())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert start()
    assert start()
    assert caplog.text.count("every process compiles its own") == 1
    assert "cannot be read or written (Not a directory)" in caplog.text


def test_what_nobody_uses_is_removed(folder: Path) -> None:
    """Only objects that are long unused, and only when something is compiled."""
    start()
    (used,) = folder.glob("*.o")
    unused, recent = folder / "unused.o", folder / "recent.o"
    for path in (unused, recent):
        path.write_text("")
    long_ago = time.time() - store.UNUSED - 60
    for path in (used, unused):
        os.utime(path, (long_ago, long_ago))
    assert not start()
    assert used.stat().st_mtime > long_ago + 30
    assert unused.exists()
    used.unlink()
    assert start()
    assert not unused.exists()
    assert recent.exists()


PROCESS = """
import logging
logging.disable(logging.WARNING)
from fastcnn.codegen import build
from tests.codegen.test_objects import source
for _ in range(10):
    build._addresses.clear()
    assert build.addresses([source()])[0]
    for path in build.store.object_folder().glob("*.o"):
        path.unlink(missing_ok=True)
"""


def test_processes_that_start_at_once(folder: Path) -> None:
    """Each process writes, loads and removes the same file concurrently."""
    root = str(Path(__file__).resolve().parents[2])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS], cwd=root, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])},
        )
        for _ in range(3)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


WARM = """
import sys, numpy as np, fastcnn
model = fastcnn.models.lenet5(seed=0)
x = np.random.default_rng(0).random((40, 1, 28, 28), np.float32)
fastcnn.fit(model, (x, np.arange(40) % 10), epochs=1, diagnose=False)
model.logits(x)
print("numba" in sys.modules)
"""


def test_a_process_that_finds_its_kernels_does_not_import_numba(tmp_path: Path) -> None:
    for expected in (None, "False"):
        done = subprocess.run(
            [sys.executable, "-c", WARM], capture_output=True, text=True, check=True
        )
        assert expected is None or done.stdout.split()[-1] == expected


@pytest.mark.slow
def test_nothing_can_be_written(tmp_path: Path) -> None:
    """No home, no cache: everything works, compiled by the process, with a warning."""
    (tmp_path / "file").write_text("")
    environment = {**os.environ, "FASTCNN_CACHE_DIR": str(tmp_path / "file" / "x")}
    code = (
        "import numpy as np, fastcnn; "
        "m = fastcnn.Sequential(fastcnn.ReLU(), input_shape=(2,)); "
        "print(m.logits(np.ones((2, 2), np.float32)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "(2, 2)"
    assert "every process compiles its own" in done.stderr


def test_workers_compile_what_has_an_origin(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fastcnn.codegen")
    monkeypatch.setattr(build, "available_cores", lambda: 2)
    sources = [fill.source(kind) for kind in ("float32", "float64")]
    for made in sources:
        build._addresses.pop(made.name, None)
    monkeypatch.setattr(Source, "compile", None)  # not by this process
    assert all(build.addresses(sources))
    assert "a compiling process failed" not in caplog.text


@pytest.mark.parametrize("version", ["0.99.1", "1.0.0rc1", "0.60.0", "0.68.1", "0.61.0"])
def test_private_parts_of_numba_that_are_missing(
    folder: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is not tested is named; with one that is, the error is a mistake of ours."""
    build._addresses.pop("test_add_one", None)
    monkeypatch.setattr(extras, "numba_version", lambda: version)
    monkeypatch.delattr("numba.np.arrayobj.populate_array")
    if version in ("0.68.1", "0.61.0"):
        with pytest.raises(AttributeError, match="populate_array"):
            build.addresses([source()])
        return
    message = rf"numba {version} .*\(AttributeError: .*'populate_array'\).* 'numba>=0.61,<0.69'"
    with pytest.raises(IncompatibleNumbaError, match=message):
        build.addresses([source()])


@posix
@pytest.mark.parametrize("number", ["SIGKILL", "SIGINT"])
def test_a_compiling_process_that_dies(
    folder: Path, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its work is done by this process, except after Ctrl-C."""

    def begin(modules: object = ()) -> "subprocess.Popen[bytes]":
        code = f"import os, signal; os.kill(os.getpid(), signal.{number})"
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe)

    monkeypatch.setattr(build, "available_cores", lambda: 2)
    monkeypatch.setattr(build, "_start", begin)
    sources = [fill.source(kind) for kind in ("float32", "float64")]
    for made in sources:
        build._addresses.pop(made.name, None)
    if number == "SIGKILL":
        assert all(build.addresses(sources))
    else:
        with pytest.raises(KeyboardInterrupt):
            build.addresses(sources)
    assert build.kept(sources) == (2 if number == "SIGKILL" else 0)


@posix
@pytest.mark.parametrize(("when", "code"), [("before", 0), ("during", -signal.SIGTERM)])
def test_a_deferred_signal_ends_a_compilation(
    folder: Path, when: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiling process is ended and not waited for; nothing is compiled instead."""
    text = (
        "import os, signal, sys, time\n"
        "if sys.stdin.readline():\n"
        "    os.kill(os.getppid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "    sys.exit(3)"
    )
    pipe = subprocess.PIPE
    compiling: list[subprocess.Popen[bytes]] = []

    def begin(modules: object = ()) -> "subprocess.Popen[bytes]":
        compiling.append(subprocess.Popen([sys.executable, "-c", text], stdin=pipe, stdout=pipe))
        return compiling[0]

    monkeypatch.setattr(build, "available_cores", lambda: 2)
    monkeypatch.setattr(build, "_start", begin)
    sources = [fill.source(kind) for kind in ("float32", "float64")]
    for made in sources:
        build._addresses.pop(made.name, None)

    def compile_both() -> None:
        with DeferredInterrupts():
            if when == "before":
                signal.raise_signal(signal.SIGTERM)
            build.addresses(sources)
            pytest.fail("compiled")

    with pytest.raises(Terminated):
        compile_both()
    assert [process.returncode for process in compiling] == [code]
    assert build.kept(sources) == 0
    monkeypatch.setattr(build, "available_cores", lambda: 1)
    assert all(build.addresses(sources))


def test_what_compiles_is_started_ahead_where_nothing_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(build, "available_cores", lambda: 2)
    monkeypatch.setattr(build, "_start", lambda modules: started.append(modules) or modules)
    monkeypatch.setattr(build, "_started", [])
    build.start_ahead("math")
    build.start_ahead("math")
    assert started == [("math",)]
    build._started.clear()
    start()
    build.start_ahead("math")
    assert len(started) == 1


def test_no_process_can_be_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example if the interpreter is embedded in another program, or there are too many."""
    monkeypatch.setattr(build, "available_cores", lambda: 2)
    monkeypatch.setattr(build, "_started", [])
    monkeypatch.setattr(sys, "executable", str(folder / "none"))
    build.start_ahead()
    sources = [fill.source(kind) for kind in ("float32", "float64")]
    for made in sources:
        build._addresses.pop(made.name, None)
    assert all(build.addresses(sources))


def test_what_compiles_imports_nothing_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    process = build._start()
    process.communicate()
    assert process.returncode == 0


@posix
def test_what_was_started_ahead_and_has_ended_since(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example by a Ctrl-C at a prompt: it does not belong to a later training."""
    code, pipe = "import os, signal; os.kill(os.getpid(), signal.SIGINT)", subprocess.PIPE
    ended = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe)
    ended.wait()
    monkeypatch.setattr(build, "available_cores", lambda: 2)
    monkeypatch.setattr(build, "_started", [ended])
    sources = [fill.source(kind) for kind in ("float32", "float64")]
    for made in sources:
        build._addresses.pop(made.name, None)
    monkeypatch.setattr(Source, "compile", None)  # not by this process
    assert all(build.addresses(sources))


@posix
@pytest.mark.parametrize(("handler", "expected"), [("SIG_IGN", 0), ("default_int_handler", -2)])
def test_ctrl_c_in_what_compiles(handler: str, expected: int) -> None:
    """It ends silently, except if its caller ignores Ctrl-C, as in the background."""
    code = (
        "import os, signal; from fastcnn.codegen import worker; "
        f"signal.signal(signal.SIGINT, signal.{handler}); worker._begin(); "
        "os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (expected, "")


def test_what_a_worker_made_of_another_text_is_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker imports files when it starts: they may be newer than those hashed here."""
    from fastcnn.codegen.numba_frontend import lower

    monkeypatch.setattr(build, "available_cores", lambda: 2)
    made, other = fill.source("float32"), source()
    strange = Source(add_one, other.entry, fill.source("float64").origin)
    here: list[str] = []

    def compiled_here(each: Source) -> bytes:
        here.append(each.name)
        return objects.make_object(lower(each.function, each.entry), each.name)

    monkeypatch.setattr(Source, "compile", compiled_here)
    for each in (made, strange):
        build._addresses.pop(each.name, None)
    assert all(build.addresses([made, strange]))
    assert here == [strange.name]


def test_a_source_that_changed_while_the_process_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may run older code: others must not find what it compiles."""
    from fastcnn.codegen import identity

    usual = identity._file_digest("objects")
    identity._file_digest.cache_clear()
    try:
        monkeypatch.setattr(identity, "STARTED", 0.0)
        assert identity._file_digest("objects") != usual
    finally:
        monkeypatch.undo()
        identity._file_digest.cache_clear()
    assert identity._file_digest("objects") == usual
