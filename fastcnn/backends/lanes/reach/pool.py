"""How far rows of poolings reach."""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.pool import FITS_CACHE
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena, channels_of
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def max_pool(r: Reach) -> Touches:
    positions = r.count(L.POSITIONS)
    windows = r.entries(L.TAP_TABLE, positions * r.count(L.TAPS, 1))
    yield arena("X", channels_of(r, L.X, L.X_CHANNEL, windows))
    for place, what in ((L.Y, "Y"), (L.M, "M")):
        if place == L.M and r[L.M] < 0:
            continue
        outputs = r.entries(L.Y_TABLE, positions)
        yield arena(what, channels_of(r, place, L.Y_CHANNEL, outputs))


def _cleared(r: Reach) -> Touches:
    """Pixels of X that are set to zero first."""
    inputs = r.entries(L.X_TABLE, r.count(L.IN))
    yield arena("X", channels_of(r, L.X, L.X_CHANNEL, inputs))


def max_pool_backward(r: Reach) -> Touches:
    pixels = r.count(L.POSITIONS)
    starts = r.table(L.TAP_TABLE, pixels + 1)
    visits = int(starts.max())
    if starts.min() < 0:
        raise ProgramError("TAP_TABLE has windows before the first")
    # A pixel without windows asks for the one that would come next.
    windows = r.table(L.M_TABLE, 2 * visits + 1)[:-1:2]
    if r.count(L.CHANNELS) * r[L.X_CHANNEL] > FITS_CACHE:
        steps = (r[column] for column in (L.X, L.X_BLOCK, L.X_SLOT, L.X_CHANNEL))
        if any(step % LANES for step in (*steps, *r.table(L.X_TABLE, pixels).tolist())):
            raise ProgramError("X is written past the cache, but not in whole cache lines")
    yield arena("X", channels_of(r, L.X, L.X_CHANNEL, r.entries(L.X_TABLE, pixels)))
    if visits:
        outputs = Range(int(windows.min()), int(windows.max()))
        yield arena("Y", channels_of(r, L.Y, L.Y_CHANNEL, outputs))
        yield arena("M", channels_of(r, L.M, L.Y_CHANNEL, outputs))
    if r[L.EXTRA] >= 0:
        sums = r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(r.count(L.CHANNELS), 1)
        yield arena("EXTRA", sums, 1)


def avg_pool(r: Reach) -> Touches:
    positions, width = r.count(L.POSITIONS), r.count(L.TAPS) + 1
    windows = r.table(L.TAP_TABLE, positions * width).reshape(-1, width)
    if not windows.size:
        return
    if windows[:, 0].max() >= width:
        raise ProgramError("TAP_TABLE has a window of more pixels than TAPS")
    inside = windows[:, 1:][np.arange(1, width) <= windows[:, :1]]
    if inside.size:
        pixels = Range(int(inside.min()), int(inside.max()))
        yield arena("X", channels_of(r, L.X, L.X_CHANNEL, pixels))
    outputs = r.entries(L.Y_TABLE, positions)
    yield arena("Y", channels_of(r, L.Y, L.Y_CHANNEL, outputs))
    yield arena("SCALE", r.along(positions, 1) + r[L.SCALE], 1)


def avg_pool_backward(r: Reach) -> Touches:
    yield from avg_pool(r)
    yield from _cleared(r)


def unpool(r: Reach) -> Touches:
    positions = r.count(L.POSITIONS)
    pixels, outputs = r.entries(L.X_TABLE, 4 * positions), r.entries(L.Y_TABLE, positions)
    yield arena("X", channels_of(r, L.X, L.X_CHANNEL, pixels))
    yield arena("Y", channels_of(r, L.Y, L.Y_CHANNEL, outputs))
    yield arena("M", channels_of(r, L.M, L.Y_CHANNEL, outputs))
    sums = r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(r[L.CHANNELS], 1)
    yield arena("EXTRA", sums, 1)
