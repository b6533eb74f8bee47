"""Running a model: forward, backward and whole training steps, on any backend."""

from fastcnn.execution.executor import Executor, StepResults, make_executor
from fastcnn.execution.passes import (
    forward,
    gradients,
    loss_and_gradients,
    predict_logits,
)

__all__ = [
    "Executor",
    "StepResults",
    "forward",
    "gradients",
    "loss_and_gradients",
    "make_executor",
    "predict_logits",
]
