"""Memory that the kernel accesses, checked before a program runs."""

from fastcnn.backends.lanes.convolution.channel_direct.kernels import TILE_BLOCKS, WHOLE
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER, points
from fastcnn.backends.lanes.convolution.winograd1d.geometry import WIDTHS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.planning.buffers import whole
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena, parameters
from fastcnn.codegen.simd import LANES


def channel_rows(r: Reach) -> Touches:
    """Rows of tiles of the input, and the rows of the output."""
    products = points(r.among(L.TAPS, WIDTHS))
    r.count(L.GROUPS, 1)
    maps = L.Y_ROWS, L.Y_WIDTH, L.STRIP_ROWS, L.ACROSS
    rows, width, height, tiles = (r.count(column, 1) for column in maps)
    sums = L.KERNEL_ROWS, L.EXTRA, L.CHANNELS, L.IN
    kernel, inputs, blocks, taps = (r.count(column, 1) for column in sums)
    pitch, across = tiles + r.count(L.MORE_TILES), -(-width // (OUTPUTS * tiles))
    seen = OUTPUTS * ((across - 1) * tiles + pitch - 1) + products
    x = r.buffer(L.X) + r.along(inputs, r[L.X_CHANNEL])
    yield arena("X", x + r.along(rows + kernel - 1, r[L.X_ROW]) + r.along(seen, LANES))
    for name in "Y" if r[L.M] < 0 else "YM":
        row = r[getattr(L, f"{name}_ROW")]
        yield r.pixels(name, r.along(rows, row) + r.along(width, LANES))
    from_step = inputs * (height + kernel - 1) * pitch * LANES + STAGGER
    to_step = TILE_BLOCKS * whole(height * pitch, WHOLE) * LANES + STAGGER
    # Tiles of sums may read products of the next point, and of the last one the sums.
    read = r.entries(L.TAP_TABLE, taps) + r.along(whole(height * pitch, WHOLE), LANES)
    r.within("TAP_TABLE", read, from_step + to_step, 1)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), products * (from_step + to_step) + LANES)
    yield parameters("W", r.along(products * blocks * taps * LANES, 1) + r[L.W])
    yield parameters("BIAS", r.along(blocks * LANES, 1) + r[L.BIAS])
