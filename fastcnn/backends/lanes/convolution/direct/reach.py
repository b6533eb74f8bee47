"""Memory that rows of direct convolutions access, checked before a program runs."""

import numpy as np

from fastcnn.backends.lanes.convolution.direct.gradient_kernels import RUNS, SCRATCH, TAP_BLOCK
from fastcnn.backends.lanes.convolution.direct.kernels import TILE
from fastcnn.backends.lanes.convolution.phases import phases
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import (
    MODES,
    MORE_POSITIONS,
    MORE_TAPS,
    Reach,
    Touches,
    arena,
    parameters,
)
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def pack(r: Reach) -> Touches:
    groups, inputs, taps = r.count(L.GROUPS), r.count(L.IN), r.count(L.TAPS)
    tiles = r.table(L.STRIP_TABLE, r.count(L.POSITIONS) * TILE).reshape(-1, TILE)
    for c, rows, order, together in tiles.tolist():
        if min(rows, together) < 1:
            raise ProgramError(f"a tile has {rows} channels of {together} inputs")
        first = r.along(groups, r[L.X_GROUP]) + (r[L.X] + c * r[L.X_CHANNEL])
        whole, rest = divmod(inputs, together)
        for start, times, some in (0, whole, together), (whole * together, 1, rest):
            offsets = r.entries_at(order, some * rows * taps, "a tile's weights")
            read = r.along(times, together * r[L.X_ROW]) + start * r[L.X_ROW]
            yield parameters("X", first + read + offsets)
        packed = r.along(groups, r[L.OUT]) + (r[L.W] + c * inputs * taps)
        yield arena("W", packed + r.along(inputs * rows * taps, 1), 1)


def product(r: Reach) -> Touches:
    groups, channels, weights, most = (
        r.count(column) for column in (L.GROUPS, L.CHANNELS, L.TAPS, L.POSITIONS)
    )
    outputs, pooled = groups * channels, r.among(L.MODE, MODES) == L.POOLED
    if not outputs * most:
        return
    if r[L.IN] > 0:
        # Prefetched addresses may be anywhere, but the tables must be in bounds.
        r.table(L.X_TABLE, most + LANES - 1)
        r.table(L.EXTRA, r.count(L.IN))
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP])
    packed = r.along(groups, channels * weights) + r[L.W]
    for phase in phases(r):
        if phase.pixels > most:
            raise ProgramError(f"a phase has {phase.pixels} pixels, the first {most}")
        given = phase.pixels // 4 + 1 if pooled else phase.pixels + MORE_POSITIONS
        targets = r.along(outputs, r[L.Y_CHANNEL]) + phase.written(given)
        if r[L.IN] > 0 and not pooled:
            phase.written(phase.pixels + L.POSITION_PAD)
        yield arena("X", x + phase.read() + phase.taps())
        yield arena("Y", r.buffer(L.Y) + targets)
        if pooled or r[L.MODE] == L.ADDED:
            yield arena("M", r.buffer(L.M) + targets)
        yield arena("W", packed + phase.weights_at + r.along(channels * phase.count, 1), 1)
    yield r.bias(outputs)


def weight_gradient(r: Reach) -> Touches:
    groups, channels, taps = (r.count(column) for column in (L.GROUPS, L.CHANNELS, L.TAPS))
    rows, columns = r.count(L.Y_ROWS), r.count(L.Y_WIDTH)
    pooled, run = r[L.MODE] == L.POOLED, r.among(L.IN, (1, *RUNS))
    outputs, times = groups * channels, 2 if pooled else 1
    if run > 1 and (taps % (9 if run == 3 else run) or (_steps(r, taps, run) != LANES).any()):
        raise ProgramError(f"{taps} taps, which are not {run} and {run} side by side")
    if r.count(L.KERNEL_ROWS) and not (pooled and _lie_as_pixels(r, taps, run)):
        raise ProgramError(f"taps are not laid out as pixels in {r[L.KERNEL_ROWS]} rows of {run}")
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP]) + r.along(times * rows, r[L.X_ROW])
    x += r.along(times * columns, r.count(L.ALONG, 1) * LANES)
    each, scratch = r.along(outputs, r[L.Y_CHANNEL]), r.workers(L.M, L.M_SLOT)
    out = r.blocks(L.EXTRA, L.EXTRA_BLOCK)
    yield arena("X", x + r.entries(L.TAP_TABLE, taps + MORE_TAPS))
    yield arena("M", scratch, SCRATCH)
    yield arena("EXTRA", out + r.along(outputs * taps, 1), 1)
    pixels = each + r.along(rows, r[L.Y_ROW]) + r.along(columns, LANES)
    yield arena("Y", r.buffer(L.Y) + pixels)
    if pooled:
        yield arena("Z", r.buffer(L.Z) + pixels)
    if r[L.BIAS] >= 0:
        yield arena("BIAS", out + r[L.BIAS] + r.along(outputs, 1), 1)
        if not pooled:
            summed = each + r.entries(L.Y_TABLE, r.count(L.POSITIONS))
            yield arena("Y", r.buffer(L.Y) + summed)


def _lie_as_pixels(r: Reach, taps: int, run: int) -> bool:
    """Whether the taps are runs with the row stride of X, as tiles of whole windows require."""
    high = r[L.KERNEL_ROWS]
    fits = high % 3 == 0 if run == 3 else run == 5 and high > 1
    if not fits or high * run > TAP_BLOCK or taps % (high * run) or r[L.ALONG] != 1:
        return False
    places = r.table(L.TAP_TABLE, taps).reshape(-1, high, run)
    return bool((np.diff(places, axis=1) == r[L.X_ROW]).all())


def _steps(r: Reach, taps: int, run: int) -> np.ndarray:
    """Floats from each tap of a run to the next."""
    return np.diff(r.table(L.TAP_TABLE, taps).reshape(-1, run))


def bias_gradient(r: Reach) -> Touches:
    yield r.pixels("Y", r.count(L.POSITIONS))
    yield r.sums(r.along(r[L.CHANNELS], 1))
