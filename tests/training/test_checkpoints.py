"""Checkpoints: their contents, and invalid ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import CheckpointError
from fastcnn.files import atomic_write
from fastcnn.interop import load_state
from fastcnn.optim import Adam
from fastcnn.training import fit
from fastcnn.training import saver as saver_module
from fastcnn.training.checkpoints import Checkpoint
from fastcnn.training.history import read_records
from tests.training.resuming import TEST, TRAIN, network, settings

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_both_checkpoints_are_kept(tmp_path: Path) -> None:
    history = fit(network(), TRAIN, TEST, **settings(), out=tmp_path)
    best = Checkpoint.read(tmp_path / "checkpoints/last.safetensors").state
    assert best["best_loss"] == min(history.column("test_loss"))
    model = network()
    load_state(model, tmp_path / "checkpoints/best.safetensors")
    assert fastcnn.training.evaluate(model, TEST)[0] == pytest.approx(best["best_loss"], rel=1e-6)


@pytest.mark.parametrize(
    "kind", ["truncated", "flipped", "one bit", "foreign", "of another run", "missing"]
)
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
    elif kind == "of another run":
        other = network()
        other[2].weight[...] = 0.01
        fit(other, TRAIN, TEST, **settings(epochs=1), out=tmp_path / "other")
        path.write_bytes((tmp_path / "other/checkpoints/last.safetensors").read_bytes())
    else:
        path.unlink()
    model = network()
    before = model.parameter_vector.copy()
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        fit(model, TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)
    assert (model.parameter_vector == before).all()


def test_arrays_that_are_not_contiguous_survive(tmp_path: Path) -> None:
    value = np.arange(12.0).reshape(3, 4)
    content = Checkpoint({"a": [value.T, {"b": value[:, ::2]}], "none": None}).to_bytes()
    state = Checkpoint.from_bytes(content, tmp_path / "c").state
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


def changed_state(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a checkpoint with another state, and a correct checksum."""
    state = Checkpoint.read(path).state
    change(state)
    atomic_write(path, Checkpoint(state).to_bytes())


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a step of 10^9": lambda s: s["loop"].update(step=10**9),
    "a step of 10^18": lambda s: s["loop"].update(step=10**18),
    "a step of 10^30": lambda s: s["loop"].update(step=10**30),
    "half a step": lambda s: s["loop"].update(step=2.5),
    "a step in words": lambda s: s["loop"].update(step="one"),
    "no step": lambda s: s["loop"].pop("step"),
    "a step too many in the epoch": lambda s: s["loop"]["progress"].update(done=1),
    "an epoch too many": lambda s: s["loop"]["progress"].update(epoch=3),
    "an unknown count": lambda s: s["loop"]["progress"].update(other=1),
    "a sum that is not a number": lambda s: s["loop"]["progress"].update(loss_sum=float("nan")),
    "a rate that is text": lambda s: s["loop"]["control"].update(lr_factor="x"),
    "a rate that is infinite": lambda s: s["loop"]["control"].update(lr_factor=float("inf")),
    "no generator": lambda s: s["loop"].update(generator={}),
    "an average of one number": lambda s: s["loop"]["average"].update(average=np.float32(1.0)),
    "an average that is infinite": lambda s: s["loop"]["average"]["average"].fill(np.inf),
    "an average of steps to come": lambda s: s["loop"]["average"].update(step=10**6),
    "the average's step in words": lambda s: s["loop"]["average"].update(step="x"),
    "best weights of another shape": lambda s: s["best"].update(
        {key: value[:1] for key, value in s["best"].items()}
    ),
    "last good weights that lack one": lambda s: s["loop"]["last_good"].popitem(),
    "callbacks that are numbers": lambda s: s["loop"].update(callbacks=[1, 2]),
    "a list": lambda s: s.update(loop=[]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_that_says_something_else_is_refused(name: str, tmp_path: Path) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    path = tmp_path / "checkpoints/last.safetensors"

    def change(state: dict[str, Any]) -> None:
        average = state["loop"]["average"]
        average["average"] = average["average"].copy()
        CHANGES[name](state)

    changed_state(path, change)
    model = network()
    before = model.parameter_vector.copy()
    with pytest.raises(CheckpointError):
        fit(model, TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)
    assert (model.parameter_vector == before).all()


GOOD_RECORDS = (
    b'{"kind": "step", "epoch": 1, "step": 1, "loss": 0.5, "lr": 0.1}\n'
    b'{"kind": "epoch", "epoch": 1, "train_loss": 0.5, "train_accuracy": 0.9, "test_loss": null, '
    b'"validation_loss": null, "validation_accuracy": null, '
    b'"test_accuracy": null, "seconds": 0.1, "samples_per_second": 100.0}\n'
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0.5", b'"0.5"'), (b"0.5", b"null"), (b"0.5", b"NaN"), (b"0.5", b"Infinity"),
        (b"0.5", b"1e999"), (b"0.5", b"[]"), (b"0.5", b"{}"), (b"0.5", b"true"), (b"0.5", b""),
        (b"0.5", b"1" * 5000), (b'"step": 1', b'"step": 0'), (b'"step": 1', b'"step": -1'),
        (b'"step": 1', b'"step": 1.5'), (b'"step": 1', b'"step": true'),
        (b'"step": 1', b'"step": 9007199254740992'), (b'"step": 1', b'"other": 1'),
        (b'"epoch": 1', b'"epoch": null'), (b'"kind": "step"', b'"kind": "other"'),
        (b'"kind": "step"', b'"kind": []'), (b'"lr": 0.1', b'"x": 0.1'),
        (b'"train_loss": 0.5', b'"train_loss": "x"'), (b'"seconds": 0.1', b'"seconds": "x"'),
        (b'"test_loss": null, ', b""), (b'"validation_loss": null, ', b""),
        (b'{"kind": "step"', b"[" * 50_000 + b'{"kind": "step"'),
        (b'{"kind": "step"', b'5\n{"kind": "step"'), (b'{"kind": "step"', b'\n{"kind": "step"'),
        (b'{"kind": "step"', b'\xff\xfe{"kind": "step"'),
    ],
)  # fmt: skip
def test_a_damaged_line_of_the_records_is_named(old: bytes, new: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(GOOD_RECORDS)
    assert len(read_records(path)) == 2
    assert old in GOOD_RECORDS
    path.write_bytes(GOOD_RECORDS.replace(old, new))
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: line [12] is damaged"):
        read_records(path)


def test_a_line_that_a_killed_process_was_writing_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for length in range(len(GOOD_RECORDS)):
        path.write_bytes(GOOD_RECORDS[:length])
        assert len(read_records(path)) == GOOD_RECORDS[:length].count(b"\n")
