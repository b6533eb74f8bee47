"""A convolution of a network, whose rows are added to a plan."""

from typing import NamedTuple

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.planner import Planner


class Task(NamedTuple):
    """What rows of a convolution are added to, their name, and its weights' first parameter."""

    planner: Planner
    name: str
    g: ConvGeometry
    weight: int
