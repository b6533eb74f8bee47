"""Memory that rows of F(4x4, 3x3) over many blocks access, checked before a program runs."""

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd2d import reach
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS, SIDE
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.kernels import carried_floats
from fastcnn.backends.lanes.convolution.winograd2d_batch.gradient_kernels import (
    TAPS_OF_KERNEL,
    batch_gradient_room,
)
from fastcnn.backends.lanes.convolution.winograd2d_batch.kernels import kernels_room
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena, gradient, parameters
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def _room(r: Reach) -> int:
    """Floats of the transforms of all tiles."""
    each = r.count(L.TAPS, 1) * LANES
    if r.count(L.STRIP_ROWS, 1) * r.count(L.POSITIONS) > r[L.TAPS] or r.count(L.GROUPS) < 0:
        raise ProgramError(f"{r[L.STRIP_ROWS]} blocks of tiles in room for {r[L.TAPS]}")
    from_step = r.count(L.IN) * each + STAGGER
    to_step = r.count(L.CHANNELS) * each + STAGGER
    return PRODUCTS * (from_step + to_step) + r[L.CHANNELS] * LANES


def inputs(r: Reach) -> Touches:
    x = reach.tiles_of(r, L.X, L.X_ROW, L.X_TABLE, SIDE) + r.along(r.count(L.IN), r[L.X_CHANNEL])
    yield arena("X", x)
    yield r.floats("Z", _room(r))


def products(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    yield r.floats("Z", _room(r))
    yield arena("W", r.along(PRODUCTS, r[L.OUT]) + r[L.W], inputs * outputs)


def products_of_kernels(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.CHANNELS)
    kernels = r.along(inputs, r[L.X_CHANNEL]) + r.along(outputs, r[L.Y_CHANNEL])
    yield parameters("W", kernels + r.along(9, 1) + r[L.W])
    of_tiles, together = _room(r), r.count(L.X_GROUP, 1)
    yield r.floats("Z", of_tiles)
    yield arena("Z", r.workers(L.Z, L.M_SLOT) + of_tiles, kernels_room(inputs, together))


def outputs(r: Reach) -> Touches:
    r.among(L.DOWN, (0, 1))
    yield r.floats("Z", _room(r))
    yield from reach.outputs_of_tiles(r, r.count(L.CHANNELS), r.count(L.POSITIONS))
    yield from reach.moments(r, 1)


def adjoint_inputs(r: Reach) -> Touches:
    yield arena("X", reach.gradient_tiles(r))
    yield r.floats("Z", _room(r))


def adjoint_outputs(r: Reach) -> Touches:
    own = LANES + carried_floats(r.count(L.ACROSS, 1))
    yield r.floats("Z", _room(r))
    yield arena("M", r.workers(L.M, L.M_SLOT), own)
    yield from reach.all_pixels(r)


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
