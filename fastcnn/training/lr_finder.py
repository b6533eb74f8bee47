"""The learning rate finder."""

from copy import deepcopy
from functools import partial
from typing import Any

from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model
from fastcnn.layers.connections import as_model
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
    """Find a learning rate by training a copy of the model with a rate that grows at each step.

    Parameters
    ----------
    model : Model
        Not changed.
    train : Dataset, or (x, y), or (x, y, sample_weight)
        As for :func:`fastcnn.fit`.
    lowest, highest : float
        Rates of the first and the last step; the rate grows geometrically in between.
    steps : int
        Number of steps; fewer if the loss grows to four times its minimum.
    **options
        Options of :func:`fastcnn.fit` that affect a step, as intended for the training:
        ``optimizer``, ``batch_size``, ``loss``, ``momentum``, ``weight_decay``, ``augment``,
        ``clip_norm``, ``seed``, ``backend``, ...

    Returns
    -------
    RateSearch
        With ``suggestion``, the curve and ``figure()``.

    Raises
    ------
    ConfigurationError
        If an option does not apply here, or the loss never decreases, or still does at the end.
    ShapeError, DataError
        If the data do not match the model.

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
            f"{refused[0]} has no effect in lr_find: only options that affect a single step do"
        )
    once = partial(fit, deepcopy(as_model(model)), train, diagnose=False, **options)
    return search(once, lowest, highest, steps)
