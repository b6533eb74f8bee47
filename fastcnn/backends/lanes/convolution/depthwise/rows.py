"""Lowers depthwise convolutions to rows."""

import numpy as np

from fastcnn.backends.lanes.convolution.depthwise import kernels
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
    each, bias = g.group_outputs, columns["bias"]

    def some(first: int, last: int) -> np.ndarray:
        channel, groups = first * each, last - first
        source, target = x.part(first, groups), y.part(channel, groups * each)
        places = source.columns("x") | target.columns("y")
        places |= {"w": weight + channel * g.taps, "bias": bias + channel if bias >= 0 else -1}
        return row(K_DEPTHWISE, **columns | places | {"groups": groups})

    planner.emit_channels(name, g.groups, [(x, False), (y, True)], some)


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
    room = kernels.scratch(g.group_outputs * g.taps)
    common = dict(
        columns,
        m=planner.allocate(room * planner.workers),
        m_slot=room,
        taps=g.taps,
        positions=g.output[0] * g.output[1],
        x_table=planner.table(np.concatenate(pixels)),
        y_table=planner.table(grad.at(*grid(*g.output))),
        channels=g.group_outputs,
        x_group=x.channel,
        y_channel=grad.channel,
    )
    each, bias, maps = g.group_outputs, columns["bias"], [(x, False), (grad, False)]
    if grad_x is not None:
        maps.append((grad_x, True))

    def some(first: int, last: int) -> np.ndarray:
        channel, groups = first * each, last - first
        own = x.part(first, groups).columns("x") | grad.part(channel, groups * each).columns("y")
        if grad_x is not None:
            own |= grad_x.part(first, groups).columns("z")
        weights = channel * g.taps
        own |= {"w": weight + weights, "extra": columns["extra"] + weights, "groups": groups}
        # Relative to the weights' sums.
        own["bias"] = bias + channel - weights if bias >= 0 else -1
        return row(K_DEPTHWISE_GRADIENT, **common | own)

    planner.emit_channels(f"{name}: gradients", g.groups, maps, some)


def _rows(g: ConvGeometry, x: Buffer) -> dict[str, int]:
    """Columns of a convolution that is computed row by row, if there are tiles for that."""
    (_, width), (_, stride) = g.output, g.stride
    fits = (
        g.kernel[1] in kernels.ROW_WIDTHS and stride in kernels.ROW_STRIDES and g.dilation[1] == 1
    )
    if not fits or width < kernels.SHORT_ROW:
        return {}
    sizes = {"in": g.kernel[1], "kernel_rows": g.kernel[0], "along": stride, "y_width": width}
    return sizes | {"x_row": g.dilation[0] * x.row}


def _phases(planner: Planner, phases: list[direct.Sums]) -> dict[str, int]:
    """Columns of a channel's sums; a table maps each tap to its weight."""
    weights = [planner.table(sums.weights.of_inputs(sums.group_inputs)) for sums in phases]
    return direct.phase_columns(planner, phases, weights)
