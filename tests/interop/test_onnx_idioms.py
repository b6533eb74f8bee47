"""Files of tf2onnx, ONNX's model zoo and converters, compared with ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.errors import ConfigurationError
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.layers import Hardtanh, ReLU, ReLU6, Upsample
from tests.interop.onnx_models import N, model_of, read
from tests.interop.test_interop import run

GENERATOR = np.random.default_rng(3)
KERNEL = GENERATOR.standard_normal((6, 4, 3, 3)).astype(np.float32)
CHANNELS = GENERATOR.standard_normal(4).astype(np.float32)
OF_SIX = GENERATOR.standard_normal(6).astype(np.float32)
MAPS, LAST = ("n", 4, 8, 8), ("n", 8, 8, 4)
TO_FIRST = N("Transpose", ["t0"], ["t"], perm=[0, 3, 1, 2])
CONV = N("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1])
END = N("Relu", ["c"], ["y"])
NHWC = [N("Identity", ["x"], ["t0"]), TO_FIRST, CONV]
BACK = [*NHWC, N("Transpose", ["c"], ["r"], perm=[0, 2, 3, 1])]
NORM = {
    "s": CHANNELS,
    "b": CHANNELS[::-1].copy(),
    "m": CHANNELS,
    "v": np.abs(CHANNELS) + 0.5,
}
Case = tuple[str, list[Any], dict[str, Any], tuple[Any, ...], int]


def _floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def _resized(**attributes: Any) -> list[Any]:
    return [N("Resize", ["x", "", "s"], ["y"], **attributes)]


def _cases() -> list[Case]:
    cases: list[Case] = []
    for opset in (7, 10):
        cases += [
            ("clip", [N("Clip", ["x"], ["y"], min=-0.5, max=0.6)], {}, MAPS, opset),
            ("clip from 0", [N("Clip", ["x"], ["y"], min=0.0)], {}, MAPS, opset),
            ("clip to a number", [N("Clip", ["x"], ["y"], max=0.3)], {}, MAPS, opset),
            ("pad", [N("Pad", ["x"], ["y"], pads=[0, 0, 1, 2, 0, 0, 3, 0])], {}, MAPS, opset),
        ]
    for opset in (11, 17, 21):
        clip = [N("Clip", ["x", "a", "b"], ["y"])]
        bounds = {"a": np.float32(-0.5), "b": np.float32(0.6)}
        cases += [
            ("clip", clip, bounds, MAPS, opset),
            ("clip from 0", [N("Clip", ["x", "a"], ["y"])], {"a": np.float32(0)}, MAPS, opset),
            ("clip from a number", [N("Clip", ["x", "a"], ["y"])], bounds, MAPS, opset),
            ("clip to a number", [N("Clip", ["x", "", "b"], ["y"])], bounds, MAPS, opset),
            ("clip to inf", clip, {"a": np.float32(0), "b": np.float32(np.inf)}, MAPS, opset),
        ]
    for opset in (18, 21):
        axes = [N("Pad", ["x", "p", "", "a"], ["y"], mode="reflect")]
        cases += [
            ("pad of axes", axes, {"p": [1, 2, 3, 0], "a": [3, -2]}, MAPS, opset),
            ("pad of one axis", axes, {"p": [1, 2], "a": [-1]}, MAPS, opset),
            ("resize of axes", _resized(axes=[3, 2], nearest_mode="floor",
                                        coordinate_transformation_mode="asymmetric"),
             {"s": _floats(2, 3)}, MAPS, opset),
            ("resize of axes to sizes", [N("Resize", ["x", "", "", "z"], ["y"], axes=[2, 3],
                                           mode="linear")], {"z": [16, 12]}, MAPS, opset),
        ]  # fmt: skip
    for place in ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric"):
        for factors in ((2, 2), (3, 2), (1, 4)):
            rounding = "round_prefer_ceil" if place.endswith("half_pixel") else "floor"
            attributes = {"coordinate_transformation_mode": place, "nearest_mode": rounding}
            given = {"s": _floats(1, 1, *factors)}
            cases.append(("resize to nearest", _resized(**attributes), given, MAPS, 13))
    twice = {"s": _floats(1, 1, 2, 2)}
    linear = {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"}
    cases += [
        ("resize 10", [N("Resize", ["x", "s"], ["y"])], twice, MAPS, 10),
        ("upsample 9", [N("Upsample", ["x", "s"], ["y"])], twice, MAPS, 9),
        ("upsample 7", [N("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 3.0])], {}, MAPS, 7),
        ("resize symmetric", _resized(**linear), twice, MAPS, 19),
        ("max and min", [N("Max", ["a", "x"], ["m"]), N("Min", ["m", "b"], ["y"])],
         {"a": np.float32(-0.5), "b": np.float32(0.5)}, MAPS, 17),
        ("min and max", [N("Min", ["x", "b"], ["m"]), N("Max", ["m", "a"], ["y"])],
         {"a": np.float32(0), "b": np.float32(6)}, MAPS, 17),
        ("relu as max", [N("Max", ["x", "a"], ["y"])], {"a": np.float32(0)}, MAPS, 17),
        ("flatten of the last axis", [N("Flatten", ["x"], ["y"], axis=-1)], {}, ("n", 6), 13),
        ("flatten of one channel", [N("Flatten", ["x"], ["y"], axis=2)], {}, ("n", 1, 8, 8), 13),
        ("gemm without its bias", [N("Gemm", ["x", "w", "b"], ["y"], beta=0.0)],
         {"w": KERNEL[0, :, 0], "b": np.full(3, np.nan, np.float32)}, ("n", 4), 13),
        ("one of a dimension", [N("Unsqueeze", ["x", "a"], ["u"]), N("Relu", ["u"], ["r"]),
                                N("Gather", ["r", "z"], ["y"], axis=2)],
         {"a": [2], "z": np.int64(0)}, ("n", 4, 9), 17),
        # The last window would begin in the padding.
        ("pool rounded up", [N("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2],
                               pads=[0, 0, 1, 0], ceil_mode=1)], {}, MAPS, 17),
        ("one channel", [N("Gather", ["x", "z"], ["y"], axis=1)], {"z": np.int64(-2)}, MAPS, 17),
        ("some channels", [N("Gather", ["x", "z"], ["y"], axis=1)], {"z": [1, 2, -1]}, MAPS, 17),
        ("sum of three", [N("Relu", ["x"], ["a"]), N("Sum", ["a", "x", "a"], ["y"])], {}, MAPS, 8),
        ("negative", [N("Neg", ["x"], ["n"]), N("Concat", ["n", "x"], ["y"], axis=1)], {},
         MAPS, 17),
        ("a number added to a map", [N("GlobalMaxPool", ["x"], ["g"]),
                                     N("Sub", ["g", "x"], ["y"])], {}, MAPS, 17),
        ("rows times columns", [N("ReduceMean", ["x"], ["g"], axes=[2]),
                                N("ReduceMax", ["x"], ["h"], axes=[3]),
                                N("Mul", ["g", "h"], ["y"])], {}, MAPS, 17),
        ("three of one channel", [N("Tile", ["x", "r"], ["t"]), N("Conv", ["t", "k"], ["y"])],
         {"r": [1, 3, 1, 1], "k": KERNEL[:, :3]}, ("n", 1, 8, 8), 17),
        ("expanded before and after", [N("Expand", ["x", "r"], ["t"]), N("Conv", ["t", "w"], ["c"]),
                                       N("GlobalAveragePool", ["c"], ["g"]),
                                       N("Expand", ["g", "s"], ["y"])],
         {"r": [1, 4, 1, 1], "s": [1, 6, 2, 3], "w": KERNEL}, ("n", 1, 8, 8), 17),
        ("repeated pixels, flattened", [N("Expand", ["x", "r"], ["t"]), N("Flatten", ["t"], ["f"]),
                                        N("MatMul", ["f", "w"], ["y"])],
         {"r": [1, 4, 2, 3], "w": KERNEL.reshape(24, 9)}, ("n", 4, 2, 1), 17),
        ("a repeated channel, reshaped", [N("Tile", ["x", "r"], ["t"]),
                                          N("Reshape", ["t", "s"], ["y"])],
         {"r": [1, 2, 1, 1], "s": [0, 1, 8, 3]}, ("n", 1, 4, 3), 17),
        ("standardised weights", [N("ReduceMean", ["w"], ["m"], axes=[1, 2, 3]),
                                  N("Sub", ["w", "m"], ["d"]),
                                  N("ReduceL2", ["d"], ["l"], axes=[1, 2, 3]),
                                  N("Div", ["d", "l"], ["s"]), N("Conv", ["x", "s"], ["y"])],
         {"w": KERNEL}, MAPS, 17),
        ("cropped", [N("Slice", ["x", "a", "b", "c"], ["y"])],
         {"a": [2, -7, 1], "b": [99, -1, 3], "c": [-1, 2, 1]}, MAPS, 17),
        ("cropped, channels last", [*BACK, N("Slice", ["r", "a", "b", "e"], ["y"])],
         {"w": KERNEL, "a": [3, 2], "b": [8, 4], "e": [1, 3]}, LAST, 17),
        ("causal", [N("Conv", ["x", "w"], ["t"], pads=[4, 4], dilations=[2]),
                    N("Slice", ["t", "a", "b", "c"], ["y"])],
         {"w": KERNEL[:, :, 0], "a": [0], "b": [-4], "c": [2]}, ("n", 4, 9), 17),
        ("last point", [N("Gather", ["x", "z"], ["y"], axis=-1)], {"z": np.int64(-1)},
         ("n", 4, 9), 17),
        ("some rows", [N("Gather", ["x", "z"], ["y"], axis=2)], {"z": [3, 4, -3]}, MAPS, 17),
        ("range of channels", [N("Range", ["a", "b", "c"], ["r"]),
                               N("Gather", ["x", "r"], ["y"], axis=1)],
         {"a": np.int64(0), "b": np.int64(3), "c": np.int64(1)}, MAPS, 17),
        ("tiled factors", [N("Tile", ["s", "r"], ["q"]), N("Mul", ["x", "q"], ["y"])],
         {"s": _floats(0.5).reshape(1, 1, 1), "r": [4, 1, 1]}, MAPS, 17),
        ("weights in 8 bits", [N("DequantizeLinear", ["w", "s"], ["q"]),
                               N("Conv", ["x", "q"], ["y"])],
         {"w": (20 * KERNEL).astype(np.int8), "s": np.float32(0.05)}, MAPS, 13),
        ("scaled, then first", [N("Mul", ["x", "s"], ["a"]), N("Sub", ["a", "m"], ["t0"]),
                                *NHWC[1:], END],
         {"s": np.float32(1 / 255), "m": CHANNELS, "w": KERNEL}, LAST, 17),
        ("padded, then first", [N("Pad", ["x", "p"], ["t0"]), *NHWC[1:], END],
         {"p": [0, 1, 2, 0, 0, 1, 0, 0], "w": KERNEL}, LAST, 17),
        ("PRelu of last channels", [*BACK, N("PRelu", ["r", "k"], ["y"])],
         {"w": KERNEL, "k": OF_SIX.reshape(1, 1, 6)}, LAST, 17),
        ("Resize of last channels", [*BACK, N("Resize", ["r", "", "s"], ["y"], nearest_mode="floor",
                                              coordinate_transformation_mode="asymmetric")],
         {"w": KERNEL, "s": _floats(1, 2, 3, 1)}, LAST, 17),
    ]  # fmt: skip
    for axes, last in (
        ([1], False),
        ([-3, 3], False),
        ([1, 2, 3], False),
        ([2], True),
        ([3, 1], True),
    ):
        for kind, keep in (("Max", 0), ("Max", 1), ("Mean", 0), ("Min", 1), ("Sum", 1), ("Sum", 0)):
            if len(axes) == 3 and not keep:
                continue
            nodes, given = [*BACK] if last else [N("Identity", ["x"], ["r"])], {"w": KERNEL}
            if kind == "Sum":
                nodes.append(N("ReduceSum", ["r", "a"], ["y"], keepdims=keep))
                given["a"] = axes
            else:
                nodes.append(N(f"Reduce{kind}", ["r"], ["y"], axes=axes, keepdims=keep))
            cases.append((f"{kind} over {axes}", nodes, given, LAST if last else MAPS, 17))
    for kind in ("Max", "Min"):
        cases += [
            (f"{kind} of three", [N("Relu", ["x"], ["r"]), N("Neg", ["x"], ["n"]),
                                  N(kind, ["r", "x", "n"], ["y"])], {}, MAPS, 17),
            (f"{kind} of vectors", [N("Neg", ["x"], ["n"]), N(kind, ["x", "n"], ["y"])], {},
             ("n", 4), 17),
            (f"{kind} of a map and numbers", [N("GlobalAveragePool", ["x"], ["g"]),
                                              N(kind, ["g", "x"], ["y"])], {}, MAPS, 17),
            (f"{kind} of last channels", [*BACK, N("Relu", ["r"], ["p"]), N("Neg", ["r"], ["n"]),
                                          N(kind, ["n", "p"], ["y"])], {"w": KERNEL}, LAST, 17),
        ]  # fmt: skip
    of_pixels = {"a": [1, 0], "b": [99, 7], "d": [2, 3], "s": [3, 2]}
    cases += [
        ("rows of three", [N("Relu", ["x"], ["r"]), N("Slice", ["x", "a", "b", "c"], ["p"]),
                           N("Concat", ["r", "p", "x"], ["y"], axis=2)],
         {"a": [0], "b": [3], "c": [2]}, MAPS, 17),
        ("columns, channels last", [*BACK, N("Relu", ["r"], ["p"]),
                                    N("Concat", ["r", "p"], ["y"], axis=-2)], {"w": KERNEL},
         LAST, 17),
        ("points of sequences", [N("Concat", ["x", "x"], ["y"], axis=2)], {}, ("n", 4, 9), 17),
        ("split rows", [N("Split", ["x"], ["p", "q"], axis=2), N("Concat", ["q", "p"], ["y"],
                                                                      axis=-2)], {}, MAPS, 13),
        ("split columns, channels last", [*BACK, N("Split", ["r", "a"], ["p", "y"], axis=2)],
         {"w": KERNEL, "a": [3, 5]}, LAST, 17),
        ("absolute values", [N("Abs", ["x"], ["y"])], {}, MAPS, 17),
        ("max, then ReLU", [N("Max", ["x", "a"], ["m"]), N("Relu", ["m"], ["y"])],
         {"a": np.float32(-0.2)}, MAPS, 17),
        ("bounds that cross", [N("Max", ["x", "a"], ["m"]), N("Min", ["m", "b"], ["n"]),
                               N("Add", ["m", "n"], ["y"])],
         {"a": np.float32(0.5), "b": np.float32(0.2)}, MAPS, 17),
        ("mean of a sequence's channels", [N("ReduceMean", ["x"], ["y"], axes=[1])], {},
         ("n", 4, 9), 17),
        ("mean of shuffled channels",
         [N("Reshape", ["x", "a"], ["g"]), N("Transpose", ["g"], ["t"], perm=[0, 2, 1, 3, 4]),
          N("Reshape", ["t", "b"], ["s"]), N("ReduceMean", ["s"], ["y"], axes=[2, 3], keepdims=0)],
         {"a": [0, 2, 2, 8, 8], "b": [0, 4, 8, 8]}, MAPS, 17),
        ("mean of features", [N("ReduceMean", ["x"], ["y"], axes=[1])], {}, ("n", 9), 17),
        ("every other channel", [N("Slice", ["x", *"abds"], ["y"])],
         of_pixels | {"d": [1, 2]}, MAPS, 17),
        ("every other feature", [N("Slice", ["x", *"abds"], ["y"])],
         {"a": [1], "b": [8], "d": [1], "s": [3]}, ("n", 9), 17),
        ("every other pixel", [N("Slice", ["x", *"abds"], ["y"])], of_pixels, MAPS, 17),
        ("every other pixel, channels last", [*BACK, N("Slice", ["r", *"abds"], ["y"])],
         {**of_pixels, "d": [1, 2], "w": KERNEL}, LAST, 17),
        ("focus", [*(N("Slice", ["x", f"a{i}", "b", "c", "s"], [f"p{i}"]) for i in range(4)),
                   N("Concat", ["p0", "p1", "p2", "p3"], ["y"], axis=1)],
         {"b": [2**62] * 2, "c": [2, 3], "s": [2, 2]}
         | {f"a{i}": [i % 2, i // 2] for i in range(4)}, MAPS, 17),
    ]  # fmt: skip
    for auto in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
        arguments = {"strides": [2, 3], "auto_pad": auto, "output_padding": [1, 2]}
        transposed = [N("ConvTranspose", ["x", "w"], ["y"], output_shape=[15, 20], **arguments)]
        cases.append((f"to a size, {auto}", transposed, {"w": KERNEL[:4]}, MAPS, 17))
    for auto in ("SAME_UPPER", "SAME_LOWER"):
        transposed = [N("ConvTranspose", ["x", "w"], ["y"], strides=[2, 1], auto_pad=auto)]
        cases.append((f"transposed, {auto}", transposed, {"w": KERNEL[:4]}, MAPS, 17))
    for pads in ([0, 0, 2, 1], [2, 0, 1, 1], [3, 1, 0, 2]):
        transposed = [N("ConvTranspose", ["x", "w"], ["y"], pads=pads)]
        cases.append(("cropped unevenly", transposed, {"w": KERNEL[:4]}, MAPS, 17))
    return cases


@pytest.mark.parametrize(
    ("name", "nodes", "constants", "shape", "opset"), _cases(), ids=lambda part: str(part)[:24]
)
def test_read_as_onnx_runtime_does(
    name: str,
    nodes: list[Any],
    constants: dict[str, Any],
    shape: tuple[Any, ...],
    opset: int,
    tmp_path: Path,
) -> None:
    made = read(model_of(nodes, constants, shape, opset), tmp_path)
    x = np.random.default_rng(0).standard_normal((3, *shape[1:])).astype(np.float32)
    expected = run(tmp_path / "m.onnx", x)
    given = x.transpose(0, 3, 1, 2) if shape == LAST else x
    found = made.logits(given)
    assert found.shape == expected.shape
    assert found == pytest.approx(expected, abs=2e-5 * max(1.0, float(np.abs(expected).max())))
    export_onnx(made, tmp_path / "back.onnx")
    again = import_onnx(tmp_path / "back.onnx").logits(given)
    assert again == pytest.approx(found, abs=1e-6 * max(1.0, float(np.abs(found).max())))


@pytest.mark.parametrize(
    ("bounds", "kind"), [((0.0, 6.0), ReLU6), ((0.0, np.inf), ReLU), ((-1.0, 1.0), Hardtanh)]
)
def test_bounds_become_the_layer_of_that_name(
    bounds: tuple[float, float], kind: type, tmp_path: Path
) -> None:
    given = {name: np.float32(value) for name, value in zip("ab", bounds, strict=True)}
    made = read(model_of([N("Clip", ["x", "a", "b"], ["y"])], given), tmp_path)
    assert [type(layer) for layer in made.layers.values()] == [kind]


def test_statistics_of_another_type_than_samples(tmp_path: Path) -> None:
    weights = {name: NORM[name].astype(np.float16) for name in "sb"}
    node = N("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])
    made = read(
        model_of([node], {**weights, "m": NORM["m"], "v": NORM["v"]}, MAPS, 17, 10), tmp_path
    )
    (layer,) = made.layers.values()
    assert (layer.buffers["running_var"] == NORM["v"]).all()


def test_a_map_that_does_not_grow_by_whole_factors(tmp_path: Path) -> None:
    """By the pixels of Upsample if those are the same, and refused otherwise."""
    attributes = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    made = read(model_of(_resized(**attributes), {"s": _floats(1, 1, 1.5, 1.5)}, MAPS), tmp_path)
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
    assert [type(layer) for layer in made.layers.values()] == [Upsample]
    assert (made.logits(x) == run(tmp_path / "m.onnx", x)).all()
    other = {**attributes, "coordinate_transformation_mode": "align_corners"}
    with pytest.raises(ConfigurationError, match=r"\(8, 8\) pixels by 1.5, 1.5, to \(12, 12\)"):
        read(model_of(_resized(**other), {"s": _floats(1, 1, 1.5, 1.5)}, MAPS), tmp_path)


def _norm(**others: Any) -> tuple[list[Any], dict[str, Any], tuple[Any, ...]]:
    return [N("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])], NORM | others, MAPS


#: Nodes, constants, shape, operator set, and the message.
REFUSED: list[tuple[list[Any], dict[str, Any], tuple[Any, ...], int, str]] = [
    (*_norm(v=_floats(1, -2, 1, -1e-9)), 17, "the variance of 2 of 4 channels is negative"),
    # With five outputs, the batch's own statistics are meant.
    ([N("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", *"pquz"])], NORM, MAPS, 7,
     "outputs of statistics"),
    ([N("Mul", ["x", "c"], ["y"])], {"c": np.ones((1,) * 5, np.float32)}, MAPS, 17,
     r"weight of shape \(1, 1, 1, 1, 1\)"),
    ([N("Clip", ["x", "a"], ["y"])], {"a": np.float32(np.nan)}, MAPS, 17, "are not numbers"),
    ([N("Clip", ["x", "a", "b"], ["y"])], {"a": np.float32(1), "b": np.float32(0)}, MAPS, 17,
     "leave a single value"),
    ([N("Max", ["x", "a"], ["y"])], {"a": CHANNELS.reshape(4, 1, 1)}, MAPS, 17, "not one number"),
    ([N("Relu", ["x"], ["r"]), N("Max", ["x", "a", "r"], ["y"])], {"a": np.float32(1)}, MAPS, 17,
     "of a number and several samples"),
    ([N("Slice", ["x", "a", "b", "c", "a"], ["y"])], {"a": [-1], "b": [-9], "c": [2]}, MAPS, 17,
     "7 to -1 of axis 2 in steps of -1"),
    ([N("ReduceMax", ["x"], ["y"], axes=[0])], {}, MAPS, 17, r"reduces axes \(0,\) of samples"),
    ([N("ReduceMax", ["x"], ["y"])], {}, MAPS, 17, "reduces axes None of samples"),
    ([N("ReduceMax", ["x"], ["y"], axes=[1, -1], keepdims=0)], {}, ("n", 4), 17, "reduces axes"),
    ([N("ReduceMax", ["x"], ["y"], axes=[1], keepdims=0)], {}, ("n", 4), 17, "without a dimension"),
    ([N("ConvTranspose", ["x", "w"], ["y"], output_shape=[11, 10])], {"w": KERNEL[:4]}, MAPS, 17,
     r"makes \(10, 10\) pixels, not \(11, 10\)"),
    ([N("ConvTranspose", ["x", "w"], ["y"], output_shape=[10])], {"w": KERNEL[:4]}, MAPS, 17,
     r"pixels, not \(10,\)"),
    ([N("ConvTranspose", ["x", "w"], ["y"], auto_pad="VALID", pads=[1] * 4)], {"w": KERNEL[:4]},
     MAPS, 17, "auto_pad='VALID' is not supported with pads"),
    ([N("Pad", ["x", "p", "", "a"], ["y"])], {"p": [1, 0], "a": [1]}, MAPS, 18, "not channels"),
    ([N("Pad", ["x", "p", "", "a"], ["y"])], {"p": [1, 0, 1, 0], "a": [3, -1]}, MAPS, 18, "axes="),
    ([N("Resize", ["x", "", "", "z"], ["y"], mode="linear")], {"z": [5, 4, 16, 16]}, MAPS, 17,
     "only for batches of 5"),
    ([N("Resize", ["x", "", "s"], ["y"])], {"s": _floats(1, 2, 2, 2)}, MAPS, 17,
     "of samples or channels"),
    ([N("Resize", ["x", "", "s"], ["y"])], {"s": _floats(1, 1, np.nan, 2)}, MAPS, 17, "by nan"),
    ([N("Upsample", ["x", "s"], ["y"], mode="linear")], {"s": _floats(1, 1, 2, 2)}, MAPS, 9,
     "mode='linear'"),
    ([N("GlobalAveragePool", ["x"], ["g"]), N("Squeeze", ["g"], ["y"])], {}, MAPS, 17,
     "a Squeeze without axes"),
    ([N("Flatten", ["x"], ["y"], axis=2)], {}, MAPS, 17, "rows that are not samples"),
    # Rounded up, there is one more window than without the padding at the end.
    ([N("MaxPool", ["x"], ["y"], kernel_shape=[4], strides=[2], pads=[0, 2], ceil_mode=1)], {},
     ("n", 4, 9), 17, "is not symmetric"),
    ([N("Cast", ["x"], ["y"], to=11)], {}, MAPS, 17, "from FLOAT to DOUBLE"),
    ([N("Shape", ["x"], ["s"]), N("Gather", ["s", "z"], ["b"]), N("Mul", ["b", "t"], ["c"]),
      N("Unsqueeze", ["c", "o"], ["u"]), N("Concat", ["u", "m"], ["k"], axis=0),
      N("Reshape", ["x", "k"], ["y"])],
     {"z": np.int64(0), "t": np.int64(2), "o": [0], "m": [-1]}, MAPS, 17,
     "computes with the number of samples"),
    ([N("Shape", ["x"], ["s"]), N("Cast", ["s"], ["f"], to=1), N("Reshape", ["x", "f"], ["y"])],
     {}, MAPS, 17, r"list of integers, this is float32 of shape \(4,\)"),
    ([N("Shape", ["x"], ["s"]), N("Unsqueeze", ["s", "o"], ["u"]), N("Reshape", ["x", "u"], ["y"])],
     {"o": [0]}, MAPS, 17, r"list of integers, this is int64 of shape \(1, 4\)"),
    ([N("Shape", ["x"], ["s"]), N("Gather", ["s", "o"], ["b"]), N("Slice", ["s", "o", "b"], ["u"]),
      N("Reshape", ["x", "u"], ["y"])], {"o": [0]}, MAPS, 17, "with the number of samples"),
    ([N("Gather", ["x", "z"], ["y"], axis=2)], {"z": np.int64(8)}, MAPS, 17, "of 8 along"),
    ([N("Gather", ["x", "z"], ["y"], axis=1)], {"z": [2, 1]}, MAPS, 17, "not consecutive"),
    ([N("Gather", ["x", "z"], ["y"], axis=1)], {"z": [4]}, MAPS, 17, r"\[4\] of 4 along"),
    ([N("Gather", ["x", "z"], ["y"], axis=0)], {"z": [0]}, MAPS, 17, "some of the samples"),
    # One more dimension than samples have, which the result would have, too.
    ([N("Max", ["a", "x"], ["y"])], {"a": np.zeros((1,) * 5, np.float32)}, MAPS, 17,
     r"a bound of shape \(1, 1, 1, 1, 1\)"),
    ([N("Max", ["x", "a"], ["m"]), N("Min", ["m", "b"], ["y"])],
     {"a": np.float32(-1), "b": np.ones((1,) * 5, np.float32)}, MAPS, 17,
     r"a bound of shape \(1, 1, 1, 1, 1\)"),
    # Before operator set 13 it was over all dimensions from the second on.
    *(([*BACK, N(kind, ["r"], ["y"])], {"w": KERNEL}, LAST, 12, "a softmax over several axes")
      for kind in ("Softmax", "LogSoftmax")),
    ([N("Concat", ["x"] * 65, ["y"], axis=2)], {}, MAPS, 17, "joins 65 maps"),
    ([N("Transpose", ["x"], ["t"], perm=[2, 0, 1]), N("GatherND", ["t", "z"], ["g"]),
      N("Transpose", ["g"], ["l"], perm=[1, 2, 0]), N("Sub", ["l", "l"], ["s"]),
      N("Mul", ["s", "w"], ["m"]), N("Add", ["l", "m"], ["y"])],
     {"z": np.zeros((9, 1), bool), "w": _floats(*range(9))}, ("n", 4, 9), 17, "moves the samples"),
    ([N("Gather", ["x", "z"], ["y"], axis=2)], {"z": _floats(*range(8), *range(8))}, MAPS, 17,
     "a Gather of samples"),
    # Files of a few bytes that would create large arrays.
    ([N("ConstantOfShape", ["s"], ["q"]), N("Add", ["x", "q"], ["y"])], {"s": [-(2**50)]}, MAPS,
     17, "a negative size"),
    ([N("ConstantOfShape", ["s"], ["q"]), N("ConstantOfShape", ["t"], ["r"]),
      N("ReduceSum", ["r"], ["v"]), N("Mul", ["x", "v"], ["y"])],
     {"s": [-(2**50)], "t": [2**28]}, MAPS, 17, "much more than"),
    ([N("DequantizeLinear", ["w", "s"], ["q"], axis=1), N("Mul", ["x", "q"], ["y"])],
     {"w": np.zeros((2**13, 1), np.int8), "s": np.ones(2**13, np.float32)}, MAPS, 17,
     r"factors of shape \(8192,\) for values of \(8192, 1\), axis=1"),
    ([N("DequantizeLinear", ["w", "s"], ["q"], axis=0, block_size=2**40),
      N("Mul", ["x", "q"], ["y"])],
     {"w": np.zeros(4, np.int8), "s": np.ones(2, np.float32)}, MAPS, 21, "much more than"),
    ([N("Conv", ["x", "w"], ["y"], dilations=[2**14] * 2, pads=[2**14] * 4)], {"w": KERNEL}, MAPS,
     17, r"samples of \(4, 32776, 32776\) are larger than fastcnn imports"),
    ([N("ConvTranspose", ["x", "w"], ["y"], strides=[2**13] * 2, pads=[2**15 - 2**12] * 4)],
     {"w": KERNEL[:4]}, MAPS, 17, "are larger than fastcnn imports"),
    ([N("Tile", ["s", "r"], ["q"]), N("Mul", ["x", "q"], ["y"])],
     {"s": np.ones((1, 1, 1), np.float32), "r": [2**20, 2**20, 1]}, MAPS, 17, "much more than"),
    ([N("Range", ["a", "b", "c"], ["r"]), N("Gather", ["x", "r"], ["y"], axis=1)],
     {"a": np.int64(0), "b": np.int64(2**40), "c": np.int64(1)}, MAPS, 17, "much more than"),
    (_resized(nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
     {"s": _floats(1, 1, 2**16, 2**16)}, MAPS, 17, "larger than fastcnn imports"),
    (_resized(nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
     {"s": _floats(1, 1, 2**19, 1)}, MAPS, 17, "a Resize of 8 pixels to 4194304"),
    ([N("Pad", ["x", "p"], ["y"])], {"p": [0, 0, 2**40, 0, 0, 0, 0, 0]}, MAPS, 17,
     "padding must be an integer of at most 16,777,216"),
    ([N("Pad", ["x", "p"], ["y"])], {"p": [0, 0, 2**20, 0, 0, 0, 2**10, 0]}, MAPS, 17,
     "larger than fastcnn imports"),
    ([N("ConvTranspose", ["x", "w"], ["y"], strides=[2**30, 1])], {"w": KERNEL[:4]}, MAPS, 17,
     "larger than fastcnn imports"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "constants", "shape", "opset", "message"), REFUSED, ids=lambda part: str(part)[:30]
)
def test_refused_by_name(
    nodes: list[Any],
    constants: dict[str, Any],
    shape: tuple[Any, ...],
    opset: int,
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=rf"m\.onnx: ONNX node .*{message}"):
        read(model_of(nodes, constants, shape, opset), tmp_path)


def test_gathered_places_that_are_not_the_samples_own(tmp_path: Path) -> None:
    """A flat batch of which each sample's elements are reversed."""
    places = np.arange(3)[:, None] * 6 + np.arange(6)[::-1]
    nodes = [N("Reshape", ["x", "s"], ["f"]), N("Gather", ["f", "p"], ["y"])]
    with pytest.raises(ConfigurationError, match=r"\(Gather\): it takes other elements"):
        read(model_of(nodes, {"s": [-1], "p": places}, (3, 6)), tmp_path)
    places = np.arange(18).reshape(3, 2, 3)
    made = read(model_of(nodes, {"s": [-1], "p": places}, (3, 6)), tmp_path)
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    assert (made.logits(x) == x.reshape(3, 2, 3)).all()
