"""The kernel of convolutions by Winograd's F(4, r) along rows, with a channel in each lane."""

from fastcnn.backends.lanes.convolution.channel_direct.kernels import (
    TILE_BLOCKS,
    WHOLE,
    blocks_of_tile,
    rounded_up,
    strip_products,
)
from fastcnn.backends.lanes.convolution.channel_winograd1d.tiles import channel_outputs_row
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd1d.kernels import points_of_tile
from fastcnn.backends.lanes.convolution.winograd1d.tiles import points_row
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, NO, ONE, base, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES


@linked
def channel_rows(A, T, P, r, block, blocks, slot, worker, part, parts):
    """Convolution of one sample or several; a unit is a strip of rows, or some of its outputs.

    A strip has up to STRIP_ROWS rows of ACROSS tiles, and MORE_TILES further ones of the input, for
    whose transforms there is room in Z. TAPS is the width of a piece of the kernel, of which a sum
    has IN; TAP_TABLE has their offsets in the transforms of the EXTRA vectors of input channels. If
    strips cannot be divided equally, each of the GROUPS packs of the CHANNELS output blocks is a
    separate unit.
    """
    inputs, outputs, tiles, points = r[L.EXTRA], r[L.CHANNELS], r[L.ACROSS], points_of_tile(r)
    pitch, height = tiles + r[L.MORE_TILES], r[L.STRIP_ROWS] + r[L.KERNEL_ROWS] - 1
    plane, each = height * pitch * LANES, rounded_up(r[L.STRIP_ROWS] * pitch, WHOLE) * LANES
    from_step, to_step = inputs * plane + STAGGER, TILE_BLOCKS * each + STAGGER
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    sums = transformed + points * from_step
    spare = sums + points * to_step
    across = (r[L.Y_WIDTH] + OUTPUTS * tiles - 1) // (OUTPUTS * tiles)
    strips = across * ((r[L.Y_ROWS] + r[L.STRIP_ROWS] - 1) // r[L.STRIP_ROWS])
    packs = ONE if blocks * strips % parts == 0 else min(r[L.GROUPS], parts)
    first, last = share(blocks * strips * packs, part, parts)
    known = MISSING
    for unit in range(first, last):
        sample, strip = block + unit // packs // strips, unit // packs % strips
        row, pixel = strip // across * r[L.STRIP_ROWS], strip % across * tiles * OUTPUTS
        count = min(r[L.STRIP_ROWS], r[L.Y_ROWS] - row)
        if unit // packs != known:
            known = unit // packs
            x = base(r, L.X, sample, slot) + row * r[L.X_ROW] + pixel * LANES
            lines = count + r[L.KERNEL_ROWS] - 1
            to_points(A, r, x, transformed, inputs, lines, pitch, plane, from_step)
        y0 = base(r, L.Y, sample, slot) + row * r[L.Y_ROW] + pixel * LANES
        m0 = MISSING
        if r[L.M] >= 0:
            m0 = base(r, L.M, sample, slot) + row * r[L.M_ROW] + pixel * LANES
        from_pack, to_pack = share(r[L.GROUPS], unit % packs, packs)
        for pack in range(from_pack, to_pack):
            c, end = share(outputs, pack, r[L.GROUPS])
            while c < end:
                rows = blocks_of_tile(end - c)
                for k in range(points):
                    x, vectors = transformed + k * from_step, c * points + k * rows
                    w = r[L.W] + vectors * r[L.IN] * LANES
                    taps = T[r[L.TAP_TABLE] :], r[L.IN], w, w + rows * r[L.IN] * LANES, rows
                    wide = count * pitch - r[L.MORE_TILES]
                    strip_products(A, P, x, wide, *taps, sums + k * to_step, each)
                for i in range(rows):
                    bias, s = r[L.BIAS] + (c + i) * LANES, sums + i * each
                    sources = A, s, to_step, pitch, P, bias
                    m = m0 + (c + i) * r[L.M_CHANNEL] if m0 >= 0 else MISSING
                    to = y0 + (c + i) * r[L.Y_CHANNEL], r[L.Y_WIDTH] - pixel, spare
                    from_points(A, r, sources, to, m, count, tiles)
                c += rows


@linked
def to_points(A, r, x, v, inputs, lines, pitch, plane, step):
    """Transform some rows of the input to points, STEP apart."""
    for c in range(inputs):
        for i in range(lines):
            source, target = x + c * r[L.X_CHANNEL] + i * r[L.X_ROW], v + c * plane
            target += i * pitch * LANES
            points_row(r[L.TAPS], NO, A, source, LANES, A, target, step, pitch)


@linked
def from_points(A, r, sources, to, m0, count, tiles):
    """Some rows of outputs from their sums."""
    (S, s0, step, pitch, P, bias), (y0, size, spare) = sources, to
    for i in range(count):
        s, y = s0 + i * pitch * LANES, y0 + i * r[L.Y_ROW]
        m = m0 + i * r[L.M_ROW] if m0 >= 0 else MISSING
        ends = size, spare, r[L.RELU]
        channel_outputs_row(r[L.TAPS], S, s, step, tiles, P, bias, A, y, *ends, A, m)
