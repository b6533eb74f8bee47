"""Data on the command line: changes since training, and paths that are not data."""

import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn import Conv2d, Flatten, Input, Linear, Model, Sequential, data, fit
from fastcnn.errors import ConfigurationError
from fastcnn.training.recipe import Recipe
from tests.command import fastcnn, process

GENERATOR = np.random.default_rng(0)


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(GENERATOR.integers(0, 256, (12, 12)).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, and the run of a network that was trained on them."""
    folder = tmp_path_factory.mktemp("grown")
    for name in ("cat", "dog"):
        for index in range(30):
            put(folder / "pets" / name / f"{index}.png")
    (folder / "net.toml").write_text(
        'input_shape = [1, 12, 12]\n[[layers]]\ntype = "Flatten"\n'
        '[[layers]]\ntype = "Linear"\nin_features = 144\nout_features = 2\n'
    )
    fastcnn("train", "--data", folder / "pets", "--model", folder / "net.toml", "--epochs", "1",
            "--out", folder / "run", "--no-diagnose")  # fmt: skip
    return folder


def test_a_network_with_more_outputs_than_classes(trained: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.toml"
    text = (trained / "net.toml").read_text()
    wide.write_text(text.replace("out_features = 2", "out_features = 7"))
    output = fastcnn("train", "--data", trained / "pets", "--model", wide, code=2)
    assert "the network has 7 outputs, and pets has 2 classes" in output
    network = Sequential(Flatten(), Linear(144, 7, seed=0), input_shape=(1, 12, 12))
    fit(network, data.load(trained / "pets")[0], epochs=1, out=tmp_path / "run", diagnose=False)
    picture = next((trained / "pets" / "cat").iterdir())
    found = json.loads(fastcnn("predict", tmp_path / "run", picture, "--json"))
    assert list(found["probabilities"]) == ["cat", "dog", *(f"output {i}" for i in range(2, 7))]
    output = fastcnn("evaluate", tmp_path / "run", "--data", trained / "pets", code=2)
    assert "output 2, output 3" in output


def test_networks_that_the_commands_do_not_show(tmp_path: Path) -> None:
    x = np.zeros((8, 1, 12, 12), np.uint8)
    y = np.arange(8) % 2
    put(tmp_path / "a.png")
    given = Input((1, 12, 12))
    flat = Flatten()(given)
    heads = Model(given, {"a": Linear(144, 2, seed=0)(flat), "b": Linear(144, 2, seed=1)(flat)})
    losses = {"a": "cross_entropy", "b": "cross_entropy"}
    fit(heads, (x, {"a": y, "b": y}), epochs=1, loss=losses, out=tmp_path / "heads", diagnose=False)
    for command in ("predict", "explain"):
        output = fastcnn(command, tmp_path / "heads", tmp_path / "a.png", code=2)
        assert "the network has 2 outputs" in output or "only networks trained on cl" in output
    output = fastcnn("evaluate", tmp_path / "heads", "--data", "digits012", code=2)
    assert "the network has 2 outputs: evaluate it in Python" in output
    pixels = Sequential(Conv2d(1, 2, 1, seed=0), input_shape=(1, 12, 12))
    fit(pixels, (x, x[:, 0] // 128), epochs=1, out=tmp_path / "pixels", diagnose=False)
    output = fastcnn("evaluate", tmp_path / "pixels", "--data", "digits012", code=2)
    assert "the network outputs arrays of shape (2, 12, 12): evaluate it in Python" in output


def test_evaluate_on_data_of_other_classes(trained: Path, tmp_path: Path) -> None:
    for name in ("cat", "mouse", "dog"):
        for index in range(30):
            put(tmp_path / "zoo" / name / f"{index}.png")
    output = fastcnn("evaluate", trained / "run", "--data", tmp_path / "zoo")
    assert "zoo: images of other classes are left out: mouse" in output
    shutil.rmtree(tmp_path / "zoo" / "dog")
    output = fastcnn("evaluate", trained / "run", "--data", tmp_path / "zoo", code=2)
    assert "zoo: its classes are cat, mouse; the network of" in output
    assert "has the classes cat, dog: dog missing" in output


def test_evaluate_says_which_test_pictures_have_changed(trained: Path, tmp_path: Path) -> None:
    assert "warning" not in fastcnn("evaluate", trained / "run")
    pets = trained / "pets"
    kept = tmp_path / "kept"
    shutil.copytree(pets, kept)
    try:
        for index in range(100, 130):
            put(pets / "cat" / f"{index}.png")
        output = fastcnn("evaluate", trained / "run")
        assert "the test data have changed since training (checksum" in output
        assert "new (cat/1" in output
        assert "missing" not in output
        shutil.rmtree(pets / "dog")
        put(pets / "dog" / "0.png")
        assert "missing (dog/" in fastcnn("evaluate", trained / "run")
    finally:
        shutil.rmtree(pets)
        shutil.move(kept, pets)
    for path in pets.rglob("*.png"):
        put(path)
    assert "other content" in fastcnn("evaluate", trained / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "a.npy"), "a single array, .npy"),
        (("--data", "a.csv"), "one of them label"),
        (("--data", "empty"), "at least two classes"),
        (("--data", "nothing"), "no data set named 'nothing'"),
        (("--data-dir", "nothing"), "nothing does not exist"),
        (("--data", "mnist", "--data-dir", "nothing"), "nothing does not exist"),
        (("--data", "mnist", "--data-dir", "empty"), "does not hold the four files"),
        (("--data", "digits", "--data-dir", "empty"), "data_dir is for data sets of files"),
        (("--data", "digits", "--validation-split"), "validation_split is for mnist"),
    ],
)
def test_data_that_cannot_be_used(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.zeros((3, 8, 8)))
    Path("a.csv").write_text("a,b\n1,2\n")
    Path("empty").mkdir()
    output = fastcnn("train", *arguments, "--out", "run", code=2)
    assert message in output.replace("\n", " ")
    assert not Path("run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    for name in ("pipe", "pipe.toml", "pipe.png", "config.json"):
        os.mkfifo(tmp_path / name)
    for arguments, message in (
        (("train", "--data", tmp_path / "pipe"), "is a pipe (FIFO), not a file"),
        (("train", "--model", tmp_path / "pipe.toml"), "not a regular file"),
        (("evaluate", tmp_path), "not a regular file"),
    ):
        assert message in process(*arguments, code=2)


def test_home_folder_in_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x_train=np.zeros((4, 6, 6)), y_train=[0, 1, 0, 1],
             x_test=np.zeros((2, 6, 6)), y_test=[0, 1])  # fmt: skip
    (tmp_path / "home").mkdir()
    shutil.move("a.npz", tmp_path / "home" / "a.npz")
    fastcnn("data", "show", "~/a.npz", "--out=~/pictures/a.png")
    fastcnn("data", "prepare", "--data", "~/a.npz", "--classes", "0,1", "--out", "~/b.npz")
    assert (tmp_path / "home" / "pictures" / "a.png").exists()
    assert (tmp_path / "home" / "b.npz").exists()
    assert sorted(path.name for path in Path().iterdir()) == ["home"]


def test_pictures_in_an_archive_at_a_chosen_size(tmp_path: Path) -> None:
    """Trained, resumed and evaluated with the same pictures."""
    path, rng = tmp_path / "pets.zip", np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for label in ("cat", "dog"):
            for index in range(16):
                pixels = rng.integers(0, 100, (20, 24, 3)) + 100 * (label == "dog")
                buffer = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(buffer, "png")
                archive.writestr(f"pets/{label}/{index}.png", buffer.getvalue())
    run = tmp_path / "run"
    common = ("train", "--data", path, "--image-size", "28x28", "--gray", "--schedule", "constant")
    output = fastcnn(*common, "--epochs", 2, "--validation", 0.2, "--out", run)
    assert "2 classes" in output
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["input_shape"] == [1, 28, 28]
    fastcnn("train", "--resume", run, "--epochs", 3)
    assert "test images, accuracy" in fastcnn("evaluate", run)
    output = fastcnn("train", "--data", "digits012", "--image-size", 9, code=2)
    assert "--image-size, --gray and --rgb are for picture files, not for digits012" in output
    assert "--gray" in fastcnn("train", "--resume", run, "--epochs", 4, "--gray", code=2)


def test_cross_validation_and_views(tmp_path: Path) -> None:
    output = fastcnn(
        "cross-validate", "--folds", 2, "--data", "digits012", "--epochs", 1, "--steps-per-epoch", 9
    )
    assert "fold 2: loss" in output
    assert "2 folds: loss" in output
    run = tmp_path / "run"
    fastcnn("train", "--data", "digits012", "--epochs", 1, "--steps-per-epoch", 9, "--out", run)
    assert "test images, accuracy" in fastcnn("evaluate", run, "--tta", "six-view")
    refused = fastcnn("evaluate", run, "--tta", "x", code=2)
    assert "tta must be one of flip, five-view, six-view" in refused


def test_options_that_are_typed_are_not_chosen_for_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if they equal the default."""
    from fastcnn.training import cross_validation

    for label in ("a", "b"):
        for index in range(6):
            put(tmp_path / label / f"{index}.png")
    seen: list[dict[str, Any]] = []

    def stop(*given: Any, **options: Any) -> None:
        seen.append(options)
        raise ConfigurationError("seen")

    monkeypatch.setattr(cross_validation, "cross_validate", stop)
    default = Recipe().epochs
    fastcnn("cross-validate", "--data", tmp_path, "--epochs", default, code=2)
    fastcnn("cross-validate", "--data", tmp_path, code=2)
    assert seen[0]["epochs"] == default != seen[1]["epochs"]


def test_joint_statistics_need_several_processes() -> None:
    for name in ("--sync-batch-norm", "--no-sync-batch-norm"):
        message = fastcnn("train", "--data", "digits012", name, code=2)
        assert "--sync-batch-norm has no effect on one process" in message
        assert name in fastcnn("cross-validate", "--data", "digits012", name, code=2)
