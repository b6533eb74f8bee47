"""Training in real MPI jobs of two and four processes."""

import importlib.util
import os
import re
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

import fastcnn
from fastcnn import data
from fastcnn.training.run import Run
from tests.command import fastcnn as command

MPIEXEC = shutil.which(
    "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
)
pytestmark = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="mpi4py or mpiexec is not installed: pip install 'fastcnn[mpi]'",
)


#: Options that let Open MPI start more processes than cores, and run as root.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}  # fmt: skip


def start(ranks: int, *command: object, **options: Any) -> "subprocess.Popen[str]":
    environment = {**os.environ, "FASTCNN_NUM_THREADS": "1", **OPEN_MPI}
    return subprocess.Popen(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, "-m", "mpi4py", *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, **options,
    )  # fmt: skip


def run(ranks: int, *command: object, code: int | None = 0, **options: Any) -> str:
    process = start(ranks, *command, **options)
    try:
        output = process.communicate(timeout=300)[0]
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
    output = run(ranks, *command, *options, **others)
    assert output.count("epoch 1/") == output.count("next: fastcnn evaluate") == 1
    return Run.open(out)


def weights(run: Run) -> bytes:
    return (run.folder / "model.safetensors").read_bytes()


CLIPPED = ("--momentum", 0.9, "--clip-norm", 1.0)


def test_the_trajectory_of_one_process(archive: Path, tmp_path: Path) -> None:
    alone = train(1, archive, tmp_path / "alone", *CLIPPED)
    several = train(4, archive, tmp_path / "several", *CLIPPED)
    losses = [np.array([step["loss"] for step in r.metrics("step")]) for r in (alone, several)]
    assert losses[1][:5] == pytest.approx(losses[0][:5], rel=1e-5)
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)
    records = [each.metrics() for each in (alone, several)]
    assert [r["epoch"] for r in records[1]] == [1, 2]
    assert records[1][0]["test_loss"] == pytest.approx(records[0][0]["test_loss"], rel=1e-2)
    assert abs(records[1][0]["train_accuracy"] - records[0][0]["train_accuracy"]) < 0.01
    again = train(4, archive, tmp_path / "again", *CLIPPED)
    assert weights(again) == weights(several)


NETWORK = """
input_shape = [1, 28, 28]
layers = [
  {type = "Conv2d", in_channels = 1, out_channels = 4, kernel_size = 3, stride = 2},
  {type = "ReLU"},
  {type = "Flatten"},
  {type = "Dropout", p = 0.3},
  {type = "Linear", in_features = 676, out_features = 3},
]
"""


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """With dropout, augmentation, averaged weights and batches not divisible by 2 or 4."""
    network = tmp_path_factory.mktemp("network") / "net.toml"
    network.write_text(NETWORK)
    return ["--model", network, "--augment", "digits", "--ema-decay", 0.9, "--clip-norm", 0.5,
            "--batch-size", 37, "--optimizer", "adam", "--ordered-reduction"]  # fmt: skip


def test_ordered_sums_are_the_same_bits_on_any_number(
    ordered: list[object], archive: Path, tmp_path: Path
) -> None:
    """An epoch on four ranks and then one on two: a run may be resumed with another number."""
    one = train(1, archive, tmp_path / "1", *ordered)
    train(4, archive, tmp_path / "parts", *ordered, "--epochs", 1)
    run(2, "-m", "fastcnn", "train", "--resume", tmp_path / "parts", "--epochs", 2)
    resumed = Run.open(tmp_path / "parts")
    assert weights(resumed) == weights(one)
    assert resumed.metrics("step") == one.metrics("step")


@pytest.mark.slow
def test_whole_runs_with_ordered_sums(ordered: list[object], archive: Path, tmp_path: Path) -> None:
    one, two, four = (train(ranks, archive, tmp_path / str(ranks), *ordered) for ranks in (1, 2, 4))
    assert weights(one) == weights(two) == weights(four)


def test_averaging_every_few_steps(archive: Path, tmp_path: Path) -> None:
    made = train(2, archive, tmp_path / "run", "--average-every", 5, "--epochs", 4)
    assert made.metrics()[-1]["test_accuracy"] > 0.9


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
        if world.rank == {rank} and steps.step >= 12:
            {what}

fastcnn.fit(model, train, test, epochs=50, batch_size=32, out={out!r}, world=world,
            callbacks=[Breaks()])
"""


def script(tmp_path: Path, what: str = "pass", rank: int = 1, seed: str = "0") -> Path:
    path, out = tmp_path / "script.py", str(tmp_path / "run")
    path.write_text(textwrap.dedent(SCRIPT).format(what=what, rank=rank, seed=seed, out=out))
    return path


NORMED = """
import fastcnn, numpy as np
from fastcnn import data
from fastcnn.distributed import join
world = join()
train, _ = data.digits_dataset(150, 20, classes=(0, 1, 2))
for backend in ("lanes", "im2col"):
    block = fastcnn.Residual(fastcnn.Sequential(
        fastcnn.Conv2d(4, 4, 3, padding=1, seed=1), fastcnn.BatchNorm2d(4), fastcnn.ReLU()))
    model = fastcnn.Sequential(
        fastcnn.Conv2d(1, 4, 3, stride=2, seed=0), fastcnn.BatchNorm2d(4), fastcnn.ReLU(), block,
        fastcnn.Flatten(), fastcnn.Linear(4 * 13 * 13, 3, seed=2), input_shape=(1, 28, 28))
    fastcnn.fit(model, train, epochs=1, batch_size=50, lr=0.001, world=world, backend=backend)
    if world.is_root:
        model.save({out!r} + backend)
"""


def test_batch_normalisation_is_that_of_one_process(tmp_path: Path) -> None:
    states = []
    for ranks in (1, 2):
        out = str(tmp_path / f"ranks{ranks}-")
        (tmp_path / "script.py").write_text(NORMED.replace("{out!r}", repr(out)))
        run(ranks, tmp_path / "script.py")
        states.append([fastcnn.load(out + name).copy_state() for name in ("lanes", "im2col")])
    for one, two in zip(*states, strict=True):
        for key, value in one.items():
            assert two[key] == pytest.approx(value, rel=5e-3, abs=5e-4), key


NO_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"


@pytest.mark.parametrize(
    ("rank", "what", "message"),
    [
        (1, "os.kill(os.getpid(), 9)", "signal 9"),
        (1, "raise ValueError('broken')", "rank 1 of 2 on .*: ValueError: broken"),
        (0, "raise ValueError('broken')", "rank 0 of 2 on .*: ValueError: broken"),
        (0, NO_ROOM, r"rank 0 of 2 on .*/best.safetensors cannot be written \(File too large\)"),
    ],
    ids=["killed", "raises", "root raises", "disk full"],
)
def test_a_rank_that_fails_ends_the_job(tmp_path: Path, rank: int, what: str, message: str) -> None:
    """The launcher or the rank reports why, and one process resumes the run where it was saved."""
    output = run(2, script(tmp_path, what, rank), code=None)
    assert re.search(message, output), output
    assert ("Traceback" in output) == ("ValueError" in what)
    made = Run.open(tmp_path / "run")
    assert made.config["status"] != "finished"
    done = len(made.metrics("epoch"))
    assert done >= 1
    train, test = data.digits_dataset(320, 40, classes=(0, 1, 2))
    history = fastcnn.fit(
        fastcnn.models.report_cnn(seed=0), train, test, epochs=done + 1, batch_size=32,
        out=tmp_path / "run", resume=True,
    )  # fmt: skip
    assert history.status == "finished"
    assert [epoch["epoch"] for epoch in history.epochs] == list(range(1, done + 2))
    assert np.isfinite([step["loss"] for step in history.steps]).all()


def test_a_rank_with_other_data_is_named(tmp_path: Path) -> None:
    output = run(2, script(tmp_path, seed="world.rank"), code=None)
    assert "rank 1 on " in output
    assert "has data.checksum" in output
    assert not (tmp_path / "run").exists()


FAILING_RANK = """
import numpy as np, fastcnn
from fastcnn.distributed import join
world = join()
x = np.random.default_rng(0).random((64, 1, 28, 28), np.float32)
if world.rank == 1:
    x[3, 0, 0, 0] = np.nan
fastcnn.fit(fastcnn.models.report_cnn(seed=0), (x, np.arange(64) % 3), epochs=1, world=world)
"""


def test_a_rank_whose_preparation_fails_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(FAILING_RANK)
    output = run(2, tmp_path / "script.py", code=1)
    assert "RankError: rank 1 of 2 on " in output
    assert "train: samples contain NaN or infinity" in output


OTHER_CODE = """
import os, sys
if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
    sys.path.insert(0, {other!r})
from fastcnn.cli import main
main()
"""


def test_a_rank_with_other_code_is_named(archive: Path, tmp_path: Path) -> None:
    other = shutil.copytree(
        Path(fastcnn.__file__).parent, tmp_path / "other" / "fastcnn",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    with (other / "optim" / "optimizers.py").open("a") as file:
        file.write("\n")
    (tmp_path / "start.py").write_text(OTHER_CODE.format(other=str(tmp_path / "other")))
    out = tmp_path / "run"
    output = run(2, tmp_path / "start.py", "train", "--data", archive, "--out", out, code=None)
    assert re.search("processes differ, compared with rank 0: rank 1 on .* has code '", output)
    assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_checkpoint(number: int, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(2, "-m", "fastcnn", "train", "--data", archive, "--epochs", 5000, "--out", out)
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size > 5000):
        time.sleep(0.05)
    process.send_signal(number)
    try:
        output = process.communicate(timeout=300)[0]
    finally:
        process.kill()
    assert process.returncode != 0
    assert f"if the job is cut short: fastcnn train --resume {out}" in output
    made = Run.open(out)
    assert made.config["status"] == "interrupted"
    epochs = len(made.metrics("epoch")) + 1
    command("train", "--resume", out, "--epochs", epochs)
    assert [r["epoch"] for r in Run.open(out).metrics()] == list(range(1, epochs + 1))
    assert Run.open(out).config["status"] == "finished"


def test_what_is_predicted_stands_beside_what_is_measured() -> None:
    output = run(2, "-m", "fastcnn", "scale", "--ranks", 4, "--average-every", 4)
    assert output.count("batch 64 for all") == 1
    found = re.search(r"on 2 processes: a step takes (\d+) us \(predicted (\d+)\), a sum", output)
    assert found
    assert all(int(number) > 0 for number in found.groups())


def test_an_ordinary_run_does_not_start_mpi() -> None:
    code = "import sys, fastcnn.distributed as d; assert d.launched_size() == 1; print('mpi4py' in sys.modules)"  # noqa: E501
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI", "SLURM"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
