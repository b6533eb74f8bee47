"""How far the rows of Winograd's convolutions reach; see ranges.py."""

from collections.abc import Callable

import numpy as np

from fastcnn.backends.lanes.convolution.direct.gradient_kernels import SUM_ROW
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER, points
from fastcnn.backends.lanes.convolution.winograd1d.geometry import PASS_CHANNELS, WIDTHS, Strip
from fastcnn.backends.lanes.convolution.winograd1d.kernels import OVERSHOOT
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
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS, SIDE
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.kernels import carried_floats
from fastcnn.backends.lanes.convolution.winograd2d_batch.kernels import kernels_room
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import (
    MODES,
    MORE_POSITIONS,
    MORE_TAPS,
    Range,
    Reach,
    Touches,
    arena,
    bias,
    gradient,
    parameters,
    within,
)
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError

#: Tiles that a strip may have.
STRIPS = tuple(range(1, MOST_TILES + 1))


def winograd2d_weights(r: Reach) -> Touches:
    r.among(L.DOWN, tuple(TRANSFORMS))
    units = -(-r.count(L.IN) // LANES)
    kernels = r.entries(L.TAP_TABLE, units * LANES)
    yield parameters("TAP_TABLE", kernels + r.along(9, 1))
    yield arena("W", r.along(PRODUCTS, r[L.OUT]) + r.along(units, LANES) + r[L.W])


def _tiles(r: Reach, place: int, row: int, table: int, side: int) -> Range:
    """Square tiles of maps; a tile's corner is an entry of a table."""
    tile = r.along(side, r[row]) + r.along(side, LANES)
    return r.buffer(place) + r.entries(table, r.count(L.POSITIONS)) + tile


def _outputs_of_tiles(r: Reach, outputs: int, tiles: int) -> Touches:
    pooled = r.among(L.MODE, MODES) == L.POOLED
    sizes = r.table(L.STRIP_TABLE, 2 * tiles).reshape(-1, 2).astype(np.int64)
    sizes = sizes.clip(0, OUTPUTS // 2 if pooled else OUTPUTS)
    corners = r.table(L.Y_TABLE, tiles).astype(np.int64)
    two = pooled or r[L.MODE] == L.ADDED
    for name, place in (("Y", L.Y), ("M", L.M))[: 2 if two else 1]:
        yield from _outputs_at(r, (name, place), outputs, corners, sizes)
    yield from bias(r, outputs)


def _outputs_at(
    r: Reach, to: tuple[str, int], outputs: int, corners: np.ndarray, sizes: np.ndarray
) -> Touches:
    """Rows and columns from tiles' corners on, which differ from tile to tile."""
    name, place = to
    written = r.buffer(place) + r.along(outputs, r[L.Y_CHANNEL])
    for rows, columns in {tuple(size) for size in sizes.tolist() if min(size) > 0}:
        tile = r.along(rows, r[L.Y_ROW]) + r.along(columns, LANES)
        found = corners[(sizes == (rows, columns)).all(axis=1)]
        yield arena(name, written + Range(int(found.min()), int(found.max())) + tile)


def _moments(r: Reach, strips: int) -> Touches:
    """Two numbers of each channel and strip of a block."""
    if r.among(L.MOMENTS, (0, 1)):
        numbers = r.along(2 * r.count(L.CHANNELS) * strips, 1)
        yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + numbers, 1)


def winograd2d(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    strip, tiles = r.among(L.TAPS, STRIPS), r.count(L.POSITIONS)
    strides = (1,) if r[L.KERNEL] == L.K_WINOGRAD2D_EDGE else tuple(TRANSFORMS)
    transform = TRANSFORMS[r.among(L.DOWN, strides)]
    x = _tiles(r, L.X, L.X_ROW, L.X_TABLE, transform.side) + r.along(inputs, r[L.X_CHANNEL])
    yield arena("X", x)
    yield arena(
        "Z",
        r.workers(L.Z, L.Z_SLOT),
        strip_room(inputs, strip, transform.products) + moment_room(outputs),
    )
    weights = r.entries(L.S_TABLE, transform.products) + r[L.W]
    yield arena("W", weights, inputs * outputs)
    yield from _outputs_of_tiles(r, outputs, tiles)
    yield from _moments(r, -(-tiles // (strip * r.count(L.GROUPS, 1))))


def _gradient_tiles(r: Reach) -> Range:
    """Tiles of 4x4 pixels of the output's gradient, row after row."""
    tiles, across = r.count(L.POSITIONS), r.count(L.ACROSS, 1)
    if tiles % across:
        raise ProgramError(f"{tiles} tiles in rows of {across}")
    down = r.along(OUTPUTS * (tiles // across), r[L.X_ROW])
    channels = r.along(r.count(L.IN), r[L.X_CHANNEL])
    return r.buffer(L.X) + channels + down + r.along(OUTPUTS * across, LANES)


def _gradient_windows(r: Reach) -> Touches:
    """The gradient of 2x2 windows of the output, and their winners."""
    tiles, across = r.count(L.POSITIONS), r.count(L.ACROSS, 1)
    sizes, t = r.table(L.STRIP_TABLE, 2 * tiles).reshape(-1, 2), np.arange(tiles)
    map_size = sizes[0] if tiles else np.zeros(2, np.int64)
    if (sizes != map_size - OUTPUTS // 2 * np.stack((t // across, t % across), axis=1)).any():
        raise ProgramError("STRIP_TABLE has other windows than those of one map")
    rows, columns = map_size.tolist()
    windows = r.along(rows, r[L.X_ROW]) + r.along(columns, LANES)
    for name, place in (("X", L.X), ("M", L.M)):
        yield arena(name, r.buffer(place) + r.along(r.count(L.IN), r[L.X_CHANNEL]) + windows)


def _pixels(r: Reach) -> Touches:
    """All pixels of the input's gradient."""
    outputs = r.count(L.CHANNELS)
    pixels = r.along(r.count(L.Y_ROWS), r[L.Y_ROW]) + r.along(r.count(L.Y_WIDTH), LANES)
    yield arena("Y", r.buffer(L.Y) + r.along(outputs, r[L.Y_CHANNEL]) + pixels)
    yield from bias(r, outputs)


def winograd2d_adjoint(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    strip, across = r.among(L.TAPS, STRIPS), r.count(L.ACROSS, 1)
    size = strip_room(inputs, strip, PRODUCTS) + outputs * carried_floats(across)
    if r[L.KERNEL] in (L.K_WINOGRAD2D_WINDOWS_ADJOINT, L.K_WINOGRAD2D_EDGE_WINDOWS_ADJOINT):
        yield from _gradient_windows(r)
    else:
        if r[L.KERNEL] == L.K_WINOGRAD2D_EDGE_ADJOINT:
            r.table(L.STRIP_TABLE, 2 * r.count(L.POSITIONS))
        yield arena("X", _gradient_tiles(r))
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), size)
    yield arena("W", r.along(PRODUCTS, r[L.OUT]) + r[L.W], inputs * outputs)
    yield from _pixels(r)


def winograd2d_strided_adjoint(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    strip, tiles = r.among(L.TAPS, STRIPS), r.count(L.POSITIONS)
    r.among(L.MODE, (L.PLAIN, L.MASKED))
    for padding in (L.TOP, L.LEFT):
        r.count(padding)
    x = _tiles(r, L.X, L.X_ROW, L.X_TABLE, EVENS) + r.along(inputs, r[L.X_CHANNEL])
    yield arena("X", x)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), strip_room(inputs, strip, LARGEST))
    weights = r.entries(L.S_TABLE, STRIDED_PRODUCTS) + r[L.W]
    yield arena("W", weights, inputs * outputs)
    sizes = r.table(L.STRIP_TABLE, 2 * tiles).reshape(-1, 2).astype(np.int64)
    sizes = sizes.clip(0, 2 * OUTPUTS)
    corners = r.table(L.Y_TABLE, tiles).astype(np.int64)
    yield from _outputs_at(r, ("Y", L.Y), outputs, corners, sizes)
    yield from bias(r, outputs)


def _batch_room(r: Reach) -> int:
    """Size of the room for transforms of all tiles."""
    each = r.count(L.TAPS, 1) * LANES
    if r.count(L.STRIP_ROWS, 1) * r.count(L.POSITIONS) > r[L.TAPS] or r.count(L.GROUPS) < 0:
        raise ProgramError(f"{r[L.STRIP_ROWS]} blocks of tiles in room for {r[L.TAPS]}")
    from_step = r.count(L.IN) * each + STAGGER
    to_step = r.count(L.CHANNELS) * each + STAGGER
    return PRODUCTS * (from_step + to_step) + r[L.CHANNELS] * LANES


def winograd2d_batch_inputs(r: Reach) -> Touches:
    x = _tiles(r, L.X, L.X_ROW, L.X_TABLE, SIDE) + r.along(r.count(L.IN), r[L.X_CHANNEL])
    yield arena("X", x)
    yield arena("Z", Range(r[L.Z], r[L.Z]), _batch_room(r))


def winograd2d_batch_products(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    yield arena("Z", Range(r[L.Z], r[L.Z]), _batch_room(r))
    yield arena("W", r.along(PRODUCTS, r[L.OUT]) + r[L.W], inputs * outputs)


def winograd2d_batch_products_of_kernels(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    kernels = r.along(inputs, r[L.X_CHANNEL]) + r.along(outputs, r[L.Y_CHANNEL])
    yield parameters("W", kernels + r.along(9, 1) + r[L.W])
    of_tiles = _batch_room(r)
    yield arena("Z", Range(r[L.Z], r[L.Z]), of_tiles)
    yield arena("Z", r.workers(L.Z, L.M_SLOT) + of_tiles, kernels_room(inputs))


def winograd2d_batch_outputs(r: Reach) -> Touches:
    r.among(L.DOWN, (0, 1))
    yield arena("Z", Range(r[L.Z], r[L.Z]), _batch_room(r))
    yield from _outputs_of_tiles(r, r.count(L.CHANNELS), r.count(L.POSITIONS))
    yield from _moments(r, 1)


def winograd2d_batch_adjoint_inputs(r: Reach) -> Touches:
    yield arena("X", _gradient_tiles(r))
    yield arena("Z", Range(r[L.Z], r[L.Z]), _batch_room(r))


def winograd2d_batch_adjoint_outputs(r: Reach) -> Touches:
    own = LANES + carried_floats(r.count(L.ACROSS, 1))
    yield arena("Z", Range(r[L.Z], r[L.Z]), _batch_room(r))
    yield arena("M", r.workers(L.M, L.M_SLOT), own)
    yield from _pixels(r)


def winograd2d_gradient(stride: int) -> Callable[[Reach], Touches]:
    """Those of a convolution with some stride."""
    return lambda r: _winograd2d_gradient(r, stride)


def _winograd2d_gradient(r: Reach, stride: int) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    strip, together = r.count(L.TAPS, 1), r.count(L.GROUPS, 1)
    of_inputs = r.count(L.X_GROUP, 1)
    if of_inputs % LANES or together % LANES:
        raise ProgramError(f"transforms of {of_inputs} and {together} channels at a time")
    side = TRANSFORMS[stride].side
    x = _tiles(r, L.X, L.X_ROW, L.X_TABLE, side) + r.along(inputs, r[L.X_CHANNEL])
    own, lanes = r[L.OUT] == 0, -(-outputs // LANES) * LANES
    count = inputs * lanes
    yield arena("X", x)
    if r[L.KERNEL] in (L.K_WINOGRAD2D_WINDOWS_GRADIENT, L.K_WINOGRAD2D_EDGE_WINDOWS_GRADIENT):
        sizes = r.table(L.STRIP_TABLE, 2 * r[L.POSITIONS]).reshape(-1, 2).astype(np.int64)
        corners = r.table(L.Y_TABLE, r[L.POSITIONS]).astype(np.int64)
        for to in (("Y", L.Y), ("M", L.M)):
            yield from _outputs_at(r, to, outputs, corners, sizes.clip(0, OUTPUTS // 2))
    else:
        if r[L.KERNEL] == L.K_WINOGRAD2D_EDGE_GRADIENT:
            r.table(L.STRIP_TABLE, 2 * r.count(L.POSITIONS))
        y = _tiles(r, L.Y, L.Y_ROW, L.Y_TABLE, OUTPUTS)
        yield arena("Y", y + r.along(outputs, r[L.Y_CHANNEL]))
    if stride == 1 and r[L.BIAS] >= 0:
        yield arena("BIAS", r.blocks(L.BIAS, L.Z_BLOCK) + r.along(lanes // LANES, LANES))
    if stride == 1:
        room = gradient_room(inputs, (of_inputs, together), strip, r[L.POSITIONS], own)
    else:
        room = strided_gradient_room(inputs, (of_inputs, together), strip, own)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), room)
    if own:
        yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK), 9 * count)
    else:
        sums = r.workers(L.EXTRA, L.EXTRA_BLOCK) + r.along(PRODUCTS, r[L.OUT])
        yield arena("EXTRA", sums, count)


def winograd2d_weight_gradient(r: Reach) -> Touches:
    r.among(L.DOWN, tuple(TRANSFORMS))
    kernels = r.count(L.IN) // LANES * LANES
    if kernels:
        products = r.workers(L.X, L.X_SLOT) + r.along(PRODUCTS, r[L.OUT])
        yield arena("X", products, kernels)
        yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK), 9 * kernels)


def winograd1d_weights(r: Reach) -> Touches:
    width, units = r.among(L.TAPS, WIDTHS), -(-r.count(L.IN) // LANES)
    places = r.entries(L.TAP_TABLE, units * LANES * width)
    yield parameters("TAP_TABLE", Range(max(places.low, 0), places.high))
    yield arena("W", r.along(points(width), r[L.OUT]) + r.along(units, LANES) + r[L.W])


def _strips(r: Reach) -> np.ndarray:
    """The table of strips, a row for each."""
    width = len(Strip._fields)
    found = r.table(L.STRIP_TABLE, width * r.count(L.POSITIONS)).reshape(-1, width)
    rows, low, high = found[:, 1:4].T
    height = r.count(L.KERNEL_ROWS, 1)
    if (
        (found < 0).any()
        or (rows > r[L.STRIP_ROWS]).any()
        or (high > height).any()
        or ((low > high).any())
    ):
        raise ProgramError("STRIP_TABLE has strips outside of their sizes")
    return found.astype(np.int64)


def _rows_of_maps(
    r: Reach, place: int, row: int, rows: int, pixels: int, more: int = 0, along: int = 1
) -> Range:
    """Some rows of tiles of maps, each of ``pixels`` pixels, four of them a tile's own.

    Neighbours are ``along`` pixels of the map apart; the first is one of these.
    """
    tile = r.along(r.count(L.GROUPS, 1) + more, along * OUTPUTS * LANES)
    tile += r.along(pixels, along * LANES) + r.along(along, LANES)
    return r.buffer(place) + r.along(rows, r[row]) + tile


def _stride(r: Reach) -> tuple[int, int]:
    """Rows and columns of X from one output to the next."""
    down, along = r.count(L.DOWN, 1), r.count(L.ALONG, 1)
    if r[L.IN] % along:
        raise ProgramError(f"{r[L.IN]} channels, which are {along} of each map")
    return down, along


def winograd1d(back: bool) -> Callable[[Reach], Touches]:
    def touches(r: Reach) -> Touches:
        width = r.among(L.TAPS, WIDTHS)
        inputs, outputs, height = r.count(L.IN), r.count(L.CHANNELS), r.count(L.KERNEL_ROWS, 1)
        tiles, most, parts = r.count(L.GROUPS, 1), r.count(L.STRIP_ROWS, 1), points(width)
        found = _strips(r)
        if not len(found):
            return
        more = r.count(L.MORE_TILES)
        row, pieces = (tiles + more) * LANES, inputs * (more + 1)
        down, along = _stride(r)
        x_most = down * (most - 1) + height
        passed = min(r.count(L.PASS_ROWS, 1), most)
        if passed < r[L.PASS_ROWS]:
            raise ProgramError(f"{r[L.PASS_ROWS]} rows at a time of strips of {most}")
        from_each, to_each = x_most * row, (passed * tiles + OVERSHOOT) * LANES
        from_step, to_step = inputs * from_each + STAGGER, PASS_CHANNELS * to_each + STAGGER
        first, rows, low, high, window = found.T
        # Rows of a window are transformed once: from its first strip's first to its last one's.
        source = down * first + low - r[L.TOP]
        end = down * (first + rows - 1) + high - r[L.TOP]
        begins = np.array([source[window == number][0] for number in window.tolist()])
        shift, deep = source - begins, end - begins
        if shift.min() < 0 or deep.max() > x_most:
            raise ProgramError("STRIP_TABLE has a window of strips that its room does not hold")
        for strip in set(zip(rows.tolist(), (high - low).tolist(), shift.tolist(), strict=True)):
            top = (strip[0] - 1) // passed * passed
            inside = r.entries(L.V_TABLE, min(strip[0], passed) * tiles + MORE_POSITIONS)
            inside += (strip[2] + down * top) * row
            # A tile may read what follows a point's transforms, and forgets it.
            room = from_step + parts * to_step
            within("TAP_TABLE", inside + r.entries(L.TAP_TABLE, strip[1] * pieces), room)
        given = r.entries(L.M_TABLE, passed * tiles + MORE_POSITIONS)
        within("M_TABLE", given + r.along(PASS_CHANNELS, to_each), to_step)
        x_rows, seen = r.count(L.X_ROWS), OUTPUTS if back else parts
        x = _rows_of_maps(r, L.X, L.X_ROW, x_rows, seen, more, along)
        yield arena("X", x + r.along(inputs // along, r[L.X_CHANNEL]))
        yield arena("Z", r.workers(L.Z, L.Z_SLOT), parts * (from_step + to_step) + LANES)
        yield arena("W", r.along(parts, r[L.OUT]) + r[L.W], outputs * pieces * height)
        pooled = r[L.MODE] == L.POOLED and not back
        size, last = r.count(L.Y_WIDTH), int((first + rows).max())
        if (pooled and -(-size // 2) > tiles) or (r[L.MODE] == L.POOLED and back):
            raise ProgramError(f"windows of {size} pixels in {tiles} tiles")
        lines = last // 2 if pooled else last
        channels = r.along(outputs, r[L.Y_CHANNEL])
        shorter = not back and not pooled and last == x_rows
        ends = r.count(L.Y_LAST) if shorter else size
        written = channels + r.along(lines - 1, r[L.Y_ROW]) + r.along(size, LANES)
        yield arena("Y", r.buffer(L.Y) + written)
        written = channels + (lines - 1) * r[L.Y_ROW] + r.along(ends, LANES)
        yield arena("Y", r.buffer(L.Y) + written)
        if pooled:
            written = channels + r.along(lines, r[L.Y_ROW]) + r.along(size, LANES)
            yield arena("M", r.buffer(L.M) + written)
        if not back:
            yield from bias(r, outputs)

    return touches


def winograd1d_gradient(r: Reach) -> Touches:
    width = r.among(L.TAPS, WIDTHS)
    inputs, channels, height = r.count(L.IN), r.count(L.CHANNELS), r.count(L.KERNEL_ROWS, 1)
    tiles, most, parts = r.count(L.GROUPS, 1), r.count(L.STRIP_ROWS, 1), points(width)
    found = _strips(r)
    if not len(found):
        return
    more = r.count(L.MORE_TILES)
    taps = inputs * height * (more + 1)
    down, along = _stride(r)
    x_each = (down * (most - 1) + height) * (tiles + more) * LANES
    d_each = most * tiles * LANES
    x_step, d_step = inputs * x_each + STAGGER, PASS_CHANNELS * d_each + STAGGER
    inside = r.along(int(found[:, 1].max()), down * (tiles + more) * LANES) + r.along(tiles, LANES)
    within("TAP_TABLE", inside + r.entries(L.TAP_TABLE, taps + MORE_TAPS), x_step)
    x = _rows_of_maps(r, L.X, L.X_ROW, r.count(L.X_ROWS), parts, more, along)
    yield arena("X", x + r.along(inputs // along, r[L.X_CHANNEL]))
    last = int((found[:, 0] + found[:, 1]).max())
    y = _rows_of_maps(r, L.Y, L.Y_ROW, last, OUTPUTS)
    yield arena("Y", y + r.along(channels, r[L.Y_CHANNEL]))
    scratch = parts * (x_step + d_step) + 4 * SUM_ROW + LANES
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), scratch)
    sums = r.blocks(L.EXTRA, L.EXTRA_BLOCK, r.count(L.SHARES, 1))
    yield arena("EXTRA", sums, parts * channels * taps)


def winograd1d_reduce(r: Reach) -> Touches:
    width, rows = r.among(L.TAPS, WIDTHS), r.count(L.IN)
    pieces, weights, along = r.count(L.MORE_TILES) + 1, r.count(L.OUT), r.count(L.ALONG, 1)
    seen = [(weights - phase + along - 1) // along for phase in (0, along - 1)]
    left = [columns - (pieces - 1) * OUTPUTS for columns in seen]
    if not 0 < left[1] <= left[0] <= width or rows % (pieces * along):
        raise ProgramError(f"{rows} pieces of rows of {weights} weights")
    whole = -(-rows // LANES) * LANES
    sums = r.blocks(L.EXTRA, L.EXTRA_BLOCK, r.count(L.SHARES, 1)) + r.along(points(width), rows)
    yield arena("EXTRA", sums, whole)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), width * LANES)
    yield gradient("W", r.along(weights * (rows // (pieces * along)), 1) + r[L.W])
