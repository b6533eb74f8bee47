"""Graph networks as ONNX files, exported and imported, and those of PyTorch's exporter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.errors import ConfigurationError
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.interop.numpy_source import export_numpy
from fastcnn.layers import Concat, Input, Model, Multiply, ReLU, Subtract
from fastcnn.layers.packing import unpack
from tests.interop.onnx_models import N, model_of, read
from tests.interop.test_interop import onnxruntime, run
from tests.layers.test_graph_models import MODELS, data


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    x, _ = data(model, 5)
    expected = model.logits(x)
    export_onnx(model, tmp_path / "m.onnx")
    if model.takes > 1:
        x = unpack(model.graph().inputs, x)
    assert run(tmp_path / "m.onnx", x) == pytest.approx(expected, abs=1e-5)
    back = import_onnx(tmp_path / "m.onnx")
    assert back.logits(x) == pytest.approx(expected, abs=1e-5)
    assert back.num_parameters == model.num_parameters
    back.save(tmp_path / "m.safetensors")
    export_onnx(back, tmp_path / "again.onnx")
    assert run(tmp_path / "again.onnx", x) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])
def test_the_input_is_an_output_too(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = Input(shape)
    model = Model(x, {"y": ReLU()(x), "z": x})
    given = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    export_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    y, z = session.run(["y", "z"], {session.get_inputs()[0].name: given})
    assert (y == np.maximum(given, 0.0)).all()
    assert (z == given).all()
    assert (import_onnx(tmp_path / "m.onnx").logits(given)["z"] == given).all()


def test_other_forms_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"several inputs or outputs .* ONNX"):
        export_numpy(MODELS["siamese"](), tmp_path / "net.py")


@pytest.mark.torch
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_from_pytorch(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = (torch.nn.Conv2d(3, 4, 3, padding=1) for _ in range(2))
            self.gate, self.last = torch.nn.Conv2d(8, 8, 1), torch.nn.Linear(12, 3)

        def forward(self, x: Any) -> Any:
            left, right = self.left(x).relu(), self.right(x)
            y = torch.cat([left, left - right], 1)
            y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
            return self.last(torch.cat([y.mean((2, 3)), (left * right).mean((2, 3))], -1))

    module, x = Module().eval(), torch.randn(2, 3, 6, 6)
    torch.onnx.export(module, (x,), tmp_path / "m.onnx", dynamo=dynamo)
    model = import_onnx(tmp_path / "m.onnx")
    assert model.logits(x.numpy()) == pytest.approx(module(x).detach().numpy(), abs=1e-5)
    kinds = {type(layer) for _, layer in model.named_leaves()}
    assert kinds >= {Concat, Multiply, Subtract}


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        ("Sub", ["x", "one"], r"\(Sub\): a constant of shape"),
        ("Mul", ["one", "x"], r"\(Mul\): weight of shape"),
        ("Concat", ["x", "one"], r"\(Concat\): its input 'one' must be samples"),
    ],
)
def test_constants_are_refused(kind: str, inputs: list[str], message: str, tmp_path: Path) -> None:
    attributes = {"axis": 1} if kind == "Concat" else {}
    nodes = [N(kind, inputs, ["y"], name="join", **attributes)]
    made = model_of(nodes, {"one": np.ones((1, 2, 3, 3), np.float32)}, ("n", 2, 3, 3))
    with pytest.raises(ConfigurationError, match=message):
        read(made, tmp_path)


def test_a_graph_of_a_file_is_a_model(tmp_path: Path) -> None:
    export_onnx(MODELS["unet"](), tmp_path / "m.onnx")
    back = import_onnx(tmp_path / "m.onnx")
    assert type(back) is Model
    assert back.wiring is not None
    assert list(back.wiring.inputs.values()) == [(2, 12, 12)]
