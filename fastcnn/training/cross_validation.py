"""k-fold cross-validation: one training run per fold, evaluated on that fold."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcnn.data.dataset import Dataset, Samples
from fastcnn.data.split import draw_folds
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model
from fastcnn.notebook import brief
from fastcnn.training.evaluation import evaluate
from fastcnn.training.fit import fit
from fastcnn.training.fit_arguments import FitArguments
from fastcnn.training.history import History
from fastcnn.training.samples import Data, as_samples

#: Arguments of ``fit`` that do not apply to several runs.
REFUSED = ("out", "resume", "world", "callbacks")


@dataclass(frozen=True)
class CrossValidation:
    """Results of :func:`cross_validate`.

    Attributes
    ----------
    losses, accuracies : ndarray of float64, shape (folds,)
        Results on each fold of the network trained on the others; accuracies are NaN if targets are
        not classes.
    logits : ndarray, shape (N, ...)
        The out-of-fold output for each sample; a dictionary if there are several outputs.
    histories : list of History
    """

    losses: np.ndarray
    accuracies: np.ndarray
    logits: Any
    histories: list[History]

    __repr__ = brief

    @property
    def loss(self) -> float:
        """The mean over the folds."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """The mean over the folds."""
        return float(self.accuracies.mean())

    def __str__(self) -> str:
        """One line, with standard deviations over the folds."""
        spread = [float(values.std(ddof=1)) for values in (self.losses, self.accuracies)]
        text = f"{len(self.losses)} folds: loss {self.loss:.4f} +- {spread[0]:.4f}"
        if np.isnan(self.accuracy):
            return text
        return f"{text}, accuracy {100 * self.accuracy:.2f} % +- {100 * spread[1]:.2f}"


def cross_validate(
    make_model: Model | Callable[[], Model], data: Data, *, folds: int = 5, **options: Any
) -> CrossValidation:
    """Train one network per fold, on the other folds, and evaluate it on that fold.

    Folds are stratified by class and drawn with ``seed``. A fold is test data only: early
    stopping holds out samples of the other folds.

    Parameters
    ----------
    make_model : callable, or Model
        Called without arguments for each fold; or a model, copies of which are trained.
    data : Dataset, or (x, y), or (x, y, sample_weight)
    folds : int
    **options
        As for :func:`fastcnn.fit`, without ``out``, ``resume``, ``world`` and ``callbacks``.

    Returns
    -------
    CrossValidation

    Raises
    ------
    ConfigurationError, DataError, ShapeError
        If there are too few samples, or an argument is invalid.

    Examples
    --------
    >>> import fastcnn
    >>> train, _ = fastcnn.data.digits_dataset(300, 30, classes=(0, 1, 2))
    >>> found = fastcnn.cross_validate(fastcnn.models.report_cnn(seed=0), train, folds=3, epochs=3)
    >>> found.accuracy > 0.8
    True
    """
    refused = [name for name in REFUSED if name in options]
    if refused:
        raise ConfigurationError(f"{refused[0]} is for a single run, not for cross_validate")
    o = FitArguments.of(options)
    make = (lambda: deepcopy(make_model)) if isinstance(make_model, Model) else make_model
    model = make() if callable(make) else None
    if not isinstance(model, Model):
        raise ConfigurationError(
            f"make_model must be a Model, or a function that returns one, got {make_model!r}"
        )
    samples = as_samples(data, "data", model, o.make_loss())
    if isinstance(samples, Dataset):
        samples = replace(samples, validation=None)
    rows = draw_folds(np.asarray(samples.labels), folds, o.seed)
    found, histories = [], []
    for index, held in enumerate(rows):
        others = np.sort(np.concatenate([part for part in rows if part is not held]))
        model = make() if index else model
        test = _given(samples.subset(held))
        histories.append(fit(model, _given(samples.subset(others)), test, **options))
        found.append(evaluate(model, test, loss=o.make_loss(), backend=o.backend))
    logits: Any
    if isinstance(found[0].logits, dict):
        logits = {
            name: _in_order(rows, [one.logits[name] for one in found]) for name in found[0].logits
        }
    else:
        logits = _in_order(rows, [one.logits for one in found])
    return CrossValidation(
        np.array([one.loss for one in found]),
        np.array([one.accuracy for one in found]),
        logits,
        histories,
    )


def _in_order(rows: Sequence[np.ndarray], parts: Sequence[np.ndarray]) -> np.ndarray:
    """Outputs of the folds, in the order of all samples."""
    whole = np.empty((sum(map(len, rows)), *parts[0].shape[1:]), parts[0].dtype)
    for held, part in zip(rows, parts, strict=True):
        whole[held] = part
    return whole


def _given(samples: Samples) -> Data:
    """Samples in the form that ``fit`` accepts."""
    if isinstance(samples, Dataset):
        return samples
    return samples.images, samples.labels, samples.sample_weight
