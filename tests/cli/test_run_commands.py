"""Every kind of run with every command: it works, or one line reports what is missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastcnn as library
from fastcnn import data
from fastcnn.layers import Conv2d, Flatten, Linear, Model, ReLU, Sequential
from fastcnn.layers.description import to_definition
from fastcnn.optim import Adam
from fastcnn.serve import server as server_module
from fastcnn.training import Run
from tests.command import fastcnn

RNG = np.random.default_rng(0)
#: Grey squares, dark or bright at the top: two classes, or a brightness to predict.
LABELS = np.arange(60) % 2
BYTES = RNG.integers(100, 156, (60, 1, 8, 8)).astype(np.uint8)
BYTES[LABELS == 1, :, :4] += 90
BYTES[LABELS == 0, :, :4] -= 90
FLOATS = (BYTES / 255).astype(np.float32)
VALUES = BYTES.mean(axis=(1, 2, 3)) / 255


def network(outputs: int = 2, shape: tuple[int, ...] = (1, 8, 8)) -> Sequential:
    return Sequential(
        Conv2d(shape[0], 4, 3, seed=0), ReLU(), Flatten(), Linear(144, outputs, seed=1),
        input_shape=shape,
    )  # fmt: skip


class Own(Model):
    """A model without a definition."""

    def __init__(self) -> None:
        super().__init__({"flat": Flatten(), "fc": Linear(64, 2, seed=0)}, input_shape=(1, 8, 8))

    def connect(self, builder: Any, name: str, source: int) -> int:
        """Connect in a row."""
        for child, layer in self.layers.items():
            source = layer.connect(builder, child, source)
        return source


def train(model: Model, folder: Path, *training: Any, **options: Any) -> None:
    settings = {"epochs": 20, "optimizer": Adam(lr=3e-3), "diagnose": False, **options}
    library.fit(model, *training, out=folder, **settings)


def drawn(size: int = 28) -> tuple[data.Dataset, data.Dataset]:
    return data.digits_dataset(120, 30, classes=(0, 1, 2))


def from_folder(folder: Path) -> None:
    for index, pixels in enumerate(BYTES[:, 0]):
        path = folder / "pictures" / f"class {LABELS[index]}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (folder / "net.json").write_text(json.dumps(to_definition(network())))
    fastcnn("train", "--data", folder / "pictures", "--model", folder / "net.json", "--epochs", 20,
            "--optimizer", "adam", "--lr", 0.003, "--out", folder / "run", "--quiet")  # fmt: skip


def from_npz(folder: Path) -> None:
    np.savez(folder / "a.npz", x_train=BYTES[:, 0], y_train=LABELS, x_test=BYTES[:20, 0],
             y_test=LABELS[:20])  # fmt: skip
    (folder / "net.json").write_text(json.dumps(to_definition(network())))
    fastcnn("train", "--data", folder / "a.npz", "--model", folder / "net.json", "--epochs", 20,
            "--optimizer", "adam", "--lr", 0.003, "--out", folder / "run", "--quiet")  # fmt: skip


def of_flat(folder: Path) -> None:
    model = Sequential(Linear(64, 2, seed=0), input_shape=(64,))
    train(model, folder / "run", (FLOATS.reshape(60, 64), LABELS))


MADE: dict[str, Callable[[Path], None]] = {
    "folder": from_folder,
    "npz": from_npz,
    "bytes": lambda f: train(network(), f / "run", (BYTES, LABELS)),
    "floats": lambda f: train(network(), f / "run", (FLOATS, LABELS), (FLOATS, LABELS)),
    "standardised": lambda f: train(network(), f / "run", ((FLOATS - 0.5) / 0.2, LABELS)),
    "flat": of_flat,
    "two channels": lambda f: train(
        network(shape=(2, 8, 8)), f / "run", (np.repeat(BYTES, 2, axis=1), LABELS)
    ),
    "one value": lambda f: train(
        network(1), f / "run", (BYTES, VALUES), loss=library.MSELoss(), epochs=100
    ),
    "two values": lambda f: train(
        network(), f / "run", (BYTES, np.stack([VALUES, 1 - VALUES], 1)), loss=library.MSELoss()
    ),
    "squared classes": lambda f: train(
        network(), f / "run", (BYTES, LABELS), loss=library.MSELoss()
    ),
    "own model": lambda f: train(Own(), f / "run", (BYTES, LABELS)),
    "drawn by name": lambda f: train(
        library.models.report_cnn(seed=0), f / "run", *drawn(), epochs=1
    ),
}
#: Each command's message, by kind of run; None if it works.
NOT_LOADED = "has no definition"
NO_DATA = "trained in Python on arrays, which cannot be reloaded: give the data with --data"
FLAT, CHANNELS = "shape (64,), which are not pictures", "shape (2, 8, 8), which are not pictures"
UNITS = "and it is unknown how pixels convert to them"
ANSWERS: dict[str, dict[str, str | None]] = {
    "folder": {},
    "npz": {},
    "bytes": {"evaluate": NO_DATA},
    "floats": {"evaluate": NO_DATA},
    "standardised": {
        "evaluate": NO_DATA, "evaluate --data": "got bytes", "predict": UNITS, "serve": UNITS,
    },
    "flat": {
        "evaluate": NO_DATA, "evaluate --data": "samples have shape (1, 8, 8)",
        "predict": FLAT, "serve": FLAT,
    },
    "two channels": {
        "evaluate": NO_DATA, "evaluate --data": "samples have shape (1, 8, 8)",
        "predict": CHANNELS, "serve": CHANNELS,
    },
    "one value": {
        "evaluate": "predicts value, not classes", "evaluate --data": "predicts value,",
        "serve": "gives value, not classes",
    },
    "two values": {
        "evaluate": "predicts values, not classes", "evaluate --data": "predicts values",
        "serve": "gives values, not classes",
    },
    "squared classes": {"evaluate": NO_DATA},
    "own model": dict.fromkeys(
        ("evaluate", "evaluate --data", "predict", "serve", "export .onnx", "export .safetensors"),
        NOT_LOADED,
    ),
    "drawn by name": {
        "evaluate": "the data set of that name has other images: give the data with --data",
        "evaluate --data": "has the classes 0, 1, 2: 2 missing",
    },
}  # fmt: skip
COMMANDS: dict[str, Callable[[Path, int], str]] = {
    "evaluate": lambda f, code: fastcnn("evaluate", f / "run", code=code),
    "evaluate --data": lambda f, code: fastcnn(
        "evaluate", f / "run", "--data", f / "test.npz", code=code
    ),
    "predict": lambda f, code: fastcnn(
        "predict", f / "run", f / "0.png", f / "1.png", "--json", code=code
    ),
    "serve": lambda f, code: fastcnn("serve", f / "run", "--port", 0, "--no-browser", code=code),
    "export .onnx": lambda f, code: fastcnn("export", f / "run", "--out", f / "m.onnx", code=code),
    "export .safetensors": lambda f, code: fastcnn(
        "export", f / "run", "--out", f / "m.safetensors", code=code
    ),
    "compare": lambda f, code: fastcnn(
        "compare", f / "run", f / "copy", "--out", f / "c.png", code=code
    ),
}


@pytest.fixture(scope="module", params=MADE)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run, with pictures and an .npz file for its commands."""
    import shutil

    folder = tmp_path_factory.mktemp("run")
    MADE[request.param](folder)
    shutil.copytree(folder / "run", folder / "copy")
    for index in (0, 1):
        Image.fromarray(BYTES[index, 0]).save(folder / f"{index}.png")
    names = np.array(["class 0", "class 1"] if request.param == "folder" else ["0", "1"])
    np.savez(folder / "test.npz", x_train=BYTES, y_train=names[LABELS], x_test=BYTES,
             y_test=names[LABELS])  # fmt: skip
    return request.param, folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(made: Any, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, folder = made
    if command.endswith(".onnx"):
        pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.setattr(server_module.PageServer, "serve_forever", lambda self: None)
    message = ANSWERS[name].get(command)
    output = COMMANDS[command](folder, 0 if message is None else 2)
    if message is not None:
        assert message in output
        assert output.count("\n") == 1
        assert output.startswith("error: ")
        return
    if command == "predict":
        answers = [json.loads(line) for line in output.splitlines()]
        check_answers(name, answers)
    if command == "evaluate --data":
        assert "accuracy 100.00 %" in output


def check_answers(name: str, answers: list[dict[str, Any]]) -> None:
    if name == "one value":
        found = [answer["values"][0] for answer in answers]
        assert found == pytest.approx(VALUES[:2], abs=0.05)
    elif name == "two values":
        assert [len(answer["values"]) for answer in answers] == [2, 2]
    elif name != "drawn by name":
        names = ["class 0", "class 1"] if name == "folder" else ["0", "1"]
        assert [answer["class"] for answer in answers] == names
        assert list(answers[0]["probabilities"]) == names


def test_what_a_loaded_run_predicts(made: Any) -> None:
    name, folder = made
    if name == "own model":
        return
    run = Run.open(folder / "run")
    model = run.load_model()
    kind = {"one value": "value", "two values": "values"}.get(name, "classes")
    assert model.predicts == kind
    x = {"flat": FLOATS.reshape(60, 64), "standardised": (FLOATS - 0.5) / 0.2,
         "two channels": np.repeat(BYTES, 2, axis=1)}.get(name, BYTES)  # fmt: skip
    if name == "drawn by name":
        x = drawn()[1].images
    assert model.predict(x).shape == ((len(x), 2) if kind == "values" else (len(x),))
    if kind != "classes":
        return
    assert model.predict(x).dtype == np.int64


def test_evaluate_says_that_a_folder_has_changed(tmp_path: Path) -> None:
    from_folder(tmp_path)
    assert "warning" not in fastcnn("evaluate", tmp_path / "run")
    for name in ("class 0", "class 1"):
        for index in range(30):
            Image.fromarray(BYTES[0, 0]).save(tmp_path / "pictures" / name / f"new {index}.png")
    output = fastcnn("evaluate", tmp_path / "run").replace("\n", " ")
    assert "test data have changed since training" in output


def test_predict_says_what_it_did(tmp_path: Path) -> None:
    train(library.models.report_cnn(seed=0), tmp_path / "run", *drawn(), epochs=1)
    paper = np.full((60, 50), 250, np.uint8)
    paper[20:44, 24:28] = 10
    Image.fromarray(paper).save(tmp_path / "a.png")
    output = fastcnn("predict", tmp_path / "run", tmp_path / "a.png")
    assert "a.png: inverted (it is on bright paper), ink scaled to" in output
    output = fastcnn("predict", tmp_path / "run", tmp_path / "a.png", "--no-invert")
    assert "inverted" not in output
    assert "ink scaled to" in output


def test_data_of_a_relative_path_are_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here", "elsewhere"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28)).astype(np.uint8)
    halves = {"x_train": pixels, "y_train": LABELS[:40], "x_test": pixels, "y_test": LABELS[:40]}
    np.savez("own.npz", **halves)
    fastcnn("train", "--data", "own.npz", "--epochs", 1, "--out", "run", "--quiet")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "40 test images" in fastcnn("evaluate", tmp_path / "here" / "run")
    fastcnn("train", "--resume", tmp_path / "here" / "run", "--epochs", 2, "--quiet")


def test_integers_of_a_run_of_arrays_look_at_given_data(tmp_path: Path) -> None:
    train(network(), tmp_path / "run", (BYTES, LABELS))
    target = ("--out", tmp_path / "net.h", "--int8")
    assert NO_DATA in fastcnn("export", tmp_path / "run", *target, code=2)
    halves = {"x_train": BYTES, "y_train": LABELS, "x_test": BYTES, "y_test": LABELS}
    np.savez(tmp_path / "t.npz", **halves)
    said = fastcnn("export", tmp_path / "run", *target, "--data", tmp_path / "t.npz")
    assert f"accuracy on {len(LABELS)} test images" in said
