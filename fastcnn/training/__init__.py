"""Training: ``fit``, what it records, what can listen, and the folder a run leaves."""

from fastcnn.training.callbacks import Callback
from fastcnn.training.fit import evaluate, fit
from fastcnn.training.history import History
from fastcnn.training.run import Run

__all__ = ["Callback", "History", "Run", "evaluate", "fit"]
