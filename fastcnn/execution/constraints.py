"""Constraints on weights that training keeps: the largest norm of an output's weights."""

from typing import TYPE_CHECKING

from fastcnn.layers.base import WeightedLayer

if TYPE_CHECKING:
    from fastcnn.layers import Model


def largest_norms(model: "Model") -> dict[str, float]:
    """The ``max_norm`` of weights that are trained and have one, by state key."""
    return {
        f"{name}.weight": layer.max_norm
        for name, layer in model.named_leaves()
        if isinstance(layer, WeightedLayer) and layer.max_norm is not None and layer.requires_grad
    }


def constrain(model: "Model") -> None:
    """Scale weights whose norm is above the largest that they may have."""
    for _, layer in model.named_leaves():
        if isinstance(layer, WeightedLayer) and layer.requires_grad:
            layer.limit_norms()
