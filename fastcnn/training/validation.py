"""Held-out samples for early stopping, learning rate reduction and model selection.

They are never the test data: data used for selection cannot measure the result.
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
from fastcnn.training.samples import as_samples, check_counted
from fastcnn.training.stream import as_arrays

log = logging.getLogger("fastcnn.training")

#: Share of the training samples held out by default.
SHARE = 0.1


def divide(
    model: Model,
    train: Samples | None,
    preprocessing: Preprocessing,
    options: TrainingOptions,
    callbacks: Sequence[Callback],
) -> tuple[np.ndarray | None, Samples | None]:
    """Hold out validation data as the options specify; log it if they do not.

    Returns the rows of the samples to train on, None for all, and the validation data.

    ``train`` is None if samples arrive batch by batch. Given samples take precedence; then a data
    set's own validation samples; then a share of the training samples, stratified by class and
    drawn with the seed. Nothing is held out unless the options request it or a callback monitors
    validation data.

    Raises ShapeError or DataError if validation data are invalid, or there are too few samples to
    hold any out; ConfigurationError if nothing can be held out of a stream.
    """
    given, loss = options.validation, options.make_loss()
    if given is None:
        own = train.validation if isinstance(train, Dataset) else None
        if own is not None:
            given = own
        elif not any(map(needs_validation, callbacks)):
            return None, None
    if given is not None and not is_share(given):
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
            "validation: %s of the %s training samples are held out for model selection, and not "
            "trained on (validation=%g; the test data are not used for it)",
            f"{len(held):,}",
            f"{len(train):,}",
            share,
        )
    for name, part in (("left to train on", rows), ("held out for validation", held)):
        weight = None if train.sample_weight is None else train.sample_weight[part]
        check_counted(f"samples {name}", loss, np.asarray(train.labels)[part], weight)
    return rows, train.subset(held)


def needs_validation(callback: Callback) -> bool:
    """Whether a callback monitors a metric of validation data."""
    return isinstance(callback, Monitor) and callback.monitor.startswith("validation")
