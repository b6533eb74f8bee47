"""Both backends against PyTorch, where it is installed."""

from typing import Any

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn.backends import BACKENDS
from tests.operations.conftest import assert_close, random_array
from tests.operations.test_equivalence import CONVOLUTIONS, ELEMENTWISE, POOLINGS

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test-all installs it)")
pytestmark = [pytest.mark.torch, pytest.mark.parametrize("name", BACKENDS)]


def differentiate(function: Any, dy_seed: int, *arrays: np.ndarray) -> tuple[Any, ...]:
    """Output, the gradient fed in, and the gradient of every argument, by PyTorch in float64."""
    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]
    y = function(*tensors)
    dy = random_array(tuple(y.shape), dy_seed)
    y.backward(torch.from_numpy(dy))
    return (y.detach().numpy(), dy, *(tensor.grad.numpy() for tensor in tensors))


@pytest.mark.parametrize(("x_shape", "w_shape", "arguments"), CONVOLUTIONS)
def test_convolution(
    name: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], arguments: dict[str, Any],
    dtype: str,
) -> None:  # fmt: skip
    x, w, b = random_array(x_shape, 1), random_array(w_shape, 2), random_array(w_shape[:1], 3)
    y, dy, *grads = differentiate(
        lambda x, w, b: torch.nn.functional.conv2d(x, w, b, **arguments), 4, x, w, b
    )
    x, w, b, dy = (array.astype(dtype) for array in (x, w, b, dy))
    assert_close(F.conv2d(x, w, b, **arguments, backend=name), y, dtype)
    ours = F.conv2d_backward(dy, x, w, **arguments, backend=name)
    for actual, expected in zip(ours, grads, strict=True):
        assert_close(actual, expected, dtype)


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


@pytest.mark.parametrize(("kind", "arguments"), ELEMENTWISE)
def test_activation(name: str, kind: str, arguments: dict[str, Any], dtype: str) -> None:
    x = random_array((3, 4)) * 5
    x[0, 0] = 0.0
    function = getattr(torch.nn.functional, kind)
    y, dy, grad = differentiate(lambda x: function(x, **arguments), 1, x)
    x, dy = x.astype(dtype), dy.astype(dtype)
    assert_close(getattr(F, kind)(x, **arguments, backend=name), y, dtype)
    actual = getattr(F, f"{kind}_backward")(dy, x, **arguments, backend=name)
    assert_close(actual, grad, dtype)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(name: str, smoothing: float, dtype: str) -> None:
    logits, target = random_array((5, 4)) * 3, np.array([0, 3, 1, 2, 2])
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
