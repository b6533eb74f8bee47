"""Backends under test and their tolerances against the reference in float64."""

from typing import Any

import numpy as np
import pytest

from fastcnn.backends import BACKENDS

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


@pytest.fixture(params=[name for name in BACKENDS if name != "reference"])
def backend(request: Any) -> str:
    """A backend that is compared with the reference."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: Any) -> str:
    """A dtype of arrays."""
    return request.param


def assert_close(actual: np.ndarray, expected: np.ndarray, dtype: str) -> None:
    """Compare with an error relative to the largest expected magnitude."""
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    scale = max(float(np.abs(expected).max()), 1e-3)
    assert float(np.abs(actual - expected).max()) <= TOLERANCE[dtype] * scale


def random_array(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Normal values, as float64, that float32 represents exactly."""
    values = np.random.default_rng(seed).standard_normal(shape)
    return values.astype(np.float32).astype(np.float64)
