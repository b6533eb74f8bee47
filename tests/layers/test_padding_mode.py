"""Convolutions with padding other than zeros: internally a padding and a convolution."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import execution
from fastcnn.backends import BACKENDS
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.layers import Conv1d, Conv2d, ReLU, Sequential
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import to_definition
from fastcnn.losses import MSELoss

CASES: list[tuple[type, tuple[int, ...], dict[str, Any]]] = [
    (Conv2d, (2, 6, 5), {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}),
    (Conv2d, (2, 6, 5), {"kernel_size": (3, 4), "padding": "same", "padding_mode": "replicate"}),
    (Conv2d, (2, 6, 7), {"kernel_size": 3, "stride": 2, "padding": (2, 1), "groups": 2,
                         "padding_mode": "reflect"}),
    (Conv1d, (2, 9), {"kernel_size": 5, "padding": 2, "padding_mode": "replicate"}),
    (Conv1d, (2, 9), {"kernel_size": 5, "padding": 2, "padding_mode": "circular"}),
    (Conv2d, (2, 6, 5), {"kernel_size": (3, 4), "padding": "same", "padding_mode": "circular"}),
]  # fmt: skip


def network(kind: Any, shape: tuple[int, ...], arguments: dict[str, Any]) -> Sequential:
    return Sequential({"conv": kind(2, 4, seed=0, **arguments), "relu": ReLU()}, input_shape=shape)


@pytest.mark.parametrize(("kind", "shape", "arguments"), CASES)
def test_backends_files_and_pytorch(
    kind: Any, shape: tuple[int, ...], arguments: dict[str, Any], tmp_path: Path
) -> None:
    model = network(kind, shape, arguments)
    x = np.random.default_rng(0).standard_normal((5, *shape)).astype(np.float32)
    expected = execution.forward(model, x, backend="reference")
    assert expected.shape[1:] == model.layers["conv"].output_shape(shape)
    y = np.zeros_like(expected)
    found = [
        execution.loss_and_gradients(model, x, y, loss=MSELoss(), backend=name)[2]
        for name in BACKENDS
    ]
    for gradient in found:
        np.testing.assert_allclose(gradient, found[0], atol=1e-6)
    assert list(model.state_dict()) == ["conv.weight", "conv.bias"]
    model.save(tmp_path / "net.safetensors")
    again = from_definition(to_definition(model))
    assert repr(again) == repr(model)
    loaded = fastcnn.load(tmp_path / "net.safetensors")
    np.testing.assert_allclose(loaded.logits(x), expected, atol=1e-6)
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, kind.__name__)(2, 4, **arguments)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in _own(model).items()})
    np.testing.assert_allclose(
        torch.relu(theirs(torch.from_numpy(x))).detach().numpy(), expected, atol=1e-6
    )
    pytest.importorskip("onnx")
    export_onnx(model, tmp_path / "net.onnx")
    back = import_onnx(tmp_path / "net.onnx")
    np.testing.assert_allclose(back.logits(x), expected, atol=1e-6)
    assert [type(layer).__name__ for layer in back][-2:] == [kind.__name__, "ReLU"]


def _own(model: Sequential) -> dict[str, np.ndarray]:
    return {key.removeprefix("conv."): value.copy() for key, value in model.state_dict().items()}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"must be one of zeros, reflect, .*circular, got"):
        Conv2d(1, 1, 3, padding=1, padding_mode="wrap")
    with pytest.raises(ShapeError, match="3 pixels of a map of size 2"):
        Sequential(Conv2d(1, 1, 7, padding=3, padding_mode="circular"), input_shape=(1, 2, 3))
    with pytest.raises(ShapeError, match="reflection of 3 pixels"):
        Sequential(Conv2d(1, 1, 7, padding=3, padding_mode="reflect"), input_shape=(1, 3, 3))
