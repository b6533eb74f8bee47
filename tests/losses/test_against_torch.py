"""Every loss, on every backend and in the engine's programs, compared with PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import Conv2d, Flatten, Linear, Sequential
from fastcnn.backends import BACKENDS
from fastcnn.execution import loss_and_gradients
from fastcnn.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    FocalLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
    NLLLoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
)

SAMPLES = 19  # a whole block and some idle lanes
WEIGHT = (1.0, 2.0, 0.5)


def focal(torch: Any, x: Any, y: Any, gamma: float) -> Any:
    log_p = torch.log_softmax(x, 1).gather(1, y[:, None])[:, 0]
    return (-((1.0 - log_p.exp()) ** gamma) * log_p).mean()


def sigmoid_focal(torch: Any, x: Any, y: Any, alpha: float, gamma: float) -> Any:
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    p = torch.sigmoid(x)
    right = p * y + (1.0 - p) * (1.0 - y)
    return ((alpha * y + (1 - alpha) * (1 - y)) * entropy * (1.0 - right) ** gamma).mean()


Case = tuple[Loss, str, Callable[[Any, Any, Any], Any]]
CASES: list[Case] = [
    (CrossEntropyLoss(), "classes", lambda t, x, y: t.nn.CrossEntropyLoss()(x, y)),
    (
        CrossEntropyLoss(0.1, weight=WEIGHT, ignore_index=255),
        "ignored",
        lambda t, x, y: t.nn.CrossEntropyLoss(
            t.tensor(WEIGHT), ignore_index=255, label_smoothing=0.1
        )(x, y),
    ),
    (
        CrossEntropyLoss(weight=WEIGHT, reduction="sum"),
        "classes",
        lambda t, x, y: t.nn.CrossEntropyLoss(t.tensor(WEIGHT), reduction="sum")(x, y),
    ),
    (
        CrossEntropyLoss(0.1, weight=WEIGHT),
        "probabilities",
        lambda t, x, y: t.nn.CrossEntropyLoss(t.tensor(WEIGHT), label_smoothing=0.1)(x, y),
    ),
    (
        CrossEntropyLoss(1.0),
        "classes",
        lambda t, x, y: t.nn.CrossEntropyLoss(label_smoothing=1.0)(x, y),
    ),
    (
        NLLLoss(weight=WEIGHT, ignore_index=255),
        "ignored",
        lambda t, x, y: t.nn.NLLLoss(t.tensor(WEIGHT), ignore_index=255)(x, y),
    ),
    (FocalLoss(gamma=2.0), "classes", lambda t, x, y: focal(t, x, y, 2.0)),
    (FocalLoss(gamma=0.5), "classes", lambda t, x, y: focal(t, x, y, 0.5)),
    (MSELoss(), "values", lambda t, x, y: t.nn.MSELoss()(x, y)),
    (MSELoss(reduction="sum"), "values", lambda t, x, y: t.nn.MSELoss(reduction="sum")(x, y)),
    (L1Loss(), "values", lambda t, x, y: t.nn.L1Loss()(x, y)),
    (HuberLoss(delta=0.7), "values", lambda t, x, y: t.nn.HuberLoss(delta=0.7)(x, y)),
    (SmoothL1Loss(beta=0.7), "values", lambda t, x, y: t.nn.SmoothL1Loss(beta=0.7)(x, y)),
    (BCEWithLogitsLoss(), "labels", lambda t, x, y: t.nn.BCEWithLogitsLoss()(x, y)),
    (
        BCEWithLogitsLoss(pos_weight=WEIGHT),
        "labels",
        lambda t, x, y: t.nn.BCEWithLogitsLoss(
            pos_weight=t.tensor(WEIGHT).reshape(3, *(1,) * (x.ndim - 2))
        )(x, y),
    ),
    (SigmoidFocalLoss(0.3, 1.5), "labels", lambda t, x, y: sigmoid_focal(t, x, y, 0.3, 1.5)),
]

NAMES = [f"{loss.operation}-{place}" for place, (loss, _, _) in enumerate(CASES)]


def targets(kind: str, maps: tuple[int, ...]) -> np.ndarray:
    generator, places = np.random.default_rng(3), (SAMPLES, *maps)
    classes = generator.integers(0, 3, places)
    if kind == "ignored":
        return np.where(generator.random(places) < 0.3, 255, classes)
    if kind == "probabilities":
        return np.moveaxis(generator.dirichlet(np.ones(3), places), -1, 1)
    if kind == "values":
        return generator.standard_normal((SAMPLES, 3, *maps))
    if kind == "labels":
        return generator.integers(0, 2, (SAMPLES, 3, *maps)).astype(np.float64)
    return classes


def network(maps: tuple[int, ...]) -> Sequential:
    if maps:
        return Sequential(Conv2d(1, 3, 3, padding=1, seed=0), input_shape=(1, *maps))
    return Sequential(Flatten(), Linear(20, 3, seed=0), input_shape=(1, 4, 5))


@pytest.mark.parametrize("maps", [(), (4, 5)], ids=["vectors", "maps"])
@pytest.mark.parametrize(("loss", "kind", "theirs"), CASES, ids=NAMES)
def test_loss(loss: Loss, kind: str, theirs: Any, maps: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    y, model = targets(kind, maps), network(maps)
    x = np.random.default_rng(1).standard_normal((SAMPLES, 1, 4, 5)).astype(np.float32) * 2
    outputs = model.logits(x)
    given = torch.from_numpy(outputs).requires_grad_()
    expected = theirs(torch, given, torch.from_numpy(y if y.dtype.kind == "i" else y.astype("f4")))
    expected.backward()
    wanted = float(expected.detach())
    for backend in BACKENDS:
        assert loss(outputs, y, backend=backend) == pytest.approx(wanted, rel=1e-5)
        found = loss.gradient(outputs, y, backend=backend)
        assert found == pytest.approx(
            given.grad.numpy(), rel=1e-4, abs=1e-6 * float(np.abs(found).max())
        )
    engine = loss_and_gradients(model, x, y, loss=loss, backend="lanes")
    other = loss_and_gradients(model, x, y, loss=loss, backend="im2col")
    assert engine[0] == pytest.approx(wanted, rel=1e-5)
    assert engine[2] == pytest.approx(other[2], rel=1e-4, abs=3e-6 * float(np.abs(other[2]).max()))


@pytest.mark.parametrize("maps", [(), (4, 5)], ids=["vectors", "maps"])
@pytest.mark.parametrize(("loss", "kind", "theirs"), CASES, ids=NAMES)
def test_weights(loss: Loss, kind: str, theirs: Any, maps: tuple[int, ...]) -> None:
    """A sample's or target's weight is equivalent to its number of repetitions."""
    y, model = targets(kind, maps), network(maps)
    x = np.random.default_rng(1).standard_normal((SAMPLES, 1, 4, 5)).astype(np.float32)
    generator = np.random.default_rng(5)
    shape = (SAMPLES, *loss.weight_shape(y))
    for weight in (generator.uniform(0.1, 2.0, SAMPLES), generator.integers(0, 2, shape) * 1.5):
        found = {
            name: loss_and_gradients(model, x, y, loss=loss, sample_weight=weight, backend=name)
            for name in BACKENDS
        }
        expected = found["reference"]
        for name in ("im2col", "lanes"):
            assert found[name][0] == pytest.approx(expected[0], rel=1e-5)
            bound = 1e-5 * float(np.abs(expected[2]).max())
            assert found[name][2] == pytest.approx(expected[2], rel=1e-4, abs=bound)


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), FocalLoss(gamma=1.0)])
def test_small_losses_keep_their_digits(loss: Loss) -> None:
    """A confident network's loss is the sum of the other exponentials, not 0."""
    model = Sequential(Flatten(), Linear(1, 3, seed=0), input_shape=(1, 1, 1))
    model.parameter_vector[:] = [0.0, 0.0, 0.0, 20.0, 0.0, 0.0]
    x, y = np.zeros((2, 1, 1, 1), np.float32), np.array([0, 0])
    rest = 2.0 * np.exp(-20.0)
    expected = rest if isinstance(loss, CrossEntropyLoss) else rest * rest
    for backend in BACKENDS:
        value, _, _ = loss_and_gradients(model, x, y, loss=loss, backend=backend)
        assert value == pytest.approx(expected, rel=1e-4)


def test_infinite_logits_of_other_classes_do_not_count() -> None:
    output = np.array([[1.0, -np.inf, 0.0]])
    for loss in (CrossEntropyLoss(), FocalLoss(gamma=0.0)):
        for backend in BACKENDS:
            assert loss(output, [0], backend=backend) == pytest.approx(np.log1p(np.exp(-1.0)))
