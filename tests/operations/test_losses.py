"""Losses of every backend against the nested loops in float64."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn.backends import BACKENDS
from fastcnn.errors import DataError, ShapeError
from tests.operations.conftest import assert_close, random_array

CLASSES = np.array([0, 1, 2, 3, 0, 1])
PROBABILITIES = np.random.default_rng(1).dirichlet(np.ones(4), 6)
WEIGHT = np.array([0.5, 2.0, 0.0, 3.0, 1.0, 1.5])


@pytest.mark.parametrize(
    ("target", "weight", "scale"),
    [
        (CLASSES, None, 1.0),
        (CLASSES, None, 1000.0),
        (CLASSES, WEIGHT, 1.0),
        (PROBABILITIES, None, 3.0),
        (PROBABILITIES, WEIGHT, 3.0),
    ],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(
    smoothing: float, target: np.ndarray, weight: Any, scale: float, backend: str, dtype: str
) -> None:
    logits = random_array((6, 4)) * scale
    options: dict[str, Any] = {"label_smoothing": smoothing, "sample_weight": weight}
    expected = F.cross_entropy(logits, target, **options, backend="reference")
    grad = F.cross_entropy_backward(2.0, logits, target, **options, backend="reference")
    logits = logits.astype(dtype)
    actual = F.cross_entropy(logits, target, **options, backend=backend)
    assert actual == pytest.approx(expected, rel=1e-5)
    assert_close(
        F.cross_entropy_backward(2.0, logits, target, **options, backend=backend), grad, dtype
    )


def test_certain_probabilities_are_classes(backend: str) -> None:
    logits, classes = random_array((6, 4)), np.array([0, 1, 2, 3, 0, 1])
    certain = np.eye(4)[classes]
    for smoothing in (0.0, 0.2):
        assert F.cross_entropy(logits, certain, smoothing, backend=backend) == pytest.approx(
            F.cross_entropy(logits, classes, smoothing, backend=backend)
        )
        assert F.cross_entropy_backward(
            1.0, logits, certain, smoothing, backend=backend
        ) == pytest.approx(
            F.cross_entropy_backward(1.0, logits, classes, smoothing, backend=backend)
        )


def test_softmax_subtracts_the_maximum_of_each_row() -> None:
    logits = np.array([[1000.0, 999.0], [-1000.0, -1001.0]])
    assert F.softmax(logits)[1] == pytest.approx(F.softmax(logits)[0])


def test_mse(backend: str, dtype: str) -> None:
    a, b = random_array((4, 3)), random_array((4, 3), 1)
    expected = F.mse_backward(1.0, a, b, backend="reference")
    assert F.mse(a, b, backend=backend) == pytest.approx(F.mse(a, b, backend="reference"))
    a, b = a.astype(dtype), b.astype(dtype)
    assert_close(F.mse_backward(1.0, a, b, backend=backend), expected, dtype)


def test_weighted_mse(backend: str, dtype: str) -> None:
    a, b = random_array((6, 2, 3)), random_array((6, 2, 3), 1)
    expected = F.mse(a, b, sample_weight=WEIGHT, backend="reference")
    grad = F.mse_backward(1.0, a, b, sample_weight=WEIGHT, backend="reference")
    assert F.mse(a, b, sample_weight=WEIGHT, backend=backend) == pytest.approx(expected)
    a, b = a.astype(dtype), b.astype(dtype)
    assert_close(F.mse_backward(1.0, a, b, sample_weight=WEIGHT, backend=backend), grad, dtype)


@pytest.mark.parametrize("name", ["reference", "im2col"])
def test_whole_weights_count_repetitions(name: str) -> None:
    logits, target, weight = random_array((3, 4)), np.array([0, 3, 1]), np.array([1, 2, 3])
    weighted = F.cross_entropy(logits, target, 0.1, sample_weight=weight, backend=name)
    repeated = F.cross_entropy(
        logits.repeat(weight, axis=0), target.repeat(weight), 0.1, backend=name
    )
    assert weighted == pytest.approx(repeated, rel=1e-12)
    values = random_array((3, 4), 1)
    assert F.mse(logits, values, sample_weight=weight, backend=name) == pytest.approx(
        F.mse(logits.repeat(weight, axis=0), values.repeat(weight, axis=0), backend=name)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_can_be_called(backend: str) -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    output = generator.standard_normal((5, 3)).astype(np.float32)
    classes, values = generator.integers(0, 3, 5), generator.standard_normal((5, 3))
    weight = np.arange(1.0, 6.0)
    tensor, labels = torch.from_numpy(output), torch.from_numpy(classes)
    found = fastcnn.CrossEntropyLoss(0.1)(output, classes, backend=backend)
    wanted = torch.nn.functional.cross_entropy(tensor, labels, label_smoothing=0.1)
    assert found == pytest.approx(float(wanted), rel=1e-5)
    each = torch.nn.functional.cross_entropy(tensor, labels, reduction="none").numpy()
    found = fastcnn.CrossEntropyLoss()(output, classes, sample_weight=weight, backend=backend)
    assert found == pytest.approx((each * weight).sum() / weight.sum(), rel=1e-5)
    for target in (values, np.eye(3)[classes]):
        wanted = np.mean((output - target) ** 2)
        assert fastcnn.MSELoss()(output, target, backend=backend) == pytest.approx(wanted, rel=1e-5)
    assert fastcnn.MSELoss()(output, classes, backend=backend) == pytest.approx(wanted, rel=1e-5)
    one = fastcnn.MSELoss()(output[:, :1], values[:, 0], backend=backend)
    assert one == pytest.approx(np.mean((output[:, 0] - values[:, 0]) ** 2), rel=1e-5)
    with pytest.raises(ShapeError, match="target has shape"):
        fastcnn.MSELoss()(output, values[:, :2], backend=backend)
    with pytest.raises(DataError, match=r"classes must lie in 0..2"):
        fastcnn.CrossEntropyLoss()(output, classes + 5, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_number_a_sample(backend: str) -> None:
    """Predictions of shape (N,) as well."""
    prediction, target = np.array([1.0, 4.0]), [2, 2]
    assert F.mse(prediction, target, backend=backend) == 2.5
    gradient = F.mse_backward(1.0, prediction, target, backend=backend)
    np.testing.assert_array_equal(gradient, [-1.0, 2.0])
    assert F.mse(prediction, target, sample_weight=[3, 1], backend=backend) == 1.75
