"""ONNX files accept the model's inputs: its preprocessing is in the graph and in the metadata."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data import Preprocessing
from fastcnn.errors import ConfigurationError
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.layers import Conv2d, Flatten, Linear, Sequential

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
BYTES = np.random.default_rng(0).integers(0, 256, (12, 2, 5, 5)).astype(np.uint8)
FLOATS = (BYTES / 255).astype(np.float32)
NORMALISED = Preprocessing((0.3, 0.6), (0.5, 0.25))


def network(flat: bool = False, outputs: int = 3) -> Sequential:
    layers = [Linear(2, 3, seed=0)] if flat else [Conv2d(2, 4, 3, seed=0), Flatten(),
                                                  Linear(36, outputs, seed=1)]  # fmt: skip
    model = Sequential(*layers, input_shape=(2,) if flat else (2, 5, 5))
    model.preprocessing = NORMALISED
    return model


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize("flat", [False, True])
def test_a_file_takes_what_the_model_takes(flat: bool, tmp_path: Path) -> None:
    model = network(flat)
    x = FLOATS[:, :, 0, 0] if flat else FLOATS
    export_onnx(model, tmp_path / "m.onnx")
    assert run(tmp_path / "m.onnx", x) == pytest.approx(model.logits(x), abs=1e-5)
    back = import_onnx(tmp_path / "m.onnx")
    assert back.preprocessing == NORMALISED
    assert back.logits(x) == pytest.approx(model.logits(x), abs=1e-6)
    assert len(back.graph().nodes) == len(model.graph().nodes)
    # A second round trip: nothing is applied twice.
    export_onnx(back, tmp_path / "again.onnx")
    assert run(tmp_path / "again.onnx", x) == pytest.approx(model.logits(x), abs=1e-5)


def test_what_fit_set_travels(tmp_path: Path) -> None:
    model = network(outputs=1)
    y = FLOATS.mean(axis=(1, 2, 3))
    fastcnn.fit(model, (BYTES, y), epochs=1, loss=fastcnn.MSELoss(), diagnose=False)
    export_onnx(model, tmp_path / "m.onnx")
    back = import_onnx(tmp_path / "m.onnx")
    assert (back.preprocessing, back.predicts) == (model.preprocessing, "value")
    assert back.predict(BYTES) == pytest.approx(model.predict(BYTES), abs=1e-6)
    assert run(tmp_path / "m.onnx", FLOATS)[:, 0] == pytest.approx(model.predict(BYTES), abs=1e-5)


def other_mean(file: Any) -> None:
    file.metadata_props[0].value = file.metadata_props[0].value.replace("0.3", "0.4")


def more_channels(file: Any) -> None:
    file.metadata_props[0].value = file.metadata_props[0].value.replace("0.3", "0.3, 0.3")


def no_nodes(file: Any) -> None:
    file.graph.node[2].input[0] = "images"
    del file.graph.node[:2]


def another_order(file: Any) -> None:
    file.graph.node[0].op_type = "Add"


def read_by_others(file: Any) -> None:
    file.graph.node.insert(2, onnx.helper.make_node("Relu", ["images"], ["other"]))


@pytest.mark.parametrize(
    "change", [other_mean, more_channels, no_nodes, another_order, read_by_others]
)
def test_files_that_say_one_thing_and_do_another(change: Any, tmp_path: Path) -> None:
    export_onnx(network(), tmp_path / "m.onnx")
    file = onnx.load(tmp_path / "m.onnx")
    change(file)
    onnx.save(file, tmp_path / "m.onnx")
    with pytest.raises(ConfigurationError, match="preprocessing"):
        import_onnx(tmp_path / "m.onnx")
