"""Memory that rows of F(4x4, 3x3) access, checked before a program runs."""

import numpy as np

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS
from fastcnn.backends.lanes.convolution.winograd2d.gradient_kernels import gradient_room
from fastcnn.backends.lanes.convolution.winograd2d.kernels import (
    MOST_TILES,
    moment_room,
    strip_room,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided import (
    EVENS,
    LARGEST,
    STRIDED_PRODUCTS,
    TRANSFORMS,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided_gradient_kernels import (
    strided_gradient_room,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.kernels import carried_floats
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import MODES, Range, Reach, Touches, arena, parameters
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError

#: Possible numbers of tiles of a strip.
STRIPS = tuple(range(1, MOST_TILES + 1))


def weights(r: Reach) -> Touches:
    r.among(L.DOWN, tuple(TRANSFORMS))
    r.among(L.MODE, (L.AS_STORED, L.FLIPPED))
    units = -(-r.count(L.IN) // LANES)
    kernels = r.entries(L.TAP_TABLE, units * LANES)
    yield parameters("TAP_TABLE", kernels + r.along(9, 1))
    yield arena("W", r.along(PRODUCTS, r[L.OUT]) + r.along(units, LANES) + r[L.W])


def tiles_of(r: Reach, place: int, row: int, table: int, side: int, spacing: int = LANES) -> Range:
    """Square tiles of maps; a table has the offset of each tile's corner."""
    tile = r.along(side, r[row]) + r.along(side, spacing)
    return r.buffer(place) + r.entries(table, r.count(L.POSITIONS)) + tile


def outputs_of_tiles(r: Reach, outputs: int, tiles: int, spacing: int = LANES) -> Touches:
    pooled = r.among(L.MODE, MODES) == L.POOLED
    sizes = r.table(L.STRIP_TABLE, 2 * tiles).reshape(-1, 2).astype(np.int64)
    sizes = sizes.clip(0, OUTPUTS // 2 if pooled else OUTPUTS)
    corners = r.table(L.Y_TABLE, tiles).astype(np.int64)
    for name in "YM" if pooled or r[L.MODE] == L.ADDED else "Y":
        yield from outputs_at(r, name, corners, sizes, spacing)
    yield r.bias(outputs)


def outputs_at(
    r: Reach,
    name: str,
    corners: np.ndarray,
    sizes: np.ndarray,
    spacing: int = LANES,
    steps: str = "Y",
) -> Touches:
    """Rows and columns from tiles' corners on, whose number varies from tile to tile."""
    for rows, columns in {tuple(size) for size in sizes.tolist() if min(size) > 0}:
        tile = r.along(rows, r[getattr(L, f"{steps}_ROW")]) + r.along(columns, spacing)
        places = Range.of(corners[(sizes == (rows, columns)).all(axis=1)])
        yield r.pixels(name, places + tile, steps=steps)


def moments(r: Reach, strips: int) -> Touches:
    """Two floats for each channel and strip of a block."""
    if r.among(L.MOMENTS, (0, 1)):
        numbers = r.along(2 * r.count(L.CHANNELS) * strips, 1)
        yield r.sums(numbers)


def product(r: Reach, edge: bool, dilated: bool) -> Touches:
    """The memory of a convolution, optionally with reduced tiles at the edge."""
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    strip, tiles = r.among(L.TAPS, STRIPS), r.count(L.POSITIONS)
    transform = TRANSFORMS[r.among(L.DOWN, (1,) if edge or dilated else tuple(TRANSFORMS))]
    spacing = r[L.SPACING] if dilated else LANES
    x = tiles_of(r, L.X, L.X_ROW, L.X_TABLE, transform.side, spacing)
    x += r.along(inputs, r[L.X_CHANNEL])
    yield arena("X", x)
    room = strip_room(inputs, strip, transform.products) + moment_room(outputs)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), room)
    weights = r.entries(L.S_TABLE, transform.products) + r[L.W]
    yield arena("W", weights, inputs * outputs)
    yield from outputs_of_tiles(r, outputs, tiles, spacing)
    yield from moments(r, -(-tiles // (strip * r.count(L.GROUPS, 1))))


def gradient_tiles(r: Reach) -> Range:
    """Tiles of 4x4 pixels of the output's gradient, row after row."""
    tiles, across = r.count(L.POSITIONS), r.count(L.ACROSS, 1)
    if tiles % across:
        raise ProgramError(f"{tiles} tiles in rows of {across}")
    down = r.along(OUTPUTS * (tiles // across), r[L.X_ROW])
    channels = r.along(r.count(L.IN), r[L.X_CHANNEL])
    return r.buffer(L.X) + channels + down + r.along(OUTPUTS * across, LANES)


def _gradient_windows(r: Reach) -> Touches:
    """The gradient of 2x2 windows of the output, and their argmax."""
    tiles, across = r.count(L.POSITIONS), r.count(L.ACROSS, 1)
    sizes, t = r.table(L.STRIP_TABLE, 2 * tiles).reshape(-1, 2), np.arange(tiles)
    map_size = sizes[0] if tiles else np.zeros(2, np.int64)
    if (sizes != map_size - OUTPUTS // 2 * np.stack((t // across, t % across), axis=1)).any():
        raise ProgramError("STRIP_TABLE has other windows than those of one map")
    rows, columns = map_size.tolist()
    windows = r.along(rows, r[L.X_ROW]) + r.along(columns, LANES)
    for name, place in (("X", L.X), ("M", L.M)):
        yield arena(name, r.buffer(place) + r.along(r.count(L.IN), r[L.X_CHANNEL]) + windows)


def all_pixels(r: Reach) -> Touches:
    """All pixels of the input's gradient."""
    pixels = r.along(r.count(L.Y_ROWS), r[L.Y_ROW]) + r.along(r.count(L.Y_WIDTH), LANES)
    yield r.pixels("Y", pixels)
    yield r.bias(r[L.CHANNELS])


def adjoint(r: Reach, windows: bool, edge: bool) -> Touches:
    """The memory of its transpose, which may read gradients of 2x2 windows and their argmax."""
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    strip, across = r.among(L.TAPS, STRIPS), r.count(L.ACROSS, 1)
    if windows:
        yield from _gradient_windows(r)
    else:
        if edge:
            r.table(L.STRIP_TABLE, 2 * r.count(L.POSITIONS))
        yield arena("X", gradient_tiles(r))
    room = strip_room(inputs, strip, PRODUCTS) + outputs * carried_floats(across)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), room)
    yield arena("W", r.along(PRODUCTS, r[L.OUT]) + r[L.W], inputs * outputs)
    yield from all_pixels(r)


def strided_adjoint(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    strip, tiles = r.among(L.TAPS, STRIPS), r.count(L.POSITIONS)
    r.among(L.MODE, (L.PLAIN, L.MASKED))
    for padding in (L.TOP, L.LEFT):
        r.count(padding)
    x = tiles_of(r, L.X, L.X_ROW, L.X_TABLE, EVENS) + r.along(inputs, r[L.X_CHANNEL])
    yield arena("X", x)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), strip_room(inputs, strip, LARGEST))
    weights = r.entries(L.S_TABLE, STRIDED_PRODUCTS) + r[L.W]
    yield arena("W", weights, inputs * outputs)
    sizes = r.table(L.STRIP_TABLE, 2 * tiles).reshape(-1, 2).astype(np.int64)
    sizes = sizes.clip(0, 2 * OUTPUTS)
    corners = r.table(L.Y_TABLE, tiles).astype(np.int64)
    yield from outputs_at(r, "Y", corners, sizes)
    yield r.bias(outputs)


def gradient_of_transforms(
    r: Reach, stride: int = 1, windows: bool = False, edge: bool = False, dilated: bool = False
) -> Touches:
    """The memory of the gradient of transformed weights."""
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    strip, together = r.count(L.TAPS, 1), r.count(L.GROUPS, 1)
    of_inputs = r.count(L.X_GROUP, 1)
    if of_inputs % LANES or together % LANES:
        raise ProgramError(f"transforms of {of_inputs} and {together} channels at a time")
    side = TRANSFORMS[stride].side
    spacing = r[L.SPACING] if dilated else LANES
    x = tiles_of(r, L.X, L.X_ROW, L.X_TABLE, side, spacing)
    x += r.along(inputs, r[L.X_CHANNEL])
    own, lanes = r[L.OUT] == 0, -(-outputs // LANES) * LANES
    count = inputs * lanes
    yield arena("X", x)
    if windows:
        sizes = r.table(L.STRIP_TABLE, 2 * r[L.POSITIONS]).reshape(-1, 2).astype(np.int64)
        corners = r.table(L.Y_TABLE, r[L.POSITIONS]).astype(np.int64)
        for name in "YM":
            yield from outputs_at(r, name, corners, sizes.clip(0, OUTPUTS // 2))
    else:
        if edge:
            r.table(L.STRIP_TABLE, 2 * r.count(L.POSITIONS))
        y = tiles_of(r, L.Y, L.Y_ROW, L.Y_TABLE, OUTPUTS, spacing)
        yield arena("Y", y + r.along(outputs, r[L.Y_CHANNEL]))
    if stride == 1 and r[L.BIAS] >= 0:
        yield arena("BIAS", r.blocks(L.BIAS, L.Z_BLOCK) + r.along(lanes // LANES, LANES))
    if stride == 1:
        room = gradient_room(inputs, (of_inputs, together), strip, r[L.POSITIONS], own)
    else:
        room = strided_gradient_room(inputs, (of_inputs, together), strip, own)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), room)
    if own:
        yield r.sums(0, 9 * count)
    else:
        sums = r.workers(L.EXTRA, L.EXTRA_BLOCK) + r.along(PRODUCTS, r[L.OUT])
        yield arena("EXTRA", sums, count)


def weight_gradient(r: Reach) -> Touches:
    r.among(L.DOWN, tuple(TRANSFORMS))
    kernels = r.count(L.IN) // LANES * LANES
    if kernels:
        products = r.workers(L.X, L.X_SLOT) + r.along(PRODUCTS, r[L.OUT])
        yield arena("X", products, kernels)
        yield r.sums(0, 9 * kernels)
