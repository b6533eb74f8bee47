"""Costs of whole processes: import, first call, complete training runs, memory."""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import programs
from fastcnn.benchmark.environment import LIBRARIES, can_run
from fastcnn.benchmark.results import Result
from fastcnn.errors import FastcnnError
from fastcnn.timing import in_turns

IMPORTS = {
    "fastcnn": "import fastcnn",
    "PyTorch": "import torch",
    "JAX": "import jax.numpy",
    "TensorFlow": "import tensorflow",
    "tinygrad": "import tinygrad",
}
#: Epochs of a complete training, and the contestant that is run only once.
PROCESS_EPOCHS, SLOW = 5, "fastcnn, im2col"
#: Installed packages have their bytecode: without this, each process compiles a checkout's files.
_WITH_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
#: A child's peak memory starts at that of its parent, which is large in a benchmark: a small
#: process in between starts, times and measures it.
_LAUNCHER = """
import json, os, subprocess, sys, time
began = time.perf_counter()
child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL)
if hasattr(os, "wait4"):
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
else:
    child.wait()
    peak = None
print(json.dumps([time.perf_counter() - began, peak, child.returncode]))
"""


@dataclass(frozen=True)
class Run:
    """One process from start to end.

    Attributes
    ----------
    peak : float or None
        Maximum resident memory in MiB; None if the system does not report it.
    """

    seconds: float
    peak: float | None


def run_process(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """Run this Python with the given arguments.

    Raises
    ------
    FastcnnError
        If it fails; the message ends with the process's own.
    """
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, *arguments],
        env={**os.environ, **_WITH_BYTECODE, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    seconds, peak, code = json.loads(done.stdout) if done.returncode == 0 else (0.0, None, 1)
    if code:
        raise FastcnnError(f"a benchmark's process failed: {done.stderr[-500:]}")
    return Run(seconds, None if peak is None else peak / 2**20)


def _result(suite: str, work: str, contestant: str, unit: str, values: Sequence[float]) -> Result:
    return Result(
        suite=suite,
        work=work,
        contestant=contestant,
        threads=os.cpu_count() or 1,
        batch=64,
        unit=unit,
        median=statistics.median(values),
        low=min(values),
        high=max(values),
        rounds=len(values),
    )


def _results(suite: str, work: str, contestant: str, runs: Sequence[Run]) -> list[Result]:
    """Seconds, and peak memory where known, over some runs."""
    peaks = [run.peak for run in runs if run.peak is not None]
    measured = {"s": [run.seconds for run in runs]} | ({"MiB at most": peaks} if peaks else {})
    return [_result(suite, work, contestant, *each) for each in measured.items()]


def bench_startup(*, peers: bool = True, rounds: int = 5) -> list[Result]:
    """Time fresh processes that import, and that compute a first gradient, cold and warm.

    Cold means that no compiled code is cached on disk. The start of each process (of Python) is
    included. Contestants take turns.
    """

    def takes_part(name: str) -> bool:
        return not name.startswith(tuple(LIBRARIES)) or (peers and can_run(name))

    results = []
    imports = {"python": "pass"} | IMPORTS
    imports = {name: code for name, code in imports.items() if takes_part(name)}
    calls = {name: partial(run_process, ["-c", code]) for name, code in imports.items()}
    for name, made in in_turns(calls, rounds).items():
        results += _results(
            "startup", "python itself" if name == "python" else "import", name, made
        )
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            "fastcnn": (["-c", programs.FASTCNN], {"FASTCNN_CACHE_DIR": f"{folder}/fastcnn"}),
            "PyTorch": (["-c", programs.TORCH], {}),
            "PyTorch compile": (
                ["-c", programs.TORCH_COMPILE],
                {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch"},
            ),
            "JAX jit": (["-c", programs.JAX, f"{folder}/jax"], {}),
            "TensorFlow function": (["-c", programs.TENSORFLOW], {}),
            "tinygrad": (["-c", programs.TINYGRAD], {"CACHEDB": f"{folder}/tinygrad.db"}),
        }
        calls = {name: partial(run_process, *job) for name, job in jobs.items() if takes_part(name)}
        cold, warm = in_turns(calls, 1), in_turns(calls, rounds)
    for work, found in (("first gradient, cold", cold), ("first gradient, warm", warm)):
        for name, made in found.items():
            results += _results("startup", work, name, made)
    return results


def bench_process(data: str, *, peers: bool = True, rounds: int = 5) -> list[Result]:
    """Time ``fastcnn train`` from start to end: load, five epochs, write the run; its memory, and
    the final test accuracy. The backend im2col, which takes longer, runs once.

    The PyTorch contestant is a script that loads, trains and tests equally, and saves the weights.

    Parameters
    ----------
    data : str
        Name of a data set, such as ``mnist012``.
    """
    epochs = str(PROCESS_EPOCHS)
    own = ["-m", "fastcnn", "train", "--quiet", "--data", data, "--epochs", epochs, "--out"]
    jobs = {"fastcnn": own}
    if peers and can_run("PyTorch"):
        jobs["PyTorch channels_last"] = ["-c", programs.TORCH_TRAINING, data, epochs]
    accuracies: dict[str, float] = {}

    def take(name: str, job: list[str]) -> Run:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "run"
            made = run_process([*job, str(target)])
            if job[0] == "-m":
                accuracies[name] = _last_accuracy(target / "epochs.csv")
        return made

    # The first run may compile.
    runs = in_turns({name: partial(take, name, job) for name, job in jobs.items()}, rounds + 1)
    runs = {name: made[1:] for name, made in runs.items()}
    runs[SLOW] = [take(SLOW, [*own[:-1], "--backend", "im2col", own[-1]])]
    work = f"train report_cnn on {data}, {PROCESS_EPOCHS} epochs"
    results = []
    for name, made in runs.items():
        results += _results("process", work, name, made)
    return results + [
        _result("process", work, name, "% correct", [percent])
        for name, percent in accuracies.items()
    ]


def _last_accuracy(path: Path) -> float:
    """Test accuracy after the last epoch of a run, in percent."""
    with path.open(encoding="utf-8", newline="") as stream:
        *_, last = csv.DictReader(stream)
    return 100 * float(last["test_accuracy"])
