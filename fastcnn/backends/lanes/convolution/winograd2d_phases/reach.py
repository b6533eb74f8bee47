"""Memory that rows of convolutions with stride 2 access, checked before a program runs."""

import numpy as np

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, points
from fastcnn.backends.lanes.convolution.winograd2d import reach
from fastcnn.backends.lanes.convolution.winograd2d.kernels import moment_room, strip_room
from fastcnn.backends.lanes.convolution.winograd2d_phases.gradient_kernels import (
    phases_gradient_room,
)
from fastcnn.backends.lanes.convolution.winograd2d_phases.phases import PHASES
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena, parameters
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def weights(r: Reach, half: int) -> Touches:
    """The memory of the transform of kernels."""
    r.among(L.MODE, (L.AS_STORED, L.FLIPPED))
    units = -(-r.count(L.IN) // LANES)
    entries = r.table(L.TAP_TABLE, units * LANES).astype(np.int64)
    first = entries >> 2
    last = first + 2 * (half - 1 - (entries >> 1 & 1)) * r.count(L.X_ROW)
    last += 2 * (half - 1 - (entries & 1))
    yield parameters("TAP_TABLE", Range.of(first, last) + r.count(L.X))
    yield arena("W", r.along(points(half) ** 2, r[L.OUT]) + r.along(units, LANES) + r[L.W])


def _inputs(r: Reach, half: int) -> Touches:
    """Tiles of the input, and the channels that each product sums."""
    x = reach.tiles_of(r, L.X, L.X_ROW, L.X_TABLE, points(half), r[L.SPACING])
    yield arena("X", x + r.entries(L.TAP_TABLE, r.count(L.IN)))
    some = r.table(L.PHASE_TABLE, 2 * points(half) ** 2).reshape(-1, 2).astype(np.int64)
    if (some < 0).any() or (some.sum(axis=1) > r[L.IN]).any():
        raise ProgramError(f"PHASE_TABLE has other channels than {r[L.IN]}")


def product(r: Reach, half: int) -> Touches:
    """The memory of a convolution, or of a phase of its transpose."""
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    strip, tiles = r.among(L.TAPS, reach.STRIPS), r.count(L.POSITIONS)
    r.among(L.MODE, (L.PLAIN, L.MASKED, L.ADDED))
    r.count(L.PHASES, 1)
    yield from _inputs(r, half)
    room = strip_room(inputs, strip, points(half) ** 2) + moment_room(outputs)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), room)
    weights = r.entries(L.S_TABLE, points(half) ** 2) + r[L.W]
    yield arena("W", weights, inputs * outputs)
    yield from reach.outputs_of_tiles(r, outputs, tiles, r[L.Y_SPACING])
    yield from reach.moments(r, -(-tiles // (strip * r.count(L.GROUPS, 1))))


def gradient(r: Reach, half: int) -> Touches:
    """The memory of a weight gradient."""
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    together = r.count(L.X_GROUP, 1), r.count(L.GROUPS, 1)
    if inputs % len(PHASES) or together[0] % LANES or together[1] % LANES:
        raise ProgramError(f"{inputs} channels, transforms of {together} at a time")
    rows, width = r.count(L.KERNEL_ROWS), r.count(L.M_ROW)
    if not half * 2 - 1 <= min(rows, width) <= max(rows, width) <= half * 2:
        raise ProgramError(f"kernels of {rows} x {width} have other halves than {half}")
    yield from _inputs(r, half)
    y = reach.tiles_of(r, L.Y, L.Y_ROW, L.Y_TABLE, OUTPUTS)
    yield arena("Y", y + r.along(outputs, r[L.Y_CHANNEL]))
    sizes = points(half) ** 2, inputs, together, r.count(L.TAPS, 1), r[L.POSITIONS]
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), phases_gradient_room(*sizes))
    weights = rows * width * (-(-outputs // LANES) * LANES) * (inputs // len(PHASES))
    yield r.sums(0, weights)
