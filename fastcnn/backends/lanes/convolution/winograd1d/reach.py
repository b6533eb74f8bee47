"""Memory that rows of F(4, r) along rows access, checked before a program runs."""

import numpy as np

from fastcnn.backends.lanes.convolution.direct.gradient_kernels import SUM_ROW
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER, points
from fastcnn.backends.lanes.convolution.winograd1d.geometry import PASS_CHANNELS, WIDTHS, Strip
from fastcnn.backends.lanes.convolution.winograd1d.kernels import OVERSHOOT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import (
    MORE_POSITIONS,
    MORE_TAPS,
    Range,
    Reach,
    Touches,
    arena,
    gradient,
    parameters,
)
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def weights(r: Reach) -> Touches:
    width, units = r.among(L.TAPS, WIDTHS), -(-r.count(L.IN) // LANES)
    places = r.entries(L.TAP_TABLE, units * LANES * width)
    yield parameters("TAP_TABLE", Range(max(places.low, 0), places.high))
    yield arena("W", r.along(points(width), r[L.OUT]) + r.along(units, LANES) + r[L.W])


def _strips(r: Reach) -> np.ndarray:
    """The table of strips, one row for each."""
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
    r: Reach, place: int, row: int, rows: int, pixels: int, more: int = 0, along: int = 1,
    spacing: int = LANES,
) -> Range:  # fmt: skip
    """Some rows of tiles of maps, of ``pixels`` pixels each; a tile has four output pixels.

    Adjacent pixels are ``along * spacing`` floats apart, from each of the first ``along`` ones on.
    """
    tile = r.along(r.count(L.GROUPS, 1) + more, along * OUTPUTS * spacing)
    tile += r.along(pixels, along * spacing) + r.along(along, LANES)
    return r.buffer(place) + r.along(rows, r[row]) + tile


def _stride(r: Reach) -> tuple[int, int]:
    """Rows and columns of X from one output to the next."""
    down, along = r.count(L.DOWN, 1), r.count(L.ALONG, 1)
    if r[L.IN] % along:
        raise ProgramError(f"{r[L.IN]} channels, which are {along} of each map")
    return down, along


def product(r: Reach, back: bool, dilated: bool = False) -> Touches:
    spacing = r[L.SPACING] if dilated else LANES
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
    # The rows of a window are transformed once, from its first strip's first row to its last
    # one's end.
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
        # A tile may read past a point's transforms and discards the result.
        room = from_step + parts * to_step
        r.within("TAP_TABLE", inside + r.entries(L.TAP_TABLE, strip[1] * pieces), room)
    given = r.entries(L.M_TABLE, passed * tiles + MORE_POSITIONS)
    r.within("M_TABLE", given + r.along(PASS_CHANNELS, to_each), to_step)
    x_rows, seen = r.count(L.X_ROWS), OUTPUTS if back else parts
    x = _rows_of_maps(r, L.X, L.X_ROW, x_rows, seen, more, along, spacing)
    yield arena("X", x + r.along(inputs // along, r[L.X_CHANNEL]))
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), parts * (from_step + to_step) + LANES)
    yield arena("W", r.along(parts, r[L.OUT]) + r[L.W], outputs * pieces * height)
    pooled = r[L.MODE] == L.POOLED and not back
    size, last = r.count(L.Y_WIDTH), int((first + rows).max())
    if (pooled and -(-size // 2) > tiles) or (r[L.MODE] == L.POOLED and back):
        raise ProgramError(f"windows of {size} pixels in {tiles} tiles")
    lines = last // 2 if pooled else last
    wide = lines if back or pooled else min(lines, r.count(L.Y_ROWS))
    yield r.pixels("Y", r.along(wide, r[L.Y_ROW]) + r.along(size, spacing))
    if wide < lines:
        rows_left = r.along(lines - wide, r[L.Y_ROW]) + wide * r[L.Y_ROW]
        yield r.pixels("Y", rows_left + r.along(r.count(L.Y_LAST), spacing))
    if pooled:
        yield r.pixels("M", r.along(lines, r[L.Y_ROW]) + r.along(size, LANES), steps="Y")
    if not back:
        yield r.bias(outputs)


def gradient_of_weights(r: Reach, dilated: bool) -> Touches:
    spacing = r[L.SPACING] if dilated else LANES
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
    r.within("TAP_TABLE", inside + r.entries(L.TAP_TABLE, taps + MORE_TAPS), x_step)
    x = _rows_of_maps(r, L.X, L.X_ROW, r.count(L.X_ROWS), parts, more, along, spacing)
    yield arena("X", x + r.along(inputs // along, r[L.X_CHANNEL]))
    last = int((found[:, 0] + found[:, 1]).max())
    y = _rows_of_maps(r, L.Y, L.Y_ROW, last, OUTPUTS, spacing=spacing)
    yield arena("Y", y + r.along(channels, r[L.Y_CHANNEL]))
    scratch = parts * (x_step + d_step) + 4 * SUM_ROW + LANES
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), scratch)
    sums = r.blocks(L.EXTRA, L.EXTRA_BLOCK, r.count(L.SHARES, 1))
    yield arena("EXTRA", sums + r.along(parts * channels, r[L.OUT]), taps)


def reduction(r: Reach) -> Touches:
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
