"""Memory that rows of depthwise convolutions access, checked before a program runs."""

from fastcnn.backends.lanes.convolution.depthwise import kernels
from fastcnn.backends.lanes.convolution.phases import Phase, phases
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


def product(r: Reach) -> Touches:
    groups, channels = r.count(L.GROUPS), r.count(L.CHANNELS, 1)
    outputs = groups * channels
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP])
    w = r.along(outputs, r.count(L.TAPS)) + r[L.W]
    y = r.buffer(L.Y) + r.along(outputs, r[L.Y_CHANNEL])
    width = r.count(L.Y_WIDTH)
    for phase in phases(r):
        if width:
            yield from _rows(r, phase, width, x, y, w)
            continue
        yield arena("X", x + phase.read() + phase.taps())
        yield parameters("W", w + phase.weights())
        yield arena("Y", y + phase.written(phase.pixels + MORE_POSITIONS))
    yield r.bias(outputs)


def _rows(r: Reach, phase: Phase, width: int, x: Range, y: Range, w: Range) -> Touches:
    """The same for tiles of rows."""
    run, stride = r.among(L.IN, kernels.ROW_WIDTHS), r.among(L.ALONG, kernels.ROW_STRIDES)
    rows = r.count(L.KERNEL_ROWS)
    if width < kernels.SHORT_ROW or phase.pixels % width or not phase.pixels:
        raise ProgramError(f"{phase.pixels} positions in rows of {width}")
    tables = (r.table_at(at, phase.pixels, "rows") for at in (phase.read_at, phase.written_at))
    read, written = (Range.of(table[::width]) for table in tables)
    read += r.along(rows, r[L.X_ROW]) + r.along(stride * (width - 1) + run, LANES)
    yield arena("X", x + read)
    yield parameters("W", w + r.along(rows * run, 1))
    yield arena("Y", y + written + r.along(width, LANES))


def gradients(r: Reach) -> Touches:
    groups, channels, taps = r.count(L.GROUPS), r.count(L.CHANNELS, 1), r.count(L.TAPS)
    outputs, each = groups * channels, channels * taps
    pixels = sum(phase.pixels for phase in phases(r))
    yield arena("X", r.buffer(L.X) + r.along(groups, r[L.X_GROUP]) + r.entries(L.X_TABLE, pixels))
    grad = r.buffer(L.Y) + r.along(outputs, r[L.Y_CHANNEL])
    yield arena("Y", grad + r.entries(L.Y_TABLE, r.count(L.POSITIONS)))
    yield arena("M", r.workers(L.M, L.M_SLOT), kernels.scratch(each))
    out = r.blocks(L.EXTRA, L.EXTRA_BLOCK)
    yield arena("EXTRA", out + r.along(outputs * taps, 1), 1)
    if r[L.BIAS] >= 0:
        yield arena("BIAS", out + r[L.BIAS] + r.along(outputs, 1), 1)
    # The taps of a phase also reach the other outputs of a group.
    first = r.buffer(L.Y) + r.along(groups, channels * r[L.Y_CHANNEL])
    z = r.buffer(L.Z) + r.along(groups, r[L.Z_CHANNEL])
    for phase in phases(r):
        r.within("WEIGHTS", phase.weights(), each, 1)
        yield arena("Y", first + phase.read() + phase.taps())
        yield parameters("W", r.along(groups, each) + phase.weights() + r[L.W])
        if r[L.Z] >= 0:
            yield arena("Z", z + phase.written(phase.pixels))
