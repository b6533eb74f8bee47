"""Gradients of weights as sums over pixels: tiles of taps side by side, and of others."""

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import im2col, lanes
from fastcnn.backends.lanes.convolution.algorithms import forced
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD
from tests.backends.one_step import take_step


@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "size", "kernel", "stride", "dilation", "groups"),
    [
        (17, 1, 5, (9, 10), (3, 3), (1, 2), (1, 1), 1),
        # More pixels than are summed up at a time, in rows and in parts of them.
        (5, 4, 14, (23, 12), (3, 3), (1, 1), (1, 1), 2),
        (5, 5, 7, (11, 70), (5, 5), (1, 1), (1, 1), 1),
        (17, 2, 6, (40, 41), (7, 7), (2, 2), (1, 1), 1),
        # Taps of which some columns are left out, or whose number is none of a tile's.
        (17, 3, 4, (9, 10), (3, 3), (1, 1), (2, 2), 1),
        (4, 2, 3, (4, 12), (1, 3), (1, 1), (1, 1), 1),
        (16, 3, 9, (9, 10), (2, 4), (1, 1), (2, 1), 1),
        # More taps than are summed up at a time.
        (3, 9, 7, (12, 13), (4, 6), (2, 1), (1, 1), 1),
        (3, 7, 4, (13, 12), (5, 5), (2, 2), (1, 1), 1),
        (40, 1, 2, (3, 4), (1, 1), (1, 1), (1, 1), 1),
    ],
)
def test_against_float64(
    count: int,
    inputs: int,
    outputs: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> None:
    generator = np.random.default_rng(0)
    x, weight, bias = (
        generator.standard_normal(shape).astype(np.float32)
        for shape in ((count, inputs, *size), (outputs, inputs // groups, *kernel), outputs)
    )
    geometry = (stride, ((1, 1), (1, 1)), dilation, groups)
    y = im2col.conv2d(x, weight, bias, *geometry)
    grad = generator.standard_normal(y.shape).astype(np.float32)
    back = im2col.conv2d_backward(*(a.astype(np.float64) for a in (grad, x, weight)), *geometry)
    with forced("direct"):
        found = lanes.conv2d_backward(grad, x, weight, *geometry)
    for got, right in zip(found, back, strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=2e-6 * np.abs(right).max())


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "size"),
    [(1, 5, 3, (12, 15)), (2, 4, 3, (9, 8)), (1, 3, 5, (14, 11)), (3, 2, 2, (9, 9))],
)
def test_through_pooling(inputs: int, outputs: int, kernel: int, size: tuple[int, int]) -> None:
    """Odd maps leave pixels outside of all windows."""

    def network() -> Sequential:
        h, w = (side + 3 - kernel for side in size)
        return Sequential(
            Conv2d(inputs, outputs, kernel, padding=1, seed=0), ReLU(), MaxPool2d(2),
            Flatten(), Linear(outputs * (h // 2) * (w // 2), 5, seed=4),
            input_shape=(inputs, *size),
        )  # fmt: skip

    generator = np.random.default_rng(0)
    x = generator.standard_normal((20, inputs, *size)).astype(np.float32)
    y = generator.integers(0, 5, 20)
    engine, right = network(), network()
    with forced("direct"):
        assert "0: weight gradient through pooling" in fastcnn.plan(engine, 20).names
    take_step(engine, x, y, "direct", 1)
    executor = make_executor(
        right, loss=CrossEntropyLoss(), optimizer=SGD(0.5), backend="im2col", batch_size=20
    )
    executor.train_steps(ArrayDataset(x, y), np.arange(20), np.array([0.5]))
    made, wanted = engine.parameter_vector, right.parameter_vector
    np.testing.assert_allclose(made, wanted, rtol=0, atol=2e-6)
