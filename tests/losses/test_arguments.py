"""Arguments of losses, and the messages for wrong ones."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.losses import (
    LOSSES,
    NAMED,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    FocalLoss,
    HuberLoss,
    MSELoss,
    NLLLoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
    as_loss,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropyLoss(reduction="none"), "CrossEntropyLoss: reduction must be one of"),
        (lambda: MSELoss("batchmean"), "MSELoss: reduction must be one of mean, sum, got 'batch"),
        (lambda: CrossEntropyLoss(weight=(1.0, -1.0)), "weight must hold numbers of at least 0"),
        (lambda: CrossEntropyLoss(weight="balanced"), "weight must be a sequence of a number"),
        (lambda: CrossEntropyLoss(weight=(0.0, 0.0)), "not all 0"),
        (lambda: CrossEntropyLoss(weight=(1.0, 1e37)), "weight must hold 0 or numbers from 1e"),
        (lambda: NLLLoss(weight=(1.0, 1e-38)), "weight must hold 0 or numbers from 1e-30 to 1e+"),
        (lambda: NLLLoss(ignore_index=1.5), "NLLLoss: ignore_index must be an integer, got 1.5"),
        (lambda: CrossEntropyLoss(label_smoothing=1.1), "label_smoothing must be between 0"),
        (lambda: FocalLoss(gamma=-1.0), "FocalLoss: gamma must be at least 0"),
        (lambda: HuberLoss(delta=0.0), "HuberLoss: delta must be a finite number above 0"),
        (lambda: SmoothL1Loss(beta=0), "SmoothL1Loss: beta must be a finite number above 0"),
        (lambda: BCEWithLogitsLoss(pos_weight=-1.0), "pos_weight must be at least 0"),
        (lambda: BCEWithLogitsLoss(pos_weight=(1.0, "a")), "pos_weight must be a finite number"),
        (lambda: SigmoidFocalLoss(alpha=1.0), "alpha must be below 1"),
        (lambda: as_loss("hinge"), "loss must be one of cross_entropy, nll, focal"),
        (
            lambda: as_loss("huber", label_smoothing=0.1),
            "label_smoothing has no effect with the lo",
        ),
    ],
)
def test_arguments_are_checked(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


OUTPUT = np.zeros((4, 3), np.float32)
MAPS = np.zeros((4, 3, 2, 2), np.float32)


@pytest.mark.parametrize(
    ("loss", "output", "target", "error", "message"),
    [
        (CrossEntropyLoss(), OUTPUT, [0, 1, 2, 3], DataError, r"in 0\.\.2, got 0\.\.3"),
        (CrossEntropyLoss(ignore_index=9), OUTPUT, [0, 1, 9, 3], DataError, "or be 9, which is ig"),
        (CrossEntropyLoss(), MAPS, [0, 1, 2, 0], ShapeError, r"of shape \(N, 2, 2\)"),
        (CrossEntropyLoss(), OUTPUT, [0.0, 1.0, 2.0, 0.0], DataError, "must be integers"),
        (CrossEntropyLoss(), OUTPUT, OUTPUT, DataError, "sum to 1"),
        (CrossEntropyLoss(weight=(1.0, 2.0)), OUTPUT, [0, 1, 2, 0], ShapeError, "2 numbers, the o"),
        (FocalLoss(), OUTPUT, OUTPUT, DataError, "FocalLoss needs integer classes"),
        (CrossEntropyLoss(ignore_index=0), OUTPUT, OUTPUT, DataError, "no effect on probabilities"),
        (MSELoss(), OUTPUT, np.zeros((4, 2)), ShapeError, "target has shape"),
        (BCEWithLogitsLoss(), OUTPUT, OUTPUT + 2.0, DataError, r"must lie in 0\.\.1, got 2\.\.2"),
        (BCEWithLogitsLoss((1.0, 2.0)), OUTPUT, OUTPUT, ShapeError, "2 numbers, the output 3"),
        (SigmoidFocalLoss(), OUTPUT, OUTPUT + 0.5, DataError, "must be 0 or 1"),
        (MSELoss(), OUTPUT, np.zeros(3), ShapeError, "first axis of samples"),
    ],
)
def test_targets_are_checked(
    loss: Any, output: np.ndarray, target: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        loss(output, target)
    with pytest.raises(error, match=message):
        loss.gradient(output, target)


def test_weights_are_checked() -> None:
    with pytest.raises(ShapeError, match=r"must have shape \(4,\) or \(4, 3\), got \(3,\)"):
        MSELoss()(OUTPUT, OUTPUT, sample_weight=[1.0, 2.0, 3.0])
    with pytest.raises(ConfigurationError, match="at least 0, and not all 0"):
        MSELoss()(OUTPUT, OUTPUT, sample_weight=np.zeros((4, 3)))
    with pytest.raises(ConfigurationError, match="MSELoss: sample_weight must be numbers"):
        MSELoss()(OUTPUT, OUTPUT, sample_weight=["a"] * 4)
    with pytest.raises(DataError, match="1 masked value:"):
        MSELoss()(OUTPUT, OUTPUT, sample_weight=np.ma.masked_less(np.arange(4.0), 1.0))


def test_descriptions_come_back() -> None:
    for loss in (
        *(kind() for kind in LOSSES.values()),
        CrossEntropyLoss(0.1, (1.0, 2.0), 255, "sum"),
        BCEWithLogitsLoss([1.0, 2.0]),
        HuberLoss(2),
    ):
        described = NAMED.describe(loss)
        described = {k: list(v) if isinstance(v, tuple) else v for k, v in described.items()}
        assert NAMED.from_description(described) == loss


def test_a_batch_that_weighs_nothing_has_no_loss() -> None:
    """PyTorch returns NaN, which would end a training at the first picture without a label."""
    loss, y = CrossEntropyLoss(ignore_index=255), np.full(20, 255)
    model = fastcnn.Sequential(
        fastcnn.Flatten(), fastcnn.Linear(4, 3, seed=0), input_shape=(1, 2, 2)
    )
    x = np.ones((20, 1, 2, 2), np.float32)
    for backend in fastcnn.backends.BACKENDS:
        value, gradients = fastcnn.gradients(model, x, y, loss=loss, backend=backend)
        assert value == 0.0
        assert not any(gradient.any() for gradient in gradients.values())
