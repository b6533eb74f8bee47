"""Pieces of program rows that forward and backward share."""

import numpy as np

from fastcnn.backends.counter_random import drop_threshold
from fastcnn.backends.geometry import adaptive_windows, average_divisors, pool_windows
from fastcnn.backends.graph import Node
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.formula_table import formula_kernel
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import Buffer
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.operations import OPERATIONS, Elementwise


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of all positions in row-major order."""
    h, w = np.mgrid[:height, :width]
    return h.ravel(), w.ravel()


def windows_of_two(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the order of 2x2 windows, four of each."""
    h, w = grid(height // 2, width // 2)
    offset = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    return (2 * h[:, None] + offset[:, 0]).ravel(), (2 * w[:, None] + offset[:, 1]).ravel()


def stored_eps(node: Node) -> float:
    """The eps of a normalisation as the engine keeps it: float32 that does not count as zero."""
    return max(float(node.arguments["eps"]), float(np.finfo(np.float32).tiny))


def fused(group: Group) -> str:
    """What a group does besides its first operation, for its name."""
    added = " + sum" if group.adds else ""
    rectifier = " + ReLU6" if group.capped else " + ReLU" if group.relu else ""
    return added + rectifier + (" + 2x2 max pooling" if group.pooled else "")


def parameter_offset(planner: Planner, group: Group, name: str) -> int:
    """Where a layer's parameter stands, or -1."""
    key = group.node.parameters.get(name)
    return -1 if key is None else planner.parameters[key][0]


def gradient_offset(planner: Planner, group: Group, name: str) -> int:
    """Where the gradient of a layer's parameter goes, or -1."""
    return planner.gradients.get((group.target, name), -1)


def element_columns(planner: Planner, **buffers: Buffer) -> dict[str, int]:
    """Columns of a row that goes over all elements of some buffers, given by their names."""
    some = next(iter(buffers.values()))
    columns = {"channels": some.channels, "positions": some.height * some.width}
    for name, buffer in buffers.items():
        columns |= buffer.columns(name)
        columns[f"{name}_table"] = planner.table(buffer.pixels())
        columns[f"{name}_channel"] = buffer.channel
    return columns


def copy(planner: Planner, name: str, x: Buffer, y: Buffer) -> None:
    """Add a row that copies between buffers of one shape and different halos."""
    columns = element_columns(planner, x=x, y=y)
    planner.emit(f"{name}: copy", row(L.K_COPY, **columns))


def elements(buffer: Buffer) -> int:
    """Elements of a sample."""
    return buffer.channels * buffer.height * buffer.width


def same_pixels(x: Buffer, y: Buffer) -> bool:
    """Whether two maps have one height and width."""
    return (x.height, x.width) == (y.height, y.width)


def product_row(planner: Planner, x: Buffer, m: Buffer, y: Buffer, **more: int) -> np.ndarray:
    """The row of Y = X * M, where M may be a factor for each channel of X, or each pixel."""
    if elements(m) == elements(x):
        return row(L.K_MULTIPLY, **element_columns(planner, x=x, y=y, m=m), **more)
    if same_pixels(x, m):
        columns = element_columns(planner, x=x, y=y, m=m) | {"m_channel": 0}
        return row(L.K_MULTIPLY, **columns, **more)
    columns = element_columns(planner, x=x, y=y) | m.columns("m")
    columns |= {"m": m.offset + int(m.pixels()[0]), "m_channel": m.channel}
    return row(L.K_GATE, **columns, **more)


def product_sums_row(planner: Planner, x: Buffer, m: Buffer, y: Buffer) -> np.ndarray:
    """The row of Y = X * M, summed over the pixels or channels of which Y has one."""
    columns = element_columns(planner, x=x, m=m) | element_columns(planner, y=y)
    columns |= {"channels": x.channels, "positions": x.height * x.width}
    return row(
        L.K_PRODUCT_SUMS, **columns, mode=L.OF_PIXELS if same_pixels(x, y) else L.OF_CHANNELS
    )


def formula_columns(planner: Planner, group: Group, what: str) -> dict[str, int]:
    """Columns that tell which formula an element-wise operation's row computes, and its numbers."""
    record, arguments = elementwise(group.operation), group.node.arguments
    _, numbers = record.formula_of(arguments)
    columns = {"scale": planner.constant([*numbers, 0.0])}
    for name in record.parameters:
        offset, (size,) = planner.parameters[group.node.parameters[name]]
        columns |= {"w": offset, "mode": int(size > 1)}
    return columns | {"kernel": formula_kernel(record, arguments, what)}


def elementwise(operation: str) -> Elementwise:
    """The record of an element-wise operation."""
    record = OPERATIONS[operation]
    assert isinstance(record, Elementwise)
    return record


def dropout_row(planner: Planner, group: Group, x: Buffer, y: Buffer) -> np.ndarray:
    """The row of dropout; the key of its mask is the node's place in the graph."""
    p = group.node.arguments["p"]
    return row(
        L.K_DROPOUT,
        **element_columns(planner, x=x, y=y),
        key=group.target,
        threshold=drop_threshold(p),
        scale=planner.constant([1.0 / (1.0 - p)]),
        mode=L.WHOLE_CHANNELS if group.operation == "dropout2d" else L.ELEMENTS,
    )


def average_row(planner: Planner, kernel: int, group: Group, x: Buffer, y: Buffer) -> np.ndarray:
    """The row of an average over windows, forward or backward; X is the side of the input."""
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
    return row(
        kernel,
        **_window_columns(planner, x, y),
        taps=offsets.shape[1],
        tap_table=planner.table(np.concatenate([count[:, None], offsets], axis=1)),
        scale=planner.constant(np.broadcast_to(1.0 / divisors, len(offsets))),
    )


def _shares_out(group: Group) -> bool:
    """Whether a pooling's windows share the map out over the output's pixels."""
    return group.operation.startswith("adaptive_")


def pool_offsets(group: Group, x: Buffer, y: Buffer) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of a pooling's windows stand, and how many each has."""
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
    x: Buffer,
    rows: list[tuple[int, int]],
    columns: list[tuple[int, int]],
    gaps: tuple[int, int] = (1, 1),
) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of all windows stand, and how many each has.

    Those of a window come first, in row-major order; then its first one is repeated.
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


def winner_row(
    planner: Planner, x: Buffer, y: Buffer, winner: Buffer | None, offsets: np.ndarray
) -> np.ndarray:
    """The row of a maximum over windows, and of its place in each, if somebody asks for that."""
    places = {"m": -1} if winner is None else winner.columns("m")
    return row(
        L.K_MAX_POOL,
        **_window_columns(planner, x, y),
        **places,
        taps=offsets.shape[1],
        tap_table=planner.table(offsets),
    )


def winner_gradient_row(
    planner: Planner, grad_x: Buffer, grad: Buffer, winner: Buffer, offsets: np.ndarray
) -> np.ndarray:
    """The row that gives each pixel the gradients of the windows that it won."""
    order = np.argsort(offsets, axis=None, kind="stable")
    window, place = np.divmod(order, offsets.shape[1])
    bits = place.astype(np.float32).view(np.int32)
    ends = np.searchsorted(offsets.ravel()[order], grad_x.pixels(), side="right")
    return row(
        L.K_MAX_POOL_BACKWARD,
        **element_columns(planner, x=grad_x),
        **grad.columns("y"),
        **winner.columns("m"),
        y_channel=grad.channel,
        extra=-1,
        tap_table=planner.table(np.concatenate([[0], ends])),
        m_table=planner.table(np.stack([grad.pixels()[window], bits], axis=1)),
    )


def is_rectified(planner: Planner, index: int) -> bool:
    """Whether a ReLU made a node's output, or what it is another shape or a dropout of."""
    maker = planner.makers.get(index)
    if maker is None:
        return False
    renames = OPERATIONS[maker.operation].renames and len(maker.sources) == 1
    return maker.relu or (renames and is_rectified(planner, maker.source))


def _window_columns(planner: Planner, x: Buffer, y: Buffer) -> dict[str, int]:
    """Columns of a row whose positions are the pixels of Y, and whose windows lie in X."""
    positions: dict[str, int] = {"positions": y.height * y.width, "in": x.height * x.width}
    return element_columns(planner, x=x, y=y) | positions
