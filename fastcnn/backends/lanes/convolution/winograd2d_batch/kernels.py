"""Kernels of F(4x4, 3x3) over some blocks: transforms, products, outputs, one after the other.

Threads divide a row's units; a unit's result does not depend on the thread that computes it. Z is
scratch for the transforms of all tiles, TAPS per channel: those of STRIP_ROWS blocks from the
GROUPS-th on.
"""

from fastcnn.backends.lanes.convolution.winograd import STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.kernels import (
    add_moments,
    begin_moments,
    end_moments,
    outputs_of_channel,
    products,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    HEIGHTS,
    PRODUCTS,
    input_tile,
    kernels_tile,
)
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.kernels import (
    adjoint_inputs,
    adjoint_of_channel,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, NOUGHT, filled_lanes, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES
HIGH = HEIGHTS[0] == 8
KERNELS_TILE = kernels_tile.among(*((height,) for height in HEIGHTS))
#: Input channels by which kernels are prefetched before they are transformed.
AHEAD = 8
#: Output channels of a unit of products: their weights of one product stay in the cache.
STRIP_CHANNELS = 16


@linked
def blocks_of_row(r, blocks):
    """Number of a row's blocks that are in the batch."""
    return max(0, min(r[L.STRIP_ROWS], blocks - r[L.GROUPS]))


@linked
def winograd2d_batch_inputs(A, T, r, blocks, part, parts):
    """Transform POSITIONS tiles of IN channels of X; a unit is a channel of a block."""
    inputs, tiles, each = r[L.IN], r[L.POSITIONS], r[L.TAPS] * LANES
    step, xpix = inputs * each + STAGGER, T[r[L.X_TABLE] :]
    apart = r[L.X_ROW], LANES, r[L.X_CHANNEL]
    first, last = share(blocks_of_row(r, blocks) * inputs, part, parts)
    for unit in range(first, last):
        b, c = unit // inputs, unit % inputs
        x = r[L.X] + (r[L.GROUPS] + b) * r[L.X_BLOCK] + c * r[L.X_CHANNEL]
        v = r[L.Z] + c * each + b * tiles * LANES
        for t in range(tiles):
            input_tile(A, x + xpix[t], *apart, A, v + t * LANES, step)


@linked
def winograd2d_batch_products(A, r, blocks, part, parts):
    """Sum products over IN channels; a unit is one product of the tiles, for some output channels.

    Weights are read once for all tiles.
    """
    inputs, outputs, each = r[L.IN], r[L.CHANNELS], r[L.TAPS] * LANES
    from_step, to_step = inputs * each + STAGGER, outputs * each + STAGGER
    count = blocks_of_row(r, blocks) * r[L.POSITIONS]
    sums, strips = r[L.Z] + PRODUCTS * from_step, (outputs + STRIP_CHANNELS - 1) // STRIP_CHANNELS
    first, last = share(PRODUCTS * strips, part, parts)
    for unit in range(first, last):
        k, c = unit // strips, unit % strips * STRIP_CHANNELS
        made = min(STRIP_CHANNELS, outputs - c)
        w = r[L.W] + k * r[L.OUT] + c * inputs
        s = sums + k * to_step + c * each
        products(A, r[L.Z] + k * from_step, count, inputs, each, w, made, s, each)


@linked
def transform_kernels(A, P, p, down, along, inputs, outputs, u, step):
    """Transformed weights of some output channels in the order in which tiles read them.

    Kernels of adjacent output channels are DOWN apart, those of adjacent inputs ALONG.
    """
    c = 0
    while c < outputs:
        left = outputs - c
        rows = 8 if HIGH and left >= 8 else 4 if left >= 4 else 1
        for i in range(0, inputs, LANES // rows):
            place = p + c * down + i * along
            if along > down:
                # The kernels of one input channel are adjacent, and far from the next one's.
                for column in range(AHEAD, AHEAD + LANES // rows):
                    for line in range(0, rows * down + LANES, LANES):
                        simd.prefetch(P, place + column * along + line)
            to = A, u + c * inputs + i * rows, step
            KERNELS_TILE(rows, P, place, down, along, inputs - i, *to)
        c += rows


def kernels_room(inputs: int, together: int) -> int:
    """Floats of the transformed weights of ``together`` output channels."""
    return PRODUCTS * (together * inputs + STAGGER)


@linked
def winograd2d_batch_products_of_kernels(A, P, r, blocks, worker, part, parts):
    """The same from untransformed weights; a unit is X_GROUP output channels.

    A unit's weights are transformed into memory that stays in the cache until all tiles are
    multiplied. Kernels of adjacent output channels are Y_CHANNEL apart, those of adjacent inputs
    X_CHANNEL.
    """
    inputs, outputs, each = r[L.IN], r[L.CHANNELS], r[L.TAPS] * LANES
    from_step, to_step = inputs * each + STAGGER, outputs * each + STAGGER
    count = blocks_of_row(r, blocks) * r[L.POSITIONS]
    together = r[L.X_GROUP]
    sums, step = r[L.Z] + PRODUCTS * from_step, together * inputs + STAGGER
    u = sums + PRODUCTS * to_step + outputs * LANES + worker * r[L.M_SLOT]
    first, last = share((outputs + together - 1) // together, part, parts)
    for unit in range(first, last):
        c = unit * together
        made = min(together, outputs - c)
        p = r[L.W] + c * r[L.Y_CHANNEL]
        transform_kernels(A, P, p, r[L.Y_CHANNEL], r[L.X_CHANNEL], inputs, made, u, step)
        for k in range(PRODUCTS):
            s = sums + k * to_step + c * each
            products(A, r[L.Z] + k * from_step, count, inputs, each, u + k * step, made, s, each)


@linked
def winograd2d_batch_outputs(A, T, P, r, blocks, count, part, parts):
    """Compute Y from the products, and with MOMENTS those of Y; a unit is a channel of a block."""
    outputs, tiles, each = r[L.CHANNELS], r[L.POSITIONS], r[L.TAPS] * LANES
    sums = r[L.Z] + PRODUCTS * (r[L.IN] * each + STAGGER)
    step = outputs * each + STAGGER
    first, last = share(blocks_of_row(r, blocks) * outputs, part, parts)
    for unit in range(first, last):
        b, c = unit // outputs, unit % outputs
        y, m = r[L.Y] + (r[L.GROUPS] + b) * r[L.Y_BLOCK], r[L.M] + (r[L.GROUPS] + b) * r[L.M_BLOCK]
        s, spare = sums + c * each + b * tiles * LANES, sums + PRODUCTS * step + c * LANES
        outputs_of_channel(A, T, P, r, LANES, c, y, m, NOUGHT, tiles, s, step, spare, False)
        if r[L.MOMENTS]:
            valid = min(LANES, filled_lanes(r, count) - (r[L.GROUPS] + b) * LANES)
            out = r[L.EXTRA] + (r[L.GROUPS] + b) * r[L.EXTRA_BLOCK]
            # The channel's products are not needed any more.
            y += c * r[L.Y_CHANNEL]
            begin_moments(A, y + T[r[L.Y_TABLE]], valid, s, step)
            add_moments(A, T, r, LANES, y, NOUGHT, tiles, s, step)
            end_moments(A, T, r, c, NOUGHT, tiles, valid, s, step, out)


@linked
def winograd2d_batch_adjoint_inputs(A, T, r, blocks, part, parts):
    """Transform the gradients X of POSITIONS tiles of IN channels; a unit as for inputs."""
    inputs, tiles, each = r[L.IN], r[L.POSITIONS], r[L.TAPS] * LANES
    first, last = share(blocks_of_row(r, blocks) * inputs, part, parts)
    for unit in range(first, last):
        b, c = unit // inputs, unit % inputs
        x = r[L.X] + (r[L.GROUPS] + b) * r[L.X_BLOCK] + c * r[L.X_CHANNEL]
        v = r[L.Z] + c * each + b * tiles * LANES
        adjoint_inputs(A, T, r, x, NOUGHT, tiles, v, inputs * each + STAGGER, False)


@linked
def winograd2d_batch_adjoint_outputs(A, T, P, r, blocks, worker, part, parts):
    """Compute the input's gradient Y from that of the products; M is scratch for carried sums."""
    outputs, tiles, each = r[L.CHANNELS], r[L.POSITIONS], r[L.TAPS] * LANES
    sums = r[L.Z] + PRODUCTS * (r[L.IN] * each + STAGGER)
    step, spare = outputs * each + STAGGER, r[L.M] + worker * r[L.M_SLOT]
    first, last = share(blocks_of_row(r, blocks) * outputs, part, parts)
    for unit in range(first, last):
        b, c = unit // outputs, unit % outputs
        y = r[L.Y] + (r[L.GROUPS] + b) * r[L.Y_BLOCK] + c * r[L.Y_CHANNEL]
        s = sums + c * each + b * tiles * LANES
        adjoint_of_channel(A, T, P, r, c, y, NOUGHT, tiles, s, step, spare + LANES, spare, MISSING)
