"""Costs of whole processes: import, first call, a training from start to end, memory."""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from fastcnn.benchmark.environment import installed
from fastcnn.benchmark.results import Result
from fastcnn.errors import FastcnnError

IMPORTS = {
    "fastcnn": "import fastcnn",
    "PyTorch": "import torch",
    "JAX": "import jax.numpy",
}
_OWN_STEP = """
import numpy as np, fastcnn
model = fastcnn.models.report_cnn(seed=0)
fastcnn.gradients(model, np.ones((64, 1, 28, 28), np.float32), np.zeros(64, np.int64))
"""
_TORCH_STEP = """
import torch
from torch import nn
model = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(),
    nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
    nn.Linear(84, 3))
logits = model(torch.ones(64, 1, 28, 28))
nn.CrossEntropyLoss()(logits, torch.zeros(64, dtype=torch.long)).backward()
"""


def _run(code: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds of a process, and its peak memory in MiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *code], env={**os.environ, **environment}, capture_output=True,
        text=True, check=False, timeout=600,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if done.returncode:
        raise FastcnnError(f"a benchmark's process failed: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return seconds, (after if after > before else float("nan")) / 1024


def _seconds(
    work: str, contestant: str, code: list[str], rounds: int, environment: Mapping[str, str]
) -> Result:
    times = sorted(_run(code, environment)[0] for _ in range(rounds))
    return Result(
        suite="startup", work=work, contestant=contestant, threads=os.cpu_count() or 1, batch=64,
        unit="s", median=statistics.median(times), low=times[0], high=times[-1], rounds=rounds,
    )  # fmt: skip


def bench_startup(*, peers: bool = True, rounds: int = 5) -> list[Result]:
    """Time fresh processes that import, and that take a first gradient, cold and warm.

    Cold means that no kernel is kept on the disk. Each process' own start (Python's) is part of
    the time.
    """
    own = {"fastcnn": "fastcnn", "PyTorch": "torch", "JAX": "jax"}
    results = [_seconds("python itself", "python", ["-c", "pass"], rounds, {})]
    for name, code in IMPORTS.items():
        if name == "fastcnn" or (peers and installed(own[name])):
            results.append(_seconds("import", name, ["-c", code], rounds, {}))
    with tempfile.TemporaryDirectory() as folder:
        empty = {"FASTCNN_CACHE_DIR": folder}
        results.append(_seconds("first gradient, cold", "fastcnn", ["-c", _OWN_STEP], 1, empty))
        results.append(
            _seconds("first gradient, warm", "fastcnn", ["-c", _OWN_STEP], rounds, empty)
        )
    if peers and installed("torch"):
        results.append(_seconds("first gradient", "PyTorch", ["-c", _TORCH_STEP], rounds, {}))
    return results


def bench_process(data: str, *, rounds: int = 5) -> list[Result]:
    """Time ``fastcnn train`` from start to end: load, five epochs, write the run; and its memory.

    Parameters
    ----------
    data : str
        Name of a data set, such as ``mnist012``.
    """
    times, memory = [], []
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            code = ["-m", "fastcnn", "train", "--quiet", "--data", data, "--epochs", "5",
                    "--out", str(Path(folder) / "run")]  # fmt: skip
            seconds, peak = _run(code, {})
        times.append(seconds)
        memory.append(peak)
    times = sorted(times[1:])  # the first one may have compiled
    shared = {"suite": "process", "contestant": "fastcnn", "threads": os.cpu_count() or 1,
              "batch": 64, "work": f"train report_cnn on {data}, 5 epochs"}  # fmt: skip
    results = [
        Result(unit="s", median=statistics.median(times), low=times[0], high=times[-1],
               rounds=rounds, **shared)  # type: ignore[arg-type]
    ]  # fmt: skip
    known = [value for value in memory if value == value]
    if known:
        results.append(
            Result(unit="MiB", median=known[0], low=known[0], high=known[0], rounds=1,
                   note="peak resident memory", **shared)  # type: ignore[arg-type]
        )  # fmt: skip
    return results
