"""The command line as a user runs it."""

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import typer

from fastcnn import cli, data
from fastcnn.cli.app import COMMANDS, command, in_paragraphs, summary
from tests.command import ENVIRONMENT, fastcnn, process, started


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits012.npz"
    data.write_npz(path, *data.digits_dataset(1_500, 300, classes=(0, 1, 2)))
    return path


@pytest.fixture(scope="module")
def run(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    output = process("train", "--data", archive, "--epochs", 3, "--out", folder)
    assert "epoch 3/3" in output
    assert "67,539 parameters" in output
    return folder


def test_help_teaches() -> None:
    text = fastcnn("--help")
    for name in ("train", "evaluate", "predict", "gradcheck", "compare-backends", "data"):
        assert name in text
    assert "fastcnn train --activation sigmoid" in fastcnn("train", "--help")
    assert re.fullmatch(r"fastcnn \d+\.\d+\.\d+\n", process("--version"))


def test_warmup_compiles_what_training_may_need() -> None:
    text = fastcnn("warmup")
    assert re.search(r"kernels compiled and \d+ loaded in \d+\.\d s, cached in ", text)


def test_warmup_needs_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr("fastcnn.codegen.build.addresses", None)  # nothing is compiled in vain
    assert "no kernel can be kept: FASTCNN_CACHE_DIR sets" in fastcnn("warmup", code=2)


@pytest.mark.posix
def test_a_file_that_cannot_be_written(archive: Path) -> None:
    output = process("data", "show", archive, "--out", "/proc/x.png", code=2)
    assert output.rstrip().endswith("cannot be read or written (No such file or directory)")


def test_evaluate(run: Path) -> None:
    output = fastcnn("evaluate", run)
    assert "accuracy 9" in output
    assert "precision" in output
    assert (run / "confusion.png").stat().st_size > 1000
    assert (run / "mistakes.png").stat().st_size > 1000


def test_predict(run: Path, tmp_path: Path) -> None:
    from PIL import Image

    images, labels = data.draw_digits(12, classes=(0, 1, 2), seed=9)
    paths = [tmp_path / f"{index}.png" for index in range(12)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(255 - image[0]).resize((56, 56)).save(path)
    lines = process("predict", run, "--json", *paths).splitlines()
    found = [json.loads(line) for line in lines]
    right = sum(row["class"] == str(label) for row, label in zip(found, labels, strict=True))
    assert right >= 10
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)
    assert "0.png" in fastcnn("predict", run, paths[0])
    lanes = process("predict", run, "--json", "--backend", "lanes", *paths).splitlines()
    for line, other in zip(found, map(json.loads, lanes), strict=True):
        assert line["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)


def test_pictures_that_cannot_be_read_do_not_stop_the_others(run: Path, tmp_path: Path) -> None:
    from PIL import Image

    for index, image in enumerate(data.draw_digits(2, seed=9)[0]):
        Image.fromarray(image[0]).save(tmp_path / f"{index}.png")
    damaged = [tmp_path / "0b.png", tmp_path / "0c.png"]
    for path in damaged:
        path.write_bytes(b"no picture")
    output = process("predict", run, "--json", tmp_path, code=1)
    whole = [json.loads(line)["image"] for line in output.splitlines() if line.startswith("{")]
    assert whole == [str(tmp_path / "0.png"), str(tmp_path / "1.png")]
    for text in (output, fastcnn("predict", run, *damaged, code=2)):
        refused = [line for line in text.splitlines() if line.startswith("error: ")]
        assert all(f"{path}: not" in line for path, line in zip(damaged, refused, strict=True))


def test_few_pictures_are_classified_without_the_engine(run: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(data.draw_digits(1, seed=9)[0][0, 0]).save(tmp_path / "1.png")
    code = (
        "import sys; from fastcnn.cli import main\n"
        f"sys.argv = ['fastcnn', 'predict', {str(run)!r}, {str(tmp_path)!r}, '--csv']\n"
        "try: main()\n"
        "finally: print([m for m in sys.modules if m.startswith('fastcnn.backends.lanes')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_data_commands(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.npz"
    fastcnn("data", "prepare", "--data", "digits", "--classes", 4, 7, "--out", out)
    with np.load(out) as file:
        assert sorted(file.files) == ["test_x47", "test_y47", "train_x47", "train_y47"]
    fastcnn("data", "prepare", "--data", archive, "--out", out, "--classes", "0,1")
    with np.load(out) as file:
        assert "train_x01" in file.files
    assert "all" in fastcnn("data", "show", out, "--out", tmp_path / "d.png")
    assert (tmp_path / "d.png").stat().st_size > 1000
    assert "fashion_mnist" in fastcnn("data", "list")


def test_gradcheck_and_comparison() -> None:
    assert "0 wrong" in fastcnn("gradcheck", "--backend", "im2col")
    output = fastcnn("compare-backends", "--batch-size", 2)
    assert "times the reference" in output


def test_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path))
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / "an archive").write_bytes(bytes(2_500_000))
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(bytes(1_000_000))
    (tmp_path / "photos").mkdir()
    output = " ".join(fastcnn("info").replace("│", " ").split())
    for part in (
        "lanes: instructions",
        "register tiles",
        "lanes: threads",
        "lanes: kernels",
        "BLAS",
        "(cifar-10-binary.tar.gz 1.0 MB, kernels 0.0 MB, unpacked 2.5 MB; may be deleted)",
    ):
        assert part in output


def test_errors_are_one_line(archive: Path, tmp_path: Path, run: Path) -> None:
    for arguments, message in (
        (("train", "--data", "nope"), "no data set named 'nope'"),
        (("train", "--data", tmp_path / "nope"), "nope: no such file or folder"),
        (("scale", "--bandwidth", 0), "scale: --bandwidth must be a finite number above 0"),
        (("scale", "--latency", "nan"), "scale: --latency must be a finite number above 0"),
        (("train", "--data", archive, "--optimizer", "lamb"), "optimizer must be one of"),
        (("train", "--data", archive, "--schedule", "x"), "schedule must be one of"),
        (("train", "--data", archive, "--model", "vgg_small", "--out", tmp_path / "v"),
         "samples have shape (1, 28, 28), the model takes (3, 32, 32)"),
        (("train", "--data", archive, "--out", run), "is not empty"),
        (("train", "--data", archive, "--lr", "-1"), "lr must be at least"),
        (("evaluate", tmp_path), "holds no run"),
        (("evaluate", tmp_path / "no"), "no: no such folder"),
        (("evaluate", archive), "is a file, not the folder of a run"),
        (("predict", run, tmp_path / "no.png"), "no such file"),
        (("data", "prepare", "--data", archive, "--out", archive / "x.npz"), "be read or written"),
        (("data", "prepare", "--data", archive, "--out", tmp_path), "--out must end in .npz"),
        (("data", "prepare", archive, "0"), "0: the data set follows --data, classes --classes"),
    ):  # fmt: skip
        output = fastcnn(*arguments, code=2)
        assert message in output.replace("\n", " ")
        assert output.strip().splitlines()[-1].startswith("error: ")


def test_data_of_a_run_that_are_gone(run: Path, tmp_path: Path) -> None:
    moved, gone = tmp_path / "moved", tmp_path / "gone.npz"
    shutil.copytree(run, moved)
    config = json.loads((moved / "config.json").read_text())
    config["data"]["source"] = str(gone)
    del config["checksum"]
    (moved / "config.json").write_text(json.dumps(config))
    output = fastcnn("evaluate", moved, code=2).replace("\n", " ")
    assert f"the data of {moved}: {gone}: no such file or folder" in output


def test_an_error_while_the_kernels_are_loading(archive: Path, run: Path) -> None:
    """The process exits immediately: a normal exit during an LLVM thread crashed one in three."""
    for _ in range(4):
        output = process("train", "--data", archive, "--out", run, code=2)
        assert output.endswith(
            "is not empty: choose another or delete it (fastcnn train: --overwrite)\n"
        )


def test_a_diverged_run_names_its_folder(tmp_path: Path, archive: Path) -> None:
    words = ("--data", archive, "--epochs", 1, "--batch-size", 8)
    output = fastcnn("train", *words, "--lr", 1e6, "--out", tmp_path / "run", code=2)
    weights = tmp_path / "run" / "model.safetensors"
    assert f"up to then are in {weights.parent}; --init {weights} starts from them" in output
    fastcnn("train", *words, "--init", weights, "--out", tmp_path / "next")


@pytest.mark.posix
def test_control_c_leaves_a_usable_run(tmp_path: Path, archive: Path) -> None:
    folder = tmp_path / "run"
    with started("train", "--data", archive, "--epochs", 100000, "--out", folder) as going:
        assert going.stdout is not None
        for line in going.stdout:
            if line.startswith("epoch      1/"):
                break
        going.send_signal(signal.SIGINT)
        _, errors = going.communicate(timeout=300)
    assert going.returncode == 130
    assert "interrupted: weights and metrics so far are in" in errors
    assert json.loads((folder / "config.json").read_text())["status"] == "interrupted"
    assert "accuracy" in fastcnn("evaluate", folder)


@pytest.mark.posix
def test_serve(run: Path) -> None:
    with started("serve", run, "--port", 0, "--no-browser") as going:
        assert going.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", going.stdout.readline())
        assert address is not None
        with urllib.request.urlopen(f"{address[0]}api/model", timeout=300) as reply:
            assert json.load(reply)["classes"] == ["0", "1", "2"]
        port = address[0].rstrip("/").rsplit(":", 1)[1]
        assert f"port {port} cannot be used" in fastcnn("serve", run, "--port", port, code=2)
        going.send_signal(signal.SIGINT)
        _, errors = going.communicate(timeout=300)
    assert going.returncode == 0, errors
    assert "Traceback" not in errors


def test_export_to_c(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.h"
    output = fastcnn("export", run, "--out", path)
    assert "270,380 bytes of constants, 15,680 bytes of working memory" in output.replace("\n", " ")
    assert "int net_predict(const float *sample, float *probabilities)" in path.read_text()
    output = fastcnn("export", run, "--out", path, "--int8", "--calibration", 50)
    found = re.search(r"on 300 test images: ([\d.]+) % .* ([\d.]+) % in 8-bit", output)
    assert found
    assert abs(float(found[1]) - float(found[2])) <= 0.5
    for arguments, message in (
        (("--int8",), "--int8 has no effect without --out FILE.h"),
        (("--out", path, "--calibration", 9), "--calibration has no effect without --int8"),
        (("--out", path, "--fold"), "--fold has no effect without --out FILE.onnx"),
        (("--out", tmp_path / "net.c"), "--out must end in .onnx, .safetensors, .h, .py or .html"),
        (("--out", "."), ".py or .html, got '.'"),
    ):
        assert message in fastcnn("export", run, *arguments, code=2)


def test_export_to_numpy(run: Path, tmp_path: Path) -> None:
    output = fastcnn("export", run, "--out", tmp_path / "net.py")
    assert output.rstrip().endswith("net.py; call predict(images)")
    assert "CLASSES = ['0', '1', '2']" in (tmp_path / "net.py").read_text()


def test_export_to_a_page(run: Path, tmp_path: Path) -> None:
    output = fastcnn("export", run, "--out", tmp_path / "digit.html")
    assert output.rstrip().endswith("digit.html; open it in a browser")
    assert '"classes": ["0", "1", "2"]' in (tmp_path / "digit.html").read_text()


def test_paragraphs_of_help() -> None:
    """They are wrapped at the terminal's width, not at the docstring's lines."""
    for name in COMMANDS:
        for paragraph in in_paragraphs(command(name).__doc__).split("\n\n"):
            assert "\n" not in paragraph or paragraph.startswith(" "), name


def test_examples_fit_a_terminal() -> None:
    for name in COMMANDS:
        for line in in_paragraphs(command(name).__doc__).split("\n"):
            assert not line.startswith(" ") or len(line) <= 78, f"{name}: {line}"


def test_the_list_of_commands_says_what_they_say_of_themselves() -> None:
    for name in COMMANDS:
        found = command(name)
        called = found.registered_callback.callback if isinstance(found, typer.Typer) else found
        assert summary(name) == in_paragraphs(called.__doc__).split("\n\n")[0], name


def test_help_of_a_package_in_a_zip_file(tmp_path: Path) -> None:
    package = Path(cli.__file__).parents[1]
    with zipfile.ZipFile(tmp_path / "fastcnn.zip", "w") as archive:
        for path in package.rglob("*.py"):
            archive.write(path, path.relative_to(package.parent))
    done = subprocess.run(
        [sys.executable, "-m", "fastcnn", "--help"], capture_output=True, text=True, cwd=tmp_path,
        check=False, env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path / "fastcnn.zip")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(f" {name} " in done.stdout for name in COMMANDS)


def test_a_command_imports_what_it_needs() -> None:
    """Help lists all commands without importing them; a command does not import the others."""
    output = fastcnn("--help")
    assert all(f" {name} " in output for name in COMMANDS)
    for arguments in (["--help"], ["data", "list"]):
        code = (
            f"import sys; from fastcnn.cli.app import application; application({arguments}); "
            "print([name for name in ('numpy', 'fastcnn.cli.train', 'fastcnn.training') "
            "if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"
