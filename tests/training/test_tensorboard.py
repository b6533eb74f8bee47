"""TensorBoard events, read back."""

import struct
import sys
from pathlib import Path

import pytest

import fastcnn
from fastcnn.errors import MissingExtraError
from fastcnn.training import TensorBoard, fit


def test_events_hold_the_history(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    from tensorboardX.proto.event_pb2 import Event

    train, test = fastcnn.data.digits_dataset(100, 40, classes=(0, 1, 2))
    model = fastcnn.models.report_cnn(seed=0)
    board = TensorBoard(tmp_path, histograms=True)
    history = fit(model, train, test, epochs=2, callbacks=[board])
    (path,) = tmp_path.glob("events.out.tfevents.*")
    content, position, found = path.read_bytes(), 0, {}
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        event = Event.FromString(content[position + 12 : position + 12 + length])
        position += 12 + length + 4
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value
    for tag, name in (("train/loss", "train_loss"), ("test/accuracy", "test_accuracy")):
        values = [found[tag][step].simple_value for step in (1, 2)]
        assert values == pytest.approx(history.column(name))
    losses = [found["step/loss"][record["step"]].simple_value for record in history.steps]
    assert losses == pytest.approx([record["loss"] for record in history.steps])
    assert found["conv1.weight"][2].histo.num == 36


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    message = r"tensorboardX is not installed: pip install 'fastcnn\[tensorboard\]'"
    with pytest.raises(MissingExtraError, match=message):
        TensorBoard(tmp_path)
