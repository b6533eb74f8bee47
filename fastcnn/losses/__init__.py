"""Losses: descriptions, like layers; a backend computes them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.losses.classes import CrossEntropyLoss, FocalLoss, NLLLoss
from fastcnn.losses.joint import JointLoss
from fastcnn.losses.loss import Loss
from fastcnn.losses.python import PythonLoss
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
    "JointLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "NLLLoss",
    "PythonLoss",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "as_loss",
]

#: Losses by name, including user-defined ones.
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


NAMED = Named(
    "loss",
    LOSSES,
    ("operation", "arguments", "as_target()"),
    "CrossEntropyLoss()",
    around={"joint": JointLoss},
)


def as_loss(loss: Any, loss_weights: Any = None, **numbers: Any) -> Loss:
    """A loss given by name, as an object or as a function; or one for each output.

    Parameters
    ----------
    loss : str, Loss or callable, or sequence of them, or mapping of str to them
        A function becomes a :class:`PythonLoss`.
    loss_weights : sequence of float, or mapping of str to float, optional
        Factor of each of several losses.
    **numbers
        Arguments of a loss given by name (``label_smoothing``).

    Raises
    ------
    ConfigurationError
        If it is none of these, or an argument has no effect with it.
    """
    if isinstance(loss, (list, tuple, Mapping)):
        return _joint(loss, loss_weights, **numbers)
    if loss_weights is not None:
        raise ConfigurationError("loss_weights has no effect with one loss")
    if callable(loss) and not isinstance(loss, type) and not hasattr(loss, "operation"):
        loss = PythonLoss(loss)
    found: Loss = NAMED.get(loss, **numbers)
    return found


def _joint(losses: Any, weights: Any, **numbers: Any) -> JointLoss:
    names = tuple(losses) if isinstance(losses, Mapping) else ()
    if isinstance(weights, Mapping):
        if set(weights) != set(names):
            raise ConfigurationError(
                "loss_weights by name need losses by the same names, got "
                f"{', '.join(map(str, weights))} and {', '.join(names) or 'a sequence of losses'}"
            )
        weights = [weights[name] for name in names]
    elif weights is not None and not isinstance(weights, (list, tuple, np.ndarray)):
        raise ConfigurationError(f"loss_weights must have a number per loss, got {weights!r}")
    given = losses.values() if isinstance(losses, Mapping) else losses
    found = tuple(as_loss(loss, **numbers) for loss in given)
    return JointLoss(found, tuple(weights or ()), names)
