"""Infinities, NaN, huge and tiny values: every backend returns PyTorch's results, and never raises.

The engine flushes denormal numbers to zero. Winograd's convolutions add and subtract neighbouring
pixels, so on the engine an infinity reaches all outputs of its tile; convolutions are therefore
compared on the other backends alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn.backends import BACKENDS
from fastcnn.backends import im2col as im2col_backend
from fastcnn.execution.passes import forward
from fastcnn.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GroupNorm,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    LayerNorm2d,
    Linear,
    RMSNorm,
    Sequential,
)
from tests.operations.calls import CALLS, ELEMENTWISE, ROUNDED, SETS, SHAPE, Call, torch_function
from tests.operations.conftest import random_array


def _one(value: float) -> np.ndarray:
    x = random_array(SHAPE)
    x[0, 0, 2, 2] = value
    return x


def _two(first: float, second: float) -> np.ndarray:
    x = random_array(SHAPE)
    x[0, 0, 0, :2] = first, second
    return x


def values(dtype: str) -> dict[str, np.ndarray]:
    """Inputs with extreme values."""
    huge, tiny = (1e20, 1e-22) if dtype == "float32" else (1e200, 1e-170)
    return {
        "inf": _one(np.inf),
        "-inf": _one(-np.inf),
        "nan": _one(np.nan),
        "inf and -inf": _two(np.inf, -np.inf),
        "huge": _one(huge),
        "all -inf": np.full(SHAPE, -np.inf),
        "all zero": np.zeros(SHAPE),
        "all huge": huge * random_array(SHAPE),
        "all tiny": tiny * random_array(SHAPE),
        "denormal": _one(float(np.finfo(dtype).tiny) / 8),
    }


def _skip(call: Call, name: str, backend: str) -> bool:
    conv = call.name in ("conv2d", "conv_transpose2d")
    if backend == "lanes" and ((conv and ("inf" in name or "nan" in name)) or name == "denormal"):
        return True
    # The mean, rounded to float32, is farther from the other values than these from each other.
    if call.name == "batch_norm" and call.arguments and name == "huge":
        return True
    # Squares overflow, at a different point in each backend and library.
    if call in SETS and "huge" in name:
        return True
    # Libraries differ in how an activation's gradient propagates NaN.
    return call in ELEMENTWISE and name == "nan"


def _near(actual: np.ndarray, expected: np.ndarray, dtype: str, label: str) -> None:
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max(initial=0.0))
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    smallest = tolerance * scale + 4.0 * float(np.finfo(dtype).tiny)  # denormals are flushed
    np.testing.assert_allclose(
        actual.astype(np.float64), expected, rtol=tolerance, atol=smallest, err_msg=label
    )


@pytest.mark.torch
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_like_pytorch(call: Call, dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for name, x in values(dtype).items():
        arrays = call.arrays(x.astype(dtype))
        with np.errstate(all="ignore"):
            y, dy, grad = _pytorch(torch, call, arrays)
            for backend in BACKENDS:
                if _skip(call, name, backend):
                    continue
                label = f"{backend}, {name}"
                if not (call.name == "gelu" and "inf" in name):  # PyTorch's is NaN at infinity
                    _near(call.forward(backend, *arrays), y, dtype, label)
                # PyTorch's gelu is NaN at infinity, and so is its softsign's gradient, which also
                # overflows before the result does.
                if call.name not in ("gelu", "softsign"):
                    precision = "float32" if call.name in ROUNDED else dtype
                    _near(call.backward(backend, dy, *arrays)[0], grad, precision, label)


def _pytorch(torch: Any, call: Call, arrays: list[Any]) -> tuple[Any, Any, np.ndarray]:
    """Output, the incoming gradient, and the gradient of the first array."""
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    x = tensors[0].requires_grad_()
    function = torch_function(call)
    loss = call.name in ("mse", "cross_entropy")
    if loss:
        tensors = [t.double() if t.is_floating_point() else t for t in tensors]
    elif call.name == "batch_norm" and len(tensors) == 1:
        tensors = [x, None, None]
    y = function(*tensors) if call in SETS else function(*tensors, **call.arguments)
    if loss:
        y.backward()
        return y.detach().numpy(), 1.0, x.grad.numpy()
    dy = random_array(tuple(y.shape), 3).astype(arrays[0].dtype)
    y.backward(torch.from_numpy(dy))
    return y.detach().numpy(), dy, x.grad.numpy()


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_backends_agree(call: Call, dtype: str) -> None:
    """Without PyTorch as well; no input raises."""
    for name, x in values(dtype).items():
        arrays = call.arrays(x.astype(dtype))
        with np.errstate(all="ignore"):
            y = call.forward("reference", *arrays)
            dy = random_array(y.shape, 3).astype(dtype) if y.ndim else 1.0
            wanted = call.backward("reference", dy, *arrays)
            for backend in ("im2col", "lanes"):
                if _skip(call, name, backend):
                    continue
                label = f"{backend}, {name}"
                _near(call.forward(backend, *arrays), y, dtype, label)
                if call.name == "gelu":
                    continue
                for actual, value in zip(call.backward(backend, dy, *arrays), wanted, strict=True):
                    if call.name == "conv2d" and not np.isfinite(arrays[0]).all():
                        continue  # zeros of the padding times a weight are not in the sum
                    _near(actual, value, dtype, label)


@pytest.mark.parametrize("backend", ["im2col", "reference"])
def test_running_statistics_do_not_cancel(backend: str) -> None:
    """From a large running value to a small batch: the batch's share keeps its precision."""
    model = Sequential(BatchNorm2d(2, momentum=1.0), input_shape=(2, 3, 3))
    x = random_array((4, 2, 3, 3)).astype(np.float32)
    model.state_dict()["0.running_mean"][...] = 1e8
    model.state_dict()["0.running_var"][...] = 3e9
    forward(model, x, training=True, backend=backend)
    mean, variance = im2col_backend.batch_statistics(x)
    np.testing.assert_array_equal(model.state_dict()["0.running_mean"], mean)
    np.testing.assert_allclose(model.state_dict()["0.running_var"], variance * 36 / 35, rtol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("momentum", [0.1, 0.003, 1.0, None])
@pytest.mark.parametrize("backend", ["im2col", "reference"])
def test_running_statistics_like_pytorch(backend: str, momentum: float | None) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = Sequential(BatchNorm2d(3, momentum=momentum), input_shape=(3, 4, 4))
    theirs = torch.nn.BatchNorm2d(3, momentum=momentum)
    for step in range(20):
        x = (10.0 ** (step % 7 - 3) * random_array((5, 3, 4, 4), step)).astype(np.float32)
        forward(ours, x, training=True, backend=backend)
        theirs(torch.from_numpy(x))
        for name in ("running_mean", "running_var"):
            expected = getattr(theirs, name).numpy()
            np.testing.assert_allclose(ours.state_dict()[f"0.{name}"], expected, rtol=1e-5)


def test_a_small_eps_counts() -> None:
    x = np.zeros((2, 1, 2, 2), np.float32)
    for backend in BACKENDS:
        one = np.zeros(1, np.float32)
        y = F.batch_norm(x, one, one, eps=1e-60, backend=backend)
        assert np.isfinite(y).all(), backend


NORMS: dict[str, Callable[[float], Layer]] = {
    "layer": lambda eps: LayerNorm((8, 5, 5), eps),
    "layer2d": lambda eps: LayerNorm2d(8, eps),
    "group": lambda eps: GroupNorm(4, 8, eps),
    "instance": lambda eps: InstanceNorm2d(7, eps, affine=True),
    "rms": lambda eps: RMSNorm((8, 5, 5), eps),
    "batch": lambda eps: BatchNorm2d(8, eps),
    "batch alone": lambda eps: BatchNorm2d(8, eps, track_running_stats=False),
}


def _overflowing(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Finite inputs whose squares, sums or differences are not finite."""
    drawn = random_array(shape)
    one, whole = drawn.copy(), drawn.copy()
    one[3, 1, 2, 2], whole[17] = 3e38, 3e38 * np.sign(whole[17])
    return {
        "random": np.clip(1e38 * drawn, -3e38, 3e38),
        "both ends": 3e38 * np.sign(drawn),
        "few at an end": np.where(drawn > 1.0, 3e38, -3e38),
        "one value": one,
        "one sample": whole,
        "constant": np.full(shape, 3.3e38),
        "not near the end": 1e30 * drawn,
        "zero": np.zeros(shape),
    }


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [1e-5, 1e-50])
def test_variances_that_overflow(norm: str, eps: float) -> None:
    """Finite values stay finite: a variance beyond float32 is infinite, normalised values are 0."""
    shape = (7 if norm == "instance" else 8, 5, 5)
    labels = np.arange(20) % 3
    for name, x in _overflowing((20, *shape)).items():
        model = Sequential(
            NORMS[norm](eps), Flatten(), Linear(25 * shape[0], 3, seed=0), input_shape=shape
        )
        made: dict[str, list[np.ndarray]] = {}
        with np.errstate(all="ignore"):
            for backend in BACKENDS:
                loss, gradients = fastcnn.gradients(
                    model, x.astype(np.float32), labels, backend=backend, training=True
                )
                made[backend] = [np.float64(loss), *gradients.values()]
        for backend in ("im2col", "lanes"):
            for actual, expected in zip(made[backend], made["reference"], strict=True):
                _near(np.asarray(actual), np.asarray(expected), "float32", f"{backend}, {name}")
        assert all(np.isfinite(each).all() for each in made["reference"]), name


@pytest.mark.parametrize("norm", [name for name in NORMS if name != "batch alone"])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_a_session_where_variances_overflow(norm: str, count: int) -> None:
    """Also with a channel in each lane."""
    shape = (7 if norm == "instance" else 8, 5, 5)
    model = Sequential(NORMS[norm](1e-50), input_shape=shape)
    session = fastcnn.session(model)
    for name, x in _overflowing((20, *shape)).items():
        x = x[-count:].astype(np.float32)
        with np.errstate(all="ignore"):
            expected = model.logits(x, backend="reference")
            _near(session.logits(x), expected, "float32", name)
        x[0, 0, 0, 0] = np.inf if norm == "layer" else np.nan
        with np.errstate(all="ignore"):
            expected = model.logits(x, backend="reference")
            _near(session.logits(x), expected, "float32", f"{name}, not finite")


def test_a_large_mean_does_not_cancel() -> None:
    """A constant channel is 0 after normalisation, however large its value is."""
    x = np.full((20, 2, 5, 5), 1e8, np.float32)
    model = Sequential(BatchNorm2d(2, track_running_stats=False), input_shape=(2, 5, 5))
    for backend in BACKENDS:
        np.testing.assert_array_equal(model.logits(x, backend=backend), 0)


@pytest.mark.parametrize("size", [(33, 31), (17, 19)])
def test_the_square_of_a_sum_may_overflow(size: tuple[int, int]) -> None:
    """Where the sum of squares does not: called alone, and for outputs of Winograd's tiles."""
    x = random_array((20, 3, *size)) + 3
    x[:, :, 0, 0] = 0
    norm = BatchNorm2d(3, track_running_stats=False)
    conv = Conv2d(3, 16, 3, padding=1, bias=False, seed=0)
    after = BatchNorm2d(16, track_running_stats=False)
    for layers in ([norm], [conv, after]):
        model = Sequential(*layers, input_shape=(3, *size))
        for scale in (1e8, 1e16):
            expected = model.logits((scale * x).astype(np.float32), backend="im2col")
            actual = model.logits((scale * x).astype(np.float32), backend="lanes")
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)
