"""Training: ``fit``, its records and callbacks, and the folder of a run."""

from fastcnn.training.callbacks import Callback
from fastcnn.training.cross_validation import CrossValidation, cross_validate
from fastcnn.training.diagnosis import Diagnosis
from fastcnn.training.evaluation import evaluate
from fastcnn.training.fit import fit
from fastcnn.training.history import Finding, History
from fastcnn.training.lr_finder import lr_find
from fastcnn.training.monitors import EarlyStopping, ReduceLROnPlateau
from fastcnn.training.run import Run
from fastcnn.training.tensorboard import TensorBoard

__all__ = [
    "Callback",
    "CrossValidation",
    "Diagnosis",
    "EarlyStopping",
    "Finding",
    "History",
    "ReduceLROnPlateau",
    "Run",
    "TensorBoard",
    "cross_validate",
    "evaluate",
    "fit",
    "lr_find",
]
