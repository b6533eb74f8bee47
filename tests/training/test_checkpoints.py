"""Checkpoints: what they keep, and those that are no good."""

from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import CheckpointError
from fastcnn.interop import load_state
from fastcnn.optim import Adam
from fastcnn.training import fit
from fastcnn.training import saver as saver_module
from fastcnn.training.checkpoints import Checkpoint
from tests.training.resuming import TEST, TRAIN, network, settings

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_both_checkpoints_are_kept(tmp_path: Path) -> None:
    history = fit(network(), TRAIN, TEST, **settings(), out=tmp_path)
    best = Checkpoint.read(tmp_path / "checkpoints/last.safetensors").state
    assert best["best_loss"] == min(history.column("test_loss"))
    model = network()
    load_state(model, tmp_path / "checkpoints/best.safetensors")
    assert fastcnn.training.evaluate(model, TEST)[0] == pytest.approx(best["best_loss"], rel=1e-6)


@pytest.mark.parametrize("kind", ["truncated", "flipped", "one bit", "foreign", "missing"])
def test_a_checkpoint_that_is_no_good_is_refused(tmp_path: Path, kind: str) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    path = tmp_path / "checkpoints/last.safetensors"
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "flipped":
        path.write_bytes(b"\xff" * 8 + content[8:])
    elif kind == "one bit":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 64]) + content[-8:])
    elif kind == "foreign":
        path.write_bytes((tmp_path / "model.safetensors").read_bytes())
    else:
        path.unlink()
    model = network()
    before = model.parameter_vector.copy()
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        fit(model, TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)
    assert (model.parameter_vector == before).all()


def test_arrays_that_are_not_contiguous_survive(tmp_path: Path) -> None:
    value = np.arange(12.0).reshape(3, 4)
    Checkpoint({"a": [value.T, {"b": value[:, ::2]}], "none": None}).write(tmp_path / "c")
    state = Checkpoint.read(tmp_path / "c").state
    assert (state["a"][0] == value.T).all()
    assert (state["a"][1]["b"] == value[:, ::2]).all()
    assert state["none"] is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b'{"format": "fastcnn-run-1", "training": []}'),
        ("config.json", b"\xff\xfe"),
        ("metrics.jsonl", b"\xff\xfe"),
        ("metrics.jsonl", b"5\n"),
        ("metrics.jsonl", b""),
        ("checkpoints/last.safetensors", b"\x80\x04K\x01."),
        ("checkpoints/last.safetensors", b"\xff" * 7 + b"\x00"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    (tmp_path / name).write_bytes(content)
    model = network()
    before = model.parameter_vector.copy()
    with pytest.raises(CheckpointError, match=Path(name).stem):
        fit(model, TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)
    assert (model.parameter_vector == before).all()


def test_records_in_another_order_are_refused(tmp_path: Path) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(CheckpointError, match="in another order"):
        fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)


def test_the_best_weights_survive_a_kill_between_two_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"callbacks": [], "optimizer": Adam(lr=0.01), "schedule": "constant"}
    fit(network(), TRAIN, TEST, **settings(**changes), out=tmp_path / "whole")
    folder, kept = tmp_path / "parts", saver_module.Saver.save_best
    monkeypatch.setattr(saver_module.Saver, "save_best", lambda self: None)
    fit(network(), TRAIN, TEST, **settings(**changes), out=folder)
    monkeypatch.setattr(saver_module.Saver, "save_best", kept)
    best = "checkpoints/best.safetensors"
    assert not (folder / best).exists()
    fit(network(), TRAIN, TEST, **settings(**changes), out=folder, resume=True)
    assert (folder / best).read_bytes() == (tmp_path / "whole" / best).read_bytes()


def test_leftovers_of_a_kill_within_a_write_are_removed(tmp_path: Path) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1, schedule="constant"), out=tmp_path)
    left = [tmp_path / "checkpoints/.last.safetensors.abcd1234", tmp_path / ".config.json.x"]
    for path in left:
        path.write_bytes(b"half")
    mine = tmp_path / ".notes"
    mine.write_bytes(b"of the user")
    changed = settings(epochs=2, schedule="constant")
    fit(network(), TRAIN, TEST, **changed, out=tmp_path, resume=True)
    assert not any(path.exists() for path in left)
    assert mine.exists()
