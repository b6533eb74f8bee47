"""Element-wise operations in ONNX files: round trips, in all their forms, and from PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.errors import ConfigurationError
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.interop.onnx_elementwise import write
from fastcnn.interop.onnx_writer import OnnxWriter
from fastcnn.layers import Sequential
from fastcnn.layers.activation import LAYERS, Activation
from fastcnn.operations import elementwise_operations
from fastcnn.operations.record import CASE_CHANNELS, OnnxNode
from tests.interop.onnx_models import N, model_of, onnx, read
from tests.interop.test_interop import run

SHAPE = (CASE_CHANNELS, 4, 5)
CASES = [(LAYERS[record.name], case) for record in elementwise_operations()
         for case in record.cases]  # fmt: skip
FORMS = [(LAYERS[record.name], record.cases[-1], form) for record in elementwise_operations()
         for form in record.onnx]  # fmt: skip


def _named(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else getattr(value, "kind", str(value))


def samples() -> np.ndarray:
    """Numbers on both sides of every kink, and some at one."""
    x = 4.0 * np.random.default_rng(0).standard_normal((6, *SHAPE))
    x[0, 0, 0] = 0.0, -3.0, 3.0, 6.0, 1.0
    return x.astype(np.float32)


def layer_of(kind: type[Activation], case: dict[str, Any]) -> Activation:
    layer = kind(**case)
    for value in layer.parameters.values():
        value[...] = np.linspace(-0.5, 0.7, value.size)
    return layer


def check(path: Path, model: Sequential, name: str, exact: bool = True) -> None:
    """The file computes what the model does, and is imported as the model."""
    x = samples()
    expected = model.logits(x, backend="im2col")
    if exact:
        assert run(path, x) == pytest.approx(expected, abs=4e-6)
    back = import_onnx(path)
    assert back.logits(x, backend="im2col") == pytest.approx(expected, abs=1e-6)
    assert [repr(layer) for _, layer in back.named_leaves()] == [
        repr(layer) for _, layer in model.named_leaves()
    ], name


@pytest.mark.parametrize(("kind", "case"), CASES, ids=_named)
def test_there_and_back(kind: type[Activation], case: dict[str, Any], tmp_path: Path) -> None:
    model = Sequential(layer_of(kind, case), input_shape=SHAPE)
    export_onnx(model, tmp_path / "m.onnx")
    check(tmp_path / "m.onnx", model, kind.__name__)


def test_after_each_other(tmp_path: Path) -> None:
    """Inner nodes of one operation are not mistaken for another."""
    layers = [layer_of(kind, case) for kind, case in CASES]
    model = Sequential(*layers, input_shape=SHAPE)
    export_onnx(model, tmp_path / "m.onnx")
    check(tmp_path / "m.onnx", model, "all")


@pytest.mark.parametrize(("kind", "case", "form"), FORMS, ids=_named)
def test_every_form_is_read(
    kind: type[Activation], case: dict[str, Any], form: OnnxNode, tmp_path: Path
) -> None:
    model = Sequential(layer_of(kind, case), input_shape=SHAPE)
    writer = OnnxWriter(model)
    output = write(writer, model.graph().nodes[0], ["x"], form)
    sides = {"shape": ("n", *SHAPE), "output": output, "output_shape": ("n", *SHAPE)}
    for opset in (17, 10, 18, 24):  # some operators are of one time only
        made = model_of(writer.nodes, writer.constants, **sides, opset=opset)
        try:
            onnx.checker.check_model(made, full_check=True)
            break
        except onnx.checker.ValidationError:
            continue
    onnx.save(made, tmp_path / "m.onnx")
    # Other programs' forms may lose precision, such as the logarithm of a sigmoid.
    check(tmp_path / "m.onnx", model, str(form), exact=False)


@pytest.mark.torch
@pytest.mark.parametrize("dynamo", [False, True])
def test_from_pytorch(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    x = samples()
    modules = []
    for kind, case in CASES:
        if not hasattr(torch.nn, kind.__name__):
            continue  # Scale
        module = getattr(torch.nn, kind.__name__)(**case)
        with torch.no_grad():
            for value in module.parameters():
                value.copy_(torch.linspace(-0.5, 0.7, value.numel()))
        # PyTorch merges two consecutive clamps.
        apart = torch.nn.Conv2d(CASE_CHANNELS, CASE_CHANNELS, 1)
        torch.nn.init.dirac_(apart.weight)
        modules += [module, apart]
    options: dict[str, Any] = {"dynamic_axes": {"x": {0: "n"}}} if not dynamo else {
        "dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},), "verbose": False}  # fmt: skip
    whole = torch.nn.Sequential(*modules).eval()
    path = tmp_path / "m.onnx"
    torch.onnx.export(
        whole, (torch.from_numpy(x),), path, dynamo=dynamo, input_names=["x"], **options
    )
    back = import_onnx(path)
    with torch.no_grad():
        expected = whole(torch.from_numpy(x)).numpy()
    assert back.logits(x, backend="im2col") == pytest.approx(expected, abs=1e-5)
    found = [type(layer) for _, layer in back.named_leaves()]
    assert found[::2] == [kind for kind, _ in CASES if hasattr(torch.nn, kind.__name__)]


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("HardSigmoid", {}, "no layer"),
        ("Selu", {"alpha": 1.5}, "no layer"),
    ],
)
def test_what_would_be_another_function(
    kind: str, attributes: dict[str, float], message: str, tmp_path: Path
) -> None:
    made = model_of([N(kind, ["x"], ["y"], **attributes)], shape=("n", *SHAPE))
    with pytest.raises(ConfigurationError, match=message):
        read(made, tmp_path)


def test_slopes_of_pixels_are_refused(tmp_path: Path) -> None:
    slopes = {"slopes": np.ones(SHAPE[1:], np.float32)}
    made = model_of([N("PRelu", ["x", "slopes"], ["y"])], slopes, ("n", *SHAPE))
    with pytest.raises(ConfigurationError, match="one value per channel"):
        read(made, tmp_path)


def test_an_inner_value_that_others_read_is_a_layer_of_its_own(tmp_path: Path) -> None:
    """``x * sigmoid(x) + sigmoid(x)``: the sigmoid is part of a SiLU, and a separate layer."""
    nodes = [
        N("Sigmoid", ["x"], ["s"]),
        N("Mul", ["x", "s"], ["silu"]),
        N("Add", ["silu", "s"], ["y"]),
    ]
    x = samples()
    back = read(model_of(nodes, shape=("n", *SHAPE)), tmp_path)
    assert back.logits(x) == pytest.approx(run(tmp_path / "m.onnx", x), abs=1e-6)
