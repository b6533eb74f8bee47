"""Training on real MPI jobs of two and four processes."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import data
from fastcnn.training.run import Run

MPIEXEC = shutil.which(
    "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
)
pytestmark = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="mpi4py or mpiexec is not installed: pip install 'fastcnn[mpi]'",
)


def start(ranks: int, *command: object, **options: Any) -> "subprocess.Popen[str]":
    environment = {**os.environ, "FASTCNN_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.Popen(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, "-m", "mpi4py", *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, **options,
    )  # fmt: skip


def run(ranks: int, *command: object, code: int | None = 0, **options: Any) -> str:
    process = start(ranks, *command, **options)
    try:
        output = process.communicate(timeout=90)[0]
    finally:
        process.kill()
    assert code is None or process.returncode == code, output
    return output


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    data.write_npz(path, *data.digits_dataset(650, 90, classes=(0, 1, 2)))
    return path


def train(ranks: int, archive: Path, out: Path, *options: object, **others: Any) -> Run:
    command = ["-m", "fastcnn", "train", "--data", archive, "--epochs", 2, "--out", out]
    run(ranks, *command, *options, **others)
    return Run.open(out)


def weights(run: Run) -> bytes:
    return (run.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_trajectory_of_one_process(ranks: int, archive: Path, tmp_path: Path) -> None:
    options = ["--momentum", 0.9, "--clip-norm", 1.0]
    one = train(1, archive, tmp_path / "one", *options)
    several = train(ranks, archive, tmp_path / "several", *options)
    losses = [np.array([step["loss"] for step in each.metrics("step")]) for each in (one, several)]
    assert losses[1][:5] == pytest.approx(losses[0][:5], rel=1e-5)
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)
    records = [each.metrics() for each in (one, several)]
    assert [r["epoch"] for r in records[1]] == [1, 2]
    assert records[1][0]["test_loss"] == pytest.approx(records[0][0]["test_loss"], rel=1e-2)
    assert abs(records[1][0]["train_accuracy"] - records[0][0]["train_accuracy"]) < 0.01
    again = train(ranks, archive, tmp_path / "again", *options)
    assert weights(again) == weights(several)


def test_ordered_sums_are_the_same_bits_on_any_number(archive: Path, tmp_path: Path) -> None:
    made = [
        train(ranks, archive, tmp_path / str(ranks), "--ordered-reduction", "--epochs", 1)
        for ranks in (1, 2, 4)
    ]
    assert weights(made[0]) == weights(made[1]) == weights(made[2])


def test_averaging_every_few_steps(archive: Path, tmp_path: Path) -> None:
    made = train(2, archive, tmp_path / "run", "--average-every", 5, "--epochs", 4)
    assert made.metrics()[-1]["test_accuracy"] > 0.9


def test_resume_with_another_number_of_ranks(archive: Path, tmp_path: Path) -> None:
    train(2, archive, tmp_path / "run", "--ordered-reduction", "--epochs", 1)
    run(4, "-m", "fastcnn", "train", "--resume", tmp_path / "run", "--epochs", 2)
    whole = train(1, archive, tmp_path / "whole", "--ordered-reduction")
    assert weights(Run.open(tmp_path / "run")) == weights(whole)
    assert len(Run.open(tmp_path / "run").metrics("step")) == len(whole.metrics("step"))


SCRIPT = """
import os, sys
import numpy as np
import fastcnn
from fastcnn import data
from fastcnn.distributed import join
from fastcnn.training import Callback

world = join()
train, test = data.digits_dataset(320, 40, classes=(0, 1, 2), seed={seed})
model = fastcnn.models.report_cnn(seed=0)

class Breaks(Callback):
    def on_steps(self, steps):
        if world.rank == 1 and steps.step >= 12:
            {what}

fastcnn.fit(model, train, test, epochs=50, batch_size=32, out={out!r}, world=world,
            callbacks=[Breaks()])
"""


def script(tmp_path: Path, what: str = "pass", seed: str = "0") -> Path:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT).format(what=what, seed=seed, out=str(tmp_path / "run")))
    return path


@pytest.mark.parametrize("what", ["os.kill(os.getpid(), 9)", "raise ValueError('broken')"])
def test_a_rank_that_dies_ends_the_job(tmp_path: Path, what: str) -> None:
    began = time.monotonic()
    output = run(2, script(tmp_path, what), code=None)
    assert time.monotonic() - began < 60
    assert "ValueError: broken" in output or "KILLED" in output or "signal" in output.lower()
    made = Run.open(tmp_path / "run")
    assert made.config["status"] != "finished"
    assert len(made.metrics("epoch")) >= 1


def test_a_rank_with_other_data_is_named(tmp_path: Path) -> None:
    output = run(2, script(tmp_path, seed="world.rank"), code=None)
    assert "rank 1 on " in output
    assert "has data.checksum" in output
    assert not (tmp_path / "run").exists()


def test_an_interrupt_leaves_a_checkpoint(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(2, "-m", "fastcnn", "train", "--data", archive, "--epochs", 5000, "--out", out)
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size > 5000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode != 0
    saved = out / "checkpoints/last.safetensors"
    assert saved.exists() or "interrupted" in output


def test_an_ordinary_run_does_not_start_mpi() -> None:
    code = "import sys, fastcnn.distributed as d; assert d.launched_size() == 1; print('mpi4py' in sys.modules)"  # noqa: E501
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI", "SLURM"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
