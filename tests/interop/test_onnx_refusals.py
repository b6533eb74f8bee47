"""ONNX files that are misleading, or crafted to hang a reader."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.errors import ConfigurationError, DataError
from fastcnn.interop import import_onnx
from fastcnn.interop.onnx_file import OnnxFile
from fastcnn.interop.onnx_wiring import Wiring
from fastcnn.layers import Dropout, Linear, Sequential, Softplus
from tests.interop.onnx_models import FLOAT, N, model_of, onnx, read, tensor
from tests.interop.test_interop import run

KERNEL = np.random.default_rng(0).standard_normal((2, 1, 3, 3)).astype(np.float32)
MATRIX = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
BIAS = np.array([1.0, 2.0, 3.0], np.float32)


def wrong_dims() -> Any:
    value = tensor("w", KERNEL)
    value.dims[0] = 7
    return model_of([N("Conv", ["x", "w"], ["y"])], {"w": value})


def huge_dims() -> Any:
    value = tensor("w", KERNEL)
    value.dims[:] = [2**40, 2**40, 3, 3]
    value.ClearField("raw_data")
    return model_of([N("Conv", ["x", "w"], ["y"])], {"w": value})


def wrong_type() -> Any:
    value = tensor("w", KERNEL)
    value.data_type = 99
    return model_of([N("Conv", ["x", "w"], ["y"])], {"w": value})


def external(location: str, **more: str) -> Any:
    value = tensor("w", KERNEL)
    value.ClearField("raw_data")
    value.data_location = onnx.TensorProto.EXTERNAL
    for key, text in {"location": location, **more}.items():
        value.external_data.add(key=key, value=text)
    return model_of([N("Conv", ["x", "w"], ["y"])], {"w": value})


def squarings() -> Any:
    nodes = [N("Mul", [f"m{i}" if i else "x"] * 2, [f"m{i + 1}"]) for i in range(40)]
    return model_of([*nodes, N("Erf", ["m40"], ["y"])])


def halved_squarings() -> Any:
    nodes = [N("Mul", ["x", "half"], ["m0"])]
    nodes += [N("Mul", [f"m{i}"] * 2, [f"m{i + 1}"]) for i in range(40)]
    return model_of([*nodes, N("Erf", ["m40"], ["y"])], {"half": np.float32(0.5)})


def long_chain() -> Any:
    nodes = [N("Mul", [f"m{i}" if i else "x", "x"], [f"m{i + 1}"]) for i in range(1200)]
    return model_of([*nodes, N("Erf", ["m1200"], ["y"])])


def long_shapes() -> Any:
    nodes = [N("Shape", ["x"], ["s0"])]
    nodes += [N("Concat", [f"s{i}"] * 2, [f"s{i + 1}"], axis=0) for i in range(30)]
    return model_of([*nodes, N("Reshape", ["x", "s30"], ["y"])])


def much_from_little() -> Any:
    """A hundred layers of 4 MB each from one constant of 4 MB."""
    weight = np.zeros((1000, 1000), np.float32)
    names = [("x" if i == 0 else f"m{i}", f"m{i + 1}") for i in range(100)]
    nodes = []
    for i, (a, b) in enumerate(names):  # biases of their own: they are not one layer
        nodes.append(N("Gemm", [a, "w", f"b{i}"], [b]))
    biases = {f"b{i}": np.zeros(1000, np.float32) for i in range(100)}
    return model_of([*nodes, N("Relu", ["m100"], ["y"])], {"w": weight, **biases}, ("n", 1000))


def twice_named() -> Any:
    made = model_of([N("Conv", ["x", "w"], ["y"])], {"w": KERNEL})
    made.graph.initializer.append(tensor("w", KERNEL))
    return made


def two_inputs() -> Any:
    made = model_of([N("Add", ["x", "z"], ["y"])])
    made.graph.input.append(onnx.helper.make_tensor_value_info("z", FLOAT, [3, 1, 8, 8]))
    return made


def function() -> Any:
    made = model_of([N("Relu", ["x"], ["y"])])
    made.functions.append(onnx.FunctionProto(name="f", domain="com.example"))
    return made


def noted(text: str) -> Any:
    made = model_of([N("Relu", ["x"], ["y"], name="act")])
    made.metadata_props.add(key="fastcnn.layers", value=text)
    return made


of = model_of
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (wrong_dims, r"'y' \(Conv\).*'w'.*takes 252 bytes, it has 72"),
    (huge_dims, r"'y' \(Conv\).*'w'"),
    (wrong_type, r"'y' \(Conv\).*type 99"),
    (squarings, r"'y' \(Erf\): fastcnn has no layer"),
    (halved_squarings, r"'y' \(Erf\): fastcnn has no layer"),
    (long_chain, r"'y' \(Erf\): fastcnn has no layer"),
    (long_shapes, r"\(Concat\): it makes a shape that no tensor has"),
    (much_from_little, "hold much more than the file"),
    (twice_named, "two constants are called 'w'"),
    (two_inputs, "the inputs 'x' and 'z' differ in type or batch size"),
    (function, "functions"),
    (lambda: noted("[]"), "metadata fastcnn.layers are damaged"),
    (lambda: noted("[" * 50_000), "metadata fastcnn.layers are damaged"),
    (lambda: noted('{"act": {"type": "Dropout2d"}}'), r"'act' \(Relu\).*does not match"),
    (lambda: noted('{"act": {"type": [1]}}'), r"'act' \(Relu\).*does not match"),
    (lambda: external("none.bin"), "weight file 'none.bin' cannot be read"),
    (lambda: external("../outside.bin"), "is not in the same folder"),
    (lambda: external("/etc/passwd"), "is not in the same folder"),
    (lambda: external(""), "is not in the same folder"),
    (lambda: external("w.bin", offset="8"), "it takes 72 bytes, 72 from 8 on"),
    (lambda: external("w.bin", offset="-8"), "it takes 72 bytes, 72 from -8 on"),
    (lambda: external("w.bin", length="80"), "it takes 72 bytes, 80 from 0 on"),
    (lambda: external("w.bin", offset="x"), "in another file, 'w.bin'"),
    (lambda: external("folder"), "not a regular file"),
    (lambda: of([N("Relu", ["x"], ["y"], domain="com.example")]), "com.example"),
    (lambda: of([N("Relu", ["x"], ["y"])], opset=6), "operator set 6 is not"),
    (lambda: of([N("Relu", ["x"], ["y"])], opset=99), "operator set 99 is not"),
    (lambda: of([N("Relu", ["x"], ["y"], alpha=1.0)]), "attribute 'alpha' is unknown"),
    (lambda: of([N("Relu", ["x", "x"], ["y"])]), "2 inputs"),
    (lambda: of([N("Relu", ["nothing"], ["y"])]), "reads 'nothing'"),
    (lambda: of([N("Relu", ["y"], ["y"])]), "reads 'y'"),
    (lambda: of([N("Relu", ["x"], ["x"])]), "must be new values"),
    (lambda: of([N("Relu", ["x"], ["a"])]), "no node produces the output 'y'"),
    (lambda: of([]), "no node produces the output 'y'"),
    (lambda: of([N("Relu", ["x"], ["y"])] * 20_001), "20001 nodes"),
    (lambda: of([N("Relu", ["x"], ["y"])], kind=7), "must hold floating-point numbers"),
    (lambda: of([N("Relu", ["x"], ["y"])], shape=("n",)), "the shape of a sample"),
    (lambda: of([N("Relu", ["x"], ["y"])], shape=("n", 1, "h", 8)), "the shape of a sample"),
    (lambda: of([N("Conv", ["x", "w"], ["y"])], {"w": KERNEL.astype(np.float64)}), "DOUBLE"),
    (lambda: of([N("Conv", ["x", "w"], ["y"], kernel_shape=[2, 2])], {"w": KERNEL}), "kernel_"),
    (lambda: of([N("Conv", ["x", "w"], ["y"], strides=[0, 1])], {"w": KERNEL}), "strides"),
    (lambda: of([N("Conv", ["x", "w"], ["y"], pads=[-1, 0, 0, 0])], {"w": KERNEL}), "pads"),
    (lambda: of([N("Conv", ["x", "w"], ["y"], strides=[1])], {"w": KERNEL}), "strides has 1"),
    (lambda: of([N("Conv", ["x", "w"], ["y"], group=2**40)], {"w": KERNEL}), "groups"),
    (lambda: of([N("Conv", ["x", "w"], ["y"], auto_pad="SAME")], {"w": KERNEL}), "auto_pad"),
    (lambda: of([N("Conv", ["x", "w"], ["y"], auto_pad="VALID", pads=[1] * 4)],
                      {"w": KERNEL}), "auto_pad='VALID'.*with pads"),
    (lambda: of([N("Conv", ["x", "w", "b"], ["y"])],
                      {"w": KERNEL, "b": np.ones((2, 1), np.float32)}), "bias must have shape"),
    (lambda: of([N("Conv", ["x", "w"], ["y"])], {"w": KERNEL[0]}), "its weight has shape"),
    (lambda: of([N("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 1])]), "strides"),
    (lambda: of([N("MaxPool", ["x"], ["y"])]), "kernel_shape' is missing"),
    # ONNX Runtime computes another padding than ONNX describes.
    (lambda: of([N("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2],
                   auto_pad="SAME_UPPER")]), "auto_pad='SAME_UPPER' with dilations"),
    (lambda: of([N("MaxPool", ["x"], ["y"], kernel_shape=[2])]), "a window of"),
    (lambda: of([N("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], storage_order=1)]), "storage"),
    (lambda: of([N("MaxPool", ["x"], ["a", "y"], kernel_shape=[2, 2])]), "second output"),
    (lambda: of([N("Resize", ["x", "", "s"], ["y"], mode="cubic")],
                      {"s": np.ones(4, np.float32)}), "mode='cubic'"),
    (lambda: of([N("Resize", ["x", "", "s"], ["y"], nearest_mode="ceil")],
                      {"s": np.array([1, 1, 2, 2], np.float32)}), "nearest_mode"),
    # Pixels are at other positions than the sizes imply.
    (lambda: of([N("Resize", ["x", "", "s"], ["y"], mode="linear")],
                      {"s": np.array([1, 1, 1.3, 1.3], np.float32)}), "pixels by 1.3, 1.3, to"),
    (lambda: of([N("Resize", ["x", "", "s"], ["y"], mode="nearest", nearest_mode="floor",
                   coordinate_transformation_mode="asymmetric")],
                      {"s": np.array([1, 1, 0.7, 0.7], np.float32)}), "pixels by 0.7, 0.7, to"),
    (lambda: of([N("Pad", ["x", "p", "v"], ["y"])],
                      {"p": [0, 0, 1, 1, 0, 0, 1, 1], "v": np.float32(1)}), "other values than"),
    (lambda: of([N("Pad", ["x", "p"], ["y"])], {"p": [0, 1, 0, 0, 0, 0, 0, 0]}), "a Pad by"),
    (lambda: of([N("ReduceMean", ["x"], ["y"])]), "reduces axes None"),
    (lambda: of([N("ReduceMean", ["x"], ["y"], axes=[2, 2])]), "reduces axes"),
    (lambda: of([N("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=2)]), "keepdims"),
    (lambda: of([N("Flatten", ["x"], ["y"], axis=0)]), "axis=0 makes rows"),
    (lambda: of([N("Reshape", ["x", "s"], ["y"])], {"s": [4, 64]}), "only for batches of 4"),
    (lambda: of([N("Reshape", ["x", "s"], ["y"])], {"s": [-1, 32]}), "mixes samples"),
    (lambda: of([N("Transpose", ["x"], ["y"], perm=[0, 3, 2, 1])], {}, ("n", 2, 4, 4)),
     "in another order"),
    (lambda: of([N("Transpose", ["x"], ["y"], perm=[1, 0, 2, 3])]), "moves the samples"),
    (lambda: of([N("Slice", ["x", "a", "b", "c", "d"], ["y"])],
                {"a": [5], "b": [1], "c": [2], "d": [-2]}), "must be above 0"),
    (lambda: of([N("Slice", ["x", "a", "b", "c"], ["y"])], {"a": [1], "b": [3], "c": [0]}),
     "some of the samples"),
    (lambda: of([N("Slice", ["x", "a", "b", "c", "d"], ["y"])],
                {"a": [0], "b": [1], "c": [1], "d": [0]}), r"axes \(1,\) in steps of \(0,\)"),
    (lambda: of([N("Slice", ["x", "a", "b", "c"], ["y"])],
                {"a": [0, 0], "b": [1, 1], "c": [1, -3]}), r"axes \(1, 1\) in steps"),
    (lambda: of([N("Div", ["c", "x"], ["y"])], {"c": np.float32(1)}), "constant divided by"),
    (lambda: of([N("Div", ["x", "c"], ["y"])], {"c": np.float32(0)}), "divides by 0"),
    (lambda: of([N("Pow", ["x", "c"], ["y"])], {"c": np.float32(3)}), "powers other than"),
    (lambda: of([N("Expand", ["x", "c"], ["y"])], {"c": [4, 1, 8, 8]}), "repeats samples"),
    (lambda: of([N("ConstantOfShape", ["c"], ["d"]), N("Add", ["x", "d"], ["y"])],
                {"c": [2**20, 2**20]}), "hold much more than the file"),
    (lambda: of([N("Expand", ["o", "c"], ["d"]), N("Add", ["x", "d"], ["y"])],
                {"o": np.ones(1, np.float32), "c": [2**40]}), "hold much more than the file"),
    (lambda: of([N("Reshape", ["x", "s"], ["y"], allowzero=1)], {"s": [0, 64]}), "allowzero"),
    (lambda: of([N("Dropout", ["x", "r", "t"], ["y"])],
                      {"r": np.float32(0.5), "t": np.array(True)}), "training_mode"),
    (lambda: of([N("Cast", ["x"], ["y"], to=10)]), "Cast of samples"),
    (lambda: of([N("Concat", ["x", "x"], ["y"], axis=0)]), r"'y' \(Concat\): axis=0"),
    (lambda: of([N("If", ["x"], ["y"])]), r"'y' \(If\): fastcnn has no layer"),
    (lambda: of([N("Add", ["x", "c"], ["y"])], {"c": np.ones((1, 1, 8, 8), np.float32)}),
     "one number, or one per channel"),
    (lambda: of([N("Mul", ["x", "c"], ["s"]), N("Softplus", ["s"], ["p"]),
                       N("Div", ["p", "c"], ["y"])], {"c": np.full((1,) * 6, 2.0, np.float32)}),
     r"\((Mul|Div)\)"),
    (lambda: of([N("MatMul", ["x", "w"], ["m"]), N("Add", ["m", "b"], ["y"])],
                {"w": MATRIX, "b": BIAS[:, None]}, ("n", 6)), r"shape \(3, 1\) is not a bias"),
    (lambda: of([N("Gemm", ["x", "w"], ["y"], transA=1)], {"w": MATRIX}, ("n", 6)), "transA"),
    (lambda: of([N("Gemm", ["w", "x"], ["y"])], {"w": MATRIX}, ("n", 6)), "must be"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=map(str, range(len(REFUSED))))
def test_refused_by_name(make: Callable[[], Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(KERNEL.tobytes())
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match=rf"m\.onnx: .*{message}"):
        read(make(), tmp_path)


def test_a_link_that_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "w.bin").write_bytes(KERNEL.tobytes())
    if os.name == "posix":
        (tmp_path / "inner" / "w.bin").symlink_to(tmp_path / "w.bin")
        with pytest.raises(ConfigurationError, match="not in the same folder"):
            read(external("w.bin"), tmp_path / "inner")
    back = read(external("w.bin"), tmp_path)
    assert back.layers["y"] if "y" in back.layers else next(iter(back.layers.values()))


def test_the_same_bytes_of_a_weight_file_many_times(tmp_path: Path) -> None:
    """A thousand matrices of 4 MB each, all of them the same 4 MB of one file."""
    (tmp_path / "w.bin").write_bytes(bytes(4 * 1000 * 1000))
    names = [f"w{place}" for place in range(1000)]
    nodes = [N("Concat", names, ["w"], axis=1), N("MatMul", ["x", "w"], ["y"])]
    made = model_of(nodes, dict.fromkeys(names, 0.0), ("n", 1000))
    for value in made.graph.initializer:
        value.ClearField("raw_data")
        value.dims[:] = [1000, 1000]
        value.data_type = FLOAT
        value.data_location = onnx.TensorProto.EXTERNAL
        value.external_data.add(key="location", value="w.bin")
    with pytest.raises(ConfigurationError, match=r"\(Concat\): constant 'w\d+': .*much more than"):
        read(made, tmp_path)


@pytest.mark.posix
def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", tmp_path, Path("/dev/zero")):
        with pytest.raises(DataError, match="cannot be read"):
            import_onnx(path)
    for content in (b"", b"\xff" * 40, onnx.ModelProto(ir_version=8).SerializeToString()):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(DataError, match="not an ONNX file"):
            import_onnx(tmp_path / "m.onnx")


def agrees(made: Any, folder: Path, shape: tuple[int, ...], tolerance: float = 1e-5) -> Any:
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    back = read(made, folder)
    assert back.logits(x) == pytest.approx(run(folder / "m.onnx", x), abs=tolerance)
    return back


def test_what_the_output_does_not_depend_on_may_be_anything(tmp_path: Path) -> None:
    nodes = [N("Relu", ["x"], ["y"]), N("Clip", ["x"], ["unused"]), N("Not", ["b"], ["c"])]
    agrees(model_of(nodes, {"b": np.array(True)}), tmp_path, (2, 1, 8, 8))


def test_a_product_that_is_the_output_has_no_bias(tmp_path: Path) -> None:
    nodes = [N("MatMul", ["x", "w"], ["y"]), N("Add", ["y", "b"], ["a"])]
    agrees(model_of(nodes, {"w": MATRIX, "b": BIAS}, ("n", 6)), tmp_path, (3, 6))


@pytest.mark.parametrize("bias", [BIAS, BIAS[None], BIAS[:1], BIAS[0], BIAS[None, :1]])
@pytest.mark.parametrize("product", ["Gemm", "MatMul"])
def test_biases_of_every_shape(product: str, bias: np.ndarray, tmp_path: Path) -> None:
    nodes = [N("Gemm", ["x", "w", "b"], ["y"])]
    if product == "MatMul":
        nodes = [N("MatMul", ["x", "w"], ["m"]), N("Add", ["b", "m"], ["y"])]
    made = model_of(nodes, {"w": MATRIX, "b": bias}, ("n", 6))
    back = agrees(made, tmp_path, (3, 6))
    assert [type(layer) for layer in back.layers.values()] == [Linear]


def test_constants_that_are_inputs_and_a_batch_that_is_fixed(tmp_path: Path) -> None:
    made = model_of([N("Conv", ["x", "w"], ["c"]), N("Reshape", ["c", "s"], ["y"])],
                    {"w": KERNEL, "s": [5, 72]}, (5, 1, 8, 8))  # fmt: skip
    made.graph.input.append(onnx.helper.make_tensor_value_info("w", FLOAT, KERNEL.shape))
    agrees(made, tmp_path, (5, 1, 8, 8))


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 17, 18, 21])
def test_dropout_of_every_operator_set(opset: int, tmp_path: Path) -> None:
    if opset < 12:
        made = model_of([N("Dropout", ["x"], ["y"], ratio=0.3)], opset=opset)
    else:
        made = model_of([N("Dropout", ["x", "r"], ["y"])], {"r": np.float32(0.3)}, opset=opset)
    back = read(made, tmp_path)
    assert isinstance(back, Sequential)
    assert [layer.p for layer in back.layers.values() if isinstance(layer, Dropout)] == [0.3]


def test_weights_of_half_precision(tmp_path: Path) -> None:
    made = model_of([N("Conv", ["x", "w"], ["y"])], {"w": KERNEL.astype(np.float16)}, kind=10)
    back = read(made, tmp_path)
    (layer,) = back.layers.values()
    assert layer.parameters["weight"].dtype == np.float32
    assert (layer.parameters["weight"] == KERNEL.astype(np.float16)).all()


def test_one_constant_in_two_nodes_is_one_layer(tmp_path: Path) -> None:
    nodes = [N("Conv", ["x", "w"], ["a"], pads=[1] * 4), N("Tanh", ["a"], ["b"]),
             N("Conv", ["b", "w"], ["y"], pads=[1] * 4)]  # fmt: skip
    made = model_of(nodes, {"w": KERNEL[:1]})
    back = agrees(made, tmp_path, (2, 1, 8, 8))
    first, _, last = back.layers.values()
    assert first is last


@pytest.mark.parametrize(("weight", "layers"), [([1.0, 1.0], 4), ([1.0, 2.0], 2)])
def test_equal_constants_of_layers_before_training(
    weight: list[float], layers: int, tmp_path: Path
) -> None:
    """PyTorch's exporter stores them once; trained ones are equal only if a layer is shared."""
    norm = ["w", "z", "z", "w"]
    nodes = [N("BatchNormalization", ["x", *norm], ["a"]), N("Tanh", ["a"], ["b"]),
             N("BatchNormalization", ["b", *norm], ["c"]), N("GlobalMaxPool", ["c"], ["d"]),
             N("Flatten", ["d"], ["e"]), N("Gemm", ["e", "m", "z"], ["f"]), N("Tanh", ["f"], ["g"]),
             N("Gemm", ["g", "m", "z"], ["y"])]  # fmt: skip
    values = {"w": weight, "m": [weight, weight], "z": [0.0, 0.0]}
    made = {name: np.array(value, np.float32) for name, value in values.items()}
    back = agrees(model_of(nodes, made, ("n", 2, 4, 4)), tmp_path, (2, 2, 4, 4))
    assert len(with_weights(back)) == layers


def with_weights(model: Any) -> set[int]:
    """The distinct layers with weights."""
    return {id(layer) for _, layer in model.named_leaves() if "weight" in layer.parameters}


@pytest.mark.parametrize(("size", "layers"), [(7, 2), (6, 1)])
def test_a_kernel_whose_padding_follows_from_the_map(
    size: int, layers: int, tmp_path: Path
) -> None:
    """Maps of 8 and of ``size`` pixels have the same padding if both are even."""
    how = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    nodes = [N("MaxPool", ["x"], ["m"], kernel_shape=[9 - size] * 2),
             N("Conv", ["x", "w"], ["a"], **how), N("Conv", ["m", "w"], ["b"], **how),
             N("GlobalAveragePool", ["a"], ["c"]), N("GlobalAveragePool", ["b"], ["d"]),
             N("Concat", ["c", "d"], ["y"], axis=1)]  # fmt: skip
    back = agrees(model_of(nodes, {"w": KERNEL}), tmp_path, (2, 1, 8, 8))
    assert len(with_weights(back)) == layers


@pytest.mark.parametrize("bias", [True, False])
def test_a_matrix_for_pixels_in_two_orders(bias: bool, tmp_path: Path) -> None:
    """The layers for one order have permuted weights; those of the same order are one layer."""
    nodes, made = [N("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1])], []
    for place, source in enumerate(("t", "x", "t")):
        nodes += [N("Tanh" if place == 2 else "Relu", [source], [f"r{place}"]),
                  N("Flatten", [f"r{place}"], [f"f{place}"]),
                  N("MatMul", [f"f{place}", "w"], [f"p{place}"])]  # fmt: skip
        nodes += [N("Add", [f"p{place}", "b"], [f"q{place}"])] * bias
        made.append(f"q{place}" if bias else f"p{place}")
    nodes.append(N("Concat", made, ["y"], axis=1))
    weights = {"w": np.resize(MATRIX, (12, 3)) * np.arange(12)[:, None].astype(np.float32)}
    back = agrees(
        model_of(nodes, {**weights, "b": BIAS}, ("n", 3, 2, 2)), tmp_path, (2, 3, 2, 2), 1e-4
    )
    assert len(with_weights(back)) == 2


def test_a_softplus_with_numbers_of_one_dimension(tmp_path: Path) -> None:
    nodes = [N("Mul", ["x", "c"], ["s"]), N("Softplus", ["s"], ["p"]), N("Div", ["p", "c"], ["y"])]
    back = agrees(model_of(nodes, {"c": np.array([2.0], np.float32)}), tmp_path, (2, 1, 8, 8))
    assert [type(layer) for layer in back.layers.values()] == [Softplus]


def calls_for_channels_last(count: int, folder: Path) -> int:
    """Calls of functions while it is found which inputs have their channels last."""
    nodes = [N("Add", [f"s{i}", f"x{i}"], [f"s{i + 1}"]) for i in range(count)]
    nodes += [N("Identity", [f"s{i}"], [f"s{i + 1}"]) for i in range(count, 2 * count)]
    made = model_of([*nodes, N("Relu", [f"s{2 * count}"], ["y"])])
    made.graph.input[0].name = "s0"
    for i in range(count):
        side = onnx.helper.make_tensor_value_info(f"x{i}", FLOAT, ("n", 1, 8, 8))
        made.graph.input.append(side)
    onnx.save(made, folder / "m.onnx")
    file, calls = OnnxFile(folder / "m.onnx"), 0

    def note(*_: Any) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        Wiring(file)
    finally:
        sys.setprofile(before)
    return calls


def test_twice_as_many_inputs_and_nodes_are_twice_the_work(tmp_path: Path) -> None:
    few, many = (calls_for_channels_last(count, tmp_path) for count in (50, 100))
    assert many < 2.5 * few
