"""Losses that are Python functions of whole arrays."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.losses.loss import Loss

#: Number of a function's arguments if it accepts sample weights.
WITH_WEIGHT = 3


class PythonLoss(Loss):
    """A loss from a Python function of outputs and targets that returns value and gradient.

    The engine runs the forward and the backward pass; between them, the function is called with
    numpy arrays. ``fit(loss=function)`` wraps a function in this class.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets)`` returns the loss of a batch, a number, and its gradient with
        respect to the outputs, in their shape. If it has a third argument, it receives the sample
        weights, or None.

    Raises
    ------
    ConfigurationError
        If the function does not have two or three arguments.
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
                f"loss: {self.name} must be a function of outputs, targets and optionally weights"
            )

    def as_target(self, y: np.ndarray, output_shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """The targets, unchanged."""
        return y

    def target_weight(
        self, target: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray | None:
        """The sample weights, if the function accepts them."""
        if sample_weight is not None and self._arguments != WITH_WEIGHT:
            raise ConfigurationError(
                f"loss: samples have weights, which {self.name} does not take: give it a third "
                "argument"
            )
        return super().target_weight(target, sample_weight)

    def part(
        self, target: np.ndarray, sample_weight: np.ndarray | None, totals: np.ndarray
    ) -> tuple["PythonLoss", float]:
        """The function itself, times the part's share of the total target weight."""
        each = self.target_weight(target, sample_weight)
        (total,), own = totals.tolist(), len(target) if each is None else float(each.sum())
        return self, own / total if total > 0.0 else 0.0

    def predicts(self, y: np.ndarray, output_shape: tuple[int, ...]) -> str | None:
        """Classes if there is an integer per sample and several outputs, otherwise values."""
        if y.ndim == 1 and y.dtype.kind in "iu" and output_shape != (1,):
            return "classes"
        return "value" if y.ndim == 1 and output_shape == (1,) else "values"

    def value_and_gradient(
        self, output: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """The function's results for a batch.

        Parameters
        ----------
        output, target : ndarray, shape (N, ...)
        weight : ndarray, optional
            For functions with three arguments.

        Raises
        ------
        ConfigurationError, ShapeError
            If they are not a number, and an array in the shape of the output.
        """
        arguments = (output, target, weight)[: self._arguments]
        found = self.function(*arguments)
        if not isinstance(found, tuple) or len(found) != 2 or np.ndim(found[0]) != 0:
            raise ConfigurationError(
                f"loss: {self.name} must return a number and its gradient with respect to the "
                f"outputs, got {type(found).__name__}"
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
        """Its gradient with respect to the output; ``backend`` has no effect."""
        return self.value_and_gradient(np.asarray(output), np.asarray(target), sample_weight)[1]

    def __repr__(self) -> str:
        return f"PythonLoss({self.name})"
