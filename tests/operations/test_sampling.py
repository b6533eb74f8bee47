"""Padding, interpolation, shuffles, sequences and arguments of poolings, on every backend."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn.errors import ConfigurationError, FastcnnError, ShapeError
from tests.operations.conftest import assert_close, random_array

#: Name, shape of x, and the arguments after the arrays.
CASES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("pad", (2, 3, 4, 5), {"padding": (1, 2, 0, 3)}),
    ("pad", (2, 3, 4, 5), {"padding": (-1, 2, 1, -2)}),
    ("pad", (17, 2, 5), {"padding": (2, 1)}),
    ("pad", (2, 3, 4, 5), {"padding": (4, 1, 0, 3), "mode": "reflect"}),
    ("pad", (2, 3, 1, 5), {"padding": (1, 4, 0, 0), "mode": "reflect"}),
    ("pad", (2, 3, 5), {"padding": 2, "mode": "reflect"}),
    ("pad", (2, 3, 4, 5), {"padding": (6, 1, 0, 3), "mode": "replicate"}),
    ("pad", (2, 3, 1), {"padding": (1, 3), "mode": "replicate"}),
    ("pad", (2, 3, 4, 5), {"padding": (5, 1, 0, 4), "mode": "circular"}),
    ("pad", (17, 2, 5), {"padding": (2, 3), "mode": "circular"}),
    ("interpolate", (2, 3, 4, 5), {"scale_factor": 2}),
    ("interpolate", (2, 3, 4, 5), {"scale_factor": (1, 3)}),
    ("interpolate", (2, 3, 7, 5), {"size": (3, 8)}),
    ("interpolate", (2, 3, 7), {"size": 4}),
    ("interpolate", (2, 3, 7), {"scale_factor": 3, "mode": "linear"}),
    ("interpolate", (2, 3, 7), {"size": 3, "mode": "linear", "align_corners": True}),
    ("interpolate", (2, 3, 4, 5), {"scale_factor": 2, "mode": "bilinear"}),
    ("interpolate", (2, 3, 8, 9), {"size": (3, 13), "mode": "bilinear"}),
    ("interpolate", (2, 3, 4, 5), {"size": 7, "mode": "bilinear", "align_corners": True}),
    ("interpolate", (2, 3, 4, 5), {"size": (1, 2), "mode": "bilinear", "align_corners": True}),
    ("interpolate", (2, 3, 1, 1), {"size": (3, 2), "mode": "bilinear"}),
    ("pixel_shuffle", (2, 12, 2, 3), {"upscale_factor": 2}),
    ("pixel_shuffle", (2, 9, 3, 2), {"upscale_factor": 3}),
    ("pixel_unshuffle", (2, 2, 4, 6), {"downscale_factor": 2}),
    ("pixel_unshuffle", (2, 2, 3, 6), {"downscale_factor": 1}),
    ("channel_shuffle", (2, 6, 2, 3), {"groups": 3}),
    ("channel_shuffle", (2, 8, 5), {"groups": 2}),
    ("narrow", (17, 6, 2, 3), {"start": 2, "length": 3}),
    ("narrow", (2, 6, 5), {"start": 0, "length": 6}),
    ("narrow", (2, 6), {"start": 5, "length": 1}),
    ("max_pool2d", (2, 3, 7, 6), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ("max_pool2d", (2, 3, 6, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("max_pool2d", (2, 3, 9, 8), {"kernel_size": (2, 3), "stride": 1, "dilation": (3, 2)}),
    ("max_pool2d", (2, 3, 8, 8), {"kernel_size": 2, "padding": 1, "dilation": 2}),
    ("max_pool2d", (2, 3, 2, 2), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ("avg_pool2d", (2, 3, 7, 6), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    (
        "avg_pool2d",
        (2, 3, 6, 6),
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    ),
    (
        "avg_pool2d",
        (2, 3, 6, 6),
        {
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "ceil_mode": True,
            "count_include_pad": False,
        },
    ),
    (
        "avg_pool2d",
        (2, 3, 6, 6),
        {"kernel_size": 3, "stride": 2, "padding": 1, "divisor_override": 5},
    ),
    ("adaptive_max_pool2d", (2, 3, 7, 5), {"output_size": (3, 2)}),
    ("adaptive_max_pool2d", (2, 3, 3, 5), {"output_size": (4, 2)}),
    ("max_pool1d", (2, 3, 11), {"kernel_size": 3, "padding": 1, "dilation": 2, "ceil_mode": True}),
    ("avg_pool1d", (2, 3, 11), {"kernel_size": 4, "stride": 3, "padding": 2}),
    ("adaptive_avg_pool1d", (2, 3, 11), {"output_size": 4}),
    ("adaptive_max_pool1d", (2, 3, 11), {"output_size": 4}),
]


@pytest.mark.parametrize(("name", "shape", "arguments"), CASES)
def test_backend(
    name: str, shape: tuple[int, ...], arguments: dict[str, Any], backend: str, dtype: str
) -> None:
    forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
    x = random_array(shape)
    y = forward(x, **arguments, backend="reference")
    dy = random_array(y.shape, 1)
    dx = backward(dy, x, **arguments, backend="reference")
    x, dy = x.astype(dtype), dy.astype(dtype)
    before = x.copy()
    made = forward(x, **arguments, backend=backend)
    assert_close(made, y, dtype)
    assert not np.shares_memory(made, x)
    found = backward(dy, x, **arguments, backend=backend)
    assert_close(found, dx, dtype)
    assert not np.shares_memory(found, dy)
    assert (x == before).all()


@pytest.mark.parametrize(("name", "shape", "arguments"), CASES)
def test_pytorch(name: str, shape: tuple[int, ...], arguments: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    T = torch.nn.functional
    given = dict(arguments)
    function: Callable[..., Any] = getattr(T, name, None) or getattr(torch, name)
    if name == "pad":
        axes = len(shape) - 2
        sides = given.pop("padding")
        given["pad"] = sides if isinstance(sides, tuple) else (sides,) * (2 * axes)
    elif name == "channel_shuffle" and len(shape) == 3:
        pytest.skip("torch's takes maps")
    elif name == "narrow":
        given["dim"] = 1
    x = torch.from_numpy(random_array(shape)).requires_grad_()
    y = function(x, **given)
    dy = random_array(tuple(y.shape), 1)
    y.backward(torch.from_numpy(dy))
    ours = getattr(F, name)(x.detach().numpy(), **arguments, backend="reference")
    assert_close(ours, y.detach().numpy(), "float64")
    dx = getattr(F, f"{name}_backward")(dy, x.detach().numpy(), **arguments, backend="reference")
    assert_close(dx, x.grad.numpy(), "float64")


@pytest.mark.parametrize("groups", [1, 2])
def test_sequences_are_maps_of_one_row(groups: int, backend: str, dtype: str) -> None:
    x, weight, bias = (random_array(s, i) for i, s in enumerate([(5, 4, 13), (6, 4 // groups, 3),
                                                                 (6,)]))  # fmt: skip
    given = {"stride": 2, "padding": 3, "dilation": 2, "groups": groups}
    on_maps = {"stride": (1, 2), "padding": (0, 3), "dilation": (1, 2), "groups": groups}
    y = F.conv2d(x[:, :, None], weight[:, :, None], bias, **on_maps, backend="reference")
    dy = random_array(y.shape, 4)
    back = F.conv2d_backward(dy, x[:, :, None], weight[:, :, None], **on_maps, backend="reference")
    x, weight, bias, dy = (array.astype(dtype) for array in (x, weight, bias, dy))
    assert_close(F.conv1d(x, weight, bias, **given, backend=backend), y[:, :, 0], dtype)
    found = F.conv1d_backward(dy[:, :, 0], x, weight, **given, backend=backend)
    for actual, expected, shape in zip(found, back, (x.shape, weight.shape, (6,)), strict=True):
        assert actual.shape == shape
        assert_close(actual, expected.reshape(shape), dtype)


def test_transposed_convolution_of_sequences(backend: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x, weight, bias = (random_array(s, i) for i, s in enumerate([(5, 4, 7), (4, 3, 4), (6,)]))
    given = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 2}
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, weight, bias)]
    y = torch.nn.functional.conv_transpose1d(*tensors, **given)
    dy = random_array(tuple(y.shape), 4)
    y.backward(torch.from_numpy(dy))
    x, weight, bias, dy = (array.astype(dtype) for array in (x, weight, bias, dy))
    made = F.conv_transpose1d(x, weight, bias, **given, backend=backend)
    assert_close(made, y.detach().numpy(), dtype)
    found = F.conv_transpose1d_backward(dy, x, weight, **given, backend=backend)
    for actual, tensor in zip(found, tensors, strict=True):
        assert_close(actual, tensor.grad.numpy(), dtype)


def test_a_shape_of_its_own(backend: str) -> None:
    x = random_array((3, 12))
    y = F.unflatten(x, (3, 2, 2), backend=backend)
    assert y.shape == (3, 3, 2, 2)
    assert (y.reshape(3, 12) == x).all()
    assert (F.unflatten_backward(y, x, (3, 2, 2), backend=backend) == x).all()


def test_infinities_stay_where_they_are(backend: str) -> None:
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 0, 0], x[0, 0, 3, 3] = np.inf, np.nan
    y = F.interpolate(x, scale_factor=2, mode="bilinear", backend=backend)
    assert np.isfinite(y[0, 0, 3:5, 3:5]).all()
    y = F.pad(x, 1, backend=backend)
    assert np.isfinite(y).sum() == 34
    dx = F.interpolate_backward(np.full((1, 1, 8, 8), np.inf, np.float32), x, scale_factor=2,
                                backend=backend)  # fmt: skip
    assert np.isposinf(dx).all()


def test_nearest_pixels_are_exact(backend: str) -> None:
    """Every row is ``floor(i * size / output)``, even if the quotient is not a float."""
    x = np.arange(1, 50, dtype=np.float32).reshape(1, 1, 49, 1)
    for output in (1, 7, 49, 98, 147):
        y = F.interpolate(x, size=(output, 1), backend=backend)
        assert (y.ravel() == 1 + np.arange(output) * 49 // output).all()


X = np.zeros((2, 4, 5, 5), np.float32)
REFUSALS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], type, str]] = [
    (F.pad, (X, (1, 2)), {}, ConfigurationError, r"\(left, right, top, bottom\)"),
    (F.pad, (X, -1), {"mode": "reflect"}, ConfigurationError, "at least 0"),
    (F.pad, (X, 5), {"mode": "reflect"}, ShapeError, "reflection of 5 pixels"),
    (F.pad, (X, 1), {"mode": "wrap"}, ConfigurationError, "constant, reflect, replicate, circ"),
    (F.pad, (X, 6), {"mode": "circular"}, ShapeError, "6 pixels of a map of size 5"),
    (F.pad, (X, -3), {}, ShapeError, "leaves nothing"),
    (F.pad, (X, (-6, 8, 0, 0)), {}, ShapeError, "leaves nothing"),
    (F.interpolate, (X,), {}, ConfigurationError, "size or scale_factor"),
    (F.interpolate, (X,), {"scale_factor": 1.5}, ConfigurationError, "must be whole"),
    (F.interpolate, (X, 3), {"mode": "bicubic"}, ConfigurationError, "nearest, linear, bilinear"),
    (F.interpolate, (X, 3), {"mode": "linear"}, ShapeError, r"\(C, L\)"),
    (F.interpolate, (X, 3), {"align_corners": True}, ConfigurationError, "no meaning"),
    (F.interpolate, (X[0], (3, 3)), {}, ShapeError, "2 axes"),
    (F.pixel_shuffle, (X, 3), {}, ShapeError, "4 channels"),
    (F.pixel_unshuffle, (X, 2), {}, ShapeError, "5 x 5 pixels"),
    (F.channel_shuffle, (X, 3), {}, ShapeError, "must divide 4"),
    (F.unflatten, (X, (3, 5)), {}, ShapeError, "cannot have shape"),
    (F.max_pool2d, (X, 2), {"ceil_mode": 1}, ConfigurationError, "ceil_mode must be True"),
    (F.max_pool2d, (X, 2), {"dilation": 0}, ConfigurationError, "dilation"),
    (F.avg_pool2d, (X, 2), {"divisor_override": 0}, ConfigurationError, "divisor_override"),
    (F.max_pool2d, (X[:, :, :1], 2, 1, 1, 2), {}, ShapeError, "no pixel"),
    (F.max_pool1d, (X, 2), {}, ShapeError, "3 dimensions"),
    (F.conv1d, (X[0], X), {}, ShapeError, "3 dimensions"),
]


@pytest.mark.parametrize(("function", "given", "more", "kind", "message"), REFUSALS)
def test_refusal(
    function: Callable[..., Any],
    given: tuple[Any, ...],
    more: dict[str, Any],
    kind: type[FastcnnError],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        function(*given, **more)
