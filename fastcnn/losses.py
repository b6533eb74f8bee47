"""Losses: descriptions, like layers; a backend computes them."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from fastcnn.arguments import as_sample_weight, classification_arguments, regression_arguments
from fastcnn.backends import get_backend
from fastcnn.errors import ConfigurationError
from fastcnn.named import Named


class Loss(Protocol):
    """What a runner needs to know of a loss."""

    operation: ClassVar[str]

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the backend function."""
        ...


def call(
    loss: Loss, output: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
) -> float:
    """The loss of a network's output, mean over the batch.

    Parameters
    ----------
    output : array_like of float32 or float64, shape (N, ...)
    target : array_like
        Integer classes of shape (N,), or rows of probabilities for the cross-entropy, or an array
        like the output for others.
    sample_weight : array_like, shape (N,), optional
        The mean is then ``sum(weight * loss) / sum(weight)``.
    backend : str, optional

    Raises
    ------
    ShapeError, ConfigurationError
        If target or weights do not fit.
    """
    if loss.operation == "cross_entropy":
        output, target = classification_arguments(loss.operation, output, target)
    else:
        output, target = np.asarray(output), np.asarray(target)
        many = output.ndim == 2 and output.shape[1] > 1
        if many and target.ndim == 1 and target.dtype.kind in "iu":
            _, target = classification_arguments(loss.operation, output, target)
            target = np.eye(output.shape[1], dtype=output.dtype)[target]
        elif target.ndim == 1 and output.shape == (len(target), 1):
            target = target[:, None]
        output, target = regression_arguments(loss.operation, output, target)
    weight = as_sample_weight(loss.operation, sample_weight, len(output))
    operation = getattr(get_backend(backend), loss.operation)
    return float(operation(output, target, **loss.arguments, sample_weight=weight))


@dataclass(frozen=True)
class CrossEntropyLoss:
    """Softmax followed by the negative log-likelihood of integer classes, mean over the batch.

    Computed from the logits with the row maximum subtracted, so large logits do not overflow.

    Parameters
    ----------
    label_smoothing : float
        Share of the target distribution that is spread evenly over all classes,
        ``0 <= label_smoothing < 1``.

    References
    ----------
    Szegedy et al., arXiv:1512.00567, section 7, for label smoothing.
    """

    label_smoothing: float = 0.0
    operation: ClassVar[str] = "cross_entropy"

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ConfigurationError(
                f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing!r}"
            )

    @property
    def arguments(self) -> dict[str, Any]:
        """The smoothing."""
        return {"label_smoothing": float(self.label_smoothing)}

    __call__ = call


@dataclass(frozen=True)
class MSELoss:
    """Mean squared error over all elements; integer classes are compared as one-hot vectors."""

    operation: ClassVar[str] = "mse"

    @property
    def arguments(self) -> dict[str, Any]:
        """None."""
        return {}

    __call__ = call


LOSSES: dict[str, Any] = {"cross_entropy": CrossEntropyLoss, "mse": MSELoss}


NAMED = Named("loss", LOSSES, ("operation", "arguments"), "CrossEntropyLoss()")


def as_loss(loss: Any, **numbers: Any) -> Loss:
    """A loss that is given by its name, or as an object.

    Parameters
    ----------
    loss : str or Loss
    **numbers
        Arguments of a loss that is given by name (``label_smoothing``).

    Raises
    ------
    ConfigurationError
        If it is neither, or a number has no effect with it.
    """
    return NAMED.get(loss, **numbers)
