"""Normalisation within samples and the softmax, as exported by PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.errors import ConfigurationError
from fastcnn.interop import import_onnx
from fastcnn.layers import Add, LayerNorm, LayerNorm2d, ReLU
from tests.interop.onnx_models import N, model_of, read
from tests.interop.test_interop import onnx, run

SHAPE = (4, 6, 5)


def modules(torch: Any) -> dict[str, Any]:
    nn = torch.nn

    class ChannelsLast(nn.Module):  # type: ignore[misc, name-defined]
        """ConvNeXt's normalisation."""

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4, eps=1e-6)

        def forward(self, x: Any) -> Any:
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    return {
        "LayerNorm": nn.LayerNorm(SHAPE),
        "LayerNorm of rows": nn.LayerNorm(5, elementwise_affine=False),
        "LayerNorm2d": ChannelsLast(),
        "GroupNorm": nn.GroupNorm(2, 4),
        "GroupNorm without weights": nn.GroupNorm(2, 4, affine=False),
        "InstanceNorm2d": nn.InstanceNorm2d(4, affine=True),
        "InstanceNorm2d without weights": nn.InstanceNorm2d(4),
        "RMSNorm": nn.RMSNorm(SHAPE, eps=1e-5),
        "RMSNorm without weights": nn.RMSNorm(5, eps=1e-5, elementwise_affine=False),
        "LocalResponseNorm": nn.LocalResponseNorm(3, alpha=0.5),
        "Softmax": nn.Softmax(1),
        "LogSoftmax": nn.LogSoftmax(-1),
    }


@pytest.mark.torch
@pytest.mark.parametrize("dynamo", [False, True])
def test_from_pytorch(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    x = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float32)
    wrong = []
    for name, module in modules(torch).items():
        # The first is exported as pooling over channels, the others are unknown to the old
        # exporter.
        if name == "LocalResponseNorm" or ("RMSNorm" in name and not dynamo):
            continue
        with torch.no_grad():
            for value in module.parameters():
                value.copy_(torch.rand(value.shape, generator=torch.Generator().manual_seed(0)))
        path = tmp_path / "m.onnx"
        options: dict[str, Any] = {"dynamic_axes": {"x": {0: "n"}}}
        if dynamo:
            options = {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},), "verbose": False}
        torch.onnx.export(
            module.eval(), (torch.from_numpy(x),), path, dynamo=dynamo, input_names=["x"], **options
        )
        with torch.no_grad():
            expected = module(torch.from_numpy(x)).numpy()
        try:
            back = import_onnx(path)
        except ConfigurationError as error:
            wrong.append(f"{name}: {error}")
            continue
        assert back.logits(x, backend="im2col") == pytest.approx(expected, abs=1e-5), name
        assert [type(layer).__name__ for _, layer in back.named_leaves()] == [name.split()[0]]
    assert not wrong, "\n".join(wrong)


FACTORS = {"w": np.ones(8, np.float32), "b": np.zeros(8, np.float32)}


@pytest.mark.parametrize(
    ("nodes", "constants", "message", "opset"),
    [
        ([N("LayerNormalization", ["x", "w"], ["y"], axis=0)], FACTORS, "axis=0", 17),
        ([N("LayerNormalization", ["x", "w"], ["y"], axis=-2)],
         {"w": np.ones((3, 1), np.float32)}, r"of shape \(3, 1\) does not fit", 17),
        ([N("GroupNormalization", ["x", "w", "b"], ["y"], num_groups=3)], FACTORS, "divide", 21),
        ([N("LRN", ["x"], ["y"], size=4)], {}, "even size 4", 17),
        ([N("Softmax", ["x"], ["y"])], {}, "over all axes from 1", 11),
        ([N("Transpose", ["x"], ["y"], perm=[0, 1, 3, 2])], {}, "Transpose", 17),
    ],
)  # fmt: skip
def test_refused_by_name(
    nodes: Any, constants: dict[str, Any], message: str, opset: int, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(model_of(nodes, constants, ("n", 8, 4, 8), opset=opset), tmp_path)


@pytest.mark.parametrize("shape", [(0,), (1,) * 5], ids=str)
def test_factors_after_groups_that_are_none_of_channels(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    nodes = [
        N("Reshape", ["x", "r"], ["g"]),
        N("InstanceNormalization", ["g", "one", "zero"], ["n"]),
        N("Shape", ["x"], ["s"]),
        N("Reshape", ["n", "s"], ["b"]),
        N("Mul", ["b", "k"], ["y"]),
    ]
    values = {name: np.full(2, value, np.float32) for name, value in (("one", 1), ("zero", 0))}
    made = model_of(nodes, {"r": [0, 2, -1], "k": np.ones(shape, np.float32), **values},
                    ("n", 8, 4, 8))  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"\(Mul\): .*(\(0,\)|\(1, 1, 1, 1, 1\))"):
        read(made, tmp_path)


def test_channels_last_between_transpositions(tmp_path: Path) -> None:
    """A normalisation of channels that are last, which one or two nodes transpose."""
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        N("LayerNormalization", ["t", "w"], ["n"], epsilon=1e-3),
        N("Transpose", ["n"], ["u"], perm=[0, 3, 1, 2]),
    ]
    weight = {"w": np.arange(4, dtype=np.float32)}
    plain = read(model_of([*nodes, N("Relu", ["u"], ["y"])], weight, ("n", *SHAPE)), tmp_path)
    first = next(iter(plain.layers.values()))
    assert isinstance(first, LayerNorm2d)
    assert first.eps == 1e-3
    assert first.weight.tolist() == [0.0, 1.0, 2.0, 3.0]
    both = [*nodes, N("Transpose", ["n"], ["v"], perm=[0, 3, 1, 2]), N("Add", ["u", "v"], ["y"])]
    found = read(model_of(both, weight, ("n", *SHAPE)), tmp_path)
    assert [type(layer) for layer in found.layers.values()] == [LayerNorm2d, Add]


@pytest.mark.parametrize(
    ("axes", "last", "sizes", "kind"),
    [
        ([1], False, (4, 1, 1), LayerNorm2d),
        ([-1], True, (4,), LayerNorm2d),
        ([-1], False, (5,), LayerNorm),
        ([2, 3], False, (6, 5), LayerNorm),
        ([-3, -2, -1], False, SHAPE, LayerNorm),
        ([2], False, (6, 1), None),
        ([1], True, (6, 1, 1), None),
        ([1, 3], False, (4, 1, 5), None),
        ([0], False, (4, 1, 1), None),
    ],
)
@pytest.mark.parametrize("factors", ["", "w", "wb"])
def test_means_and_roots_of_older_operator_sets(
    axes: list[int], last: bool, sizes: tuple[int, ...], kind: Any, factors: str, tmp_path: Path
) -> None:
    """A layer normalisation in operators that are older than its own, or its refusal by name."""
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1] if last else [0, 1, 2, 3]),
        N("ReduceMean", ["t"], ["m"], axes=axes),
        N("Sub", ["t", "m"], ["d"]),
        N("Pow", ["d", "two"], ["p"]),
        N("ReduceMean", ["p"], ["v"], axes=axes),
        N("Add", ["v", "eps"], ["e"]),
        N("Sqrt", ["e"], ["r"]),
        N("Div", ["d", "r"], ["w0"]),
    ]
    if "w" in factors:
        nodes.append(N("Mul", ["w0", "w"], ["b0"]))
    if "b" in factors:
        nodes.append(N("Add", ["b0", "b"], ["z"]))
    end = [N("Transpose", [nodes[-1].output[0]], ["u"], perm=[0, 3, 1, 2])] if last else []
    nodes += [*end, N("Relu", ["u" if last else nodes[-1].output[0]], ["y"])]
    random = np.random.default_rng(1)
    values = {name: random.standard_normal(sizes).astype(np.float32) for name in factors}
    values |= {"two": np.float32(2), "eps": np.float32(1e-3)}
    made = model_of(nodes, values, ("n", *SHAPE), opset=13)
    if kind is None:
        with pytest.raises(ConfigurationError, match=r"ONNX node '[a-z0]+' \("):
            read(made, tmp_path)
        return
    back = read(made, tmp_path)
    x = random.standard_normal((3, *SHAPE)).astype(np.float32)
    expected = run(tmp_path / "m.onnx", x)
    assert back.logits(x, backend="im2col") == pytest.approx(expected, abs=1e-5)
    assert [type(layer) for _, layer in back.named_leaves()] == [kind, ReLU]


def test_a_group_had_one_weight_until_opset_20(tmp_path: Path) -> None:
    session = pytest.importorskip("onnxruntime").InferenceSession
    x = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    for opset, size in ((18, 2), (21, 4)):
        values = {name: np.arange(1, size + 1, dtype=np.float32) for name in ("w", "b")}
        made = model_of(
            [N("GroupNormalization", ["x", "w", "b"], ["y"], num_groups=2)], values, ("n", *SHAPE),
            opset=opset,
        )  # fmt: skip
        made.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, ("n", *SHAPE)))
        back = read(made, tmp_path)
        ran = session(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
        (expected,) = ran.run(None, {"x": x})
        assert back.logits(x, backend="im2col") == pytest.approx(expected, abs=1e-5)
