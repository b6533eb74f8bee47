"""Weight gradients whose vectors hold input channels."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import im2col, lanes
from fastcnn.backends.lanes import conv_algorithm
from fastcnn.backends.lanes.convolution.input_lanes import rows
from fastcnn.backends.lanes.convolution.input_lanes.records import K_GRADIENT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.layers import Conv2d, Flatten, Linear, ReLU, Sequential
from tests.backends.one_convolution import Convolution
from tests.backends.one_step import check_threads


@pytest.mark.parametrize(
    "case",
    [
        (5, 16, 8, (6, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
        # The last group of transposed channels is incomplete.
        (33, 160, 24, (9, 8), (1, 1), (1, 1), (0, 0), (1, 1)),
        # Pixels that no output reads are skipped: between windows, and between their taps.
        (17, 48, 16, (9, 8), (1, 1), (2, 2), (0, 0), (1, 1)),
        (16, 32, 8, (13, 12), (2, 2), (4, 3), (1, 1), (2, 2)),
        (20, 16, 8, (14, 11), (3, 3), (2, 2), (2, 2), (2, 2)),
        (20, 16, 32, (9, 11), (3, 3), (2, 2), (1, 1), (1, 1)),
        (18, 32, 16, (12, 9), (3, 2), (1, 1), (1, 0), (2, 1)),
        (16, 16, 16, (15, 13), (5, 5), (2, 3), (2, 1), (1, 1)),
        (4, 16, 16, (23, 20), (7, 7), (3, 3), (3, 3), (1, 1)),
        (40, 32, 16, (1, 30), (1, 5), (1, 2), (0, 2), (1, 1)),
    ],
)
@pytest.mark.parametrize("strip", [1, rows.STRIP])
def test_against_float64(
    monkeypatch: pytest.MonkeyPatch, case: tuple[Any, ...], strip: int
) -> None:
    monkeypatch.setattr(rows, "STRIP", strip)
    made = Convolution(*case)
    made.check(made.by("input_lanes"))


def network() -> Sequential:
    return Sequential(
        Conv2d(3, 16, 3, padding=1, seed=0), ReLU(),
        Conv2d(16, 24, 3, stride=2, padding=1, seed=1), ReLU(),
        Conv2d(24, 32, 1, seed=2), ReLU(),
        Conv2d(32, 16, 1, stride=2, seed=3), ReLU(),
        Flatten(), Linear(16 * 12, 5, seed=4), input_shape=(3, 12, 16),
    )  # fmt: skip


def test_they_are_used_where_channels_fill_vectors() -> None:
    program = fastcnn.plan(network(), 40)
    names = {
        name.partition(":")[0]
        for name, kernel in zip(program.names, program.rows[:, L.KERNEL].tolist(), strict=True)
        if kernel == K_GRADIENT
    }
    assert names == {"2", "6"}


@pytest.mark.parametrize("kernel", ["input_lanes", "direct"])
def test_the_biases_gradient_is_made_in_the_same_row(kernel: str) -> None:
    """Unless the weight gradient is not needed; all values equal im2col's."""
    generator = np.random.default_rng(2)
    x = generator.standard_normal((21, 16, 7, 6)).astype(np.float32)
    dy, weight = x[:, :8], generator.standard_normal((8, 16, 1, 1)).astype(np.float32)
    geometry = ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    expected = im2col.conv2d_backward(dy, x, weight, *geometry)
    masks = ((True, True, True), (False, False, True), (False, True, False), (True, False, False))
    with conv_algorithm(kernel):
        names = fastcnn.plan(network(), 40).names
        assert not {f"{layer}: bias gradient" for layer in (2, 4, 6)} & set(names)
        for mask in masks:
            found = lanes.conv2d_backward(dy, x, weight, *geometry, output_mask=mask)
            for wanted, got, right in zip(mask, found, expected, strict=True):
                assert wanted == (got is not None)
                if got is not None:
                    np.testing.assert_allclose(got, right, atol=2e-5 * np.abs(right).max())


@pytest.mark.parametrize("kernel", ["input_lanes", "direct"])
def test_a_bias_is_trained_where_its_weights_are_not(kernel: str) -> None:
    generator = np.random.default_rng(3)
    x = generator.standard_normal((19, 3, 12, 16)).astype(np.float32)
    y = generator.integers(0, 5, 19)
    found = {}
    for backend in ("lanes", "im2col"):
        model = network()
        with conv_algorithm(kernel):
            fastcnn.fit(
                model,
                (x, y),
                epochs=1,
                batch_size=19,
                groups="*.weight: freeze",
                lr=0.5,
                backend=backend,
                seed=0,
            )
        found[backend] = model.parameter_vector.copy()
    assert np.abs(found["lanes"] - network().parameter_vector).max() > 1e-3
    np.testing.assert_allclose(found["lanes"], found["im2col"], atol=2e-6)


def test_the_same_step_on_any_threads() -> None:
    """Equal to the direct sums up to float32 rounding; the same bits on any threads."""
    generator = np.random.default_rng(1)
    x = generator.standard_normal((40, 3, 12, 16)).astype(np.float32)
    y = generator.integers(0, 5, 40)
    check_threads(network, x, y, None, 1e-5, threads=(1, 2, 4), momentum=0.9, lr=0.1)
