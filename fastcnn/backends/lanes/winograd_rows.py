"""Rows of 3x3 convolutions by Winograd's F(2x2, 3x3), where it is faster."""

import numpy as np

from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.buffers import LANES, Buffer
from fastcnn.backends.lanes.conv_geometry import ConvGeometry, pack_order
from fastcnn.backends.lanes.layout import row
from fastcnn.backends.lanes.planner import Planner
from fastcnn.backends.lanes.rows import grid
from fastcnn.backends.lanes.target import instruction_set, tile_heights
from fastcnn.backends.lanes.winograd_kernels import PRODUCTS, STAGGER

#: Floats of a strip's transforms, which stay in the second-level cache.
STRIP = 64 * 1024


def product(
    planner: Planner, name: str, g: ConvGeometry, weight: int, x: Buffer, y: Buffer,
    pooled: bool, columns: dict[str, int],
) -> None:  # fmt: skip
    """Add the row of a convolution of X into Y."""
    h, w = grid(g.output[0] // 2, g.output[1] // 2)
    source = weight + 9 * np.arange(g.out_channels * g.group_inputs).reshape(g.out_channels, -1)
    target = y.pixels() if pooled else y.at(2 * h, 2 * w)
    _emit(planner, name, x, x.at(*g.first_pixels(2 * h, 2 * w)), y, target, source, 1, columns)


def transpose(
    planner: Planner, name: str, g: ConvGeometry, weight: int, grad: Buffer, grad_x: Buffer,
    columns: dict[str, int],
) -> None:  # fmt: skip
    """Add the row that carries its output side back: a convolution with the kernel turned."""
    h, w = grid(g.input[0] // 2, g.input[1] // 2)
    source = weight + 8 + 9 * np.arange(g.out_channels * g.group_inputs).reshape(g.out_channels, -1)
    first = grad.at(2 * h + g.padding[0] - 2, 2 * w + g.padding[1] - 2)
    target = grad_x.at(2 * h, 2 * w)
    _emit(planner, name, grad, first, grad_x, target, source.T, -1, columns)


def _emit(
    planner: Planner, name: str, x: Buffer, from_pixels: np.ndarray, y: Buffer,
    to_pixels: np.ndarray, source: np.ndarray, direction: int, columns: dict[str, int],
) -> None:  # fmt: skip
    outputs, inputs = source.shape
    order = pack_order(1, outputs, source[None], tile_heights(pooled=False))
    padded = -(-order.size // LANES) * LANES
    packed = planner.allocate(PRODUCTS * padded)
    sizes: dict[str, int] = {"in": order.size, "out": padded, "mode": direction}
    weights = row(L.K_WINOGRAD_WEIGHTS, w=packed, tap_table=planner.table(order, LANES), **sizes)
    planner.preparations.append((f"{name.split(':')[0]}: transform weights", weights))
    strip = _strip(PRODUCTS * (inputs + outputs))
    sizes = {"in": inputs, "out": padded, "channels": outputs}
    values = row(
        L.K_WINOGRAD, **x.columns("x"), **y.columns("y"), **({"bias": -1} | columns), w=packed,
        taps=strip, tap_table=planner.table(np.arange(inputs) * strip * LANES, 1),
        m_table=planner.table(np.arange(strip) * LANES, 1), positions=len(from_pixels),
        x_table=planner.table(from_pixels), y_table=planner.table(to_pixels),
        x_channel=x.channel, x_row=x.row, y_channel=y.channel, y_row=y.row, **sizes,
    )  # fmt: skip
    room = PRODUCTS * ((inputs + outputs) * strip * LANES + 2 * STAGGER)
    planner.emit(name, planner.with_scratch(values, room))


def weight_gradient(
    planner: Planner, name: str, g: ConvGeometry, weight: int, x: Buffer, grad: Buffer
) -> None:
    """Add the rows of the weights' gradient."""
    h, w = grid(g.output[0] // 2, g.output[1] // 2)
    count = g.out_channels * g.group_inputs
    block = PRODUCTS * count
    partial = {"extra": planner.allocate(block * planner.blocks), "extra_block": block}
    strip = _strip(4 * (g.group_inputs + g.out_channels))
    sizes: dict[str, int] = {"in": g.group_inputs, "channels": g.out_channels}
    room = 4 * ((g.group_inputs + g.out_channels) * strip + LANES) * LANES + 8 * STAGGER
    values = row(
        L.K_WINOGRAD_GRADIENT, **x.columns("x"), **grad.columns("y"), taps=strip,
        positions=len(h), x_table=planner.table(x.at(*g.first_pixels(2 * h, 2 * w))),
        y_table=planner.table(grad.at(2 * h, 2 * w)), x_channel=x.channel, x_row=x.row,
        y_channel=grad.channel, y_row=grad.row, **partial, **sizes,
    )  # fmt: skip
    planner.emit(f"{name}: weight gradient", planner.with_scratch(values, room))
    sizes = {"in": count}
    values = row(L.K_WINOGRAD_REDUCE, w=weight, **partial, **sizes)
    reduction = planner.with_scratch(values, 9 * LANES)
    planner.reductions.append((f"{name}: sum gradients", reduction))


def _strip(vectors: int) -> int:
    """Tiles of a strip whose transforms take some vectors each: whole register tiles."""
    multiple = 6 if instruction_set() == "AVX-512" else 4
    return max(1, STRIP // (vectors * LANES) // multiple) * multiple
