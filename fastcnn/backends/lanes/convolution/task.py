"""What an algorithm needs to lower one convolution of a network."""

from typing import NamedTuple

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.planner import Planner


class Task(NamedTuple):
    """The planner that gets the rows, their name, the geometry, and the offset of the weights."""

    planner: Planner
    name: str
    g: ConvGeometry
    weight: int
