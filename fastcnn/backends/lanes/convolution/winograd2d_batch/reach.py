"""How far the row of weights' gradients over the whole batch reaches; see reach/kernels.py."""

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS
from fastcnn.backends.lanes.convolution.winograd2d.tiles import SIDE
from fastcnn.backends.lanes.convolution.winograd2d_batch.gradient_kernels import (
    TAPS_OF_KERNEL,
    batch_gradient_room,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena, gradient
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def weight_gradient(r: Reach) -> Touches:
    inputs, outputs, tiles = r.count(L.IN), r.count(L.CHANNELS), r.count(L.POSITIONS) * r.samples
    together = r.count(L.X_GROUP, 1), r.count(L.GROUPS, 1)
    if any(count % LANES for count in (inputs, outputs, *together)):
        raise ProgramError(f"{together} of {inputs} and {outputs} channels at a time")
    for name, place, row, channel, table, side, channels in (
        ("X", L.X, L.X_ROW, L.X_CHANNEL, L.X_TABLE, SIDE, inputs),
        ("Y", L.Y, L.Y_ROW, L.Y_CHANNEL, L.Y_TABLE, OUTPUTS, outputs),
    ):
        tile = r.along(side, r[row]) + r.along(side, LANES) + r.along(channels, r[channel])
        yield arena(name, r.entries(table, tiles) + tile + r[place])
    room = batch_gradient_room(inputs, together, r.count(L.TAPS, 1), tiles)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), room)
    yield gradient("W", r.along(TAPS_OF_KERNEL * inputs * outputs, 1) + r[L.W])
