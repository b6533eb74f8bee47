"""The kernel of convolutions by Winograd's F(4x4, 3x3), with a channel in each lane."""

from fastcnn.backends.lanes.convolution.channel_direct.kernels import (
    WHOLE,
    blocks_of_tile,
    positions_of,
    rounded_up,
    strip_products,
)
from fastcnn.backends.lanes.convolution.channel_winograd2d.tiles import (
    channel_output_tile,
    strided_output_tile,
)
from fastcnn.backends.lanes.convolution.winograd import STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.strided import STRIDED_PRODUCTS
from fastcnn.backends.lanes.convolution.winograd2d.strided_tiles import strided_input_tile
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS, input_tile
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, ONE, base, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES


@linked
def channel_winograd(A, T, P, r, block, blocks, slot, worker, part, parts, dilated):
    """Convolution by Winograd's F(4x4, 3x3); a unit is a strip of tiles, or some of its outputs.

    The tiles of one sample, or of several, with MODE tiles each. DOWN is the stride, 1 or 2. If
    DILATED, a tile's pixels are SPACING apart.

    Strips have at most TAPS tiles, for whose transforms there is room in Z. With fewer strips than
    shares, strips are smaller, and each of the GROUPS packs of the CHANNELS output blocks is a
    separate unit, for which the input is transformed again. IN input channels in EXTRA blocks;
    POSITIONS tiles, for which STRIP_TABLE has the number of rows and columns inside the map.
    S_TABLE has the offset of each product's weights, TAP_TABLE those of channels in Z.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    m0 = base(r, L.M, block, slot) if r[L.M] >= 0 else MISSING
    inputs, outputs, strip = r[L.EXTRA], r[L.CHANNELS], r[L.TAPS]
    begin, stop = positions_of(r, block, blocks)
    xpix, ypix, mpix = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    sizes, channels = T[r[L.STRIP_TABLE] :], T[r[L.TAP_TABLE] :]
    weights = T[r[L.S_TABLE] :]
    from_step, to_step = inputs * strip * LANES + STAGGER, outputs * strip * LANES + STAGGER
    strided = r[L.DOWN] == 2
    spacing = r[L.SPACING] if dilated else LANES
    products = STRIDED_PRODUCTS if strided else PRODUCTS
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    sums = transformed + products * from_step
    spare = sums + products * to_step
    each = strip * LANES
    quads = (stop - begin + WHOLE - 1) // WHOLE
    full = (quads * WHOLE + strip - 1) // strip
    across = ONE if full >= parts else min(r[L.GROUPS], parts)
    strips = min(quads, rounded_up(full, (parts + across - 1) // across))
    first, last = share(strips * across, part, parts)
    for unit in range(first, last):
        from_quad, to_quad = share(quads, unit % strips, strips)
        p0 = begin + from_quad * WHOLE
        count = min(begin + to_quad * WHOLE, stop) - p0
        for t in range(count):
            for c in range(inputs):
                x = x0 + c * r[L.X_CHANNEL] + xpix[p0 + t]
                v = transformed + (c * strip + t) * LANES
                if strided:
                    strided_input_tile(A, x, r[L.X_ROW], r[L.X_CHANNEL], A, v, from_step)
                else:
                    input_tile(A, x, r[L.X_ROW], spacing, r[L.X_CHANNEL], A, v, from_step)
        from_pack, to_pack = share(r[L.GROUPS], unit // strips, across)
        for pack in range(from_pack, to_pack):
            c0, end = share(outputs, pack, r[L.GROUPS])
            while c0 < end:
                rows = blocks_of_tile(end - c0)
                c1 = c0 + rows
                for k in range(products):
                    x, w = transformed + k * from_step, weights[k] + c0 * r[L.IN] * LANES
                    next_c = c0 if k + 1 < products else c1
                    ahead = weights[(k + 1) % products] + next_c * r[L.IN] * LANES
                    taps = channels, r[L.IN], r[L.W] + w, r[L.W] + ahead, rows
                    y = sums + k * to_step + c0 * each
                    strip_products(A, P, x, count, *taps, y, each)
                for c in range(c0, c1):
                    for t in range(count):
                        p = p0 + t
                        more = m0 + c * r[L.M_CHANNEL] + mpix[p] if m0 >= 0 else MISSING
                        s, y = sums + c * each + t * LANES, y0 + c * r[L.Y_CHANNEL] + ypix[p]
                        sources = (A, s, to_step), (P, r[L.BIAS] + c * LANES)
                        inside = sizes[2 * p], sizes[2 * p + 1], spare
                        if strided:
                            to, added = (A, y, r[L.Y_ROW], LANES), (A, more, r[L.M_ROW], LANES)
                            strided_output_tile(*sources, to, inside, r[L.RELU], added)
                        else:
                            to, added = (A, y, r[L.Y_ROW], spacing), (A, more, r[L.M_ROW], spacing)
                            channel_output_tile(*sources, to, inside, r[L.RELU], added)
                c0 = c1
