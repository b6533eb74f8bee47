"""Classification losses: a class per sample, or per pixel of the output."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import are_probabilities, as_number, as_share
from fastcnn.errors import ConfigurationError, DataError, ShapeError, counted
from fastcnn.losses.loss import Loss, check_settings

Weights = tuple[float, ...] | None
#: Settings of some of these losses, in the order in which the engine reads them.
NUMBERS = ("label_smoothing", "gamma")
#: Largest weight of a class, and the inverse of the smallest.
MOST_WEIGHT = 1e30


def as_classes(
    y: np.ndarray, output_shape: tuple[int, ...], ignore_index: int | None = None
) -> np.ndarray:
    """Targets as int64 classes, for an output of shape (classes, ...).

    Raises
    ------
    ShapeError, DataError
        If they have another shape or type, or are not in 0..classes - 1.
    """
    if y.dtype.kind not in "iu" or y.shape[1:] != output_shape[1:]:
        places = "".join(f", {size}" for size in output_shape[1:])
        kind = DataError if y.dtype.kind not in "iu" else ShapeError
        raise kind(
            f"classes must be integers of shape (N{places or ','}) for an output of shape "
            f"(N, {', '.join(map(str, output_shape))}), got {y.dtype} of shape {y.shape}"
        )
    known = y if ignore_index is None else y[y != ignore_index]
    if known.size and (known.min() < 0 or known.max() >= output_shape[0]):
        others = "" if ignore_index is None else f" or be {ignore_index}, which is ignored"
        raise DataError(
            f"classes must lie in 0..{output_shape[0] - 1}{others}, got "
            f"{known.min()}..{known.max()}"
        )
    return np.require(y, np.int64, ["C", "A"])


class ClassLoss(Loss):
    """Base of classification losses.

    Targets are integers: of shape (N,) for an output of shape (N, classes), of shape (N, H, W) for
    one of shape (N, classes, H, W).
    """

    classes: ClassVar[bool] = True
    weight: Weights = None
    ignore_index: int | None = None
    #: Whether targets may be probabilities, in the shape of the output.
    takes_probabilities: ClassVar[bool] = False

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_settings(self)
        if self.weight is not None:
            given = self.weight
            if not isinstance(given, (list, tuple, np.ndarray)):
                raise ConfigurationError(
                    f"{owner}: weight must be a sequence of a number for each class, got {given!r}"
                )
            weights = tuple(as_number(owner, "weight", each) for each in given)
            if not weights or min(weights) < 0.0 or max(weights) == 0.0:
                raise ConfigurationError(
                    f"{owner}: weight must hold numbers of at least 0, not all 0, got {given!r}"
                )
            # A batch's sum of weights must fit float32.
            if any(each and not 1 / MOST_WEIGHT <= each <= MOST_WEIGHT for each in weights):
                raise ConfigurationError(
                    f"{owner}: weight must hold 0 or numbers from {1 / MOST_WEIGHT:g} to "
                    f"{MOST_WEIGHT:g}, got {given!r}"
                )
            object.__setattr__(self, "weight", weights)
        index = self.ignore_index
        if index is not None and type(index) is not int:
            raise ConfigurationError(f"{owner}: ignore_index must be an integer, got {index!r}")

    @property
    def arguments(self) -> dict[str, Any]:
        """Class weights, ignored index, reduction, and the loss's own settings."""
        weight = None if self.weight is None else np.array(self.weight)
        own = {name: float(getattr(self, name)) for name in NUMBERS if hasattr(self, name)}
        common = {"weight": weight, "ignore_index": self.ignore_index, "reduction": self.reduction}
        return own | common

    @property
    def numbers(self) -> tuple[float, ...]:
        """Label smoothing, and the exponent of the focal loss."""
        return tuple(float(getattr(self, name, 0.0)) for name in NUMBERS)

    @property
    def engine_key(self) -> tuple[Any, ...]:
        """Name, whether it sums, smoothing, exponent and class weights."""
        summed = float(self.reduction == "sum")
        return self.operation, summed, *self.numbers, *(self.weight or ())

    def as_target(self, y: np.ndarray, output_shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Classes as int64, or probabilities in the shape of the output."""
        owner, classes = type(self).__name__, output_shape[0]
        if self.weight is not None and len(self.weight) != classes:
            raise ShapeError(
                f"{owner}: weight has {counted(len(self.weight), 'number')}, the output "
                f"{counted(classes, 'class')}"
            )
        if y.ndim != len(output_shape) + 1 or y.dtype.kind != "f":
            return as_classes(y, output_shape, self.ignore_index)
        if not self.takes_probabilities:
            raise DataError(f"{owner} needs integer classes as targets, got {y.dtype}")
        if y.shape[1:] != output_shape:
            raise ShapeError(
                f"probabilities have shape {y.shape}, the output {output_shape} per sample"
            )
        if self.ignore_index is not None:
            raise DataError(f"{owner}: ignore_index has no effect on probabilities")
        if not are_probabilities(y):
            raise DataError(
                f"{owner}: numbers in the shape of the output are probabilities, which must not be "
                "negative, and sum to 1 over the classes; values need a loss such as mse"
            )
        return np.require(y, dtype, ["C", "A"])

    def target_weight(
        self, target: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray | None:
        """As for all losses; class weights apply if targets are classes."""
        if target.dtype.kind == "f" or (self.weight is None and self.ignore_index is None):
            return super().target_weight(target, sample_weight)
        each = np.ones(target.shape)
        if self.ignore_index is not None:
            each[target == self.ignore_index] = 0.0
        if self.weight is not None:
            each *= np.array(self.weight)[np.where(each > 0.0, target, 0)]
        if sample_weight is not None:
            trailing = (1,) * (each.ndim - sample_weight.ndim)
            each *= sample_weight.reshape(*sample_weight.shape, *trailing)
        return each.reshape(len(each), -1).mean(axis=1)

    def weight_shape(self, target: np.ndarray) -> tuple[int, ...]:
        """One weight per pixel."""
        return target.shape[2:] if target.dtype.kind == "f" else target.shape[1:]

    def predicts(self, y: np.ndarray, output_shape: tuple[int, ...]) -> str | None:
        """Classes."""
        return "classes"

    def target_counts(self, target: np.ndarray) -> np.ndarray | None:
        """Number of targets per sample (one, or its pixels) that are not ignored."""
        if target.dtype.kind == "f":
            pixels = target[0, 0].size
        else:
            pixels = target[0].size
            if self.ignore_index is not None:
                counts: np.ndarray = (target != self.ignore_index).reshape(len(target), -1).sum(1)
                return counts
        return None if pixels == 1 else np.full(len(target), pixels)

    def correct(self, output: np.ndarray, target: np.ndarray) -> int:
        """Number of samples, or pixels, whose largest output is at their most probable class."""
        classes = target.argmax(axis=1) if target.dtype.kind == "f" else target
        right = output.argmax(axis=1) == classes
        if self.ignore_index is not None:
            right &= classes != self.ignore_index
        return int(right.sum())


@dataclass(frozen=True)
class CrossEntropyLoss(ClassLoss):
    """Softmax followed by the negative log-likelihood of the targets.

    Computed from the logits with the row maximum subtracted, so that large logits do not overflow.
    Targets are classes, or probabilities in the shape of the output.

    Parameters
    ----------
    label_smoothing : float
        Share of the target distribution that is spread evenly over all classes,
        ``0 <= label_smoothing <= 1``.
    weight : sequence of float, optional
        A weight for each class; the mean is then weighted by those of the targets' classes.
    ignore_index : int, optional
        A target value that is ignored, such as 255 or -100.
    reduction : {"mean", "sum"}

    References
    ----------
    Szegedy et al., arXiv:1512.00567, section 7, for label smoothing; ``torch.nn.CrossEntropyLoss``.
    """

    label_smoothing: float = 0.0
    weight: Weights = None
    ignore_index: int | None = None
    reduction: str = "mean"
    operation: ClassVar[str] = "cross_entropy"
    takes_probabilities: ClassVar[bool] = True

    def __post_init__(self) -> None:
        as_share("CrossEntropyLoss", "label_smoothing", self.label_smoothing)
        super().__post_init__()


@dataclass(frozen=True)
class NLLLoss(ClassLoss):
    """Negative log-likelihood of classes, for a network that ends with a ``LogSoftmax``.

    Parameters
    ----------
    weight, ignore_index, reduction
        As for :class:`CrossEntropyLoss`.
    """

    weight: Weights = None
    ignore_index: int | None = None
    reduction: str = "mean"
    operation: ClassVar[str] = "nll"


@dataclass(frozen=True)
class FocalLoss(ClassLoss):
    """Cross-entropy with less weight on confident predictions: ``-(1 - p)**gamma * log(p)``.

    ``p`` is the softmax probability of the true class. With ``gamma=0`` this is
    :class:`CrossEntropyLoss`. For labels that are not mutually exclusive, see
    :class:`SigmoidFocalLoss`.

    Parameters
    ----------
    gamma : float
        At least 0.
    weight, ignore_index, reduction
        As for :class:`CrossEntropyLoss`; ``weight`` is the paper's alpha.

    References
    ----------
    Lin et al., "Focal loss for dense object detection", arXiv:1708.02002, equation 4.
    """

    gamma: float = 2.0
    weight: Weights = None
    ignore_index: int | None = None
    reduction: str = "mean"
    operation: ClassVar[str] = "focal"

    def __post_init__(self) -> None:
        if as_number("FocalLoss", "gamma", self.gamma) < 0.0:
            raise ConfigurationError(f"FocalLoss: gamma must be at least 0, got {self.gamma!r}")
        super().__post_init__()
