"""Windows of poolings: the offsets of their pixels, and their columns in rows."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.geometry import adaptive_windows, average_divisors, pool_windows
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Row
from fastcnn.backends.lanes.kernels.record import map_sizes
from fastcnn.backends.lanes.planning.rows import element_columns, grid

if TYPE_CHECKING:
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner


def average_columns(planner: "Planner", group: "Group", x: "Buffer", y: "Buffer") -> dict[str, int]:
    """Columns of an average over windows of X."""
    offsets, count, scales = _averages(group, x, y)
    return {
        **window_columns(planner, x, y),
        "taps": offsets.shape[1],
        "tap_table": planner.table(np.concatenate([count[:, None], offsets], axis=1)),
        "scale": planner.constant(scales),
    }


def spread_columns(
    planner: "Planner", group: "Group", grad: "Buffer", **maps: "Buffer"
) -> dict[str, int]:
    """Columns of a row that gives each pixel its share of the gradients of averages, Y.

    X, the first of the maps, is the gradient of the pooling's input.
    """
    x = maps["x"]
    offsets, count, scales = _averages(group, x, grad)
    inside = np.arange(offsets.shape[1]) < count[:, None]
    order = np.argsort(offsets[inside], kind="stable")
    window = np.nonzero(inside)[0][order]
    ends = np.searchsorted(offsets[inside][order], x.pixels(), side="right")
    return {
        **element_columns(planner, **maps),
        **grad.columns("y"),
        "y_channel": grad.channel,
        "y_table": planner.table(grad.pixels()[window]),
        "tap_table": planner.table(np.concatenate([[0], ends])),
        "z": planner.constant(scales[window]),
    }


def _averages(
    group: "Group", x: "Buffer", y: "Buffer"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets of the pixels of windows, their numbers, and the reciprocals of divisors."""
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
    return offsets, count, np.broadcast_to(1.0 / divisors, len(offsets))


def _shares_out(group: "Group") -> bool:
    """Whether a pooling's windows divide the map evenly among the output's pixels."""
    return group.operation.startswith("adaptive_")


def adaptive(group: "Group") -> str:
    """``"adaptive "`` before the name of such a pooling."""
    return "adaptive " if _shares_out(group) else ""


def window_sizes(r: Row) -> str:
    return f"{map_sizes(r)}, {r[L.TAPS]} taps"


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
