"""Lowers 3x3 convolutions by Winograd's F(4x4, 3x3) to rows over many blocks at a time."""

import numpy as np

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.convolution.winograd import STAGGER, first_outputs
from fastcnn.backends.lanes.convolution.winograd2d.kernels import PRODUCTS
from fastcnn.backends.lanes.convolution.winograd2d.rows import (
    adjoint_places,
    product_tiling,
    transposed_kernels,
    weights,
)
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.kernels import carried_floats
from fastcnn.backends.lanes.convolution.winograd2d_batch import records
from fastcnn.backends.lanes.convolution.winograd2d_batch.gradient_kernels import batch_gradient_room
from fastcnn.backends.lanes.convolution.winograd2d_batch.kernels import kernels_room
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.planner import Planner

#: Tiles processed at a time: enough to read the weights rarely.
TILES = 24
#: Maximum of these for which weights are transformed in the products' row.
FEW_TILES = 12
#: Output channels whose weights are transformed at a time, and fewer where threads would have no
#: work or more inputs' weights would not fit in the second-level cache. Tiles' transforms, which do
#: not fit either, are read once for them.
TOGETHER, FEWER, MOST_INPUTS = 32, 16, 384
#: Tiles of a weight gradient processed at a time, and channels of either side.
GRADIENT_TILES, GRADIENT_INPUTS, GRADIENT_OUTPUTS = 8, 32, 256


def moment_strips(g: ConvGeometry, pooled: bool) -> list[int]:
    """Pixels of a channel of a product's output, which is computed as a whole."""
    return [int(product_tiling(g, 0, pooled).pixels().sum())]


def product(task: Task, x: Buffer, y: Buffer, pooled: bool, columns: dict[str, int]) -> None:
    """Add the rows of a convolution of X into Y."""
    planner, name, g, weight = task
    tiling = product_tiling(g, weight, pooled)
    places = tiling.places(planner, x, y) | columns
    outputs = "y", "m", "bias", "relu", "strip_table", "extra"
    _emit(
        planner,
        (f"{name}, transform inputs", records.K_WINOGRAD2D_BATCH_INPUTS, _of(places, "x")),
        _products(planner, name, tiling.source, places["positions"]),
        (name, records.K_WINOGRAD2D_BATCH_OUTPUTS, _of(places, *outputs)),
        sizes=_of(places, "in", "channels", "positions"),
    )


def transpose(task: Task, grad: Buffer, grad_x: Buffer, columns: dict[str, int]) -> None:
    """Add the rows of the transpose, from the output side to the input side."""
    planner, name, g, weight = task
    places = adjoint_places(g, grad, grad_x) | columns
    own = LANES + carried_floats(places["across"])
    places |= {"m": planner.allocate(own * planner.workers), "m_slot": own}
    _emit(
        planner,
        (
            f"{name}, transform gradients",
            records.K_WINOGRAD2D_BATCH_ADJOINT_INPUTS,
            _of(places, "x", "across"),
        ),
        _products(planner, name, transposed_kernels(g, weight), places["positions"]),
        (
            name,
            records.K_WINOGRAD2D_BATCH_ADJOINT_OUTPUTS,
            _of(places, "y", "m", "bias", "relu", "across", "top", "left"),
        ),
        sizes=_of(places, "in", "channels", "positions"),
    )


def _products(
    planner: Planner, name: str, source: np.ndarray, count: int
) -> tuple[str, int, dict[str, int]]:
    """The row of products, given the offsets of the kernels' weights; a map has COUNT tiles.

    In training weights change at each step, and their transforms are not written to memory, unless
    rereading all tiles' transforms for each unit's weights takes longer.
    """
    if not planner.training or _blocks(planner, count) * count > FEW_TILES:
        return (
            f"{name}, products",
            records.K_WINOGRAD2D_BATCH_PRODUCTS,
            weights(planner, name, source),
        )
    first, outputs, inputs = int(source[0, 0]), *source.shape
    is_wide = outputs >= TOGETHER * planner.workers and inputs <= MOST_INPUTS
    together = TOGETHER if is_wide else FEWER
    columns = {
        "x_group": together,
        "w": first,
        "y_channel": (int(source[-1, 0]) - first) // max(1, outputs - 1),
        "x_channel": (int(source[0, -1]) - first) // max(1, inputs - 1),
        "m_slot": kernels_room(inputs, together),
    }
    return f"{name}, products", records.K_WINOGRAD2D_BATCH_PRODUCTS_OF_KERNELS, columns


def _blocks(planner: Planner, count: int) -> int:
    """Blocks whose tiles are processed at a time."""
    return min(planner.blocks, max(1, TILES // count))


def _emit(planner: Planner, *steps: tuple[str, int, dict[str, int]], sizes: dict[str, int]) -> None:
    """Add three rows for each run of blocks, over the whole batch."""
    inputs, outputs, count = sizes["in"], sizes["channels"], sizes["positions"]
    blocks = _blocks(planner, count)
    each = blocks * count * LANES
    room = PRODUCTS * ((inputs + outputs) * each + 2 * STAGGER) + outputs * LANES
    for _, kernel, own in steps:
        if kernel == records.K_WINOGRAD2D_BATCH_PRODUCTS_OF_KERNELS:
            room += planner.workers * own["m_slot"]
    sizes |= {"strip_rows": blocks, "taps": blocks * count}
    for first in range(0, planner.blocks, blocks):
        for label, kernel, own in steps:
            values = row(kernel, **sizes | own, groups=first)
            planner.with_shared_scratch(values, room)
            planner.emit(label, values, whole=True)


def weight_gradient(task: Task, x: Buffer, grad: Buffer) -> None:
    """Add the row of the weights' gradient."""
    planner, name, g, weight = task
    inputs, outputs = g.group_inputs, g.out_channels
    h, w = first_outputs(g.output).T
    places = x.at(h - g.padding[0], w - g.padding[1]), grad.at(h, w)
    blocks = np.arange(planner.blocks)[:, None]
    count = planner.blocks * len(h)
    shared = -(-outputs // planner.workers // LANES) * LANES
    together = min(inputs, GRADIENT_INPUTS), min(shared, GRADIENT_OUTPUTS)
    strip = min(GRADIENT_TILES, count)
    values = row(
        records.K_GRADIENT,
        w=weight,
        x=x.offset,
        y=grad.offset,
        taps=strip,
        x_group=together[0],
        groups=together[1],
        positions=len(h),
        channels=outputs,
        x_table=planner.table(blocks * x.block + places[0]),
        y_table=planner.table(blocks * grad.block + places[1]),
        x_channel=x.channel,
        x_row=x.row,
        y_channel=grad.channel,
        y_row=grad.row,
        **{"in": inputs},
    )
    planner.with_scratch(values, batch_gradient_room(inputs, together, strip, count))
    planner.emit(f"{name}: weight gradient", values, whole=True)


def _of(places: dict[str, int], *names: str) -> dict[str, int]:
    """The columns whose names begin with one of some prefixes."""
    return {name: value for name, value in places.items() if name.startswith(names)}
