"""Samples that are not trained on, by which training is stopped, slowed down or chosen.

They are never the test data: what chooses weights cannot say how good these are.
"""

import logging
from collections.abc import Sequence

import numpy as np

from fastcnn.data.dataset import Dataset, Samples
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.data.split import draw_validation
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model
from fastcnn.training.callbacks import Callback
from fastcnn.training.monitors import Monitor
from fastcnn.training.options import TrainingOptions, is_share
from fastcnn.training.samples import as_samples
from fastcnn.training.stream import as_arrays

log = logging.getLogger("fastcnn.training")

#: Share of the training samples that is held out where nothing else is said.
SHARE = 0.1


def divide(
    model: Model,
    train: Samples | None,
    preprocessing: Preprocessing,
    options: TrainingOptions,
    callbacks: Sequence[Callback],
) -> tuple[np.ndarray | None, Samples | None]:
    """Hold out validation data as the options say; tell in one line if they do not say.

    Returns the rows of the samples that are trained on, None if all are, and the validation data.

    ``train`` is None where samples come batch by batch. Given samples are taken; else those that a
    data set has for it; else a share of the training samples, of each class the same, drawn by the
    seed. Nothing is held out unless the options say so or a callback monitors validation data.

    Raises ShapeError or DataError if validation data do not fit, or there are too few samples to
    hold any out; ConfigurationError if nothing can be held out of a stream.
    """
    given = options.validation
    if given is None:
        own = train.validation if isinstance(train, Dataset) else None
        if own is not None:
            given = own
        elif not any(map(needs_validation, callbacks)):
            return None, None
    if given is not None and not is_share(given):
        loss = options.make_loss()
        samples = as_arrays(given, "validation", model)
        return None, as_samples(samples, "validation", model, loss, preprocessing)
    share = SHARE if given is None else float(given)  # type: ignore[arg-type]
    if share == 0.0:
        return None, None
    if train is None:
        raise ConfigurationError(
            "validation: nothing can be held out of batches that come one by one: give samples, "
            "validation=(x, y)"
        )
    rows, held = draw_validation(np.asarray(train.labels), share, options.seed)
    if given is None:
        log.warning(
            "validation: %s of the %s training samples are held out to choose by, and not trained "
            "on (validation=%g; the test data choose nothing)",
            f"{len(held):,}",
            f"{len(train):,}",
            share,
        )
    return rows, train.subset(held)


def needs_validation(callback: Callback) -> bool:
    """Whether a callback monitors a metric of validation data."""
    return isinstance(callback, Monitor) and callback.monitor.startswith("validation")
