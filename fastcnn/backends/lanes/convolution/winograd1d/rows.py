"""Rows of convolutions by Winograd's F(4, r) along rows, where it is faster."""

import numpy as np

from fastcnn.backends.lanes.convolution.direct.kernels import SUM_ROW
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry, pack_order
from fastcnn.backends.lanes.convolution.winograd import points, tiles
from fastcnn.backends.lanes.convolution.winograd1d.geometry import Strip, strip_rows, strips
from fastcnn.backends.lanes.convolution.winograd1d.kernels import OVERSHOOT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.codegen.target import tile_heights


def product(
    planner: Planner,
    name: str,
    g: ConvGeometry,
    weight: int,
    x: Buffer,
    y: Buffer,
    pooled: bool,
    columns: dict[str, int],
) -> None:
    """Add the row of a convolution of X into Y."""
    source = _kernel_rows(g, weight).transpose(0, 2, 1)
    rows, width = g.output
    if pooled:
        rows, width = rows // 2 * 2, width // 2
    columns = columns | {"y_width": width, "top": g.padding[0], "mode": columns.get("mode", 0)}
    _emit(
        planner,
        name,
        g,
        L.K_WINOGRAD1D,
        source,
        x,
        int(x.at(0, -g.padding[1])),
        y,
        rows,
        columns,
    )


def transpose(
    planner: Planner,
    name: str,
    g: ConvGeometry,
    weight: int,
    grad: Buffer,
    grad_x: Buffer,
    columns: dict[str, int],
) -> None:
    """Add the row that carries its output side back to its input side: with the kernel turned."""
    source = _kernel_rows(g, weight)[:, :, ::-1].transpose(1, 2, 0)
    columns = columns | {
        "y_width": g.input[1],
        "top": g.kernel[0] - 1 - g.padding[0],
        "left": g.padding[1],
    }
    _emit(
        planner,
        name,
        g,
        L.K_WINOGRAD1D_TRANSPOSED,
        source,
        grad,
        int(grad.at(0, 0)),
        grad_x,
        g.input[0],
        columns,
    )


def weight_gradient(
    planner: Planner, name: str, g: ConvGeometry, weight: int, x: Buffer, grad: Buffer
) -> None:
    """Add the rows of the weights' gradient, its sum over blocks among them."""
    products, inputs, channels = points(g.kernel[1]), g.group_inputs, g.out_channels
    count = channels * inputs * g.kernel[0]
    block = -(-products * count // LANES) * LANES
    partial = {"extra": planner.allocate(block * planner.blocks + LANES), "extra_block": block}
    most = strip_rows(g, inputs, channels)
    c, kh = np.mgrid[:inputs, : g.kernel[0]]
    each = (most + g.kernel[0] - 1) * tiles(g.output[1])
    values = row(
        L.K_WINOGRAD1D_GRADIENT,
        **x.columns("x"),
        **grad.columns("y"),
        **partial,
        x_channel=x.channel,
        x_row=x.row,
        x_rows=x.height,
        y_channel=grad.channel,
        y_row=grad.row,
        channels=channels,
        top=g.padding[0],
        tap_table=planner.table((c * each + kh * tiles(g.output[1])) * LANES, 1),
        **_strip_columns(planner, g, most, strips(g.output[0], g.output[0], 1, 0, most)),
        **{"in": inputs},
    )
    values[L.X] += int(x.at(0, -g.padding[1]))
    values[L.Y] += int(grad.at(0, 0))
    room = products * (inputs * each + channels * most * tiles(g.output[1]) + 2) * LANES
    room += 4 * SUM_ROW + LANES
    planner.emit(f"{name}: weight gradient", planner.with_scratch(values, room))
    sizes: dict[str, int] = {"in": count, "taps": g.kernel[1]}
    values = row(L.K_WINOGRAD1D_REDUCE, w=weight, **partial, **sizes)
    values = planner.with_scratch(values, g.kernel[1] * LANES)
    planner.reductions.append((f"{name}: sum gradients", values))


def _kernel_rows(g: ConvGeometry, weight: int) -> np.ndarray:
    """Index of the first weight of each row of each kernel: [output][input][row]."""
    shape = (g.out_channels, g.group_inputs, g.kernel[0])
    return weight + g.kernel[1] * np.arange(np.prod(shape)).reshape(shape)


def _emit(
    planner: Planner,
    name: str,
    g: ConvGeometry,
    kernel: int,
    source: np.ndarray,
    x: Buffer,
    x_first: int,
    y: Buffer,
    rows: int,
    columns: dict[str, int],
) -> None:
    """Add a row; ``source`` has the index of each kernel row, by output, row and input."""
    outputs, height, inputs = source.shape
    products = points(g.kernel[1])
    order = pack_order(1, outputs, source.reshape(1, outputs, -1), tile_heights(pooled=False))
    padded = -(-order.size // LANES) * LANES
    packed = planner.allocate(products * padded)
    sizes: dict[str, int] = {"in": order.size, "out": padded, "taps": g.kernel[1]}
    weights = row(L.K_WINOGRAD1D_WEIGHTS, w=packed, tap_table=planner.table(order, LANES), **sizes)
    planner.preparations.append((f"{name.split(':')[0]}: transform weights", weights))
    most = strip_rows(g, inputs, outputs)
    # Threads that have no block of their own left share the strips of one.
    parts = planner.workers if planner.blocks % planner.workers else 1
    found = strips(rows, x.height, height, columns["top"], most, parts)
    each = (most + height - 1) * tiles(g.output[1])
    kh, c = np.mgrid[:height, :inputs]
    sizes = {"in": inputs, "out": padded}
    values = row(
        kernel,
        **x.columns("x"),
        **y.columns("y"),
        **({"bias": -1} | columns),
        w=packed,
        x_channel=x.channel,
        x_row=x.row,
        x_rows=x.height,
        y_channel=y.channel,
        y_row=y.row,
        channels=outputs,
        tap_table=planner.table((c * each + kh * tiles(g.output[1])) * LANES, 1),
        **_strip_columns(planner, g, most, found),
        **sizes,
    )
    values[L.X] += x_first
    values[L.Y] += int(y.at(0, 0))
    values[L.M] += int(y.at(0, 0))
    room = inputs * each + 1 + outputs * (most * tiles(g.output[1]) + OVERSHOOT) + 1
    planner.emit(name, planner.with_scratch(values, (products * room + 1) * LANES))


def _strip_columns(
    planner: Planner, g: ConvGeometry, most: int, found: list[Strip]
) -> dict[str, int]:
    """Columns that tell of strips of at most some rows."""
    along = tiles(g.output[1])
    return {
        "taps": g.kernel[1],
        "kernel_rows": g.kernel[0],
        "groups": along,
        "strip_rows": most,
        "positions": len(found),
        "strip_table": planner.table(found),
        "m_table": planner.table(np.arange(most * along) * LANES, 1),
    }
