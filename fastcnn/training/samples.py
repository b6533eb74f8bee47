"""Data of ``fit`` and ``evaluate``, checked against the model before anything runs."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn.arguments import plain_array, sample_array
from fastcnn.data.arrays import check_float32, is_finite
from fastcnn.data.dataset import ArrayDataset, Dataset, Samples
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import DataError, ShapeError, counted
from fastcnn.execution.checks import as_target, bound_loss, shape_hint
from fastcnn.layers import Model
from fastcnn.layers.answers import ends_in
from fastcnn.layers.packing import pack_inputs
from fastcnn.losses import JointLoss, Loss

log = logging.getLogger("fastcnn.training")

Data = Dataset | tuple[Any, Any] | tuple[Any, Any, Any]


def as_samples(
    data: Data,
    name: str,
    model: Model,
    loss: Loss,
    preprocessing: Preprocessing | None = None,
    is_batch: bool = False,
) -> Samples:
    """Check data against a model and a loss; set the model's input shape if it has none.

    Samples must suit the preprocessing, by default the model's own. All targets of a batch may be
    ignored, but not all of the data. Raises ShapeError or DataError, prefixed with ``name``, if
    samples, targets or weights are invalid.
    """
    if not isinstance(data, (Dataset, tuple)):
        raise ShapeError(
            f"{name}: expected a Dataset, (x, y) or (x, y, sample_weight), got "
            f"{type(data).__name__}"
        )
    loss = bound_loss(model, loss)
    if model.takes > 1 or isinstance(loss, JointLoss):
        data = _packed(data, name, model, loss)
    checked = data if isinstance(data, Dataset) else _as_arrays(data, name)
    shape = checked.images.shape[1:]
    if model.input_shape is not None and shape != model.input_shape:
        raise ShapeError(
            f"{name}: samples have shape {shape}, the model takes {model.input_shape}"
            f"{shape_hint(checked.images.shape, model.input_shape)}"
        )
    graph = model.graph(shape)
    (model.preprocessing if preprocessing is None else preprocessing).check(checked.images, name)
    if model.input_shape is None:
        model.input_shape = shape
    if loss.classes and graph.output_shape[0] == 1:
        raise ShapeError(
            f"{name}: {loss.operation} of one class, a single output, is always 0: give the "
            "network an output for each class, two for two classes, or train it on labels "
            "(BCEWithLogitsLoss) or values (MSELoss)"
        )
    try:
        with np.errstate(over="ignore"):
            target = as_target(loss, checked.labels, len(checked), graph, model.dtype)
    except (DataError, ShapeError) as error:
        raise type(error)(f"{name}: {error}") from None
    if target.dtype.kind == "f" and not np.isfinite(target).all():
        too_large = is_finite(np.asarray(checked.labels))
        what = f"values too large for {target.dtype}" if too_large else "NaN or infinity"
        raise DataError(f"{name}: targets contain {what}")
    weight = checked.sample_weight
    if weight is not None:
        shapes = [(len(checked),), (len(checked), *loss.weight_shape(target))]
        if weight.shape not in shapes:
            raise ShapeError(
                f"{name}: sample weights must have shape "
                f"{' or '.join(map(str, dict.fromkeys(shapes)))}, got {weight.shape}"
            )
    if not is_batch:
        check_counted(name, loss, target, weight)
    return checked


def check_counted(
    name: str, loss: Loss, target: np.ndarray, sample_weight: np.ndarray | None
) -> None:
    """Refuse targets of which none counts: their loss would always be 0."""
    counts = loss.target_counts(target)
    if counts is not None and not counts.any():
        raise DataError(f"{name}: all targets are ignored (ignore_index)")
    totals = loss.target_weights(target, sample_weight)
    if totals is not None and not (totals.sum(axis=0) > 0.0).all():
        raise DataError(f"{name}: all targets have weight 0 or are ignored")


def _packed(data: Data, name: str, model: Model, loss: Loss) -> tuple[Any, ...]:
    """Data with all inputs packed in one array, and the targets of all outputs in another."""
    if isinstance(data, Dataset) or not 2 <= len(data) <= 3:
        kind = type(data).__name__
        raise DataError(
            f"{name}: the model has several inputs or outputs: expected (x, y) or (x, y, "
            f"sample_weight), where x or y is a tuple of arrays, got {kind}"
        )
    x, y, *weight = data
    try:
        if model.takes > 1:
            x = pack_inputs(model.graph().inputs, x)
        if isinstance(loss, JointLoss):
            y = loss.pack(y, model.dtype)
        return (x, y, *weight)
    except (DataError, ShapeError) as error:
        raise type(error)(f"{name}: {error}") from None


def check_precision(data: Samples, model: Model, preprocessing: Preprocessing) -> None:
    """Refuse training data of which a model in float32 would read too little.

    Other data, even close to one another, are read as precisely as those of training were, and a
    batch may vary less than its stream.
    """
    if model.dtype != np.float32:
        return
    # Packed inputs are not divided into channels, and a mean is subtracted in float64.
    if model.takes == 1 and not preprocessing.mean:
        check_float32(data.images, "train: samples")
    labels = data.labels
    check_float32(labels[:, None] if labels.ndim == 1 else labels, "train: targets")


def training_preprocessing(model: Model, data: Samples) -> Preprocessing:
    """The preprocessing of a model to be trained on some samples.

    A model that already has one, from an earlier training or set by hand, keeps it, since its
    weights depend on it. Otherwise it gets that of the data.
    """
    own, theirs = model.preprocessing, data.preprocessing
    if own.trained_on is not None:
        # Only the data know how pictures were read.
        return own if theirs.pictures is None else replace(own, pictures=theirs.pictures)
    if own == Preprocessing():
        own = theirs
    elif theirs.pictures is not None:
        own = replace(own, pictures=theirs.pictures)
    return own.trained(data.images)


def say_logits(model: Model, loss: Loss) -> None:
    """Log that a loss expects log-probabilities which a model does not output."""
    if loss.operation == "nll" and not ends_in(model.graph(), "log_softmax")[0]:
        log.warning(
            "the loss nll expects log-probabilities, and the network does not end with "
            "LogSoftmax: its loss may fall without bound; cross_entropy accepts plain outputs"
        )


def say_unused(used: Preprocessing, data: Samples) -> None:
    """Log if the preprocessing of a data set is not used."""
    theirs = data.preprocessing
    if isinstance(data, Dataset) and (used.mean, used.std) != (theirs.mean, theirs.std):
        log.warning(
            "the model keeps its preprocessing (%s); that of the data set %s (%s) is not used. To "
            "use it, set model.preprocessing to the data set's before training",
            used.describe(),
            data.name,
            theirs.describe(),
        )


def _as_arrays(data: tuple[Any, ...], name: str) -> ArrayDataset:
    if len(data) not in (2, 3):
        raise ShapeError(
            f"{name}: expected (x, y) or (x, y, sample_weight), got {counted(len(data), 'item')}"
        )
    images = sample_array(f"{name}: samples", data[0])
    labels = plain_array(f"{name}: targets", data[1])
    if images.ndim < 2:
        raise ShapeError(f"{name}: samples must be (N, C, H, W), got shape {images.shape}")
    if len(images) == 0:
        raise ShapeError(f"{name}: there are no samples: their shape is {images.shape}")
    if images.dtype.kind == "f" and not is_finite(images):
        raise DataError(f"{name}: samples contain NaN or infinity")
    if len(data) == 2 or data[2] is None:
        return ArrayDataset(images, labels)
    weight = plain_array(f"{name}: sample weights", data[2])
    if weight.dtype.kind not in "fiub":
        raise DataError(f"{name}: sample weights must be numbers, got {weight.dtype}")
    weight = weight.astype(np.float64)
    if weight.ndim == 0 or len(weight) != len(images):
        raise ShapeError(
            f"{name}: expected a weight for each sample, {len(images)} in all, got {weight.shape}"
        )
    least = weight.min()
    # Samples of weight 0 only cost time; single targets of a sample may have weight 0.
    if not np.isfinite(weight).all() or least < 0.0 or (least == 0.0 and weight.ndim == 1):
        raise DataError(f"{name}: sample weights must be finite and above 0 (leave out the others)")
    return ArrayDataset(images, labels, weight)
