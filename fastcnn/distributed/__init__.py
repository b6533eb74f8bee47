"""Data-parallel training on several processes, over MPI."""

from typing import TYPE_CHECKING

from fastcnn import door
from fastcnn.distributed.world import World, join, launched_size

if TYPE_CHECKING:
    from fastcnn.distributed.scaling import (
        NETWORKS,
        Network,
        Prediction,
        StepCost,
        predict_scaling,
    )
else:
    __getattr__, __dir__, _ = door(
        __name__, {"scaling": ("NETWORKS", "Network", "Prediction", "StepCost", "predict_scaling")}
    )

__all__ = [
    "NETWORKS",
    "Network",
    "Prediction",
    "StepCost",
    "World",
    "join",
    "launched_size",
    "predict_scaling",
]
