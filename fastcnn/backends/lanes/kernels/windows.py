"""Windows of poolings: the offsets of their pixels, and their columns in rows."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.geometry import adaptive_windows, average_divisors, pool_windows
from fastcnn.backends.lanes.planning.rows import element_columns, grid

if TYPE_CHECKING:
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner


def average_columns(planner: "Planner", group: "Group", x: "Buffer", y: "Buffer") -> dict[str, int]:
    """Columns of an average over windows, forward or backward; X is the input or its gradient."""
    offsets, count = pool_offsets(group, x, y)
    arguments, divisors = group.node.arguments, count
    if not _shares_out(group):
        divisors = average_divisors(
            (x.height, x.width),
            (y.height, y.width),
            arguments["kernel_size"],
            arguments["stride"],
            arguments["padding"],
            arguments["count_include_pad"],
            arguments.get("divisor_override"),
        ).ravel()
    return {
        **window_columns(planner, x, y),
        "taps": offsets.shape[1],
        "tap_table": planner.table(np.concatenate([count[:, None], offsets], axis=1)),
        "scale": planner.constant(np.broadcast_to(1.0 / divisors, len(offsets))),
    }


def _shares_out(group: "Group") -> bool:
    """Whether a pooling's windows divide the map evenly among the output's pixels."""
    return group.operation.startswith("adaptive_")


def pool_offsets(group: "Group", x: "Buffer", y: "Buffer") -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the pixels of a pooling's windows, and the number of pixels of each window."""
    sizes = (x.height, x.width), (y.height, y.width)
    if _shares_out(group):
        rows, columns = (adaptive_windows(*axis) for axis in zip(*sizes, strict=True))
        return _window_offsets(x, rows, columns)
    arguments = group.node.arguments
    gaps = arguments.get("dilation", (1, 1))
    window = (arguments["kernel_size"], arguments["stride"], arguments["padding"])
    rows, columns = (
        [(pixels.start, pixels.stop) for pixels in pool_windows(*axis)]
        for axis in zip(*sizes, *window, gaps, strict=True)
    )
    return _window_offsets(x, rows, columns, gaps)


def _window_offsets(
    x: "Buffer",
    rows: list[tuple[int, int]],
    columns: list[tuple[int, int]],
    gaps: tuple[int, int] = (1, 1),
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the pixels of all windows, and the number of pixels of each.

    A window's pixels come in row-major order, padded by repeating the first one.
    """
    (top, bottom), (left, right) = (np.array(ends).T for ends in (rows, columns))
    i, j = grid(len(rows), len(columns))
    most = [
        -(-int((end - first).max()) // gap)
        for first, end, gap in ((top, bottom, gaps[0]), (left, right, gaps[1]))
    ]
    kh, kw = grid(*most)
    h, w = top[i][:, None] + kh * gaps[0], left[j][:, None] + kw * gaps[1]
    outside = (h >= bottom[i][:, None]) | (w >= right[j][:, None])
    offsets = x.at(np.where(outside, top[i][:, None], h), np.where(outside, left[j][:, None], w))
    order = np.argsort(outside, axis=1, kind="stable")
    return np.take_along_axis(offsets, order, axis=1), (~outside).sum(axis=1)


def window_columns(planner: "Planner", x: "Buffer", y: "Buffer") -> dict[str, int]:
    """Columns of a row whose positions are the pixels of Y, with windows in X."""
    sizes = {"positions": y.height * y.width, "in_": x.height * x.width}
    return element_columns(planner, x=x, y=y) | sizes
