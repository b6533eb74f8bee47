"""The sum of losses of several outputs, computed with the functions of a backend.

An array holds all outputs of a sample, one after the other; another one holds the targets. Where a
loss takes classes, the class is stored in its output's first channel, -1 if ignored, and -1 in the
second channel; probabilities, which are never negative, have the output's layout.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastcnn.backends import get_backend


@dataclass(frozen=True)
class JointPart:
    """The loss of one of several outputs."""

    #: Name of the backend function.
    operation: str
    arguments: Mapping[str, Any]
    #: Whether targets may be class indices.
    classes: bool
    #: Factor of the loss.
    weight: float
    #: Index of the output's first element in a sample.
    start: int
    shape: tuple[int, ...]

    @property
    def _ignored(self) -> int:
        """The ignored class; otherwise one that does not exist."""
        index = self.arguments.get("ignore_index")
        return -1 if index is None else int(index)

    @property
    def places(self) -> slice:
        """The output's elements in a sample."""
        return slice(self.start, self.start + prod(self.shape))

    def output_of(self, output: np.ndarray) -> np.ndarray:
        """This output, from the array of all."""
        return output[:, self.places].reshape(len(output), *self.shape)

    def target_of(self, target: np.ndarray) -> np.ndarray:
        """This output's targets, from the array of all."""
        own, pixels = target[:, self.places], prod(self.shape[1:])
        if self.classes and (own[:, pixels : 2 * pixels] < 0).all():
            classes = own[:, :pixels].astype(np.int64).reshape(len(own), *self.shape[1:])
            return np.where(classes < 0, self._ignored, classes)
        return own.reshape(len(own), *self.shape)

    def place_target(self, target: np.ndarray, whole: np.ndarray) -> None:
        """Store this output's targets in the array of all."""
        flat, own = target.reshape(len(target), -1), whole[:, self.places]
        if target.shape[1:] != self.shape:
            flat = np.where(flat == self._ignored, -1, flat)
        own[:, : flat.shape[1]] = flat
        if target.shape[1:] != self.shape:
            own[:, flat.shape[1] : 2 * flat.shape[1]] = -1


def joint_functions(backend: str) -> tuple[Callable[..., float], Callable[..., np.ndarray]]:
    """The functions ``joint`` and ``joint_backward`` of a backend."""

    def joint(
        output: np.ndarray,
        target: np.ndarray,
        parts: tuple[JointPart, ...],
        sample_weight: np.ndarray | None = None,
    ) -> float:
        """The sum of the losses, times their weights."""
        operations, total = get_backend(backend), 0.0
        for part in parts:
            function = getattr(operations, part.operation)
            given = part.output_of(output), part.target_of(target)
            total += part.weight * float(
                function(*given, **part.arguments, sample_weight=sample_weight)
            )
        return total

    def joint_backward(
        grad_output: float,
        output: np.ndarray,
        target: np.ndarray,
        parts: tuple[JointPart, ...],
        sample_weight: np.ndarray | None = None,
    ) -> np.ndarray:
        """The gradient with respect to all outputs."""
        operations, gradient = get_backend(backend), np.empty_like(output)
        for part in parts:
            function = getattr(operations, f"{part.operation}_backward")
            given = part.output_of(output), part.target_of(target)
            made = function(
                grad_output * part.weight, *given, **part.arguments, sample_weight=sample_weight
            )
            gradient[:, part.places] = made.reshape(len(output), -1)
        return gradient

    return joint, joint_backward
