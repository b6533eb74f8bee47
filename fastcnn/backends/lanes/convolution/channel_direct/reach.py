"""Memory that the kernels with a channel in each lane access, checked before a program runs."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import (
    MORE_POSITIONS,
    Range,
    Reach,
    Touches,
    arena,
    parameters,
)
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def channel_input(r: Reach) -> Touches:
    """Rows of values; whether the sample is in bounds is checked per run."""
    size, channels, rows = r.count(L.IN, 1), r.count(L.OUT, 1), r.count(L.POSITIONS, 1)
    if size % rows or (rows % channels and (rows, channels) != (1, size)):
        raise ProgramError(f"{size} values in {rows} rows of {channels} channels")
    along, places = r.along(size // rows, r.among(L.MODE, (1, LANES))), r.entries(L.X_TABLE, rows)
    if r[L.MODE] == LANES:
        # Whole vectors are stored.
        vectors = Range(places.low // LANES * LANES, places.high // LANES * LANES)
        yield arena("Y", r.buffer(L.Y) + vectors + along)
    else:
        yield arena("Y", r.buffer(L.Y) + places + along, 1)
    yield arena("SCALE", r.along(2 * channels, 1) + r[L.SCALE], 1)


def channel_output(r: Reach) -> Touches:
    """Single floats of X."""
    places = r.entries(L.X_TABLE, r.count(L.IN))
    yield arena("X", r.blocks(L.X, L.X_BLOCK) + places, 1)


def _weights(r: Reach, blocks: int, taps: int) -> Touches:
    yield parameters("W", r.along(blocks * taps * LANES, 1) + r[L.W])
    yield parameters("BIAS", r.along(blocks * LANES, 1) + r[L.BIAS])


def _added(r: Reach, blocks: int, places: Range) -> Touches:
    """The map added to the output, if there is one."""
    if r[L.M] >= 0:
        yield arena("M", r.buffer(L.M) + r.along(blocks, r[L.M_CHANNEL]) + places)


def positions_of_all(r: Reach) -> int:
    """Positions in a row's tables: of one sample, or of all."""
    positions = r.count(L.POSITIONS, 1)
    if positions < r.count(L.MODE) * r.samples:
        raise ProgramError(f"{positions} positions of {r.samples} samples with {r[L.MODE]} each")
    return positions


def channel_convolution(r: Reach) -> Touches:
    """A sum over taps at positions; a tile may look up some further entries."""
    groups, blocks, taps = (r.count(column, 1) for column in (L.GROUPS, L.CHANNELS, L.TAPS))
    positions = positions_of_all(r)
    more = positions + MORE_POSITIONS
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP]) + r.entries(L.X_TABLE, more)
    yield arena("X", x + r.entries(L.TAP_TABLE, taps), 1)
    y = r.buffer(L.Y) + r.along(groups * blocks, r[L.Y_CHANNEL])
    yield arena("Y", y + r.entries(L.Y_TABLE, more))
    yield from _added(r, groups * blocks, r.entries(L.M_TABLE, more))
    yield from _weights(r, groups * blocks, taps)


def channel_dot(r: Reach) -> Touches:
    """Vectors of X, and single floats of the output."""
    channels, taps, used = (r.count(column, 1) for column in (L.OUT, L.TAPS, L.IN))
    if r.count(L.EXTRA) > taps or max(channels, used) > LANES:
        raise ProgramError(f"{channels} channels of {r[L.EXTRA]} of {taps} taps and {used} lanes")
    more = positions_of_all(r) + MORE_POSITIONS
    x = r.buffer(L.X) + r.entries(L.X_TABLE, more)
    yield arena("X", x + r.entries(L.TAP_TABLE, taps))
    each = r.along(channels, 1)
    yield arena("Y", r.buffer(L.Y) + each + r.entries(L.Y_TABLE, more), 1)
    # The table is read even if nothing is added.
    added = r.entries(L.M_TABLE, more)
    if r[L.M] >= 0:
        yield arena("M", r.buffer(L.M) + each + added, 1)
    yield parameters("W", r.along(channels * taps * LANES, 1) + r[L.W])
    yield parameters("BIAS", each + r[L.BIAS])


def channel_depthwise(r: Reach) -> Touches:
    """A depthwise convolution."""
    blocks, taps, positions = (r.count(c, 1) for c in (L.CHANNELS, L.TAPS, L.POSITIONS))
    more = positions + MORE_POSITIONS
    yield r.pixels("X", r.entries(L.X_TABLE, more) + r.entries(L.TAP_TABLE, taps))
    yield r.pixels("Y", more)
    yield from _added(r, blocks, r.entries(L.M_TABLE, more))
    yield from _weights(r, blocks, taps)
