"""Columns and index grids that the rows of many operations share."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastcnn.backends.graph import Node
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of all positions in row-major order."""
    h, w = np.mgrid[:height, :width]
    return h.ravel(), w.ravel()


def windows_of_two(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the order of 2x2 windows, four of each."""
    h, w = grid(height // 2, width // 2)
    offset = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    return (2 * h[:, None] + offset[:, 0]).ravel(), (2 * w[:, None] + offset[:, 1]).ravel()


def stored_eps(node: "Node") -> float:
    """The eps of a normalisation as the engine stores it: a float32 that is not subnormal."""
    return max(float(node.arguments["eps"]), float(np.finfo(np.float32).tiny))


def fused(group: "Group") -> str:
    """The operations fused to a group's first one, as part of its name."""
    added = " + sum" if group.adds else ""
    rectifier = " + ReLU6" if group.capped else " + ReLU" if group.relu else ""
    return added + rectifier + (" + 2x2 max pooling" if group.pooled else "")


def parameter_offset(planner: "Planner", group: "Group", name: str) -> int:
    """Offset of a layer's parameter, or -1."""
    key = group.node.parameters.get(name)
    return -1 if key is None else planner.parameters[key][0]


def gradient_offset(planner: "Planner", group: "Group", name: str) -> int:
    """Offset of the gradient of a layer's parameter, or -1."""
    return planner.gradients.get((group.target, name), -1)


def element_columns(planner: "Planner", **buffers: "Buffer") -> dict[str, int]:
    """Columns of a row over all elements of some buffers, given by name."""
    some = next(iter(buffers.values()))
    columns = {"channels": some.channels, "positions": some.height * some.width}
    for name, buffer in buffers.items():
        columns |= buffer.channel_columns(name)
        columns[f"{name}_table"] = planner.table(buffer.pixels())
    return columns
