"""``fastcnn recipes`` and ``fastcnn train --recipe``, as a user runs them."""

import json
import tomllib
from pathlib import Path

import pytest

from fastcnn import data, recipes
from tests.command import drawn_once, fastcnn


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits012.npz"
    with drawn_once():
        data.write_npz(path, *data.digits_dataset(200, 50, classes=(0, 1, 2)))
    return path


def test_list() -> None:
    listed = fastcnn("recipes")
    for name in recipes.names():
        assert f"\n{name} " in f"\n{listed}"
    shown = fastcnn("recipes", "mnist-99")
    assert tomllib.loads(shown) == recipes.get("mnist-99").settings
    assert "no recipe named 'mnist-100'" in fastcnn("recipes", "mnist-100", code=2)


def test_train(archive: Path, tmp_path: Path) -> None:
    written = tmp_path / "mine.toml"
    output = fastcnn(
        "train", "--recipe", "simplechains-lenet", "--data", archive, "--epochs", 2, "--lr", 0.002,
        "--model", "report_cnn", "--write-recipe", written, "--out", tmp_path / "a",
    )  # fmt: skip
    assert "simplechains-lenet: 67,539 parameters" in output
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["optimizer"]["name"] == "adam"
    assert config["optimizer"]["lr"] == 0.002
    assert config["training"]["batch_size"] == 128
    assert config["preprocessing"]["mean"] == [0.0]
    mine = recipes.get(written)
    assert mine.options.epochs == 2
    assert mine.data_name == str(archive)
    assert (mine.about, mine.published) == ("", {}), "those are of the original"
    fastcnn("train", "--recipe", written, "--out", tmp_path / "b")
    first, second = ((tmp_path / name / "metrics.jsonl").read_text() for name in "ab")
    assert [json.loads(line).get("loss") for line in first.splitlines()] == [
        json.loads(line).get("loss") for line in second.splitlines()
    ]
    fastcnn("train", "--resume", tmp_path / "a", "--epochs", 3)
    fastcnn("evaluate", tmp_path / "a")


def test_network_in_a_file_of_a_models_name(archive: Path, tmp_path: Path) -> None:
    described = tmp_path / "lenet5.toml"
    described.write_text(
        "input_shape = [1, 28, 28]\n[[layers]]\ntype = 'Flatten'\n"
        "[[layers]]\ntype = 'Linear'\nin_features = 784\nout_features = 3\n"
    )
    mine, run = tmp_path / "mine.toml", tmp_path / "run"
    mine.write_text(
        f"[data]\nname = '{archive}'\n[model]\nname = '{described}'\n[training]\nepochs = 1\n"
    )
    assert "2,355 parameters" in fastcnn("train", "--recipe", mine, "--out", run)
    assert json.loads((run / "config.json").read_text())["model"]["name"] is None
    fastcnn("evaluate", run)


def test_refused(archive: Path, tmp_path: Path) -> None:
    mnist = ("--recipe", "mnist-99")
    refused = {
        ("--recipe", "mnist-99", "--momentum", "0.9"): "momentum has no effect with its optimizer",
        ("--recipe", "nothing"): "no recipe named 'nothing'",
        ("--write-recipe", tmp_path / "a.toml"): "--write-recipe has no effect without --recipe",
        (*mnist, "--write-recipe", "a"): "a recipe's file must end in .toml, got a",
        (*mnist, "--augment", "shift=28", "--write-recipe", tmp_path / "a.toml"): (
            "shift must be smaller than the pictures"
        ),
    }
    for words, message in refused.items():
        output = fastcnn("train", "--data", archive, "--out", tmp_path / "x", *words, code=2)
        assert message in output
        assert not (tmp_path / "x").exists()
        assert not (tmp_path / "a.toml").exists()
