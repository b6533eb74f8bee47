"""Memory that rows of convolutions of small maps access, checked before a program runs."""

import numpy as np

from fastcnn.backends.lanes.convolution.direct_batch.algorithm import ROWS
from fastcnn.backends.lanes.convolution.direct_batch.kernels import ENTRIES
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena, gradient, parameters
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError

#: Positions are read in pairs; the second one may be after the last.
MORE = 1


def product(r: Reach) -> Touches:
    outputs, most = r.count(L.CHANNELS), r.count(L.STRIP_ROWS, 1)
    r.count(L.GROUPS)
    r.among(L.MODE, (L.PLAIN, L.MASKED))
    kinds = r.table(L.STRIP_TABLE, ENTRIES * r.count(L.POSITIONS)).reshape(-1, ENTRIES)
    if (kinds < 0).any():
        raise ProgramError("STRIP_TABLE has negative entries")
    rows = min(most, max(0, r.samples - r[L.GROUPS]))
    for place, pixels, tap, taps in kinds.tolist():
        count = rows * pixels + MORE
        x, y = (r.table(table, place + count)[place:] for table in (L.X_TABLE, L.Y_TABLE))
        inputs, weights = (
            Range.of(r.table(table, tap + taps)[tap:]) for table in (L.TAP_TABLE, L.M_TABLE)
        )
        yield arena("X", Range.of(x) + inputs + r[L.X])
        yield arena("Y", Range.of(y) + r.along(outputs, r[L.Y_CHANNEL]) + r[L.Y])
        yield parameters("W", weights + r.along(outputs, r[L.OUT]) + r[L.W])
    yield r.bias(outputs)


def _room(r: Reach) -> int:
    """Floats of the two arrays of all blocks together."""
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    if inputs % LANES or outputs % ROWS or r.samples > r.count(L.STRIP_ROWS):
        raise ProgramError(f"gradients of {inputs} by {outputs} channels, {r.samples} blocks")
    pixels = r.count(L.POSITIONS) * inputs + r.count(L.GROUPS) * outputs
    return r[L.STRIP_ROWS] * LANES * pixels


def turn(r: Reach) -> Touches:
    for name, place, table, count, channels, step in (
        ("X", L.X, L.X_TABLE, r[L.POSITIONS], r[L.IN], r[L.X_CHANNEL]),
        ("Y", L.Y, L.Y_TABLE, r[L.GROUPS], r[L.CHANNELS], r[L.Y_CHANNEL]),
    ):
        pixels = r.entries(table, count) + r.along(channels, step)
        yield arena(name, r.blocks(place, place + 1) + pixels)
    yield r.floats("Z", _room(r))


def weight_gradient(r: Reach) -> Touches:
    taps, inputs = r.count(L.TAPS), r.count(L.IN)
    ends = r.table(L.M_TABLE, taps + 1).astype(np.int64)
    if ends.min() < 0 or (np.diff(ends) < 0).any():
        raise ProgramError("M_TABLE has pairs of pixels that end before they begin")
    pairs = r.table(L.TAP_TABLE, 2 * int(ends[-1])).reshape(-1, 2)
    if (pairs < 0).any() or (pairs >= (r.count(L.GROUPS), r.count(L.POSITIONS))).any():
        raise ProgramError("TAP_TABLE has pixels outside of the maps")
    yield r.floats("Z", _room(r))
    yield arena("M", r.workers(L.M, L.M_SLOT), taps * ROWS * inputs)
    yield gradient("W", r.along(r[L.CHANNELS] * inputs * taps, 1) + r[L.W])
