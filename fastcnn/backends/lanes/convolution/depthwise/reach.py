"""How far rows of convolutions of single channels reach."""

from fastcnn.backends.lanes.convolution.depthwise.kernels import SCRATCH
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.phases import phases
from fastcnn.backends.lanes.reach.ranges import (
    MORE_POSITIONS,
    MORE_TAPS,
    Range,
    Reach,
    Touches,
    arena,
    bias,
    parameters,
)


def _sums(r: Reach, x: Range, w: Range, y: Range, names: str) -> Touches:
    """All phases of some channels: where the sources, weights and targets of each begin."""
    for phase in phases(r):
        yield arena(names[0], x + phase.read() + phase.taps())
        yield parameters("W", w + phase.weights())
        yield arena(names[1], y + phase.written(phase.pixels + MORE_POSITIONS))


def product(r: Reach) -> Touches:
    groups, channels = r.count(L.GROUPS), r.count(L.CHANNELS, 1)
    outputs = groups * channels
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP])
    w = r.along(outputs, r.count(L.TAPS)) + r[L.W]
    y = r.buffer(L.Y) + r.along(outputs, r[L.Y_CHANNEL])
    yield from _sums(r, x, w, y, "XY")
    yield from bias(r, outputs)


def gradients(r: Reach) -> Touches:
    groups, channels, taps = r.count(L.GROUPS), r.count(L.CHANNELS, 1), r.count(L.TAPS)
    outputs, positions = groups * channels, r.count(L.POSITIONS, 1)
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP])
    grad = r.buffer(L.Y) + r.along(outputs, r[L.Y_CHANNEL])
    out = r.blocks(L.EXTRA, L.EXTRA_BLOCK)
    tapped = r.entries(L.TAP_TABLE, taps + MORE_TAPS)
    yield arena("X", x + r.entries(L.X_TABLE, positions) + tapped)
    yield arena("Y", grad + r.entries(L.Y_TABLE, positions))
    yield arena("M", r.workers(L.M, L.M_SLOT), SCRATCH)
    yield arena("EXTRA", out + r.along(outputs * taps, 1), 1)
    if r[L.BIAS] >= 0:
        yield arena("BIAS", out + r[L.BIAS] + r.along(outputs, 1), 1)
    z = r.buffer(L.Z) + r.along(groups, r[L.Z_CHANNEL])
    # Taps of a phase reach the other outputs of a group.
    first = r.buffer(L.Y) + r.along(groups, channels * r[L.Y_CHANNEL])
    yield from _sums(r, first, r.along(groups, channels * taps) + r[L.W], z, "YZ")
