"""The interface of losses."""

import math
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np

from fastcnn.arguments import as_array, as_sample_weight, plain_array
from fastcnn.backends import get_backend
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.scalars import make_plain

REDUCTIONS = ("mean", "sum")


class Loss:
    """A loss: a function of a network's output and targets, with its gradient.

    A backend computes it with the functions ``operation`` and ``operation_backward``. For a batch
    it is ``sum(w * loss) / sum(w)`` over all targets, with weights ``w``: 1, or those of samples,
    or of single targets. If all targets of a batch have weight 0, it is 0.

    Attributes
    ----------
    classes : bool
        Whether targets are classes.
    reduction : {"mean", "sum"}
        With "sum", it is ``sum(w * loss)``.
    """

    operation: ClassVar[str]
    classes: ClassVar[bool] = False
    reduction: str = "mean"

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the backend functions."""
        return {}

    @property
    def engine_key(self) -> tuple[Any, ...]:
        """Name and settings, as the engine's planner reads them."""
        raise NotImplementedError

    def as_target(self, y: np.ndarray, output_shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Targets in the form read by backends, for an output of shape ``(N, *output_shape)``.

        Parameters
        ----------
        y : ndarray, shape (N, ...)
            Targets as given by the user.
        output_shape : tuple of int
        dtype : dtype
            Type of floating-point targets.

        Raises
        ------
        ShapeError, DataError
            If they do not fit.
        """
        raise NotImplementedError

    def target_weight(
        self, target: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray | None:
        """Mean weight of each sample's targets, float64 of shape (N,).

        None if all weights are 1. A batch's loss is divided by the sum of these.

        Parameters
        ----------
        target : ndarray
            From :meth:`as_target`.
        sample_weight : ndarray or None
        """
        if sample_weight is None or sample_weight.ndim == 1:
            return sample_weight
        return sample_weight.reshape(len(sample_weight), -1).mean(axis=1)

    @property
    def count(self) -> int:
        """Number of losses in the sum, each with its own mean."""
        return 1

    @property
    def sums(self) -> tuple[bool, ...]:
        """Whether each of them is a sum rather than a mean."""
        return (self.reduction == "sum",)

    def target_weights(
        self, target: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray | None:
        """:meth:`target_weight` of each of them, shape (N, losses); None if all weights are 1.

        Parameters
        ----------
        target, sample_weight
            As for :meth:`target_weight`.
        """
        found = self.target_weight(target, sample_weight)
        return None if found is None else np.asarray(found, np.float64).reshape(len(found), -1)

    def part(
        self, target: np.ndarray, sample_weight: np.ndarray | None, totals: np.ndarray
    ) -> tuple["Loss", float]:
        """The loss of a part of a batch: a sum, and its factor.

        It is not computed as a mean times the part's weight: with label smoothing, targets of
        weight 0 still contribute to the loss.

        Parameters
        ----------
        target : ndarray
            The part's, from :meth:`as_target`.
        sample_weight : ndarray or None
            The part's.
        totals : ndarray of float64, shape (losses,)
            Total weight of the whole batch's targets in each loss.
        """
        (total,) = totals.tolist()
        if self.reduction == "sum":
            return self, 1.0
        elements = math.prod(self.weight_shape(target))
        summed: Loss = replace(cast("Any", self), reduction="sum")
        return summed, 1.0 / (total * elements) if total > 0.0 else 0.0

    def weight_shape(self, target: np.ndarray) -> tuple[int, ...]:
        """Shape of the weights of one sample's targets, if each has its own.

        Parameters
        ----------
        target : ndarray
            From :meth:`as_target`.
        """
        return target.shape[1:]

    def predicts(self, y: np.ndarray, output_shape: tuple[int, ...]) -> str | None:
        """``Model.predicts`` of a model trained on these targets.

        Parameters
        ----------
        y : ndarray, shape (N, ...)
        output_shape : tuple of int
        """
        raise NotImplementedError

    def target_counts(self, target: np.ndarray) -> np.ndarray | None:
        """Number of targets per sample that count for the accuracy; None if it is one each.

        Parameters
        ----------
        target : ndarray
            From :meth:`as_target`.
        """
        return None

    def correct(self, output: np.ndarray, target: np.ndarray) -> int:
        """Number of correctly classified targets; 0 if targets are not classes.

        Parameters
        ----------
        output : ndarray, shape (N, ...)
        target : ndarray
            From :meth:`as_target`.
        """
        return 0

    def __call__(
        self, output: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
    ) -> float:
        """The loss of a network's output.

        Parameters
        ----------
        output : array_like of float32 or float64, shape (N, ...)
        target : array_like
            As for training with this loss.
        sample_weight : array_like, shape (N,) or that of the targets, optional
        backend : str, optional

        Raises
        ------
        ShapeError, DataError, ConfigurationError
            If target or weights are invalid.
        """
        output, target, weight = self._checked(output, target, sample_weight)
        operation = getattr(get_backend(backend), self.operation)
        return float(operation(output, target, **self.arguments, sample_weight=weight))

    def gradient(
        self, output: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
    ) -> np.ndarray:
        """Its gradient with respect to the output; arguments as for a call.

        Parameters
        ----------
        output, target : array_like
        sample_weight : array_like, optional
        backend : str, optional
        """
        output, target, weight = self._checked(output, target, sample_weight)
        operation = getattr(get_backend(backend), f"{self.operation}_backward")
        found: np.ndarray = operation(1.0, output, target, **self.arguments, sample_weight=weight)
        return found

    def _checked(
        self, output: Any, target: Any, sample_weight: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        name = type(self).__name__
        output, target = as_array(name, "output", output), plain_array(f"{name}: target", target)
        if output.ndim < 2 or target.ndim < 1 or len(target) != len(output):
            raise ShapeError(
                f"{name}: target has shape {target.shape}, output {output.shape}: both need a "
                "first axis of samples"
            )
        target = self.as_target(target, output.shape[1:], output.dtype)
        each = (len(output), *self.weight_shape(target))
        shapes = dict.fromkeys((each[:1], each))
        return output, target, as_sample_weight(name, sample_weight, *shapes)


def check_settings(loss: Any) -> None:
    """Convert a loss's settings to Python numbers; refuse reductions other than mean and sum."""
    make_plain(loss)
    if not isinstance(loss.reduction, str) or loss.reduction not in REDUCTIONS:
        raise ConfigurationError(
            f"{type(loss).__name__}: reduction must be one of {', '.join(REDUCTIONS)}, got "
            f"{loss.reduction!r}: training needs a scalar"
        )
