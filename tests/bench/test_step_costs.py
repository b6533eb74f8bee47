"""Variants of a training step run, and the shortest time of each counts."""

import numpy as np
import pytest

from bench.shortest import shortest
from bench.step_costs import COMPARISONS, steps
from fastcnn.data.dataset import ArrayDataset

#: Comparisons whose kernels are not in the cache.
COMPILED = ("optimizers", "kernel")


@pytest.mark.usefixtures("own_kernels")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in COMPILED else [])
        for name in COMPARISONS
    ],
)
def test_all_contestants_are_timed(name: str) -> None:
    contestants = COMPARISONS[name][0](16, 1)
    y = np.zeros((64, 10), np.float32) if name == "python" else np.zeros(64, np.int64)
    runs = steps(contestants, ArrayDataset(np.ones((64, 1, 28, 28), np.float32), y))
    best = shortest(runs, seconds=0.001)
    assert len(best) == len(contestants)
    assert all(0.0 < seconds < float("inf") for seconds in best)
