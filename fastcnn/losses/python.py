"""Losses that are Python functions of whole arrays."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.losses.loss import Loss

#: Arguments of a function, with the weights of samples.
WITH_WEIGHT = 3


class PythonLoss(Loss):
    """A loss from a function of outputs and targets that returns its value and its gradient.

    The engine computes the outputs, and what follows from the gradient; between the two the
    function gets numpy arrays. ``fit(loss=function)`` makes this of a function.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets)`` returns the loss of a batch, a number, and its gradient by
        the outputs, in their shape. With a third argument it gets the weights of samples, or None.

    Raises
    ------
    ConfigurationError
        If the function does not take two or three arguments.
    """

    operation: ClassVar[str] = "python"

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        try:
            self._arguments = len(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            self._arguments = 0
        if self._arguments not in (2, WITH_WEIGHT):
            raise ConfigurationError(
                f"loss: {self.name} must be a function of outputs and targets, and perhaps weights"
            )

    def as_target(self, y: np.ndarray, output_shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """The targets as they are given."""
        return y

    def target_weight(
        self, target: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray | None:
        """The samples' weights, where the function takes some."""
        if sample_weight is not None and self._arguments != WITH_WEIGHT:
            raise ConfigurationError(
                f"loss: samples have weights, which {self.name} does not take: give it a third "
                "argument"
            )
        return super().target_weight(target, sample_weight)

    def part(
        self, target: np.ndarray, sample_weight: np.ndarray | None, totals: np.ndarray
    ) -> tuple["PythonLoss", float]:
        """The function itself, times what the part's targets weigh of the whole's."""
        each = self.target_weight(target, sample_weight)
        (total,), own = totals.tolist(), len(target) if each is None else float(each.sum())
        return self, own / total if total > 0.0 else 0.0

    def predicts(self, y: np.ndarray, output_shape: tuple[int, ...]) -> str | None:
        """Classes where there is an integer for each sample and several outputs, else values."""
        if y.ndim == 1 and y.dtype.kind in "iu" and output_shape != (1,):
            return "classes"
        return "value" if y.ndim == 1 and output_shape == (1,) else "values"

    def value_and_gradient(
        self, output: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """What the function gives for a batch.

        Raises
        ------
        ConfigurationError, ShapeError
            If that is not a number, and an array in the shape of the output.
        """
        arguments = (output, target, weight)[: self._arguments]
        found = self.function(*arguments)
        if not isinstance(found, tuple) or len(found) != 2 or np.ndim(found[0]) != 0:
            raise ConfigurationError(
                f"loss: {self.name} must return a number and its gradient by the outputs, got "
                f"{type(found).__name__}"
            )
        gradient = np.asarray(found[1], output.dtype)
        if gradient.shape != output.shape:
            raise ShapeError(
                f"loss: {self.name} returned a gradient of shape {gradient.shape}, the outputs "
                f"have {output.shape}"
            )
        return float(found[0]), gradient

    def __call__(
        self, output: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
    ) -> float:
        """The loss of a network's output; ``backend`` has no effect."""
        return self.value_and_gradient(np.asarray(output), np.asarray(target), sample_weight)[0]

    def gradient(
        self, output: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
    ) -> np.ndarray:
        """Its gradient by the output; ``backend`` has no effect."""
        return self.value_and_gradient(np.asarray(output), np.asarray(target), sample_weight)[1]

    def __repr__(self) -> str:
        return f"PythonLoss({self.name})"
