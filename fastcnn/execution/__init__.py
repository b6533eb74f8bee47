"""Running a model on any backend: forward, backward and whole training steps.

The layer between ``training`` and ``backends``: executors, checks, and the fallback to im2col.
"""

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
