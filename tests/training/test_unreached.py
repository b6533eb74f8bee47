"""Options that take effect after a run's end are reported, or refused if nothing would remain."""

import logging
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import ConfigurationError
from fastcnn.optim import MultiStep, StepDecay, Warmup
from fastcnn.training import EarlyStopping

X = np.random.default_rng(0).random((40, 1, 4, 4), np.float32)
Y = np.arange(40) % 3


def said(caplog: pytest.LogCaptureFixture, **options: Any) -> str:
    caplog.clear()
    # Nothing is compiled on im2col, which would be said, too.
    chosen: dict[str, Any] = {"epochs": 3, "batch_size": 16, "backend": "im2col"} | options
    model = fastcnn.Sequential(
        fastcnn.Flatten(), fastcnn.Linear(16, 3, seed=0), input_shape=(1, 4, 4)
    )
    with caplog.at_level(logging.WARNING, "fastcnn"):
        fastcnn.fit(model, (X, Y), validation=(X, Y), diagnose=False, **chosen)
    return caplog.text


@pytest.mark.parametrize(
    ("last", "beyond", "message"),
    [
        ({"warmup_steps": 8}, {"warmup_steps": 9}, "takes 9 steps, and the training has 9 steps"),
        (
            {"schedule": Warmup(8)},
            {"schedule": Warmup(500, MultiStep((1,)))},
            "the warm-up takes 500 steps",
        ),
        (
            {"schedule": MultiStep((1, 2))},
            {"schedule": Warmup(1, MultiStep((2, 3, 7)))},
            "milestones at epoch 3, 7 have no effect within 3 epochs",
        ),
        (
            {"schedule": StepDecay(2)},
            {"schedule": StepDecay(3)},
            "falls every 3 epochs, which is never within 3 epochs",
        ),
        (
            {"early_stopping": 1},
            {"early_stopping": 2},
            "after 2 epochs without improvement cannot end a run of 3 epochs early",
        ),
        ({}, {"callbacks": [EarlyStopping(patience=5)]}, "after 5 epochs without improvement"),
        ({"early_stopping": 1}, {"early_stopping": 1, "epochs": 2}, "after 1 epoch without"),
        ({"epochs": 1}, {"epochs": 0}, "epochs=0: the model is not trained, its weights stay"),
        ({"lr": 1e-6}, {"lr": 0.0}, "at most 0 in 9 steps (lr=0): the weights do not change"),
        (
            {"schedule": "one-cycle"},
            {"schedule": "one-cycle", "epochs": 1, "batch_size": 64},
            "is at most 8e-08 in 1 step (lr=0.02): the weights hardly change",
        ),
        (
            {"accumulate": 3},
            {"accumulate": 4},
            "accumulate=4: an epoch has 3 batches of batch_size=16, and so one step",
        ),
    ],
)
def test_what_comes_after_the_end_is_said(
    caplog: pytest.LogCaptureFixture, last: dict[str, Any], beyond: dict[str, Any], message: str
) -> None:
    assert said(caplog, **last) == ""
    assert message in said(caplog, **beyond)


def test_an_epoch_of_one_step_cannot_end_early(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError, match="max_steps=2 has no effect with one step per"):
        said(caplog, batch_size=64, max_steps=2)


def test_slow_weights_that_never_move_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    assert said(caplog, lookahead=9) == ""
    with pytest.raises(ConfigurationError, match="lookahead: every=10 has no effect within 9 step"):
        said(caplog, lookahead=10)
