"""Training: ``fit``, its records and callbacks, the folder of a run, and sweeps."""

from typing import TYPE_CHECKING

from fastcnn import door
from fastcnn.training.callbacks import Callback, Control, Steps, TrainingStart
from fastcnn.training.cross_validation import CrossValidation, cross_validate
from fastcnn.training.diagnosis import Diagnosis
from fastcnn.training.evaluation import Evaluation, evaluate
from fastcnn.training.fit import fit
from fastcnn.training.history import Finding, History
from fastcnn.training.lr_finder import lr_find
from fastcnn.training.metrics import Metric
from fastcnn.training.monitors import EarlyStopping, ReduceLROnPlateau
from fastcnn.training.rate_search import RateSearch
from fastcnn.training.run import Run
from fastcnn.training.tensorboard import TensorBoard

if TYPE_CHECKING:
    from fastcnn.training.recipe import Recipe
    from fastcnn.training.search import Span, TreeParzen
    from fastcnn.training.sweeps import Trial, best_settings, draw, grid, rank, sweep
else:
    # A sweep imports multiprocessing.
    __getattr__, __dir__, _ = door(
        __name__,
        {
            "recipe": ("Recipe",),
            "search": ("Span", "TreeParzen"),
            "sweeps": ("Trial", "best_settings", "draw", "grid", "rank", "sweep"),
        },
    )

__all__ = [
    "Callback",
    "Control",
    "CrossValidation",
    "Diagnosis",
    "EarlyStopping",
    "Evaluation",
    "Finding",
    "History",
    "Metric",
    "RateSearch",
    "Recipe",
    "ReduceLROnPlateau",
    "Run",
    "Span",
    "Steps",
    "TensorBoard",
    "TrainingStart",
    "TreeParzen",
    "Trial",
    "best_settings",
    "cross_validate",
    "draw",
    "evaluate",
    "fit",
    "grid",
    "lr_find",
    "rank",
    "sweep",
]
