"""Arrays from elsewhere: read-only, strided, memory-mapped, of another byte order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn.backends import BACKENDS
from fastcnn.layers import (
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Sequential,
)
from tests.operations.calls import CALLS, SHAPE, Call
from tests.operations.conftest import random_array


def _read_only(array: np.ndarray, folder: Path) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _unaligned(array: np.ndarray, folder: Path) -> np.ndarray:
    memory = bytearray(array.nbytes + 1)
    moved = np.frombuffer(memory, array.dtype, offset=1).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


def _mapped(array: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def _every_other(array: np.ndarray, folder: Path) -> np.ndarray:
    return np.repeat(array, 2, axis=-1)[..., ::2]


KINDS: dict[str, Callable[[np.ndarray, Path], np.ndarray]] = {
    "read-only": _read_only,
    "unaligned": _unaligned,
    "mapped": _mapped,
    "every other": _every_other,
    "big-endian": lambda array, folder: array.astype(array.dtype.newbyteorder(">")),
    "Fortran": lambda array, folder: np.asfortranarray(array),
    "backwards": lambda array, folder: array[::-1].copy()[::-1],
    "list": lambda array, folder: array.tolist(),
}


def _same(actual: np.ndarray, expected: np.ndarray, label: str = "") -> None:
    """Equal except for the order of sums, which depends on an array's layout in numpy."""
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    tolerance = 1e-6 if expected.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(
        actual, expected, rtol=tolerance, atol=tolerance * scale, err_msg=label
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_functions(call: Call, backend: str, dtype: str, tmp_path: Path) -> None:
    plain = call.arrays(random_array(SHAPE).astype(dtype))
    with np.errstate(all="ignore"):
        expected = call.forward(backend, *plain)
        grad: Any = random_array(expected.shape, 9).astype(dtype) if expected.ndim else 1.0
        wanted = call.backward(backend, grad, *plain)
        for kind, make in KINDS.items():
            if kind == "list":
                continue
            given = [make(array, tmp_path) for array in plain]
            _same(call.forward(backend, *given), expected, kind)
            dy = make(grad, tmp_path) if expected.ndim else grad
            for actual, value in zip(call.backward(backend, dy, *given), wanted, strict=True):
                _same(actual, value, kind)
                assert actual.dtype == np.dtype(dtype), kind


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "list"])
def test_softmax_statistics_and_weights(kind: str, dtype: str, tmp_path: Path) -> None:
    x = random_array((4, 3)).astype(dtype)
    given, weight = KINDS[kind](x, tmp_path), np.array([1.0, 2.0, 0.5, 3.0])
    _same(F.softmax(given), F.softmax(x))
    for backend in BACKENDS:
        actual = F.batch_statistics(given, backend=backend)
        for found, value in zip(actual, F.batch_statistics(x, backend=backend), strict=True):
            _same(found, value)
        target = KINDS[kind](np.array([0, 2, 1, 0]), tmp_path)
        weights = {"sample_weight": KINDS[kind](weight, tmp_path), "backend": backend}
        expected = F.cross_entropy(x, [0, 2, 1, 0], sample_weight=weight, backend=backend)
        assert F.cross_entropy(given, target, **weights) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("dtype_", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_models_take_them(kind: str, dtype_: Any, tmp_path: Path) -> None:
    model = Sequential(
        Conv2d(1, 4, 3, padding=1, seed=0), BatchNorm2d(4), GELU(), MaxPool2d(2), AvgPool2d(2),
        AdaptiveAvgPool2d(2), Flatten(), Linear(16, 3, seed=0), input_shape=(1, 8, 8),
    ).to(dtype_)  # fmt: skip
    x = random_array((32, 1, 8, 8)).astype(dtype_)
    y = np.arange(32) % 3
    given, labels = KINDS[kind](x, tmp_path), KINDS[kind](y, tmp_path)
    for backend in ("im2col", "lanes"):
        expected = model.logits(x, backend=backend)
        np.testing.assert_array_equal(model.logits(given, backend=backend), expected)
        value, gradients = fastcnn.gradients(model, x, y, backend=backend)
        loss, found = fastcnn.gradients(model, given, labels, backend=backend)
        assert loss == value
        for key, gradient in gradients.items():
            np.testing.assert_array_equal(found[key], gradient)
    if kind == "list":
        return
    start = model.copy_state()
    weight = np.linspace(0.5, 1.5, 32)
    for backend in ("im2col", "lanes"):
        options: dict[str, Any] = {"epochs": 1, "batch_size": 16, "diagnose": False}
        expected = fastcnn.fit(model, (x, y, weight), (x, y), **options, backend=backend)
        model.load_state_dict(start)
        data = (given, labels, KINDS[kind](weight, tmp_path))
        history = fastcnn.fit(model, data, (given, labels), **options, backend=backend)
        model.load_state_dict(start)
        assert history.column("test_loss") == expected.column("test_loss")
