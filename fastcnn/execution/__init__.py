"""Running a model: forward, backward and whole training steps, on any backend."""

from fastcnn.execution.executor import Executor, StepResults, Watch
from fastcnn.execution.executors import make_executor
from fastcnn.execution.passes import forward, gradients, loss_and_gradients, predict_logits
from fastcnn.execution.plan import plan
from fastcnn.execution.session import InferenceSession, session

__all__ = [
    "Executor",
    "InferenceSession",
    "StepResults",
    "Watch",
    "forward",
    "gradients",
    "loss_and_gradients",
    "make_executor",
    "plan",
    "predict_logits",
    "session",
]
