"""How good a model is on a data set."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastcnn.execution import make_executor
from fastcnn.execution.checks import bound_loss
from fastcnn.execution.executor import joint_scores, mean_score
from fastcnn.layers import Model
from fastcnn.layers.packing import unpack
from fastcnn.losses import JointLoss, as_loss
from fastcnn.notebook import brief
from fastcnn.optim import SGD
from fastcnn.training.samples import as_samples, say_unused
from fastcnn.training.stream import Given, as_arrays
from fastcnn.training.views import check_tta, mean_logits


class Evaluation(NamedTuple):
    """What :func:`evaluate` found.

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
    """What :func:`evaluate` found of a model of several outputs.

    ``loss`` is the weighted sum, ``accuracy`` that of the first output whose targets are classes,
    and ``logits`` a dictionary.

    Attributes
    ----------
    outputs : dict of str to Evaluation
        The same for each output.
    """

    outputs: dict[str, Evaluation]

    @classmethod
    def of(
        cls,
        whole: Evaluation,
        scores: Mapping[str, tuple[float, float]],
        outputs: dict[str, np.ndarray],
    ) -> "JointEvaluation":
        """What was found, with the scores of each output and the outputs themselves."""
        found = cls(whole.loss, whole.accuracy, outputs)
        found.outputs = {name: Evaluation(*scores[name], outputs[name]) for name in scores}
        return found


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
        Test-time augmentation, the mean output over several views of each image: it and its mirror
        image; it and it moved by a pixel in four directions; or it and its mirror image, both also
        moved along a diagonal, as in airbench (Jordan, arXiv:2404.00498).

    Returns
    -------
    Evaluation
        With the attributes ``loss``, ``accuracy`` and ``logits``; of a model of several outputs a
        :class:`JointEvaluation`, which also has ``outputs``.

    Raises
    ------
    ShapeError, DataError, ConfigurationError
        If something does not fit.

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
            whole = bool(model.graph().batch_statistics(training=False))
            logits = mean_logits(executor, checked.images, tta, whole)
            score = mean_score(model, chosen, logits, checked)
            found = Evaluation(*score, logits)
        else:
            found = Evaluation(*executor.evaluate(checked))
        if not isinstance(chosen, JointLoss):
            return found
        scores = joint_scores(chosen, found.logits, checked)
    return JointEvaluation.of(found, scores, unpack(chosen.ports, found.logits))
