"""Memory that rows of weight gradients by input channels access, checked before a program runs."""

import numpy as np

from fastcnn.backends.lanes.convolution.input_lanes.algorithm import ROWS
from fastcnn.backends.lanes.convolution.input_lanes.kernels import ENTRIES, PIXEL
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def weight_gradient(r: Reach) -> Touches:
    inputs, outputs, taps = r.count(L.IN), r.count(L.CHANNELS), r.count(L.TAPS, 1)
    together = r.count(L.GROUPS, 1)
    if inputs % LANES or outputs % ROWS or not inputs or not outputs:
        raise ProgramError(f"gradients of {inputs} by {outputs} channels")
    strips = r.table(L.STRIP_TABLE, ENTRIES * r.count(L.POSITIONS, 1)).reshape(-1, ENTRIES)
    strips = strips.astype(np.int64)
    if (strips < 0).any():
        raise ProgramError("STRIP_TABLE has negative entries")
    positions, pixels = int(strips[:, 1].max()), int(strips[:, 3].max())
    last, last_pixel = (int((strips[:, i] + strips[:, i + 1]).max()) for i in (0, 2))
    x = r.entries(L.X_TABLE, last_pixel) + r.along(inputs, r[L.X_CHANNEL])
    yield arena("X", r.buffer(L.X) + x)
    y = r.entries(L.Y_TABLE, last) + r.along(outputs, r[L.Y_CHANNEL])
    yield arena("Y", r.buffer(L.Y) + y)
    used = min(together, inputs // LANES)
    places = r.table(L.TAP_TABLE, used * taps).astype(np.int64)
    turned = r.workers(L.Z, L.Z_SLOT)
    for first in places[::taps].tolist():
        yield arena("Z", turned + first + r.along(pixels, PIXEL), PIXEL)
    taken = Range.of(places) + r.entries(L.S_TABLE, positions)
    yield arena("Z", turned + taken, PIXEL)
    targets = r.table(L.M_TABLE, used * taps).reshape(used, taps).astype(np.int64)
    vectors = np.arange(inputs // LANES)
    first = vectors - vectors % together
    found = LANES * taps * first[:, None] + targets[vectors % together]
    sums = Range.of(found) + r.along(outputs, inputs * taps)
    yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + sums)
    if r[L.M] >= 0:
        yield arena("M", r.blocks(L.M, L.M_BLOCK) + r.along(outputs, 1), 1)
