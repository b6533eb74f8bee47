"""Both backends compared with PyTorch, if it is installed."""

from typing import Any

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn.backends import BACKENDS
from tests.operations.calls import ELEMENTWISE, ROUNDED, SETS, SHAPE, Call, torch_function
from tests.operations.conftest import assert_close, random_array
from tests.operations.test_convolutions import GEOMETRIES
from tests.operations.test_equivalence import ADAPTIVE, JOINS, POOLINGS

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test-all installs it)")
pytestmark = [pytest.mark.torch, pytest.mark.parametrize("name", BACKENDS)]


def differentiate(function: Any, dy_seed: int, *arrays: np.ndarray) -> tuple[Any, ...]:
    """Output, the incoming gradient, and the gradient of every argument, by PyTorch in float64."""
    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]
    y = function(*tensors)
    dy = random_array(tuple(y.shape), dy_seed)
    y.backward(torch.from_numpy(dy))
    return (y.detach().numpy(), dy, *(tensor.grad.numpy() for tensor in tensors))


@pytest.mark.parametrize(("operation", "x_shape", "w_shape", "arguments"), GEOMETRIES)
def test_convolution(
    name: str, operation: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...],
    arguments: dict[str, Any], dtype: str,
) -> None:  # fmt: skip
    outputs = w_shape[0] if operation == "conv2d" else w_shape[1] * arguments.get("groups", 1)
    x, w, b = random_array(x_shape, 1), random_array(w_shape, 2), random_array((outputs,), 3)
    theirs = getattr(torch.nn.functional, operation)
    y, dy, *grads = differentiate(lambda x, w, b: theirs(x, w, b, **arguments), 4, x, w, b)
    x, w, b, dy = (array.astype(dtype) for array in (x, w, b, dy))
    assert_close(getattr(F, operation)(x, w, b, **arguments, backend=name), y, dtype)
    ours = getattr(F, f"{operation}_backward")(dy, x, w, **arguments, backend=name)
    for actual, expected in zip(ours, grads, strict=True):
        assert_close(actual, expected, dtype)


@pytest.mark.parametrize(("operation", "shapes"), JOINS)
def test_joins(name: str, operation: str, shapes: tuple[tuple[int, ...], ...], dtype: str) -> None:
    inputs = [random_array(shape, seed) for seed, shape in enumerate(shapes)]
    functions = {"subtract": torch.sub, "multiply": torch.mul}
    y, dy, *grads = differentiate(
        functions.get(operation, lambda *parts: torch.cat(parts, 1)), 9, *inputs
    )
    given, dy = [x.astype(dtype) for x in inputs], dy.astype(dtype)
    assert_close(getattr(F, operation)(*given, backend=name), y, dtype)
    ours = getattr(F, f"{operation}_backward")(dy, *given, backend=name)
    for actual, expected in zip(ours, grads, strict=True):
        assert_close(actual, expected, dtype)


@pytest.mark.parametrize(("shape", "output_size"), ADAPTIVE)
def test_adaptive_pooling(name: str, shape: tuple[int, ...], output_size: Any, dtype: str) -> None:
    x = random_array(shape)
    reference = torch.nn.functional.adaptive_avg_pool2d
    y, dy, grad = differentiate(lambda x: reference(x, output_size), 1, x)
    x, dy = x.astype(dtype), dy.astype(dtype)
    assert_close(F.adaptive_avg_pool2d(x, output_size, backend=name), y, dtype)
    ours = F.adaptive_avg_pool2d_backward(dy, x, output_size, backend=name)
    assert_close(ours, grad, dtype)


@pytest.mark.parametrize("kind", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize(("shape", "arguments"), POOLINGS)
def test_pooling(
    name: str, shape: tuple[int, ...], arguments: dict[str, Any], kind: str, dtype: str
) -> None:
    x = random_array(shape)
    reference = getattr(torch.nn.functional, kind)
    y, dy, grad = differentiate(lambda x: reference(x, **arguments), 1, x)
    x, dy = x.astype(dtype), dy.astype(dtype)
    assert_close(getattr(F, kind)(x, **arguments, backend=name), y, dtype)
    assert_close(getattr(F, f"{kind}_backward")(dy, x, **arguments, backend=name), grad, dtype)


@pytest.mark.parametrize("call", ELEMENTWISE, ids=str)
def test_activation(name: str, call: Call, dtype: str) -> None:
    x = random_array((8, 3)) * 5
    x[:7, 0] = 0.0, -3.0, 3.0, 6.0, -1.0, 1.0, -0.5  # kinks
    function = torch_function(call)
    y, dy, *grads = differentiate(lambda *x: function(*x, **call.arguments), 1, *call.arrays(x))
    given = call.arrays(x.astype(dtype))
    assert_close(call.forward(name, *given), y, dtype)
    found = call.backward(name, dy.astype(dtype), *given)
    for actual, expected in zip(found, grads, strict=True):
        if call.name in ROUNDED:
            assert actual == pytest.approx(expected, rel=1e-7)
        else:
            assert_close(actual, expected, dtype)


@pytest.mark.parametrize("call", SETS, ids=str)
def test_within_a_sample(name: str, call: Call, dtype: str) -> None:
    function = torch_function(call)
    y, dy, *grads = differentiate(function, 1, *call.arrays(3 * random_array(SHAPE) + 1))
    given = [array.astype(dtype) for array in call.arrays(3 * random_array(SHAPE) + 1)]
    assert_close(call.forward(name, *given), y, dtype)
    found = call.backward(name, dy.astype(dtype), *given)
    for actual, expected in zip(found, grads, strict=False):
        assert_close(actual, expected, dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (3, 2, 4, 5)])
def test_batch_norm(name: str, shape: tuple[int, ...], training: bool, dtype: str) -> None:
    x, channels = 3 * random_array(shape) + 1, shape[1:2]
    mean, weight, bias = (random_array(channels, seed) for seed in (2, 3, 4))
    variance = random_array(channels, 5) ** 2
    running = (torch.from_numpy(mean.copy()), torch.from_numpy(variance.copy()))
    y, dy, *grads = differentiate(
        lambda x, w, b: torch.nn.functional.batch_norm(x, *running, w, b, training, eps=0.1),
        1, x, weight, bias,
    )  # fmt: skip
    x, mean, variance, weight, bias, dy = (
        array.astype(dtype) for array in (x, mean, variance, weight, bias, dy)
    )
    statistics = (mean, variance)
    actual = F.batch_norm(x, *statistics, weight, bias, training, eps=0.1, backend=name)
    assert_close(actual, y, dtype)
    ours = F.batch_norm_backward(dy, x, *statistics, weight, training, eps=0.1, backend=name)
    for actual, expected in zip(ours, grads, strict=True):
        assert_close(actual, expected, dtype)


@pytest.mark.parametrize(
    "target", [np.array([0, 3, 1, 2, 2]), np.random.default_rng(1).dirichlet(np.ones(4), 5)]
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
def test_cross_entropy(name: str, smoothing: float, target: np.ndarray, dtype: str) -> None:
    logits = random_array((5, 4)) * 3
    tensor = torch.from_numpy(logits).requires_grad_()
    loss = torch.nn.functional.cross_entropy(
        tensor, torch.from_numpy(target), label_smoothing=smoothing
    )
    loss.backward()
    logits = logits.astype(dtype)
    actual = F.cross_entropy(logits, target, smoothing, backend=name)
    assert actual == pytest.approx(loss.item(), rel=1e-5 if dtype == "float32" else 1e-12)
    grad = F.cross_entropy_backward(1.0, logits, target, smoothing, backend=name)
    assert_close(grad, tensor.grad.numpy(), dtype)
