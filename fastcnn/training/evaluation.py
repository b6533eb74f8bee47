"""Evaluation of a model on a data set."""

from typing import Any, NamedTuple

import numpy as np

from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.execution import Executor, make_executor
from fastcnn.execution.checks import bound_loss
from fastcnn.execution.executor import joint_scores, mean_score
from fastcnn.layers import Model
from fastcnn.layers.packing import unpack
from fastcnn.losses import JointLoss, as_loss
from fastcnn.notebook import brief
from fastcnn.optim import SGD
from fastcnn.training.samples import as_samples, say_unused
from fastcnn.training.stream import Given, as_arrays

#: Views by name: weight, whether mirrored, and shift in rows and columns. The five are for images
#: that must not be mirrored, such as digits: half of the weight is on the image, half on its copies
#: moved by one pixel up, down, left or right. The six are those of airbench (Jordan,
#: arXiv:2404.00498): half of the weight is on the image and its mirror image, half on both moved by
#: one pixel along a diagonal, in either direction.
VIEWS: dict[str, tuple[tuple[float, bool, int, int], ...]] = {
    "flip": ((0.5, False, 0, 0), (0.5, True, 0, 0)),
    "five-view": (
        (0.5, False, 0, 0),
        (0.125, False, -1, 0),
        (0.125, False, 1, 0),
        (0.125, False, 0, -1),
        (0.125, False, 0, 1),
    ),
    "six-view": (
        (0.25, False, 0, 0),
        (0.25, True, 0, 0),
        (0.125, False, 1, 1),
        (0.125, True, 1, 1),
        (0.125, False, -1, -1),
        (0.125, True, -1, -1),
    ),
}
#: Bytes of images whose views are made at a time.
BLOCK_BYTES = 2**24


class Evaluation(NamedTuple):
    """Results of :func:`evaluate`.

    Attributes
    ----------
    loss : float
        Mean over the samples.
    accuracy : float
        As a fraction; NaN if the targets are not classes.
    logits : ndarray, shape (N, classes)
        The network's output for each sample.
    """

    loss: float
    accuracy: float
    logits: Any

    def __repr__(self) -> str:
        return brief(self)


class JointEvaluation(Evaluation):
    """Results of :func:`evaluate` for a model with several outputs.

    ``loss`` is the weighted sum, ``accuracy`` that of the first output with classes as targets, and
    ``logits`` a dictionary.

    Attributes
    ----------
    outputs : dict of str to Evaluation
        The results of each output.
    """

    outputs: dict[str, Evaluation]


def evaluate(
    model: Model,
    data: Given,
    *,
    loss: Any = "cross_entropy",
    loss_weights: Any = None,
    backend: str | None = None,
    tta: str | None = None,
) -> Evaluation:
    """Loss, accuracy and logits on a data set, outside training.

    Parameters
    ----------
    model : Model
    data : Dataset, or (x, y), or (x, y, sample_weight), or an iterable of such batches
    loss : str or Loss, or a sequence or mapping of them
        As for :func:`fit`.
    loss_weights : sequence or mapping, optional
    backend : str, optional
    tta : {"flip", "five-view", "six-view"}, optional
        Test-time augmentation, the mean output over several views of each image: with its mirror
        image; with copies moved by one pixel in four directions; or with its mirror image and both
        moved along a diagonal, as in airbench (Jordan, arXiv:2404.00498). Not for outputs of maps.

    Returns
    -------
    Evaluation
        With the attributes ``loss``, ``accuracy`` and ``logits``; for a model with several outputs
        a :class:`JointEvaluation`, which also has ``outputs``.

    Raises
    ------
    ShapeError, DataError, ConfigurationError
        If data or arguments do not match the model.

    Examples
    --------
    >>> import fastcnn
    >>> _, test = fastcnn.data.digits_dataset(10, 30, classes=(0, 1, 2))
    >>> found = fastcnn.evaluate(fastcnn.models.report_cnn(seed=0), test)
    >>> found.logits.shape
    (30, 3)
    """
    chosen = bound_loss(model, as_loss(loss, loss_weights))
    check_tta(tta)
    checked = as_samples(as_arrays(data, "data", model), "data", model, chosen)
    if model.preprocessing.trained_on is None:
        say_unused(model.preprocessing, checked)
    executor = make_executor(model, loss=chosen, optimizer=SGD(), backend=backend, batch_size=256)
    with np.errstate(over="ignore", invalid="ignore"):
        if tta is not None:
            graph = model.graph()
            shapes = [port.shape for port in getattr(chosen, "ports", ())] or [graph.output_shape]
            moved = next((shape for shape in shapes if max(shape[1:], default=1) > 1), None)
            if moved is not None:
                raise ShapeError(
                    f"tta={tta!r} is for networks that describe a whole image: the pixels of an "
                    f"output of shape {moved} would move with the image's"
                )
            whole = bool(graph.batch_statistics(training=False))
            logits = mean_logits(executor, checked.images, tta, whole)
            score = mean_score(model, chosen, logits, checked)
            found = Evaluation(*score, logits)
        else:
            found = Evaluation(*executor.evaluate(checked))
        if not isinstance(chosen, JointLoss):
            return found
        scores = joint_scores(chosen, found.logits, checked)
    outputs = unpack(chosen.ports, found.logits)
    joint = JointEvaluation(found.loss, found.accuracy, outputs)
    joint.outputs = {name: Evaluation(*score, outputs[name]) for name, score in scores.items()}
    return joint


def check_tta(tta: str | None) -> None:
    """Refuse a test-time augmentation that is not one of :data:`VIEWS`."""
    if tta is not None and not (isinstance(tta, str) and tta in VIEWS):
        raise ConfigurationError(f"tta must be one of {', '.join(VIEWS)}, or None, got {tta!r}")


def mean_logits(executor: Executor, images: np.ndarray, tta: str, whole: bool) -> np.ndarray:
    """The weighted mean of the network's outputs for views of each image (N, C, H, W).

    ``whole`` runs all images in one batch, for networks that use batch statistics.
    """
    if images.ndim != 4 or min(images.shape[2:]) < 2:
        raise ShapeError(
            f"tta={tta!r} needs images of shape (N, C, H, W) of at least 2 x 2 pixels, got "
            f"{images.shape}"
        )
    step = len(images) if whole else max(1, BLOCK_BYTES // images[0].nbytes)
    parts = []
    for start in range(0, len(images), step):
        block = images[start : start + step]
        total = None
        for share, mirrored, down, right in VIEWS[tta]:
            output = share * executor.logits(view(block, mirrored, down, right))
            total = output if total is None else total + output
        parts.append(total)
    return np.concatenate(parts)  # type: ignore[arg-type]


def view(images: np.ndarray, mirrored: bool, down: int, right: int) -> np.ndarray:
    """Images moved by at most one pixel, with reflected edges, and optionally mirrored."""
    if down or right:
        padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
        H, W = images.shape[2:]
        images = padded[:, :, 1 - down : 1 - down + H, 1 - right : 1 - right + W]
    return np.ascontiguousarray(images[..., ::-1] if mirrored else images)
