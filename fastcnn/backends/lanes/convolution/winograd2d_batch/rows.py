"""Rows of 3x3 convolutions by Winograd's F(4x4, 3x3) over many blocks at once."""

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.kernels import PRODUCTS
from fastcnn.backends.lanes.convolution.winograd2d.rows import (
    Tiling,
    product_tiling,
    transpose_tiling,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.planner import Planner

#: Tiles that are in hand at a time: enough to read the weights seldom.
TILES = 24


def moment_strips(g: ConvGeometry, pooled: bool) -> list[int]:
    """Pixels of a channel of a product's output, which is made at once."""
    return [int(product_tiling(g, 0, pooled).pixels().sum())]


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
    """Add the rows of a convolution of X into Y."""
    _emit(planner, name, x, y, product_tiling(g, weight, pooled), columns)


def transpose(
    planner: Planner,
    name: str,
    g: ConvGeometry,
    weight: int,
    grad: Buffer,
    grad_x: Buffer,
    columns: dict[str, int],
) -> None:
    """Add the rows that carry its output side back: a convolution with the kernel turned."""
    _emit(planner, name, grad, grad_x, transpose_tiling(g, weight), columns)


def _emit(
    planner: Planner, name: str, x: Buffer, y: Buffer, tiling: Tiling, columns: dict[str, int]
) -> None:
    """Add three rows for each run of blocks, over the whole batch."""
    outputs, inputs = tiling.source.shape
    weights, places = tiling.weights(planner, name), tiling.places(planner, x, y) | columns
    tiles = places["positions"]
    blocks = min(planner.blocks, max(1, TILES // tiles))
    each = blocks * tiles * LANES
    room = PRODUCTS * ((inputs + outputs) * each + 2 * STAGGER) + outputs * LANES
    sizes = {"in": inputs, "channels": outputs, "positions": tiles, "strip_rows": blocks}
    sizes["taps"] = blocks * tiles
    steps = (
        (f"{name}, transform inputs", L.K_WINOGRAD2D_BATCH_INPUTS, _of(places, "x")),
        (f"{name}, products", L.K_WINOGRAD2D_BATCH_PRODUCTS, weights),
        (
            name,
            L.K_WINOGRAD2D_BATCH_OUTPUTS,
            _of(places, "y", "m", "bias", "relu", "strip_table", "extra"),
        ),
    )
    for first in range(0, planner.blocks, blocks):
        for label, kernel, own in steps:
            values = row(kernel, **sizes | own, groups=first)
            planner.with_shared_scratch(values, room)
            planner.emit(label, values, whole=True)


def _of(places: dict[str, int], *names: str) -> dict[str, int]:
    """The columns whose names begin with some."""
    return {name: value for name, value in places.items() if name.startswith(names)}
