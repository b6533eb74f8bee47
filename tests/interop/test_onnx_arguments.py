"""Every argument of every layer survives export and import, or the layer is refused by name."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.errors import ConfigurationError
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.layers import Layer, Sequential
from fastcnn.layers.base import OF_INITIAL_WEIGHTS
from fastcnn.layers.definition import TYPES
from tests.interop.test_interop import run

MAPS, VECTORS, SEQUENCES = (4, 9, 8), (12,), (4, 9)
#: Constructor arguments that a definition does not store.
NOT_DEFINED = ("self", *OF_INITIAL_WEIGHTS)
#: Arguments of layers, with each one at other values than its default in some case.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("Conv2d", {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 2), "stride": (2, 1),
                "padding": (1, 2), "dilation": (1, 2), "groups": 2, "bias": False}),
    ("Conv2d", {"in_channels": 4, "out_channels": 3, "kernel_size": (4, 2), "padding": "same"}),
    ("Conv2d", {"in_channels": 4, "out_channels": 3, "kernel_size": 3, "padding": "valid"}),
    ("Conv2d", {"in_channels": 4, "out_channels": 3, "kernel_size": 3,
                "padding": ((0, 2), (1, 0)), "stride": 2}),
    ("ConvTranspose2d", {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 2),
                         "stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2),
                         "groups": 2, "bias": False, "dilation": (2, 1)}),
    ("ConvTranspose2d", {"in_channels": 4, "out_channels": 2, "kernel_size": 3, "stride": 2,
                         "padding": 2, "output_padding": (2, 1), "dilation": 3}),
    ("Linear", {"in_features": 12, "out_features": 5, "bias": False}),
    ("Linear", {"in_features": 12, "out_features": 5}),
    ("Flatten", {}),
    ("MaxPool2d", {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 0)}),
    ("AvgPool2d", {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1),
                   "count_include_pad": False}),
    ("AvgPool2d", {"kernel_size": (3, 4), "padding": 1}),
    ("AdaptiveAvgPool2d", {"output_size": (3, 4)}),
    ("AdaptiveAvgPool2d", {"output_size": (2, 3)}),
    ("AdaptiveAvgPool2d", {"output_size": (None, 2)}),
    ("AdaptiveAvgPool2d", {"output_size": (1, None)}),
    ("GlobalAvgPool2d", {}),
    ("BatchNorm2d", {"num_features": 4, "eps": 1e-3, "momentum": 0.3}),
    ("BatchNorm2d", {"num_features": 4, "momentum": None, "affine": False}),
    ("BatchNorm2d", {"num_features": 4, "momentum": 0.0}),
    ("BatchNorm1d", {"num_features": 12, "eps": 0.5, "momentum": None, "affine": False}),
    ("BatchNorm1d", {"num_features": 12, "momentum": 1.0}),
    ("Dropout", {"p": 0.3}),
    ("Dropout2d", {"p": 0.7}),
    ("LeakyReLU", {"negative_slope": 0.3}),
    ("ELU", {"alpha": 0.7}),
    ("CELU", {"alpha": 0.7}),
    ("Hardtanh", {"min_val": -0.5, "max_val": 2.0}),
    ("GELU", {"approximate": "tanh"}),
    ("PReLU", {"num_parameters": 4, "init": 0.1}),
    ("Softplus", {"beta": 0.5, "threshold": 1.0}),
    ("Softplus", {"beta": 3.0, "threshold": 30.0}),
    ("Softplus", {"threshold": 18.0}),
    ("Scale", {"num_parameters": 4, "init": 0.1}),
    ("Scale", {"init": 0.1, "trainable": False}),
    ("BatchNorm2d", {"num_features": 4, "weight": False}),
    ("BatchNorm2d", {"num_features": 4, "bias": False}),
    ("BatchNorm1d", {"num_features": 12, "weight": False}),
    ("BatchNorm1d", {"num_features": 12, "bias": False}),
    ("LayerNorm", {"normalized_shape": (4, 9, 8), "eps": 0.1}),
    ("LayerNorm", {"normalized_shape": (9, 8), "bias": False}),
    ("LayerNorm", {"normalized_shape": (8,), "elementwise_affine": False}),
    ("LayerNorm2d", {"num_channels": 4, "eps": 0.1}),
    ("LayerNorm2d", {"num_channels": 4, "affine": False}),
    ("GroupNorm", {"num_groups": 2, "num_channels": 4, "eps": 0.1}),
    ("GroupNorm", {"num_groups": 1, "num_channels": 4, "affine": False}),
    ("InstanceNorm2d", {"num_features": 4, "affine": True}),
    ("InstanceNorm2d", {"num_features": 4, "eps": 0.1}),
    ("RMSNorm", {"normalized_shape": (9, 8)}),
    ("RMSNorm", {"normalized_shape": (8,), "eps": 0.1, "elementwise_affine": False}),
    ("LocalResponseNorm", {"size": 3, "alpha": 0.5, "beta": 0.6, "k": 2.0}),
    ("Conv1d", {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 2,
                "dilation": 2, "groups": 2, "bias": False}),
    ("Conv1d", {"in_channels": 4, "out_channels": 6, "kernel_size": 4, "padding": "same"}),
    ("ConvTranspose1d", {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 3,
                         "padding": 1, "output_padding": 2, "groups": 2, "bias": False,
                         "dilation": 2}),
    ("MaxPool2d", {"kernel_size": 3, "stride": 2, "dilation": (2, 1)}),
    ("MaxPool2d", {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
    ("MaxPool1d", {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}),
    ("MaxPool1d", {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
    ("AvgPool2d", {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
    ("AvgPool1d", {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    ("AvgPool1d", {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
    ("AdaptiveAvgPool1d", {"output_size": 3}),
    ("AdaptiveMaxPool1d", {"output_size": 3}),
    ("AdaptiveMaxPool2d", {"output_size": (3, 4)}),
    ("ZeroPad2d", {"padding": (1, 2, -1, 0)}),
    ("ZeroPad1d", {"padding": (1, 2)}),
    ("ReflectionPad2d", {"padding": (1, 2, 3, 0)}),
    ("ReflectionPad1d", {"padding": 2}),
    ("CircularPad1d", {"padding": 2}),
    ("CircularPad2d", {"padding": (1, 2, 0, 0)}),
    ("ReplicationPad2d", {"padding": (1, 2, 3, 0)}),
    ("ReplicationPad1d", {"padding": 2}),
    ("Upsample", {"scale_factor": (2, 3)}),
    ("Upsample", {"size": (5, 6), "mode": "bilinear", "align_corners": True}),
    ("PixelShuffle", {"upscale_factor": 2}),
    ("ChannelShuffle", {"groups": 2}),
    ("Narrow", {"start": 1, "length": 2}),
    ("Softmax", {"dim": -1}),
    ("Softmax", {"dim": 3}),
    ("LogSoftmax", {"dim": 2}),
]  # fmt: skip
#: What ONNX cannot express, and what the message names.
REFUSED = [
    ("BatchNorm2d", {"num_features": 4, "track_running_stats": False}, "running statistics"),
    ("BatchNorm1d", {"num_features": 12, "track_running_stats": False}, "running statistics"),
    ("ConvTranspose2d", {"in_channels": 4, "out_channels": 2, "kernel_size": 3, "dilation": 3,
                         "output_padding": 2}, "output_padding"),
    ("LocalResponseNorm", {"size": 4}, "even size"),
]  # fmt: skip
#: Arguments that only set a parameter's initial value; the parameter itself is in the file.
OF_BEGINNING = {("PReLU", "init"), ("Scale", "init")}
#: Arguments that only affect training.
OF_TRAINING = {(kind, "max_norm") for kind in ("Conv1d", "Conv2d", "Linear")}
#: Arguments for which any other value is refused.
OF_ONE_VALUE = {
    ("Flatten", "start_dim"),
    ("Flatten", "end_dim"),
    ("InstanceNorm2d", "track_running_stats"),
}
#: Arguments that a file expresses by another layer.
IN_OTHER_WORDS = {
    ("AvgPool2d", "divisor_override"),
    ("Split", "sizes"),
    ("Chunk", "chunks"),
    ("Conv1d", "padding_mode"),
    ("Conv2d", "padding_mode"),
}


def layer_of(kind: str, arguments: dict[str, Any]) -> Layer:
    layer = TYPES[kind](**arguments)
    generator = np.random.default_rng(3)
    affine = getattr(layer, "affine", True)
    for values in (layer.parameters if affine else {}, layer.buffers):
        for key in values:
            if values[key].dtype.kind == "f":
                values[key][...] = generator.uniform(0.5, 1.5, values[key].shape)
            else:
                values[key][...] = 7
    return layer


def shape_for(kind: str) -> tuple[int, ...]:
    if kind.endswith("1d") and kind != "BatchNorm1d":
        return SEQUENCES
    return VECTORS if kind in ("Linear", "BatchNorm1d") else MAPS


def test_every_argument_has_a_case() -> None:
    tried = {(kind, name) for kind, arguments, *_ in [*CASES, *REFUSED] for name in arguments}
    for kind, layer in TYPES.items():
        if kind in ("PixelUnshuffle", "Unflatten"):
            continue
        names = inspect.signature(layer.__init__).parameters
        elsewhere = OF_ONE_VALUE | OF_TRAINING | IN_OTHER_WORDS
        tried_here = {name for known, name in tried | elsewhere if known == kind}
        missing = [name for name in names if name not in NOT_DEFINED and name not in tried_here]
        assert not missing, (kind, missing)
    for kind, arguments in CASES:
        for name, parameter in inspect.signature(TYPES[kind].__init__).parameters.items():
            assert name not in arguments or arguments[name] != parameter.default, (kind, name)


def described(layer: Layer) -> dict[str, Any]:
    """All constructor arguments, in normalised form."""
    kind = type(layer)
    names = [
        name
        for name in inspect.signature(kind.__init__).parameters
        if name not in NOT_DEFINED and (kind.__name__, name) not in OF_BEGINNING
    ]
    told = {
        name: name in layer.parameters if name in ("weight", "bias") else getattr(layer, name)
        for name in names
    }
    if "padding" in layer.arguments:
        told["padding"] = layer.arguments["padding"]  # "same" and "valid" are numbers here
    return told


@pytest.mark.parametrize(("kind", "arguments"), CASES, ids=str)
def test_there_and_back(kind: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    layer, shape = layer_of(kind, arguments), shape_for(kind)
    model = Sequential({"layer": layer}, input_shape=shape)
    export_onnx(model, tmp_path / "m.onnx")
    x = 2.0 * np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    expected = model.logits(x, backend="im2col")
    assert run(tmp_path / "m.onnx", x) == pytest.approx(expected, abs=1e-5)
    back = import_onnx(tmp_path / "m.onnx")
    assert list(back.layers) == ["layer"]
    found = back.layers["layer"]
    assert type(found) is type(layer)
    assert described(found) == described(layer)
    state, was = back.state_dict(), model.state_dict()
    assert state.keys() == was.keys()
    for key, value in was.items():
        assert (state[key] == value).all(), key


@pytest.mark.parametrize(("kind", "arguments", "message"), REFUSED, ids=str)
def test_what_cannot_be_said_is_refused(
    kind: str, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = Sequential({"own": TYPES[kind](**arguments)}, input_shape=shape_for(kind))
    with pytest.raises(ConfigurationError, match=f"layer 'own': .*{message}"):
        export_onnx(model, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_the_preprocessing_travels_with_the_file(tmp_path: Path) -> None:
    from fastcnn.data.preprocessing import Preprocessing

    model = Sequential({"layer": layer_of("GlobalAvgPool2d", {})}, input_shape=MAPS)
    model.preprocessing = Preprocessing((0.1, 0.2, 0.3, 0.4), (1.0, 2.0, 3.0, 4.0), "uint8")
    export_onnx(model, tmp_path / "m.onnx")
    back = import_onnx(tmp_path / "m.onnx")
    assert back.preprocessing == model.preprocessing
    x = np.random.default_rng(0).integers(0, 256, (2, *MAPS)).astype(np.uint8)
    assert (back.logits(x) == model.logits(x)).all()
