"""Sequences, arguments of poolings and operations that move pixels, in ONNX round trips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import layers as nn
from fastcnn.data import Pictures, Preprocessing
from fastcnn.errors import ConfigurationError
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.interop.c.export import export_c
from fastcnn.interop.html_page.export import export_html
from fastcnn.interop.numpy_source import export_numpy

onnxruntime = pytest.importorskip("onnxruntime")

CASES: list[tuple[nn.Layer, tuple[int, ...]]] = [
    (nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, seed=1), (4, 11)),
    (nn.Conv1d(4, 6, 4, padding="same", bias=False, seed=1), (4, 11)),
    (nn.ConvTranspose1d(4, 3, 4, stride=3, padding=1, output_padding=2, seed=2), (4, 5)),
    (nn.MaxPool1d(3, stride=2, padding=1), (2, 9)),
    (nn.MaxPool1d(2, dilation=2), (2, 9)),
    (nn.AvgPool1d(3, stride=2, padding=1, count_include_pad=False), (2, 9)),
    (nn.AdaptiveAvgPool1d(3), (2, 9)),
    (nn.GlobalAvgPool1d(), (2, 9)),
    (nn.GlobalMaxPool1d(), (2, 9)),
    (nn.BatchNorm1d(3), (3, 5)),
    (nn.GroupNorm(3, 3, 0.01), (3, 5)),
    (nn.GroupNorm(3, 3, affine=False), (3, 5)),
    (nn.MaxPool2d(3, stride=2, ceil_mode=True), (2, 8, 6)),
    (nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 6, 7)),
    (nn.MaxPool2d(2, dilation=(1, 2)), (2, 8, 6)),
    # ceil_mode adds as much padding at the end as the window has pixels.
    (nn.MaxPool2d(2, stride=3, dilation=2, ceil_mode=True), (2, 4, 7)),
    (nn.MaxPool1d(3, stride=5, padding=1, dilation=2, ceil_mode=True), (2, 5)),
    (nn.AvgPool2d(3, stride=2, ceil_mode=True), (2, 8, 6)),
    (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False), (2, 6, 7)),
    (nn.AdaptiveMaxPool2d((3, 2)), (2, 6, 8)),
    (nn.GlobalMaxPool2d(), (2, 6, 8)),
    (nn.ZeroPad2d((1, 2, -1, 3)), (2, 4, 5)),
    (nn.ZeroPad1d((2, 1)), (2, 4)),
    (nn.ReflectionPad2d((1, 2, 0, 3)), (2, 4, 5)),
    (nn.ReflectionPad1d(2), (2, 4)),
    (nn.ReplicationPad2d((3, 0, 1, 1)), (2, 4, 5)),
    (nn.CircularPad2d((0, 0, 4, 1)), (2, 4, 5)),
    (nn.CircularPad2d((0, 1, 0, 0)), (2, 4, 5)),
    (nn.CircularPad1d((4, 4)), (2, 4)),
    (nn.Upsample(scale_factor=(2, 3)), (2, 4, 5)),
    (nn.Upsample(size=(3, 8)), (2, 4, 5)),
    (nn.Upsample(scale_factor=2, mode="bilinear"), (2, 4, 5)),
    (nn.Upsample(size=(7, 3), mode="bilinear"), (2, 4, 5)),
    (nn.Upsample(size=(7, 3), mode="bilinear", align_corners=True), (2, 4, 5)),
    # 9 * float32(13 / 9) is 13 in float32, and below it in float64.
    (nn.Upsample(size=(13, 16), mode="bilinear"), (2, 9, 11)),
    (nn.Upsample(size=(13, 16)), (2, 9, 11)),
    # Resize would round to other pixels.
    (nn.Upsample(size=(28, 13)), (2, 41, 22)),
    (nn.Upsample(scale_factor=3, mode="linear"), (2, 4)),
    (nn.PixelShuffle(2), (8, 2, 3)),
    (nn.Unflatten(1, (2, 3, 2)), (12,)),
    (nn.Narrow(2, 3), (6, 4, 5)),
    (nn.Narrow(0, 3), (6, 4)),
    (nn.Narrow(1, 4), (6,)),
]
#: Layers that a file expresses as several nodes.
OTHER_WORDS: list[tuple[nn.Layer, tuple[int, ...]]] = [
    (nn.CircularPad2d((3, 5, 4, 1)), (2, 4, 5)),
    (nn.CircularPad2d(0), (2, 4, 5)),
    (nn.PixelUnshuffle(2), (2, 4, 6)),
    (nn.ChannelShuffle(3), (6, 2, 3)),
    (nn.ChannelShuffle(2), (6, 5)),
    (nn.AvgPool2d(2, divisor_override=3), (2, 4, 4)),
    (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, divisor_override=5), (2, 6, 6)),
]


def written(layer: nn.Layer, shape: tuple[int, ...], path: Path) -> tuple[nn.Sequential, Any, Any]:
    """A network with the layer, samples, and ONNX Runtime's outputs."""
    model = nn.Sequential(nn.Sigmoid(), layer, nn.Sigmoid(), input_shape=shape)
    export_onnx(model, path)
    x = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    return model, x, y


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=lambda value: repr(value)[:60])
def test_there_and_back(layer: nn.Layer, shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model, x, y = written(layer, shape, path)
    assert y == pytest.approx(model.logits(x, backend="reference"), abs=1e-5)
    back = import_onnx(path)
    assert back.logits(x) == pytest.approx(y, abs=1e-5)
    assert [repr(layer) for layer in back.layers.values()][1:2] == [repr(layer)] or isinstance(
        layer,
        (
            nn.MaxPool1d,
            nn.MaxPool2d,
            nn.AvgPool1d,
            nn.AvgPool2d,
            nn.Upsample,
            nn.Unflatten,
            nn.Conv1d,
        ),
    )


@pytest.mark.parametrize(("layer", "shape"), OTHER_WORDS, ids=repr)
def test_layers_of_several_nodes(layer: nn.Layer, shape: tuple[int, ...], tmp_path: Path) -> None:
    model, x, y = written(layer, shape, tmp_path / "model.onnx")
    assert y == pytest.approx(model.logits(x, backend="reference"), abs=1e-5)
    assert import_onnx(tmp_path / "model.onnx").logits(x) == pytest.approx(y, abs=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 6, 6), "ceil_mode"),
        (
            nn.MaxPool2d(2, stride=(3, 5), padding=(0, 1), dilation=(3, 1), ceil_mode=True),
            (2, 5, 4),
            "begin in the padding",
        ),
        (nn.MaxPool1d(2, padding=2, dilation=4), (2, 5), r"padding of \(2,\) pixels"),
        (nn.AdaptiveMaxPool2d((3, 2)), (2, 7, 4), "windows that differ"),
        (nn.AdaptiveAvgPool1d(3), (2, 7), "windows that differ"),
    ],
)
def test_what_onnx_cannot_say(
    layer: nn.Layer, shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    model = nn.Sequential(layer, input_shape=shape)
    with pytest.raises(ConfigurationError, match=message):
        export_onnx(model, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.AvgPool2d(2, divisor_override=3), (1, 4, 4), "divisor_override"),
    ],
)
@pytest.mark.parametrize(
    ("export", "name"), [(export_c, "net.h"), (export_numpy, "net.py"), (export_html, "net.html")]
)
def test_other_files_refuse_it(
    layer: nn.Layer, shape: tuple[int, ...], message: str, export: Any, name: str, tmp_path: Path
) -> None:
    model = nn.Sequential(layer, nn.Flatten(), input_shape=shape)
    if shape[0] == 1:
        model.preprocessing = Preprocessing(pictures=Pictures(shape))
    with pytest.raises(ConfigurationError, match=message):
        export(model, tmp_path / name)
