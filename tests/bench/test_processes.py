"""Whole processes: the work is equal, failures are reported, memory is the process's own."""

import ast
import builtins
import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from bench import mpi_scaling, processes, programs
from bench.processes import bench_startup, run_process
from fastcnn.errors import FastcnnError
from tests.absent import skip_absent


def test_memory_is_that_of_the_process() -> None:
    ballast = np.ones(64 << 20, np.uint8)  # this process's memory is not the child's
    small, large = (run_process(["-c", f"x = bytes({n}); x = x[:1] + x"]) for n in (1, 48 << 20))
    assert ballast.any()
    assert small.seconds > 0
    if sys.platform != "win32":
        assert small.peak is not None
        assert large.peak is not None
        assert 2 < small.peak < 60
        assert large.peak - small.peak > 40


def test_a_failing_process() -> None:
    with pytest.raises(FastcnnError, match=r"a benchmark's process failed: (?s:.*)ZeroDivision"):
        run_process(["-c", "1 / 0"])
    with pytest.raises(FastcnnError, match="a benchmark's process failed"):
        run_process(["-c", "import sys; sys.exit(3)"])


def test_startup_of_fastcnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "FASTCNN", "import numpy")
    made = bench_startup(peers=False, rounds=2)
    assert {(r.work, r.contestant) for r in made} == {
        ("python itself", "python"), ("import", "fastcnn"),
        ("first gradient, cold", "fastcnn"), ("first gradient, warm", "fastcnn"),
    }  # fmt: skip
    assert {r.unit for r in made} >= {"s"}
    assert all(r.low <= r.median <= r.high for r in made)
    assert {r.rounds for r in made if r.work == "import"} == {2}


PROGRAMS = {name: text for name, text in vars(programs).items() if name.isupper()}


@pytest.mark.parametrize("name", [*PROGRAMS, "JOB"])
def test_programs_use_no_name_that_they_do_not_have(name: str) -> None:
    """Most programs run in processes, and with libraries, that tests do not start."""
    nodes = list(ast.walk(ast.parse((PROGRAMS | {"JOB": mpi_scaling.JOB})[name])))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    known = {each.id for each in names if not isinstance(each.ctx, ast.Load)} | set(dir(builtins))
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(each.asname or each.name).partition(".")[0] for each in node.names}
        elif isinstance(node, ast.FunctionDef):
            known.add(node.name)
        elif isinstance(node, ast.arg):
            known.add(node.arg)
    assert {each.id for each in names} <= known


def test_first_gradient_of_fastcnn() -> None:
    exec(compile(programs.FASTCNN, "program", "exec"), {})


@pytest.mark.torch
def test_programs_have_the_same_network() -> None:
    torch = pytest.importorskip("torch")
    found: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(programs.TORCH, "program", "exec"), found)
    model = found["model"]
    assert isinstance(model, torch.nn.Module)
    theirs = [tuple(value.shape) for value in model.parameters()]
    state = fastcnn.models.report_cnn(seed=0).state_dict()
    assert theirs == [value.shape for value in state.values()]
    assert all(value.grad is not None for value in model.parameters())


@pytest.mark.torch
@pytest.mark.slow
def test_whole_trainings() -> None:
    pytest.importorskip("torch")
    made = processes.bench_process("digits012", rounds=1)
    assert {r.contestant for r in made if r.unit == "s"} == {
        "fastcnn", "fastcnn, im2col", "PyTorch channels_last"
    }  # fmt: skip
    correct = {r.contestant: r.median for r in made if r.unit == "% correct"}
    assert correct["fastcnn"] == pytest.approx(correct["fastcnn, im2col"], abs=1.0)
    assert correct["fastcnn"] > 90


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), [
    ("JAX", "JAX"), ("PyTorch", "TORCH_COMPILE"), ("TensorFlow", "TENSORFLOW"),
    ("tinygrad", "TINYGRAD"),
])  # fmt: skip
def test_programs_of_others_run(library: str, name: str, tmp_path: Path) -> None:
    skip_absent(library)
    program = getattr(programs, name)
    if name in ("TENSORFLOW", "TINYGRAD"):
        program += "import math; assert sum(math.prod(g.shape) for g in gradients) == 67539\n"
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "CACHEDB": str(tmp_path / "db")}
    assert run_process(["-c", program, str(tmp_path)], environment).seconds > 0
