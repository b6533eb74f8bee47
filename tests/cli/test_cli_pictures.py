"""From a folder of a user's own pictures to a network: what is chosen, and what is reported."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn.data import chosen_pictures
from fastcnn.errors import ConfigurationError
from fastcnn.training.options import TrainingOptions
from fastcnn.training.recipe import Recipe, suited
from fastcnn.training.sweeps import sweep
from tests.command import fastcnn as run_command

RNG = np.random.default_rng(0)


def picture(size: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    """Noise around a colour."""
    noise = RNG.integers(-40, 40, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two colours in pictures of mixed sizes."""
    folder = tmp_path_factory.mktemp("colours")
    for name, colour in (("red", (200, 60, 60)), ("blue", (60, 60, 200))):
        (folder / name).mkdir()
        for index in range(24):
            size = (40 + 7 * index % 50, 33 + 11 * index % 9)
            picture(size, colour).save(folder / name / f"{index}.png")
    return folder


def write(folder: Path, sizes: list[tuple[int, int]], colour: tuple[int, int, int]) -> Path:
    for name in ("a", "b"):
        (folder / name).mkdir()
        for index, size in enumerate(sizes):
            picture(size, colour).save(folder / name / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    ("sizes", "colour", "shape"),
    [
        ([(28, 28)] * 3, (90, 90, 90), (1, 28, 28)),
        ([(60, 20)] * 3, (90, 90, 90), (1, 20, 60)),
        ([(640, 480)] * 3, (200, 60, 60), (3, 64, 64)),
        ([(30, 50), (50, 30), (40, 34)], (200, 60, 60), (3, 28, 28)),
        ([(5, 9), (9, 5), (7, 7)], (90, 90, 90), (1, 16, 16)),
    ],
)
def test_the_pictures_decide(
    sizes: list[tuple[int, int]], colour: Any, shape: Any, tmp_path: Path
) -> None:
    rule, line = chosen_pictures(write(tmp_path, sizes, colour))
    assert rule.shape == shape
    assert f"as {shape[2]} x {shape[1]}" in line
    assert ("colour" in line) == (shape[0] == 3)
    asked, _ = chosen_pictures(tmp_path, image_size=24, gray=shape[0] == 3)
    assert asked.shape == (4 - shape[0], 24, 24)
    with pytest.raises(ConfigurationError, match=r"image_size must lie in 4\.\.1024 pixels, got 2"):
        chosen_pictures(tmp_path, image_size=2)


def test_one_command_trains_on_a_folder(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "a run"
    text = run_command("train", "--data", colours, "--epochs", 6, "--out", out)
    assert "are read in colour and as 32 x 32 (see --image-size, --gray)" in text
    assert "chosen for " in text
    assert "--augment shift=2,rotation=10,scale=0.1,flip" in text
    assert "auto: " in text
    lines = text.splitlines()
    end = next(index for index, line in enumerate(lines) if line.startswith("test accuracy "))
    assert lines[end + 1] == f"run written to {out}; curves.png shows its losses and accuracies"
    assert lines[end + 2 : end + 5] == [
        f"next: fastcnn evaluate '{out}'",
        f"      fastcnn predict '{out}' PICTURE",
        f"      fastcnn serve '{out}'",
    ]
    config = json.loads((out / "config.json").read_text())
    assert config["data"]["validation_samples"] > 0
    assert config["training"]["epochs"] == 6
    # Every other command reads pictures by the same rule.
    found = json.loads(run_command("predict", out, colours / "red" / "0.png", "--json"))
    assert set(found["probabilities"]) == {"red", "blue"}
    assert "accuracy" in run_command("evaluate", out)
    resumed = run_command("train", "--resume", out, "--epochs", 6, code=2)
    assert "finished its 6 epochs" in resumed


def test_the_accuracy_is_that_of_the_weights_that_are_kept(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = run_command(
        "train",
        "--data",
        colours,
        "--epochs",
        30,
        "--early-stopping",
        1,
        "--lr",
        0.03,
        "--out",
        out,
    )
    said = text.split("test accuracy ")[1].split(" %")[0]
    evaluated = run_command("evaluate", out).split("accuracy ")[1].split(" %")[0]
    assert said == evaluated


def test_options_that_are_given_count(colours: Path, tmp_path: Path) -> None:
    train, _ = fastcnn.data.load(colours, pictures=chosen_pictures(colours)[0])
    everything = suited(train, Recipe(), ())
    assert set(everything) == {
        "batch_size", "epochs", "optimizer", "lr", "schedule", "early_stopping", "augment",
    }  # fmt: skip
    Recipe(**everything)
    assert "optimizer" not in suited(train, Recipe(momentum=0.5), ["momentum"])
    assert "lr" not in suited(train, Recipe(optimizer="adam"), ["optimizer"])
    assert "early_stopping" not in suited(train, Recipe(epochs=2), ["epochs"])
    many = fastcnn.data.digits_dataset(6_000, 10)[0]
    assert "augment" not in suited(many, Recipe(), ())
    text = run_command(
        "train", "--data", colours, "--image-size", 20, "--gray", "--epochs", 1, "--augment",
        "flip", "--model", "lenet5", "--out", tmp_path / "r", code=2,
    )  # fmt: skip
    assert "samples have shape (1, 20, 20), the model takes (1, 28, 28)" in text.replace("\n", " ")


def test_recommended_commands_repeat_what_was_measured(colours: Path, tmp_path: Path) -> None:
    """Without these options fastcnn train would choose others for pictures."""
    options = ("--data", colours, "--out")
    text = run_command("sweep", "lr=0.01", "epochs=1", "--workers", 1, *options, tmp_path / "sweep")
    (best,) = (line for line in text.splitlines() if line.startswith("best: "))
    run_command(*shlex.split(best)[2:], "--out", tmp_path / "run")
    trial = json.loads((tmp_path / "sweep" / "sweep.jsonl").read_text())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert TrainingOptions.from_config(config) == TrainingOptions.from_config(
        Recipe.of(trial["recipe"]).config()
    )
    text = run_command(
        "lr-find", "--optimizer", "sgd", "--batch-size", 64, "--image-size", 16, "--gray",
        *options, tmp_path / "lr.png",
    )  # fmt: skip
    assert "--batch-size 64 --optimizer sgd" in text
    assert "--image-size 16 --gray" in text


def test_sweeps_start_from_what_training_chooses(colours: Path, tmp_path: Path) -> None:
    for name, options in (("first", ()), ("plain", ("--augment", "none"))):
        out = ("--epochs", 6, "--early-stopping", "none", "--out", tmp_path / name)
        run_command("train", "--data", colours, *options, *out)
    trained = [
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("first", "plain")
    ]
    assert trained[0]["training"]["augment"]["shift"] == 2
    assert trained[1]["training"]["augment"] is None
    train, _ = fastcnn.data.load(colours, pictures=chosen_pictures(colours)[0])
    settings = [{"epochs": 6, "early_stopping": None}]
    settings.append({**settings[0], "augment": "none"})
    trials = list(sweep(train, settings, workers=1, suit=True))
    assert [trial.recipe.config()["training"] for trial in trials] == [
        config["training"] for config in trained
    ]
    (alone,) = sweep(train, [{"epochs": 6}], base=Recipe(validation=0), workers=1, suit=True)
    assert alone.status == "finished"


def test_sizes_and_colours_are_for_folders() -> None:
    for option in (("--image-size", 20), ("--gray",), ("--rgb",)):
        text = run_command("train", "--data", "digits012", *option, code=2)
        assert "are for picture files, not for digits012" in text.replace("\n", " ")


@pytest.mark.parametrize(
    ("shape", "samples", "stages"),
    [((1, 8, 8), 100, 2), ((3, 32, 32), 100, 3), ((3, 64, 64), 5_000, 4), ((1, 20, 200), 10, 3),
     ((2, 3, 3), 1, 1)],
)  # fmt: skip
def test_a_network_for_any_image(shape: Any, samples: int, stages: int) -> None:
    model = fastcnn.models.auto_cnn(shape, 5, samples, seed=0)
    names = [name for name, _ in model.named_leaves()]
    assert sum(name.startswith("bn") for name in names) == stages * (1 if samples < 2_000 else 2)
    assert ("dropout" in names) == (samples < 2_000)
    x = np.random.default_rng(0).random((4, *shape), np.float32)
    assert model.predict_proba(x).shape == (4, 5)
    with pytest.raises(ConfigurationError, match="auto_cnn needs images"):
        fastcnn.models.auto_cnn(shape[1:], 5, samples)


def test_the_default_model_fits_the_images(tmp_path: Path) -> None:
    digits, _ = fastcnn.data.digits_dataset(50, 10)
    assert Recipe().model_name(digits) == "report_cnn"
    small = fastcnn.Dataset(
        np.ascontiguousarray(digits.images[:, :, 4:20, 4:20]), digits.labels, digits.classes,
        digits.preprocessing,
    )  # fmt: skip
    assert Recipe().model_name(small) == "auto"
    assert Recipe(model="auto").make_model(digits).input_shape == (1, 28, 28)
    with pytest.raises(ConfigurationError, match="activation has no effect with the model auto"):
        Recipe(activation="tanh").make_model(small)
    with pytest.raises(ConfigurationError, match="ds_cnn, auto, or a"):
        Recipe(model="resnet9")


def test_find_a_rate_from_the_command_line(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "rates.svg"
    text = run_command("lr-find", "--data", "digits012", "--out", out)
    assert text.startswith("learning rate 0.0")
    assert "next: fastcnn train --data digits012 --lr 0.0" in text
    assert out.stat().st_size > 1000
    text = run_command("lr-find", "--data", colours, "--seed", 3, "--out", tmp_path / "a.png")
    assert "--batch-size 32 --optimizer adamw --lr 0.0" in text
    assert "--seed 3" in text
    assert "must end in one of" in run_command("lr-find", "--out", "rates.doc", code=2)
    text = run_command(
        "train", "--data", colours, "--epochs", 1, "--lr", "auto", "--out", tmp_path / "r"
    )
    assert "test accuracy" in text
    assert "lr must be a finite number or auto" in run_command("train", "--lr", "quick", code=2)


def test_info_says_how_to_get_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastcnn.cli import info

    monkeypatch.setattr(info, "find_spec", lambda name: None if name == "onnx" else name)
    monkeypatch.setattr(info.shutil, "which", lambda name: None)
    text = run_command("info")
    assert "pip install 'fastcnn[onnx]'" in text
    assert "bin/activate" in text
    assert "fastcnn[torch]" not in text
