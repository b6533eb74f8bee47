"""Output of commands: at 80 columns, without truncation, and no more than requested."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcnn import data
from fastcnn.cli import app
from fastcnn.cli.app import COMMANDS
from fastcnn.estimators import CNNClassifier
from fastcnn.training.progress import describe_epoch
from tests.command import fastcnn, started


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with ten classes."""
    folder = tmp_path_factory.mktemp("run")
    fastcnn("train", "--model", "lenet5", "--data", "digits", "--epochs", 1, "--out", folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    images, labels = data.draw_digits(12, seed=9)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / f"of-{label}").mkdir(exist_ok=True)
        Image.fromarray(image[0]).save(folder / f"of-{label}" / f"{index}.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.command.SETTINGS", {"NO_COLOR": "1", "COLUMNS": "80"})


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    """rich would interpret some names as emojis or styles."""
    generator = np.random.default_rng(0)
    for name in (":dog:", "[bold]"):
        (tmp_path / ":cat:" / name).mkdir(parents=True)
        for index in range(12):
            pixels = generator.integers(0, 256, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / ":cat:" / name / f"{index}.png")
    picture = tmp_path / "data.png"
    output = fastcnn("data", "show", tmp_path / ":cat:", "--out", picture)
    assert ":dog:" in output
    assert "[bold]" in output
    output = fastcnn("train", "--data", tmp_path / ":cat:", "--epochs", 1, "--out", tmp_path / "r")
    assert ":cat:: 2" in output
    folder = Path(app.__file__).parent
    found = [path.name for path in folder.glob("*.py") if "import Console" in path.read_text()]
    assert found == ["screen.py"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("columns")
def test_help_fits_80_columns(command: str) -> None:
    text = fastcnn(command, "--help")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


@pytest.mark.parametrize(
    ("command", "several"),
    [("predict", "PICTURE..."), ("compare", "RUN..."), ("sweep", "NAME=VALUES..."),
     ("study", "EXPERIMENT..."), ("bench", "SUITE...")],
)  # fmt: skip
def test_arguments_that_may_be_repeated_end_in_dots(command: str, several: str) -> None:
    assert several in fastcnn(command, "--help").splitlines()[1]


@pytest.mark.usefixtures("columns")
def test_ten_classes_fit_80_columns(run: Path, pictures: Path) -> None:
    text = fastcnn("predict", run, pictures)
    assert max(map(len, text.split("12 pictures: ")[0].splitlines())) <= 80
    assert "…" not in text
    assert "skipped: 1 of another kind (.txt)" in text
    every = fastcnn("predict", run, "--all", next(pictures.rglob("*.png")))
    assert every.count(" %") == 10


def test_a_folder_as_comma_separated_values(run: Path, pictures: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(fastcnn("predict", run, pictures, "--csv"))))
    assert [Path(row["image"]) for row in rows] == sorted(pictures.rglob("*.png"))
    for row in rows:
        shares = {name: float(row[name]) for name in "0123456789"}
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-4)
        assert row["class"] == max(shares, key=lambda name: shares[name])
    objects = fastcnn("predict", run, pictures, "--json").splitlines()
    assert [json.loads(line)["class"] for line in objects] == [row["class"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", "--json"], "exclude each other"),
        (["--all", "--csv"], "exclude each other"),
        ([], "no pictures (.bmp, "),
    ],
)
def test_predictions_that_cannot_be_made(
    arguments: list[str], message: str, run: Path, tmp_path: Path
) -> None:
    assert message in fastcnn("predict", run, tmp_path, *arguments, code=2).replace("\n", " ")


@pytest.mark.parametrize("parts", [("test",), ("validation",), ("validation", "test")])
def test_lines_of_epochs_fit_80_columns(parts: tuple[str, ...]) -> None:
    epoch = {"epoch": 100, "seconds": 99.99, "samples_per_second": 1e6}
    for part in ("train", *parts):
        epoch |= {f"{part}_loss": 12.3456, f"{part}_accuracy": 1.0}
    assert len(describe_epoch(epoch, 100)) <= 80
    assert describe_epoch(epoch, 100).count(
        "12.346 100.0 %".replace(" ", ", " if len(parts) < 2 else " ", 1)
    ) == 1 + len(parts)


def test_other_data_leave_the_pictures_of_a_run_alone(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    data.write_npz(other, *data.digits_dataset(100, 100, seed=5))
    fastcnn("evaluate", run)
    before = (run / "confusion.png").read_bytes()
    text = fastcnn("evaluate", run, "--data", other)
    assert (run / "confusion.png").read_bytes() == before
    assert (run / "confusion-other.png").stat().st_size > 1000
    assert "mistakes-other.png" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("profile", "--figure"),
        ("data", "show", "digits", "--out"),
        ("compare", "one", "other", "--out"),
    ],
)
def test_a_picture_is_what_its_name_says(arguments: tuple[str, ...], tmp_path: Path) -> None:
    text = fastcnn(*arguments, tmp_path / "roof.xyz", code=2)
    assert "must end in one of .png, .svg, .pdf" in text.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_a_picture_as_svg(tmp_path: Path) -> None:
    fastcnn("data", "show", "digits", "--out", tmp_path / "digits.svg")
    assert b"<svg" in (tmp_path / "digits.svg").read_bytes()[:500]


def test_a_sweep_recommends_no_seed_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    archive = tmp_path / "small.npz"
    data.write_npz(archive, *data.digits_dataset(60, 30, classes=(0, 1, 2)))
    text = fastcnn(
        "sweep", "seed=0,1,2,3,4,5,6", "lr=0.01,0.02", "epochs=1", "--workers", 1,
        "--data", archive, "--out", tmp_path / "sweep",
    )  # fmt: skip
    assert "the best 12 of them" in text
    (best,) = (line for line in text.splitlines() if line.startswith("best"))
    assert best.startswith("best (by the mean of its 7 seeds): fastcnn train")
    assert "--seed" not in best


def test_a_range_is_named_as_it_was_written() -> None:
    text = fastcnn("sweep", "lr=log:3..1", "--trials", 2, code=2)
    assert text.rstrip().endswith("got log:3..1")


@pytest.mark.posix
def test_control_c_says_what_a_study_has(tmp_path: Path) -> None:
    with started("study", "wrong_gradients", "gallery", "--out", tmp_path) as going:
        while not (tmp_path / "index.html").exists():
            assert going.poll() is None
            time.sleep(0.05)
        going.send_signal(signal.SIGINT)
        _, errors = going.communicate(timeout=300)
    assert going.returncode == 130
    assert "interrupted: no experiment has finished; not run: wrong_gradients, gallery" in errors


@pytest.mark.parametrize("leaving", ["raise", "raise SystemExit(130) from None"])
def test_ctrl_c_within_executed_text_ends_as_any_other(tmp_path: Path, leaving: str) -> None:
    lines = (
        "import fastcnn.cli",
        "def make(arguments):",
        "    try:",
        "        exec('raise KeyboardInterrupt')",
        "    except KeyboardInterrupt:",
        f"        {leaving}",
        "fastcnn.cli.run(make)",
    )
    (tmp_path / "interrupted.py").write_text("\n".join(lines))
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, check=False)
    assert done.returncode == 130


def test_estimators_say_nothing_unless_asked(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.zeros((40, 64), np.float32)
    y = np.arange(40) % 2
    for verbose in (0, 1):
        CNNClassifier("mlp", epochs=4, verbose=verbose, input_shape=(64,)).fit(x, y)
        assert bool(caplog.records) == bool(verbose)
        assert bool(capsys.readouterr().out) == bool(verbose)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--nope"], "No such option: --nope"),
        (["predict"], "Missing argument 'RUN'"),
        (["nope"], "No such command 'nope'"),
        (["bench", "nope"], "no suite 'nope': must be one of step, zoo"),
        (["train", "--batch-size", "some"], "Invalid value for '--batch-size'"),
    ],
)
def test_wrong_words_are_one_line_that_says_where_to_look(words: list[str], said: str) -> None:
    output = fastcnn(*words, code=2)
    assert output.startswith("error: ")
    assert said in output
    assert output.rstrip().endswith("--help")
    assert output.count("\n") == 1
