"""Losses: descriptions, like layers; a backend computes them."""

from typing import Any

from fastcnn.losses.classes import CrossEntropyLoss, FocalLoss, NLLLoss
from fastcnn.losses.loss import Loss
from fastcnn.losses.values import (
    BCEWithLogitsLoss,
    ElementLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
)
from fastcnn.named import Named

__all__ = [
    "LOSSES",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "ElementLoss",
    "FocalLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "NLLLoss",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "as_loss",
]

#: By name; those of users as well.
LOSSES: dict[str, Any] = {
    kind.operation: kind
    for kind in (
        CrossEntropyLoss,
        NLLLoss,
        FocalLoss,
        BCEWithLogitsLoss,
        SigmoidFocalLoss,
        MSELoss,
        L1Loss,
        HuberLoss,
        SmoothL1Loss,
    )
}


NAMED = Named("loss", LOSSES, ("operation", "arguments", "as_target()"), "CrossEntropyLoss()")


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
    found: Loss = NAMED.get(loss, **numbers)
    return found
