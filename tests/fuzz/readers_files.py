"""Readers of weights, checkpoints, ONNX files, models as text, and the files of a run's folder."""

import contextlib
import json
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import layers as nn
from fastcnn.analysis.runs import compare_runs
from fastcnn.errors import FastcnnError
from fastcnn.interop import export_onnx, import_onnx, load_state
from fastcnn.layers.definition import from_definition, read_definition
from fastcnn.layers.description import to_definition
from fastcnn.optim import Adam
from fastcnn.training import EarlyStopping, fit
from fastcnn.training.run import Run
from fastcnn.weights import CHECKSUM, _checksum, weights_from_bytes, weights_to_bytes
from tests.fuzz.registry import register
from tests.fuzz.structures import UNCHANGED, changed_json, changed_lines, changed_onnx

SHAPE = (2, 6, 6)
X = np.random.default_rng(0).standard_normal((6, *SHAPE)).astype(np.float32)
Y = np.arange(6) % 3
SETTINGS: dict[str, Any] = {
    "batch_size": 3, "optimizer": Adam(lr=0.01), "backend": "im2col", "ema_decay": 0.9,
    "diagnose": False, "seed": 1,
}  # fmt: skip
LAST = "checkpoints/last.safetensors"


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, seed=0), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
        nn.Linear(48, 3, seed=1), input_shape=SHAPE,
    )  # fmt: skip


def networks() -> list[nn.Sequential]:
    return [
        network(),
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding="same", groups=2, seed=0), nn.LeakyReLU(0.2),
            nn.MaxPool2d(2), nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1, seed=1),
            nn.Softplus(2.0, 3.0), nn.AdaptiveAvgPool2d((3, 2)), nn.Dropout2d(0.3),
            nn.GlobalAvgPool2d(), nn.Flatten(), input_shape=SHAPE,
        ),
        nn.Sequential(
            nn.Residual(
                nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, bias=False, seed=0), nn.GELU())
            ),
            nn.AvgPool2d(3, 2, 1), nn.SiLU(), nn.PReLU(2), nn.AdaptiveAvgPool2d((2, 3)),
            input_shape=SHAPE,
        ),
    ]  # fmt: skip


# -- models ----------------------------------------------------------------------------------


@cache
def onnx_files() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        contents = []
        for model in networks():
            export_onnx(model, Path(folder) / "m.onnx")
            contents.append((Path(folder) / "m.onnx").read_bytes())
    return contents


def definitions() -> list[bytes]:
    return [json.dumps(to_definition(model)).encode() for model in networks()]


def read_model(path: Path) -> None:
    definition = read_definition(path)
    model = from_definition(definition)
    if model.input_shape is not None:
        model.output_shape(model.input_shape)


TOML = b"""input_shape = [1, 8, 8]
[[layers]]
type = "Conv2d"
in_channels = 1
out_channels = 2
kernel_size = [3, 3]
padding = 1
[[layers]]
type = "Flatten"
[[layers]]
name = "last"
type = "Linear"
in_features = 128
out_features = 3
"""
assert tomllib.loads(TOML.decode())

register("onnx", onnx_files, import_onnx, "m.onnx")
register("model.json", definitions, read_model, "m.json")


def seeds() -> list[bytes]:
    return [UNCHANGED]


def import_checked(path: Path) -> None:
    """Import a model; if it is accepted, its outputs equal ONNX Runtime's."""
    model = import_onnx(path)
    onnxruntime = pytest.importorskip("onnxruntime")
    onnxruntime.set_default_logger_severity(4)
    assert model.input_shape is not None
    if np.prod(model.input_shape) > 10_000:
        return
    x = np.random.default_rng(0).standard_normal((2, *model.input_shape)).astype(np.float32)
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        expected = session.run(None, {session.get_inputs()[0].name: x})[0]
    except Exception:  # it takes less than the standard does, such as one batch size alone
        return
    with np.errstate(all="ignore"):
        found = model.logits(x, backend="im2col")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


register("onnx, changed values", seeds, import_checked, "m.onnx", changed_onnx(onnx_files))
for place, _ in enumerate(definitions()):
    register(
        f"model.json, changed values {place}", seeds, read_model, "m.json",
        changed_json(lambda place=place: definitions()[place]),  # type: ignore[misc]
    )  # fmt: skip
register("model.toml", lambda: [TOML], read_model, "m.toml")

# -- weights ---------------------------------------------------------------------------------


def sealed(content: bytes) -> bytes:
    """The file with a correct checksum, if it is still a safetensors file."""
    from safetensors.numpy import load

    try:
        arrays = load(content)
        start = 8 + int.from_bytes(content[:8], "little")
        found = json.loads(content[8:start])
        texts = {k: v for k, v in found["__metadata__"].items() if k != CHECKSUM}
    except Exception:  # it is for the reader to refuse
        return content
    found["__metadata__"] = {**texts, CHECKSUM: _checksum(arrays, texts)}
    header = json.dumps(found).encode()
    return len(header).to_bytes(8, "little") + header + content[start:]


def plain_weights() -> list[bytes]:
    from safetensors.numpy import save

    return [save(network().copy_state(), {"format": "pt"}), save(network().copy_state())]


def own_weights() -> list[bytes]:
    return [weights_to_bytes(network().state_dict(), network().preprocessing.to_metadata())]


def load_weights(path: Path) -> None:
    load_state(network(), path)


register("safetensors", plain_weights, load_weights, "m.safetensors")
register("weights", own_weights, load_weights, "m.safetensors")
register("weights, sealed", own_weights, load_weights, "m.safetensors", sealed)

# -- run folders -----------------------------------------------------------------------------


@cache
def run_folder() -> Path:
    """A run of two epochs, for this process."""
    folder = Path(tempfile.mkdtemp(prefix="fastcnn-fuzz-")) / "run"
    train(folder, epochs=2)
    return folder


def train(folder: Path, **more: Any) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(folder / "curves.png").unlink()
    callbacks = [EarlyStopping(patience=9)]
    fit(network(), (X, Y), (X, Y), **SETTINGS, callbacks=callbacks, out=folder, **more)


def copied(file: str, path: Path) -> Path:
    """A copy of the run's folder with one file replaced."""
    folder = path.parent / "run"
    shutil.copytree(run_folder(), folder)
    shutil.copyfile(path, folder / file)
    return folder


def of_run(file: str) -> Callable[[], list[bytes]]:
    return lambda: [(run_folder() / file).read_bytes()]


def use(folder: Path) -> None:
    """Everything that can be done with a finished run."""
    run = Run.open(folder)
    model = run.load_model()
    assert len(run.classes) < 100
    with np.errstate(over="ignore", invalid="ignore"):  # weights may be as large as float32 is
        model.logits(X, backend="im2col")
    run.metrics("epoch")
    run.metrics("step")
    compare_runs([run_folder(), folder]).table()


def resume(folder: Path) -> None:
    train(folder, epochs=3, resume=True)


def both(folder: Path) -> None:
    """Use a run, and resume it: the first refusal must not hide what the second does."""
    refusal = None
    for step in (use, resume):
        try:
            step(folder)
        except FastcnnError as error:
            refusal = error
    if refusal is not None:
        raise refusal


def unsealed_config() -> list[bytes]:
    config = json.loads((run_folder() / "config.json").read_text())
    del config["checksum"]
    return [json.dumps(config).encode()]


def checkpoint_state() -> list[bytes]:
    content = (run_folder() / LAST).read_bytes()
    return [weights_from_bytes(content, "last")[1]["state"].encode()]


def with_state(text: bytes) -> bytes:
    """A checkpoint with another state, and a correct checksum."""
    arrays, texts = weights_from_bytes((run_folder() / LAST).read_bytes(), "last")
    state = text.decode("utf-8", "replace").encode("utf-8", "replace").decode()
    return weights_to_bytes(arrays, {**texts, "state": state})


def reader(file: str, then: Callable[[Path], None]) -> Callable[[Path], None]:
    """A function that reads a run with one file replaced."""
    return lambda path: then(copied(file, path))


register("config.json", of_run("config.json"), reader("config.json", both), "x", cost=8)
register("config.json, unsealed", unsealed_config, reader("config.json", both), "x", cost=8)
register("metrics.jsonl", of_run("metrics.jsonl"), reader("metrics.jsonl", both), "x", cost=8)
WEIGHTS = "model.safetensors"
register("weights of a run, sealed", of_run(WEIGHTS), reader(WEIGHTS, use), "x", sealed, cost=8)
register("checkpoint", of_run(LAST), reader(LAST, resume), "x", cost=8)
register("checkpoint, sealed", of_run(LAST), reader(LAST, resume), "x", sealed, cost=8)
register("checkpoint's state", checkpoint_state, reader(LAST, resume), "x", with_state, cost=8)
register("config.json, changed values", seeds, reader("config.json", both), "x",
         changed_json(lambda: unsealed_config()[0]), cost=6)  # fmt: skip
register("metrics.jsonl, changed values", seeds, reader("metrics.jsonl", both), "x",
         changed_lines(lambda: of_run("metrics.jsonl")()[0]), cost=6)  # fmt: skip
new_state = changed_json(lambda: checkpoint_state()[0])
register("checkpoint's state, changed values", seeds, reader(LAST, resume), "x",
         lambda content: with_state(new_state(content)), cost=6)  # fmt: skip
