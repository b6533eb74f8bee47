"""Lowers convolutions by Winograd's F(4, r) along rows to rows of a program."""

import itertools
from typing import NamedTuple

import numpy as np

from fastcnn.backends.lanes.convolution.algorithm import Part
from fastcnn.backends.lanes.convolution.direct.gradient_kernels import SUM_ROW
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry, pack_order
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, flipped_padding, points
from fastcnn.backends.lanes.convolution.winograd1d import records
from fastcnn.backends.lanes.convolution.winograd1d.geometry import (
    PASS_CHANNELS,
    Division,
    Strip,
    cut,
    division,
    is_sequence,
    is_turned,
    pass_rows,
    phase_columns,
    piece_width,
    pieces,
    strips,
)
from fastcnn.backends.lanes.convolution.winograd1d.kernels import OVERSHOOT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.codegen.target import tile_heights

#: Maximum shares of a weight gradient's strips, and of sums for which they are divided.
MOST_SHARES, FEW_SUMS = 4, 16 * 1024


def product(task: Task, x: Buffer, y: Buffer, pooled: bool, columns: dict[str, int]) -> None:
    """Add the row of a convolution of X into Y."""
    planner, name, g, weight = task
    rows, width = g.output
    if pooled:
        rows, width = rows // 2 * 2, width // 2
    divided = division(g, Part.PRODUCT)
    source = _cut(g, _weights(g, weight))
    # [output][row][input and phase][piece][column]
    source = np.moveaxis(source, 3, 1).reshape(g.out_channels, g.kernel[0], -1, *source.shape[4:])
    columns = {"mode": 0, **columns, "top": g.padding[0]} | _ends(g, divided, (rows, width))
    first = int(x.at(0, -g.padding[1]))
    if not is_sequence(g):
        divided = divided._replace(rows=rows)
    _emit(planner, name, g, _Work(_kernel(g), divided, source, first), x, y, columns)


def transpose(task: Task, grad: Buffer, grad_x: Buffer, columns: dict[str, int]) -> None:
    """Add the row of the transpose: the flipped kernel's convolution, or all steps transposed."""
    planner, name, g, weight = task
    kernel, divided = records.K_WINOGRAD1D_TRANSPOSED, division(g, Part.TRANSPOSE)
    weights = _weights(g, weight)[:, :, ::-1]
    columns = columns | {"top": g.kernel[0] - 1 - g.padding[0]}
    first = int(grad.at(0, 0))
    if is_turned(g):
        kernel, weights = _kernel(g), weights[..., ::-1]
        columns |= {"mode": 0, **columns} | _ends(g, divided, g.input)
        first = int(grad.at(0, -flipped_padding(g)[1]))
    else:
        columns |= {"y_width": g.input[1], "left": g.padding[1]}
    source = _cut(g, weights)[:, :, 0].transpose(1, 2, 0, 3, 4)
    _emit(planner, name, g, _Work(kernel, divided, source, first), grad, grad_x, columns)


def weight_gradient(task: Task, x: Buffer, grad: Buffer) -> None:
    """Add the rows of the weight gradient, including its sum over blocks."""
    planner, name, g, weight = task
    (height, _), (down, along) = g.kernel, g.stride
    width, inputs, channels = piece_width(phase_columns(g)), g.group_inputs, g.out_channels
    more = pieces(phase_columns(g)) - 1
    of_input = along * height * (more + 1)
    products, count = points(width), channels * inputs * of_input
    block = -(-products * count // LANES) * LANES
    divided = division(g, Part.GRADIENT)
    x_tiles, together = divided.tiles + more, divided.inputs
    c, kh, phase, piece = np.mgrid[:together, :height, :along, : more + 1]
    each = (down * (divided.most - 1) + height) * x_tiles
    found = strips(divided.rows, divided.rows, 1, 0, divided.most)
    # Threads without a block of their own share the strips of one, if there are few sums.
    shares = max(1, min(MOST_SHARES, len(found) // 2)) if block <= FEW_SUMS else 1
    partial = {
        "extra": planner.allocate(block * shares * planner.blocks + LANES),
        "extra_block": block,
        "shares": shares,
    }
    taps = (c * along + phase) * each + kh * x_tiles + piece
    values = row(
        records.K_WINOGRAD1D_GRADIENT
        if g.dilation[1] == 1
        else records.K_WINOGRAD1D_DILATED_GRADIENT,
        **x.channel_columns("x"),
        **grad.channel_columns("y"),
        **partial,
        channels=channels,
        out=inputs * of_input,
        top=g.padding[0],
        **_map_columns(g, divided, x, grad),
        **_strip_columns(planner, g, divided, found),
    )
    values[L.X] += int(x.at(0, -g.padding[1]))
    values[L.Y] += int(grad.at(0, 0))
    room = together * along * each + PASS_CHANNELS * divided.most * divided.tiles + 2
    room = products * room * LANES + 4 * SUM_ROW + LANES
    for first, part in itertools.product(range(0, inputs, together), range(divided.parts)):
        own, some = values.copy(), min(together, inputs - first)
        own[L.IN], own[L.TAP_TABLE] = some * along, planner.table(taps[:some] * LANES, 1)
        own[L.ADDS] = part > 0
        own[L.X] += first * x.channel + part * _part_floats(g, divided) * along
        own[L.Y] += part * _part_floats(g, divided)
        own[L.EXTRA] += first * of_input
        planner.emit(f"{name}: weight gradient", planner.with_scratch(own, room))
    sizes: dict[str, int] = {"in": count, "out": g.kernel[1], "taps": width, "more_tiles": more}
    values = row(records.K_WINOGRAD1D_REDUCE, w=weight, along=along, **partial, **sizes)
    values = planner.with_scratch(values, width * LANES)
    planner.reductions.append((f"{name}: sum gradients", values))


def _weights(g: ConvGeometry, weight: int) -> np.ndarray:
    """Index of each weight."""
    shape = (g.out_channels, g.group_inputs, *g.kernel)
    return weight + np.arange(np.prod(shape)).reshape(shape)


def _cut(g: ConvGeometry, weights: np.ndarray) -> np.ndarray:
    """Kernel rows in pieces of one width, padded with -1.

    Their shape is (channels, channels, phases, rows, pieces, width).
    """
    along, seen = g.stride[1], phase_columns(g)
    phases = [cut(weights[..., phase::along], seen, -1) for phase in range(along)]
    return np.stack(phases, axis=2)


def _kernel(g: ConvGeometry) -> int:
    return records.K_WINOGRAD1D if g.dilation[1] == 1 else records.K_WINOGRAD1D_DILATED


def _part_floats(g: ConvGeometry, divided: Division) -> int:
    """Floats of the output from one part of a row to the next."""
    return divided.tiles * OUTPUTS * LANES * g.dilation[1]


def _ends(g: ConvGeometry, divided: Division, size: tuple[int, ...]) -> dict[str, int]:
    """Columns with the widths of rows of Y: those at the end of a sequence may be shorter."""
    (height, width), dilation = size, g.dilation[1]
    if dilation > 1:
        wide, last = width % dilation or dilation, width // dilation
        return {"y_width": -(-width // dilation), "y_rows": wide, "y_last": last}
    if not is_sequence(g):
        # The last row counts as one that may be shorter: Y_LAST is then read, and checked, as well.
        return {"y_width": width, "y_rows": height - 1, "y_last": width}
    whole, wide = divided.tiles * OUTPUTS, divided.rows - 1
    return {"y_width": whole if wide else width, "y_rows": wide, "y_last": width - wide * whole}


def _map_columns(g: ConvGeometry, divided: Division, x: Buffer, y: Buffer) -> dict[str, int]:
    """Columns that describe the division of maps into rows."""
    if g.dilation[1] > 1:
        spacing = g.dilation[1] * LANES
        return {"x_row": LANES, "x_rows": divided.rows, "y_row": LANES, "spacing": spacing}
    if is_sequence(g):
        step = _part_floats(g, divided)
        return {"x_row": g.stride[1] * step, "x_rows": divided.rows, "y_row": step}
    return {"x_row": x.row, "x_rows": x.height, "y_row": y.row}


class _Work(NamedTuple):
    """A row to lower: its kernel and strips, its weights, and the first pixel that it reads.

    ``source`` has the index of each weight, by output, row, input and piece; inputs include those
    of all phases.
    """

    kernel: int
    divided: Division
    source: np.ndarray
    x_first: int


def _emit(
    planner: Planner,
    name: str,
    g: ConvGeometry,
    work: _Work,
    x: Buffer,
    y: Buffer,
    columns: dict[str, int],
) -> None:
    """Add rows, one for each part of the width."""
    kernel, divided, source, x_first = work
    down, along = g.stride
    outputs, height, inputs, count, width = source.shape
    products = points(width)
    numbers = np.arange(source.size // width).reshape(outputs, -1)
    order = pack_order(numbers, tile_heights(pooled=False))
    padded = -(-order.size // LANES) * LANES
    packed = planner.allocate(products * padded)
    places = np.full((padded, width), -1)
    places[: order.size] = source.reshape(-1, width)[order]
    sizes: dict[str, int] = {"in": order.size, "out": padded, "taps": width}
    weights = row(records.K_WINOGRAD1D_WEIGHTS, w=packed, tap_table=planner.table(places), **sizes)
    planner.preparations.append((f"{name.split(':')[0]}: transform weights", weights))
    maps = _map_columns(g, divided, x, y)
    # Threads without a block of their own share the strips of one.
    parts = planner.workers if planner.blocks % planner.workers else 1
    found = strips(divided.rows, maps["x_rows"], height, columns["top"], divided.most, parts, down)
    x_tiles = divided.tiles + count - 1
    each = (down * (divided.most - 1) + height) * x_tiles
    kh, c, piece = np.mgrid[:height, :inputs, :count]
    line, t = np.divmod(np.arange(divided.most * divided.tiles), divided.tiles)
    sizes = {"in": inputs, "out": padded}
    values = row(
        kernel,
        **x.channel_columns("x"),
        **y.channel_columns("y"),
        **({"bias": -1} | columns),
        w=packed,
        channels=outputs,
        tap_table=planner.table((c * each + kh * x_tiles + piece) * LANES, 1),
        v_table=planner.table((line * down * x_tiles + t) * LANES, 1),
        m_table=planner.table(np.arange(line.size) * LANES, 1),
        **maps,
        **_strip_columns(planner, g, divided, found),
        **sizes,
    )
    values[L.X] += x_first
    is_pooled = columns.get("mode") == L.POOLED
    written = [L.Y, L.M] if is_pooled else [L.Y]
    values[written] += int(y.at(0, 0))
    rows = pass_rows(products, divided.tiles, divided.most)
    values[L.PASS_ROWS] = rows
    room = inputs * each + 1 + PASS_CHANNELS * (rows * divided.tiles + OVERSHOOT) + 1
    room = (products * room + 1) * LANES
    if divided.parts == 1:
        planner.emit(name, planner.with_scratch(values, room))
        return
    size = OUTPUTS // 2 if is_pooled else OUTPUTS
    width, whole = columns["y_width"], size * divided.tiles
    for first in range(0, width, whole):
        values[L.Y_WIDTH] = min(whole, width - first)
        values[L.Y_LAST] = min(whole, max(0, columns["y_last"] - first))
        planner.emit(name, planner.with_scratch(values.copy(), room))
        values[L.X] += _part_floats(g, divided) * along
        values[written] += whole * LANES * g.dilation[1]


def _strip_columns(
    planner: Planner, g: ConvGeometry, divided: Division, found: list[Strip]
) -> dict[str, int]:
    """Columns that describe strips of rows."""
    return {
        "down": g.stride[0],
        "along": g.stride[1],
        "taps": piece_width(phase_columns(g)),
        "kernel_rows": g.kernel[0],
        "groups": divided.tiles,
        "more_tiles": pieces(phase_columns(g)) - 1,
        "strip_rows": divided.most,
        "positions": len(found),
        "strip_table": planner.table(found),
    }
