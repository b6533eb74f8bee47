"""ONNX files from other programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.errors import ConfigurationError
from fastcnn.execution import forward
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.interop.onnx_import import OPERATORS
from fastcnn.layers import GELU, ChannelShuffle, PixelUnshuffle, ReLU, Sequential
from tests.interop.onnx_models import N, model_of, onnx, read
from tests.interop.test_interop import SHAPE, run

#: GELU as exported by PyTorch, node by node: kind, inputs, output; numbers are constants.
GELU_OF_OTHERS: dict[str, list[tuple[str, list[Any], str]]] = {
    "none": [
        ("Div", ["x", 2**0.5], "a"), ("Erf", ["a"], "b"), ("Add", ["b", 1.0], "c"),
        ("Mul", ["x", "c"], "d"), ("Mul", ["d", 0.5], "y"),
    ],
    "tanh": [
        ("Pow", ["x", 3.0], "a"), ("Mul", [0.044715, "a"], "b"), ("Add", ["x", "b"], "c"),
        ("Mul", [(2 / np.pi) ** 0.5, "c"], "d"), ("Tanh", ["d"], "e"), ("Add", [1.0, "e"], "f"),
        ("Mul", [0.5, "x"], "g"), ("Mul", ["g", "f"], "y"),
    ],
    "wrong": [
        ("Div", ["x", 1.5], "a"), ("Erf", ["a"], "b"), ("Add", ["b", 1.0], "c"),
        ("Mul", ["x", "c"], "d"), ("Mul", ["d", 0.5], "y"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GELU_OF_OTHERS)
def test_formulas_of_other_programs(name: str, tmp_path: Path) -> None:
    nodes, constants = [], {}
    for kind, given, output in GELU_OF_OTHERS[name]:
        inputs = [value if isinstance(value, str) else f"{output}{value}" for value in given]
        for value, constant in zip(given, inputs, strict=True):
            if not isinstance(value, str):
                constants[constant] = np.float32(value)
        nodes.append(N(kind, inputs, [output]))
    made = model_of(nodes, constants, ("n", *SHAPE))
    if name == "wrong":
        with pytest.raises(ConfigurationError, match="no layer for it"):
            read(made, tmp_path)
        return
    back = read(made, tmp_path)
    assert [type(layer) for _, layer in back.named_leaves()] == [GELU]
    x = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    assert forward(back, x) == pytest.approx(run(tmp_path / "m.onnx", x), abs=1e-5)


def _exported_by_pytorch(torch: Any) -> dict[str, Any]:
    nn = torch.nn

    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3, padding=1)
            self.norm = nn.BatchNorm1d(432)
            self.fc = nn.Linear(432, 5, bias=False)
            self.last = nn.BatchNorm1d(5, affine=False)

        def forward(self, x: Any) -> Any:
            x = nn.functional.silu(self.conv(x))
            return self.last(self.fc(self.norm(x.view(x.shape[0], -1))))

    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 6, 1, 2)
            self.norm, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            x = nn.functional.gelu(self.norm(self.left(x)) + self.right(x))
            return self.fc(x.mean((2, 3)))

    return {
        "viewed": Viewed(),
        "branched": Branched(),
        "chain": nn.Sequential(
            nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1), nn.ELU(0.7), nn.AvgPool2d(3, 2, 1),
            nn.Softplus(beta=2.0), nn.GELU(approximate="tanh"), nn.AvgPool2d(2, 1, 1),
            nn.MaxPool2d((2, 3), ceil_mode=True), nn.LeakyReLU(0.2), nn.Dropout2d(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
        ),
    }  # fmt: skip


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
def test_files_that_pytorch_exports(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    torch.manual_seed(0)
    x = torch.randn(3, *SHAPE)
    for name, module in _exported_by_pytorch(torch).items():
        for part in module.modules():
            if getattr(part, "running_mean", None) is not None:
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 1.5)
        path = tmp_path / f"{name}.onnx"
        options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}} if not dynamo else {
            "dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},), "verbose": False}  # fmt: skip
        torch.onnx.export(module.eval(), (x,), path, dynamo=dynamo, **options)
        with torch.no_grad():
            expected = module(x).numpy()
        back = import_onnx(path)
        assert back.logits(x.numpy()) == pytest.approx(expected, abs=1e-5), name
        assert isinstance(back, Sequential) == (name != "branched")


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, inputs.split(), [output], **attributes)


KERNEL = np.random.default_rng(0).standard_normal((3, 4, 4, 3)).astype(np.float32)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_by_words(mode: str, stride: int, tmp_path: Path) -> None:
    made = node("Conv", "x w", auto_pad=mode, strides=[stride, stride])
    x = np.random.default_rng(1).standard_normal((2, *SHAPE)).astype(np.float32)
    back = read(model_of([made], {"w": KERNEL}, ("n", *SHAPE)), tmp_path)
    assert back.logits(x) == pytest.approx(run(tmp_path / "m.onnx", x), abs=1e-4)


@pytest.mark.parametrize("kind", ["Clip", "Identity", ""])
def test_the_identity(kind: str, tmp_path: Path) -> None:
    nodes, output = ([node(kind, "x")], "y") if kind else ([], "x")
    made = model_of(nodes, shape=("n", *SHAPE), output=output)
    x = np.random.default_rng(1).standard_normal((2, *SHAPE)).astype(np.float32)
    assert (read(made, tmp_path).logits(x) == x).all()
    made.graph.output.add().CopyFrom(made.graph.output[0])
    made.graph.output[1].name = "z"
    made.graph.node.append(node("Identity", "x", "z"))
    onnx.save(made, tmp_path / "two.onnx")
    with pytest.raises(ConfigurationError, match="computes nothing"):
        import_onnx(tmp_path / "two.onnx")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (lambda: [node("Flatten", "x", axis=2)], "axis=2 makes rows"),
        (lambda: [node("Reshape", "x two")], "a Reshape of samples"),
        (lambda: [node("AveragePool", "x", kernel_shape=[2, 2], pads=[0, 0, 1, 1])], "symmetric"),
        (lambda: [node("Conv", "x one")], r"ONNX node 'y' \(Conv\)"),
        (lambda: [node("BatchNormalization", "x v v v v", training_mode=1)], "of the batch"),
        (lambda: [node("Constant", "", value_float=1.0)], "does not depend on the input"),
    ],
)  # fmt: skip
def test_nodes_that_would_be_another_network(nodes: Any, message: str, tmp_path: Path) -> None:
    constants = {
        "one": np.ones(1, np.float32), "two": np.array([-1, 8]), "v": np.ones(4, np.float32),
    }  # fmt: skip
    made = model_of(nodes(), constants, ("n", *SHAPE))
    with pytest.raises(ConfigurationError, match=message):
        read(made, tmp_path)


def test_an_unknown_sample_shape_is_refused(tmp_path: Path) -> None:
    made = model_of([node("Relu", "x")], shape=("n", 4, "h", "w"))
    with pytest.raises(ConfigurationError, match="the shape of a sample"):
        read(made, tmp_path)


def test_operators_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "interchange.md").read_text(encoding="utf-8")
    listed = text.split("only for constants and shapes:")[1].split(".")[0]
    assert [word.strip() for word in listed.split(",")] == sorted(OPERATORS)


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((3, 8, 8), [PixelUnshuffle(2), ChannelShuffle(3), PixelUnshuffle(2), ChannelShuffle(12)]),
        ((1, 8, 8), [PixelUnshuffle(2), PixelUnshuffle(2), ChannelShuffle(4)]),
        ((2, 8, 16), [PixelUnshuffle(2), ChannelShuffle(2), ReLU(), PixelUnshuffle(4)]),
        ((12, 4, 4), [ChannelShuffle(2), ChannelShuffle(3)]),
        ((2, 4, 4), [PixelUnshuffle(2), ChannelShuffle(4), PixelUnshuffle(2), ChannelShuffle(2)]),
    ],
)
def test_layers_that_arrange_pixels_one_after_the_other_are_read_back(
    shape: tuple[int, ...], layers: list[Any], tmp_path: Path
) -> None:
    model = Sequential(*layers, input_shape=shape)
    export_onnx(model, tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    again = import_onnx(tmp_path / "m.onnx")
    expected = model.logits(x, backend="im2col")
    np.testing.assert_array_equal(again.logits(x, backend="im2col"), expected)
