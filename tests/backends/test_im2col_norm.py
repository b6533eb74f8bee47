"""Batch normalisation of im2col: compiled loops against whole arrays in float64."""

from typing import Any

import numpy as np
import pytest

from fastcnn.backends import im2col

SHAPES = [(5, 3, 4, 7), (9, 4, 6), (17, 5), (1, 1, 40, 3), (3, 7, 1, 1), (2, 3, 16, 16)]


def samples(shape: tuple[int, ...], order: str, seed: int) -> Any:
    """Samples whose axes have the memory order ``order``."""
    made = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    first = {"samples": 0, "channels": 1, "columns": -1}[order]
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(made, first, 0)), 0, first)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ["samples", "channels", "columns"])
@pytest.mark.parametrize("frozen", [False, True])
def test_memory_in_any_order(shape: tuple[int, ...], order: str, frozen: bool) -> None:
    other_order = "samples" if order == "channels" else "channels"
    x, dy = 2 * samples(shape, order, 0) + 30, samples(shape, other_order, 1)
    weight, bias = np.random.default_rng(2).standard_normal((2, shape[1])).astype(np.float32)
    wide = [each.astype(np.float64) for each in (x, dy, weight, bias)]
    statistics = im2col.batch_statistics(x)
    exact = im2col.batch_statistics(wide[0])
    for ours, theirs in zip(statistics, exact, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    mean, variance = statistics if frozen else (None, None)
    given = [None if each is None else each.astype(np.float64) for each in (mean, variance)]
    ours = im2col.batch_norm(x, weight, bias, mean, variance, 1e-5)
    theirs = im2col.batch_norm(wide[0], wide[2], wide[3], *given, 1e-5)
    assert np.abs(ours - theirs).max() <= 1e-5
    gradients = im2col.batch_norm_backward(dy, x, weight, mean, variance, 1e-5)
    expected = im2col.batch_norm_backward(wide[1], wide[0], wide[2], *given, 1e-5)
    for mine, other in zip(gradients, expected, strict=True):
        assert np.abs(mine - other).max() <= 1e-5 * np.abs(other).max()
