"""Lowers depthwise convolutions to rows."""

import numpy as np

from fastcnn.backends.lanes.convolution.depthwise.kernels import (
    ROW_STRIDES,
    ROW_WIDTHS,
    SHORT_ROW,
    scratch,
)
from fastcnn.backends.lanes.convolution.depthwise.records import K_DEPTHWISE, K_DEPTHWISE_GRADIENT
from fastcnn.backends.lanes.convolution.direct import rows as direct
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import Buffer
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import grid


def product(task: Task, x: Buffer, y: Buffer, pooled: bool, columns: dict[str, int]) -> None:
    """Add the row of a convolution of X into Y; a pooled one uses the direct algorithm's row."""
    planner, name, g, weight = task
    if pooled:
        direct.product(task, x, y, pooled, columns)
        return
    sums = direct.product_sums(g, x, y)
    places = {"x_group": x.channel, "y_channel": y.channel}
    sizes: dict[str, int] = {"groups": g.groups, "channels": g.group_outputs, "taps": g.taps}
    columns = {"bias": -1, "w": weight} | columns | places | sizes | _phases(planner, [sums])
    if columns.get("mode", L.PLAIN) == L.PLAIN:
        columns |= _rows(g, x)
    planner.emit(name, row(K_DEPTHWISE, **x.columns("x"), **y.columns("y"), **columns))


def transpose(task: Task, grad: Buffer, grad_x: Buffer, columns: dict[str, int]) -> None:
    """Add the row of the transpose, from the output side to the input side."""
    planner, name, g, weight = task
    places = {"x_group": g.group_outputs * grad.channel, "y_channel": grad_x.channel}
    weights = g.group_outputs * g.taps
    sizes: dict[str, int] = {"groups": g.groups, "channels": 1, "taps": weights}
    phases = _phases(planner, direct.transposed_sums(g, grad, grad_x))
    columns = {"bias": -1, "w": weight} | columns | places | sizes | phases
    planner.emit(name, row(K_DEPTHWISE, **grad.columns("x"), **grad_x.columns("y"), **columns))


def gradients(
    task: Task, x: Buffer, grad: Buffer, grad_x: Buffer | None, columns: dict[str, int]
) -> None:
    """Add the row of all gradients; ``columns`` address each block's parameter gradients."""
    planner, name, g, weight = task
    phases = direct.transposed_sums(g, grad, x if grad_x is None else grad_x)
    columns = columns | _phases(planner, phases)
    columns |= {"z": -1} if grad_x is None else grad_x.columns("z") | {"z_channel": grad_x.channel}
    pixels = [sums.to_pixels for sums in direct.transposed_sums(g, grad, x)]
    room = scratch(g.group_outputs * g.taps)
    planner.emit(
        f"{name}: gradients",
        row(
            K_DEPTHWISE_GRADIENT,
            **x.columns("x"),
            **grad.columns("y"),
            **columns,
            m=planner.allocate(room * planner.workers),
            m_slot=room,
            w=weight,
            taps=g.taps,
            positions=g.output[0] * g.output[1],
            x_table=planner.table(np.concatenate(pixels)),
            y_table=planner.table(grad.at(*grid(*g.output))),
            groups=g.groups,
            channels=g.group_outputs,
            x_group=x.channel,
            y_channel=grad.channel,
        ),
    )


def _rows(g: ConvGeometry, x: Buffer) -> dict[str, int]:
    """Columns of a convolution that is computed row by row, if there are tiles for that."""
    (_, width), (_, stride) = g.output, g.stride
    fits = g.kernel[1] in ROW_WIDTHS and stride in ROW_STRIDES and g.dilation[1] == 1
    if not fits or width < SHORT_ROW:
        return {}
    sizes = {"in": g.kernel[1], "kernel_rows": g.kernel[0], "along": stride, "y_width": width}
    return sizes | {"x_row": g.dilation[0] * x.row}


def _phases(planner: Planner, phases: list[direct.Sums]) -> dict[str, int]:
    """Columns of a channel's sums; a table maps each tap to its weight."""
    weights = [planner.table(sums.weights[0, 0]) for sums in phases]
    return direct.phase_columns(planner, phases, weights)
