"""``fastcnn compare``, ``fastcnn sweep`` and the training options, as a user runs them."""

import json
import signal
import sys
from pathlib import Path

import pytest

from fastcnn import data
from tests.command import fastcnn, process, started


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits012.npz"
    data.write_npz(path, *data.digits_dataset(400, 100, classes=(0, 1, 2)))
    return path


def test_options_of_training_and_comparison(archive: Path, tmp_path: Path) -> None:
    fastcnn(
        "train", "--data", archive, "--epochs", 3, "--ema-decay", 0.9,
        "--reduce-on-plateau", 0, "--out", tmp_path / "a",
    )  # fmt: skip
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["training"]["ema_decay"] == 0.9
    output = fastcnn(
        "train", "--data", archive, "--epochs", 200, "--early-stopping", 2, "--lr", 0.1,
        "--optimizer", "rmsprop", "--out", tmp_path / "b",
    )  # fmt: skip
    assert "stopped early: validation loss has not improved since epoch" in output
    output = fastcnn("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c.png")
    assert "b: optimizer=rmsprop, lr=0.1," in output
    assert (tmp_path / "c.png").stat().st_size > 1000
    assert "two or more" in fastcnn("compare", tmp_path / "a", code=2)


def test_tensorboard(archive: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    fastcnn("train", "--data", archive, "--epochs", 1, "--tensorboard", "--out", tmp_path / "a")
    assert list((tmp_path / "a").glob("events.out.tfevents.*"))


def test_augmentation_from_the_command_line(archive: Path, tmp_path: Path) -> None:
    words = "digits,elastic=1,mixup=0.2"
    fastcnn("train", "--data", archive, "--epochs", 2, "--augment", words, "--out", tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["training"]["augment"]["elastic"] == 1.0
    fastcnn("train", "--resume", tmp_path / "a", "--epochs", 3)
    assert "no setting named 'spin'" in fastcnn(
        "train", "--data", archive, "--augment", "spin=3", "--out", tmp_path / "b", code=2
    )
    assert not (tmp_path / "b").exists()


def test_sweep(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    output = process(
        "sweep", "lr=0.0,0.02", "batch-size=32,64", "epochs=1", "--data", archive, "--out", out
    )
    assert "4 of 4 trials" in output
    assert f"best: fastcnn train --data {archive}" in output.replace("\n", "")
    lines = [json.loads(line) for line in (out / "sweep.jsonl").open()]
    assert sorted(line["number"] for line in lines) == [1, 2, 3, 4]
    assert all(line["epochs"][0]["validation_loss"] > 0 for line in lines)
    assert (out / "sweep.png").stat().st_size > 1000
    output = fastcnn("sweep", "lr=0.02", "--data", archive, "--out", out, code=2)
    assert "has the results of a sweep: choose another --out" in output.replace("\n", " ")
    assert len((out / "sweep.jsonl").read_text().splitlines()) == 4
    output = fastcnn(
        "sweep", "lr=log:1e-3..0.1", "epochs=1", "--trials", 3, "--workers", 1,
        "--data", archive, "--metric", "validation_loss", "--validation", 0.3,
        "--out", tmp_path / "other",
    )  # fmt: skip
    assert "3 of 3 trials" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr"], "write NAME=VALUE"),
        (["lr=1", "lr=2"], "lr is given twice: write lr=VALUE,VALUE"),
        (["lr=a..b"], "a range needs two numbers"),
        (["lr=0.1..0.2"], "ranges need a number of random trials"),
        (["lr=fast"], "lr must be a finite number or auto, got 'fast'"),
        (["speed=1"], "no option named speed"),
        (["lr=0.1", "--metric", "f2"], "metric must be one of"),
        (["lr=0.1", "--validation", "0"], "holds out nothing to measure validation_accuracy on"),
    ],
)
def test_bad_sweeps(arguments: list[str], message: str, archive: Path) -> None:
    output = fastcnn("sweep", *arguments, "--data", archive, code=2)
    assert message in output.replace("\n", " ")


def test_sweep_by_a_metric(archive: Path, tmp_path: Path) -> None:
    output = fastcnn(
        "sweep", "lr=0.0,0.05", "epochs=1", "--metric", "f1", "--data", archive, "--workers", 1,
        "--out", tmp_path / "sweep",
    )  # fmt: skip
    assert "validation f1" in output
    assert "--lr 0.05 --metrics f1" in output
    lines = [json.loads(line) for line in (tmp_path / "sweep" / "sweep.jsonl").open()]
    assert all(isinstance(line["epochs"][-1]["validation_f1"], float) for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--momentum", 0.5, "--optimizer", "adam"], "momentum has no effect with the optimizer"),
        (["--nesterov", "--optimizer", "rmsprop"], "nesterov has no effect with the optimizer"),
        (["--activation", "relu", "--model", "lenet5"], "activation has no effect with the model"),
        (["--label-smoothing", 0, "--loss", "mse"], "label_smoothing has no effect with the loss"),
        (["--reduce-on-plateau", 9], "reduce_on_plateau=9 has no effect within 5 epochs"),
        (["--average-every", 3], "average_every=3 has no effect on one process"),
        (["--overwrite"], "--overwrite has no effect without --out"),
        (["--validation-split"], "validation_split"),
        (["--data-dir", "."], "data_dir"),
        (["--epochs", -1], "epochs must be an integer of at least 0, got -1"),
        (["--loss", "hinge"], "loss must be one of cross_entropy, "),
    ],
)
def test_options_that_do_nothing(
    arguments: list[object], message: str, archive: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Refused before anything is written."""
    monkeypatch.chdir(tmp_path)
    output = fastcnn("train", "--data", archive, *arguments, code=2)
    assert message in output.replace("\n", " ")
    assert not list(tmp_path.iterdir())


@pytest.mark.posix
def test_a_failed_trial_is_an_exit_status(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    output = fastcnn(
        "sweep", "lr=0.02,1e38", "epochs=1", "--workers", 1, "--data", archive, "--out", out, code=1
    )
    assert "1 of 2 trials failed; the first: lr=1e+38 epochs=1  failed: " in output
    assert "best: fastcnn train" in output
    assert len((out / "sweep.jsonl").read_text().splitlines()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_nothing_outlives_a_sweep_that_is_killed(name: str, archive: Path, tmp_path: Path) -> None:
    arguments = ["epochs=1,100000,100001", "--workers", 2, "--data", archive]
    with started("sweep", *arguments, "--out", tmp_path / "sweep") as going:
        assert going.stdout is not None
        assert "1 of 3 trials" in going.stdout.readline()
        going.send_signal(getattr(signal, name))
        # Workers hold the pipe, too: it ends when the last process of the sweep has ended.
        assert going.communicate(timeout=300)[0] == ""
    assert going.returncode == -getattr(signal, name)


def test_control_c_ends_a_sweep_with_its_results(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    with started(
        "sweep", "epochs=1,100000,100001", "--workers", 2, "--data", archive, "--out", out
    ) as going:
        assert going.stdout is not None
        assert going.stdout.readline().startswith("1 of 3 trials")
        going.send_signal(signal.SIGINT)
        output, errors = going.communicate(timeout=300)
    assert going.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert "best: fastcnn train" in output
    assert len((out / "sweep.jsonl").read_text().splitlines()) == 1
