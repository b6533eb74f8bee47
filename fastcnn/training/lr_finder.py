"""A learning rate for a model and its data."""

from copy import deepcopy
from functools import partial
from typing import Any

from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model
from fastcnn.training.fit import fit
from fastcnn.training.rate_search import DECIDED, HIGHEST, LOWEST, STEPS, RateSearch, search
from fastcnn.training.samples import Data


def lr_find(
    model: Model,
    train: Data,
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    **options: Any,
) -> RateSearch:
    """Find a learning rate: train a copy of the model with a rate that grows from step to step.

    Parameters
    ----------
    model : Model
        Is left as it is.
    train : Dataset, or (x, y), or (x, y, sample_weight)
        As for :func:`fastcnn.fit`.
    lowest, highest : float
        Rates of the first and the last step; between them the rate grows by the same factor.
    steps : int
        Fewer are taken if the loss grows to four times the smallest before.
    **options
        Options of :func:`fastcnn.fit` that decide a step, with which the training is to be done:
        ``optimizer``, ``batch_size``, ``loss``, ``momentum``, ``weight_decay``, ``augment``,
        ``clip_norm``, ``seed``, ``backend``, ...

    Returns
    -------
    RateSearch
        With ``suggestion``, the curve and ``figure()``.

    Raises
    ------
    ConfigurationError
        If an option has no meaning here, or the loss falls at no rate or up to the highest.
    ShapeError, DataError
        If something does not fit.

    References
    ----------
    Smith, "Cyclical learning rates for training neural networks", arXiv:1506.01186, section 3.3;
    a tenth of the minimum is what fastai's finder suggests.

    Examples
    --------
    >>> import fastcnn
    >>> train, _ = fastcnn.data.digits_dataset(600, 10, classes=(0, 1, 2))
    >>> found = fastcnn.lr_find(fastcnn.models.report_cnn(seed=0), train, optimizer="sgd")
    >>> 1e-4 < found.suggestion < 1
    True
    """
    refused = [name for name in options if name in DECIDED]
    if refused:
        raise ConfigurationError(
            f"{refused[0]} has no effect in lr_find: it takes the options that decide a single step"
        )
    if not isinstance(model, Model):
        raise ConfigurationError(f"model must be a Model, got {model!r}")
    once = partial(fit, deepcopy(model), train, diagnose=False, **options)
    return search(once, lowest, highest, steps)
