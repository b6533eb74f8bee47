"""Element-wise losses: squared and absolute errors, and binary classification."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import as_number
from fastcnn.errors import ConfigurationError, DataError, ShapeError, counted
from fastcnn.losses.classes import as_classes
from fastcnn.losses.loss import Loss, check_settings
from fastcnn.operations.losses import LOSSES
from fastcnn.scalars import plain


class ElementLoss(Loss):
    """Base of losses that compare each element of the output with its target.

    Targets have the shape of the output; a channel axis of size 1 may be left out. Integer classes
    of shape (N,) are compared as one-hot vectors if there is more than one output.
    """

    def __post_init__(self) -> None:
        for number in LOSSES[self.operation].arguments:
            number.check(type(self).__name__, getattr(self, number.name))
        check_settings(self)

    @property
    def arguments(self) -> dict[str, Any]:
        """The formula's parameters, and the reduction."""
        record = LOSSES[self.operation]
        names = [number.name for number in record.arguments]
        names += [record.by_channel] if record.by_channel else []
        return {name: getattr(self, name) for name in names} | {"reduction": self.reduction}

    @property
    def engine_key(self) -> tuple[Any, ...]:
        """Name, whether it sums, parameters, and per-channel parameters."""
        record, arguments = LOSSES[self.operation], self.arguments
        summed = float(self.reduction == "sum")
        channels = record.channel_numbers(arguments, 1)
        return self.operation, summed, *record.numbers(arguments), *channels

    def as_target(self, y: np.ndarray, output_shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Targets in the shape of the output."""
        integers = y.ndim == 1 and y.dtype.kind in "iu"
        if integers and len(output_shape) == 1 and output_shape[0] > 1:
            y = np.eye(output_shape[0], dtype=dtype)[as_classes(y, output_shape)]
        elif output_shape[0] == 1 and y.shape[1:] == output_shape[1:]:
            y = y[:, None]
        if y.shape[1:] != output_shape:
            raise ShapeError(f"target has shape {y.shape}, the output {(len(y), *output_shape)}")
        if y.dtype.kind not in "fiub":
            raise DataError(f"targets must be numbers, got {y.dtype}")
        y = np.require(y, dtype, ["C", "A"])
        self._check_values(y, output_shape)
        return y

    def _check_values(self, target: np.ndarray, output_shape: tuple[int, ...]) -> None:
        """Refuse targets outside the formula's domain."""

    def predicts(self, y: np.ndarray, output_shape: tuple[int, ...]) -> str | None:
        """Classes if the targets are, otherwise values."""
        if y.ndim == 1 and y.dtype.kind in "iu" and output_shape != (1,):
            return "classes"
        return "value" if y.ndim == 1 else "values"


@dataclass(frozen=True)
class MSELoss(ElementLoss):
    """Mean squared error over all elements; integer classes are compared as one-hot vectors.

    Parameters
    ----------
    reduction : {"mean", "sum"}
    """

    reduction: str = "mean"
    operation: ClassVar[str] = "mse"


@dataclass(frozen=True)
class L1Loss(ElementLoss):
    """Mean absolute error over all elements; the gradient is 0 where both are equal.

    Parameters
    ----------
    reduction : {"mean", "sum"}
    """

    reduction: str = "mean"
    operation: ClassVar[str] = "l1"


@dataclass(frozen=True)
class HuberLoss(ElementLoss):
    """Half the squared error up to an error of ``delta``, and linear beyond.

    ``0.5 * e**2`` where ``|e| <= delta``, else ``delta * (|e| - 0.5 * delta)``.

    For a deep Q-network, pass ``sample_weight`` in the shape of the output: 1 at the chosen action,
    otherwise 0. The mean is then over the chosen actions.

    Parameters
    ----------
    delta : float
    reduction : {"mean", "sum"}

    References
    ----------
    Huber, Annals of Mathematical Statistics 35 (1964); ``torch.nn.HuberLoss``.
    """

    delta: float = 1.0
    reduction: str = "mean"
    operation: ClassVar[str] = "huber"


@dataclass(frozen=True)
class SmoothL1Loss(ElementLoss):
    """``0.5 * e**2 / beta`` where ``|e| < beta``, else ``|e| - 0.5 * beta``.

    Parameters
    ----------
    beta : float
        Above 0; the limit at 0 is :class:`L1Loss`.
    reduction : {"mean", "sum"}

    References
    ----------
    Girshick, "Fast R-CNN", arXiv:1504.08083, equation 3; ``torch.nn.SmoothL1Loss``.
    """

    beta: float = 1.0
    reduction: str = "mean"
    operation: ClassVar[str] = "smooth_l1"


class LabelLoss(ElementLoss):
    """Base of losses for which each output is the logit of a binary label."""

    def predicts(self, y: np.ndarray, output_shape: tuple[int, ...]) -> str | None:
        """Classes if the targets are, otherwise a label for each output."""
        found = super().predicts(y, output_shape)
        return {"classes": "classes", "value": "label", "values": "labels"}[str(found)]


@dataclass(frozen=True)
class BCEWithLogitsLoss(LabelLoss):
    """Binary cross-entropy of the sigmoid of each output: any number of labels per sample.

    Parameters
    ----------
    pos_weight : float, or sequence of float
        Factor of the loss of targets that are 1: one number, or one for each channel of the output,
        such as the ratio of negative to positive samples of a label.
    reduction : {"mean", "sum"}

    References
    ----------
    ``torch.nn.BCEWithLogitsLoss``.
    """

    pos_weight: float | tuple[float, ...] = 1.0
    reduction: str = "mean"
    operation: ClassVar[str] = "bce_with_logits"

    def __post_init__(self) -> None:
        given = plain(self.pos_weight)
        if isinstance(given, (list, tuple, np.ndarray)):
            numbers = tuple(as_number("BCEWithLogitsLoss", "pos_weight", each) for each in given)
            object.__setattr__(self, "pos_weight", numbers)
        else:
            numbers = (as_number("BCEWithLogitsLoss", "pos_weight", given),)
        if not numbers or min(numbers) < 0.0:
            raise ConfigurationError(
                f"BCEWithLogitsLoss: pos_weight must be at least 0, got {given!r}"
            )
        super().__post_init__()

    def _check_values(self, target: np.ndarray, output_shape: tuple[int, ...]) -> None:
        given = self.pos_weight
        if isinstance(given, tuple) and len(given) != output_shape[0]:
            raise ShapeError(
                f"BCEWithLogitsLoss: pos_weight has {counted(len(given), 'number')}, the output "
                f"{counted(output_shape[0], 'channel')}"
            )
        # NaN is reported by the check of the data.
        if target.size and (target.min() < 0.0 or target.max() > 1.0):
            raise DataError(
                "BCEWithLogitsLoss: targets must lie in 0..1, got "
                f"{target.min():g}..{target.max():g}"
            )


@dataclass(frozen=True)
class SigmoidFocalLoss(LabelLoss):
    """Focal loss of labels: binary cross-entropy with less weight on confident predictions.

    ``-a * (1 - p)**gamma * log(p)`` with the probability ``p`` of the true label, and ``a = alpha``
    where the target is 1, otherwise ``1 - alpha``.

    Parameters
    ----------
    alpha : float
        ``0 < alpha < 1``.
    gamma : float
        At least 0.
    reduction : {"mean", "sum"}

    References
    ----------
    Lin et al., "Focal loss for dense object detection", arXiv:1708.02002, equation 5.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    reduction: str = "mean"
    operation: ClassVar[str] = "sigmoid_focal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha >= 1.0 or self.gamma < 0.0:
            raise ConfigurationError(
                "SigmoidFocalLoss: alpha must be below 1 and gamma at least 0, got "
                f"alpha={self.alpha!r}, gamma={self.gamma!r}"
            )

    def _check_values(self, target: np.ndarray, output_shape: tuple[int, ...]) -> None:
        if not np.isin(target, (0.0, 1.0)).all():
            raise DataError("SigmoidFocalLoss: targets must be 0 or 1")
