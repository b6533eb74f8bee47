"""Metrics: measures of a network's performance that training does not optimise directly.

They are computed on validation and test data after each epoch, and can be monitored.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from fastcnn.arguments import are_probabilities
from fastcnn.errors import ConfigurationError, counted
from fastcnn.losses import JointLoss, Loss


@dataclass(frozen=True)
class Metric:
    """A metric: a function of outputs and targets.

    Attributes
    ----------
    name : str
        Recorded as ``validation_NAME`` and ``test_NAME``.
    function : callable
        ``function(outputs, targets)`` returns a number. Outputs are the network's, of shape
        (N, ...); targets are in the form used by the loss.
    larger_is_better : bool
    output : str
        The name of the output to measure, if a network has several; without it, the function
        receives dictionaries of all.
    """

    name: str
    function: Callable[[Any, Any], float]
    larger_is_better: bool = True
    output: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ConfigurationError(f"a metric's name must be a Python name, got {self.name!r}")
        if not callable(self.function):
            raise ConfigurationError(
                f"metric {self.name}: must be a function of outputs and targets, got "
                f"{self.function!r}"
            )


def _classes(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Predicted and true classes of all samples or pixels, and the number of classes."""
    if targets.dtype.kind == "f":
        if targets.shape != outputs.shape or not are_probabilities(targets):
            raise ConfigurationError(
                "a metric of classes or labels does not apply to targets that are values: use "
                "mae, rmse or r2"
            )
        targets = targets.argmax(axis=1)
    if targets.ndim != outputs.ndim - 1:
        raise ConfigurationError("a metric of classes needs targets that are classes")
    # Products of labels in 8 bits would overflow.
    true = targets.reshape(-1).astype(np.int64)
    return outputs.argmax(axis=1).reshape(-1), true, outputs.shape[1]


def _counts(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, ...]:
    """True positives, false positives and false negatives of each class or label that occurs."""
    if _are_labels(outputs, targets):
        given, true = outputs > 0.0, targets > 0.5
        axes = (0, *range(2, outputs.ndim))
        right = (given & true).sum(axis=axes)
        counts = np.stack([right, given.sum(axis=axes) - right, true.sum(axis=axes) - right])
    else:
        predicted, true, classes = _classes(outputs, targets)
        known = (true >= 0) & (true < classes)  # others are ignored
        table = np.bincount(true[known] * classes + predicted[known], minlength=classes**2)
        table = table.reshape(classes, classes)
        right = table.diagonal()
        counts = np.stack([right, table.sum(axis=0) - right, table.sum(axis=1) - right])
    return tuple(counts[:, counts.any(axis=0)])


def _are_labels(outputs: np.ndarray, targets: np.ndarray) -> bool:
    """Whether each output has its own binary target, rather than all sharing one class.

    :func:`compute` marks labels by their type. Other rows of targets are one-hot classes.
    """
    if targets.shape != outputs.shape or targets.dtype.kind not in "bf":
        return False
    if targets.dtype.kind == "b":
        return True
    zero_or_one = bool(np.isin(targets, (0.0, 1.0)).all())
    return zero_or_one and (targets.shape[1] == 1 or not (targets.sum(axis=1) == 1.0).all())


def _mean(part: np.ndarray, whole: np.ndarray) -> float:
    """Mean ratio over classes or labels, with 0 / 0 as 0; NaN if there are none."""
    return float((part / np.maximum(whole, 1)).mean()) if len(part) else math.nan


def precision(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Macro-averaged precision over classes or labels; 0 for one that is never predicted."""
    right, wrong, _ = _counts(outputs, targets)
    return _mean(right, right + wrong)


def recall(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Macro-averaged recall over classes or labels; 0 for one that is predicted but never
    true."""
    right, _, missed = _counts(outputs, targets)
    return _mean(right, right + missed)


def f1(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Harmonic mean of precision and recall, averaged over classes or labels that occur."""
    right, wrong, missed = _counts(outputs, targets)
    return _mean(2 * right, 2 * right + wrong + missed)


def iou(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Intersection over union, averaged over classes or labels that occur."""
    right, wrong, missed = _counts(outputs, targets)
    return _mean(right, right + wrong + missed)


@dataclass(frozen=True)
class Top:
    """Top-k accuracy: the share of targets whose class is among the largest outputs.

    Attributes
    ----------
    count : int
        Number of largest outputs.
    """

    count: int

    def __call__(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """The accuracy.

        Raises ConfigurationError if there are at most ``count`` classes, or targets are not
        classes.
        """
        count = self.count
        _, true, classes = _classes(outputs, targets)
        if count >= classes:
            raise ConfigurationError(
                f"top{count} is always 1 for {counted(classes, 'class')}: it needs more than "
                f"{count}"
            )
        flat = np.moveaxis(outputs, 1, -1).reshape(-1, classes)
        known = (true >= 0) & (true < classes)
        flat, true = flat[known], true[known, None]
        own = np.take_along_axis(flat, true, axis=1)
        # Among equal outputs the first is chosen, as for the accuracy.
        before = (flat > own) | ((flat == own) & (np.arange(classes) < true))
        return float((before.sum(axis=1) < count).mean())


def _difference(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if targets.shape != outputs.shape:
        raise ConfigurationError("a metric of values needs targets in the shape of the output")
    return np.asarray(outputs.astype(np.float64) - targets)


def mae(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean absolute error."""
    return float(np.abs(_difference(outputs, targets)).mean())


def rmse(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Root mean squared error."""
    return float(np.sqrt(np.square(_difference(outputs, targets)).mean()))


def r2(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Coefficient of determination, averaged over outputs with varying targets."""
    error = np.square(_difference(outputs, targets)).sum(axis=0)
    spread = np.square(targets - targets.mean(axis=0, dtype=np.float64)).sum(axis=0)
    # The spread of equal numbers may be a rounding error.
    kept = (targets.max(axis=0) > targets.min(axis=0)) & (spread > 0.0)
    return float((1.0 - error[kept] / spread[kept]).mean()) if kept.any() else math.nan


def auc(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Area under the ROC curve, by scikit-learn: averaged over labels, or one-vs-rest classes.

    NaN if a class or label occurs in no sample or in all.
    """
    from sklearn.metrics import roc_auc_score

    if _are_labels(outputs, targets):
        true, scores = targets.reshape(len(targets), -1), outputs.reshape(len(targets), -1)
    else:
        _, classes, count = _classes(outputs, targets)
        known = (classes >= 0) & (classes < count)
        scores = np.moveaxis(outputs, 1, -1).reshape(-1, count)[known].astype(np.float64)
        if are_probabilities(scores):
            pass  # of a network that ends with a softmax
        elif count == 2:
            scores = scores - scores[:, ::-1]  # probabilities would be rounded to 0 or 1
        else:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        true = np.eye(count)[classes[known]]
    if (true.min(axis=0) == true.max(axis=0)).any():
        return math.nan
    return float(roc_auc_score(true, scores, average="macro"))


#: Metrics of classes or labels.
COUNTING = (precision, recall, f1, iou, auc)
#: Metrics by name.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("top3", Top(3)),
        Metric("top5", Top(5)),
        Metric("precision", precision),
        Metric("recall", recall),
        Metric("f1", f1),
        Metric("iou", iou),
        Metric("auc", auc),
        Metric("mae", mae, larger_is_better=False),
        Metric("rmse", rmse, larger_is_better=False),
        Metric("r2", r2),
    )
}
#: Number of targets examined before training.
LOOKED_AT = 64
#: Names that contain a number.
TOP = re.compile(r"top[1-9]\d*")
#: Fields of every epoch's record.
ALWAYS = {"loss": False, "accuracy": True}
PARTS = ("validation", "train", "test")


def as_metrics(value: Any) -> tuple[Metric, ...]:
    """Metrics from names separated by commas, or a list of names, functions and metrics.

    For a network with several outputs, a mapping of their names to these; ``f1`` of the output
    ``policy`` is then called ``policy_f1``.

    Raises
    ------
    ConfigurationError
        If one is unknown, or two have the same name.
    """
    if isinstance(value, Mapping):
        return tuple(
            replace(metric, name=f"{output}_{metric.name}", output=output)
            for output, own in value.items()
            for metric in as_metrics(own)
        )
    given: Sequence[Any] = ()
    if isinstance(value, str):
        given = [word.strip() for word in value.split(",") if word.strip()]
    elif value is not None:
        given = value if isinstance(value, (list, tuple)) else [value]
    made = []
    for each in given:
        if isinstance(each, str):
            made.append(_of_name(each))
        elif isinstance(each, Metric):
            made.append(each)
        elif isinstance(each, type) or not callable(each):
            raise ConfigurationError(
                "metrics must be names, functions of outputs and targets, or a list of these, got "
                f"{each!r}"
            )
        else:
            larger = bool(getattr(each, "larger_is_better", True))
            made.append(Metric(getattr(each, "__name__", str(each)), each, larger))
    names = [metric.name for metric in made]
    always = [name for name in names if name in ALWAYS]
    if always:
        raise ConfigurationError(
            f"metrics: every record has {always[0]}: a metric needs another name"
        )
    taken = [name for name in names if names.count(name) > 1]
    if taken:
        raise ConfigurationError(f"metrics: two are called {taken[0]}")
    for metric in made:
        if metric.function is auc and find_spec("sklearn") is None:
            raise ConfigurationError("the metric auc needs scikit-learn: pip install scikit-learn")
    return tuple(made)


def _of_name(name: str) -> Metric:
    if name in ALWAYS:
        raise ConfigurationError(f"metrics: every record has {name}: leave it out")
    if TOP.fullmatch(name) and name not in METRICS:
        return Metric(name, Top(int(name[3:])))
    if name not in METRICS:
        raise ConfigurationError(
            f"metrics must be among {', '.join(METRICS)} (or top2, top4 ...), or functions of "
            f"outputs and targets, got {name!r}"
        )
    return METRICS[name]


def described(metrics: Sequence[Metric]) -> Any:
    """Metrics by name, as accepted by :func:`as_metrics`; None if there are none."""
    if not any(metric.output for metric in metrics):
        return [metric.name for metric in metrics] or None
    found: dict[str, list[str]] = {}
    for metric in metrics:
        own = found.setdefault(metric.output, [])
        own.append(metric.name.removeprefix(f"{metric.output}_"))
    return found


def check_outputs(metrics: Sequence[Metric], loss: Loss) -> None:
    """Refuse metrics of unknown outputs, and named ones that do not specify an output."""
    known = [port.name for port in loss.ports] if isinstance(loss, JointLoss) else []
    for metric in metrics:
        if metric.output and metric.output not in known:
            raise ConfigurationError(
                f"metrics: the model has the outputs {', '.join(known) or 'output'}, none called "
                f"{metric.output!r}"
            )
        if known and not metric.output and _is_named(metric):
            raise ConfigurationError(
                f"metrics: the model has the outputs {', '.join(known)}: name one, as in "
                f"metrics={{{known[0]!r}: [{metric.name!r}]}}"
            )


def check_targets(
    metrics: Sequence[Metric], labels: np.ndarray, output_shape: tuple[int, ...], loss: Loss
) -> None:
    """Refuse named metrics that do not suit the targets, before training begins."""
    named = [metric for metric in metrics if _is_named(metric)]
    few = np.asarray(labels[:LOOKED_AT])
    outputs = np.zeros((len(few), *output_shape), np.float32)
    for metric in named:
        try:
            compute([metric], outputs, few, loss)
        except ConfigurationError as error:
            raise ConfigurationError(f"metrics: {metric.name}: {error}") from None


def _is_named(metric: Metric) -> bool:
    """Whether it is a metric of this module rather than a user's function."""
    return metric.function.__module__ == __name__


def directions(metrics: Sequence[Metric]) -> dict[str, bool]:
    """Whether larger is better, by name in the records."""
    own = {metric.name: metric.larger_is_better for metric in metrics}
    return {
        f"{part}_{name}": larger
        for part in PARTS
        for name, larger in {**ALWAYS, **(own if part != "train" else {})}.items()
    }


def larger_is_better(monitor: str, metrics: Sequence[Metric] = ()) -> bool:
    """Whether a larger value of a field of the records is better.

    Raises ConfigurationError if there is no such field.
    """
    known = directions(metrics)
    if monitor not in known:
        raise ConfigurationError(f"monitor must be one of {', '.join(known)}, got {monitor!r}")
    return known[monitor]


def compute(
    metrics: Sequence[Metric], outputs: np.ndarray, labels: np.ndarray, loss: Loss
) -> dict[str, float | None]:
    """The values of metrics by name; None where one is not finite.

    Raises ConfigurationError if one does not return a number; its own exceptions propagate.
    """
    found: dict[str, float | None] = {}
    measured = _measured(outputs, np.asarray(labels), loss) if metrics else {}
    for metric in metrics:
        given, targets, counted = measured[metric.output]
        counts = metric.function in COUNTING or isinstance(metric.function, Top)
        value = metric.function(given, counted if counts else targets)
        if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
            raise ConfigurationError(f"metric {metric.name} must return a number, got {value!r}")
        found[metric.name] = float(value) if math.isfinite(value) else None
    return found


def _measured(outputs: np.ndarray, labels: np.ndarray, loss: Loss) -> dict[str, Any]:
    """Outputs, targets, and targets for counting, of each output by name; "" for all."""
    if not isinstance(loss, JointLoss):
        targets = loss.as_target(labels, outputs.shape[1:], outputs.dtype)
        counted = targets
        if loss.predicts(labels, outputs.shape[1:]) in ("label", "labels"):
            counted = targets > 0.5
        ignored = getattr(loss, "ignore_index", None)
        if ignored is not None:
            counted = np.where(targets == ignored, np.int64(-1), targets)
        return {"": (outputs, targets, counted)}
    found = {}
    for port, own, part in zip(loss.ports, loss.losses, loss.parts, strict=True):
        target = part.target_of(labels)
        found[port.name] = _measured(part.output_of(outputs), target, own)[""]
    every, wanted, _ = ({k: v[i] for k, v in found.items()} for i in range(3))
    return found | {"": (every, wanted, wanted)}
