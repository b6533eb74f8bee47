"""What all losses have in common."""

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
    """A loss: a function of a network's output and targets, and its gradient by the output.

    A backend computes it by the functions ``operation`` and ``operation_backward``. Over a batch
    it is ``sum(w * loss) / sum(w)`` over all targets, of which ``w`` are the weights: 1, or a
    sample's, or a target's own. Where all of a batch's targets weigh nothing, it is 0.

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
        """Name and numbers, as the engine's planner takes them."""
        raise NotImplementedError

    def as_target(self, y: np.ndarray, output_shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Targets as backends read them, for an output of shape ``(N, *output_shape)``.

        Raises
        ------
        ShapeError, DataError
            If they do not fit.
        """
        raise NotImplementedError

    def target_weight(
        self, target: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray | None:
        """What the targets of each sample weigh on average, float64 of shape (N,).

        None where all weigh 1. A batch's loss is divided by the sum of this.
        """
        if sample_weight is None or sample_weight.ndim == 1:
            return sample_weight
        return sample_weight.reshape(len(sample_weight), -1).mean(axis=1)

    @property
    def count(self) -> int:
        """How many losses it is the sum of, each of which has its own mean."""
        return 1

    @property
    def sums(self) -> tuple[bool, ...]:
        """Whether each of them is a sum instead."""
        return (self.reduction == "sum",)

    def target_weights(
        self, target: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray | None:
        """:meth:`target_weight` of each of them, shape (N, losses); None where all weigh 1."""
        found = self.target_weight(target, sample_weight)
        return None if found is None else np.asarray(found, np.float64).reshape(len(found), -1)

    def part(
        self, target: np.ndarray, sample_weight: np.ndarray | None, totals: np.ndarray
    ) -> tuple["Loss", float]:
        """The loss of a part of a batch: a sum, and what it is multiplied by.

        A part is not its own mean times what it counts: its targets may weigh nothing, and still
        have the smoothed labels' part of the loss.

        Parameters
        ----------
        totals : ndarray of float64, shape (losses,)
            What the targets of the whole batch weigh in each loss.
        """
        (total,) = totals.tolist()
        if self.reduction == "sum":
            return self, 1.0
        elements = math.prod(self.weight_shape(target))
        summed: Loss = replace(cast("Any", self), reduction="sum")
        return summed, 1.0 / (total * elements) if total > 0.0 else 0.0

    def weight_shape(self, target: np.ndarray) -> tuple[int, ...]:
        """Shape of a sample's targets' weights, where each has its own."""
        return target.shape[1:]

    def predicts(self, y: np.ndarray, output_shape: tuple[int, ...]) -> str | None:
        """What a model predicts that was trained on such targets, as ``Model.predicts``."""
        raise NotImplementedError

    def target_counts(self, target: np.ndarray) -> np.ndarray | None:
        """Targets of each sample that an accuracy counts; None where that is one each."""
        return None

    def correct(self, output: np.ndarray, target: np.ndarray) -> int:
        """Targets whose most probable class is the right one; 0 where there are no classes."""
        return 0

    def __call__(
        self, output: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
    ) -> float:
        """The loss of a network's output.

        Parameters
        ----------
        output : array_like of float32 or float64, shape (N, ...)
        target : array_like
            As for training by this loss.
        sample_weight : array_like, shape (N,) or that of the targets, optional
        backend : str, optional

        Raises
        ------
        ShapeError, DataError, ConfigurationError
            If target or weights do not fit.
        """
        output, target, weight = self._checked(output, target, sample_weight)
        operation = getattr(get_backend(backend), self.operation)
        return float(operation(output, target, **self.arguments, sample_weight=weight))

    def gradient(
        self, output: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
    ) -> np.ndarray:
        """Its gradient by the output, in the output's shape and type; arguments as for a call."""
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
    """Make the numbers of a loss Python's, and refuse reductions but the mean and the sum."""
    make_plain(loss)
    if not isinstance(loss.reduction, str) or loss.reduction not in REDUCTIONS:
        raise ConfigurationError(
            f"{type(loss).__name__}: reduction must be one of {', '.join(REDUCTIONS)}, got "
            f"{loss.reduction!r}: training needs one number"
        )
