"""Kernels of 3x3 convolutions by Winograd's F(2x2, 3x3); see winograd_tiles.py.

A kernel does the ``part``-th of ``parts`` equal shares of its units; a unit's result does not
depend on the division, so neither do results on the number of threads. A is the arena, T the
tables, P the parameters, G their gradient, r the program row. Tiles are taken in strips whose
transforms stay in the second-level cache.
"""

from fastcnn.backends.lanes import simd
from fastcnn.backends.lanes.conv_kernels import products
from fastcnn.backends.lanes.division import MISSING, NO, NOUGHT, share
from fastcnn.backends.lanes.late_codegen import linked
from fastcnn.backends.lanes.layout import (
    BIAS,
    CHANNELS,
    EXTRA,
    EXTRA_BLOCK,
    IN,
    M_BLOCK,
    M_SLOT,
    M_TABLE,
    MODE,
    OUT,
    POOLED,
    POSITIONS,
    RELU,
    TAP_TABLE,
    TAPS,
    X_BLOCK,
    X_CHANNEL,
    X_ROW,
    X_SLOT,
    X_TABLE,
    Y_BLOCK,
    Y_CHANNEL,
    Y_ROW,
    Y_SLOT,
    Y_TABLE,
    Z_SLOT,
    M,
    W,
    X,
    Y,
    Z,
)
from fastcnn.backends.lanes.linear_tiles import outer_tile
from fastcnn.backends.lanes.transpose_tiles import transpose_tile
from fastcnn.backends.lanes.winograd_tiles import (
    PRODUCTS,
    gradient_row_tile,
    input_row_tile,
    input_tile,
    output_pool_tile,
    output_tile,
    weight_gradient_sum_tile,
    weight_tile,
)

LANES = simd.LANES
#: Floats between equal parts of a strip's room, so that they do not meet in one set of the cache.
STAGGER = LANES
#: Rows of the 4x4 products of a tile: input rows ``first + sign * second`` ...
FIRST, SECOND, SIGN = (0, 1, 2, 1), (2, 2, 1, 3), (-1, 1, -1, -1)
#: ... and factors of the two rows of an output's gradient.
UPPER, LOWER = (1, 1, 1, 0), (0, 1, -1, -1)


@linked
def winograd_weights(A, T, P, r, part, parts):
    """Transformed weights of IN kernels in the order in which tiles read them, OUT apart."""
    first, last = share((r[IN] + LANES - 1) // LANES, part, parts)
    places = T[r[TAP_TABLE] :]
    for unit in range(first, last):
        i = unit * LANES
        weight_tile(P, places, i, r[MODE], A, r[W] + i, r[OUT])


@linked
def prefetch_tiles(A, x, pixels, first, last, row, channel, near, far):
    """Ask for the 2x2 pixels of some tiles, of some channels."""
    for c in range(near, far):
        for t in range(first, last):
            at = x + c * channel + pixels[t]
            simd.prefetch(A, at)
            simd.prefetch(A, at + LANES)
            simd.prefetch(A, at + row)
            simd.prefetch(A, at + row + LANES)


@linked
def winograd(A, T, P, r, block, slot, worker, part, parts):
    """Convolution forward, or its input gradient; a unit is a strip of TAPS tiles.

    X is the input with IN channels, Y the output; POSITIONS tiles. Z is room for transforms, of
    which TAP_TABLE has the channels' offsets and M_TABLE the tiles'.
    """
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    m0 = r[M] + block * r[M_BLOCK] + slot * r[M_SLOT]
    inputs, outputs, strip, tiles = r[IN], r[CHANNELS], r[TAPS], r[POSITIONS]
    xpix, ypix = T[r[X_TABLE] :], T[r[Y_TABLE] :]
    channels, pixels = T[r[TAP_TABLE] :], T[r[M_TABLE] :]
    each = strip * LANES
    from_step, to_step = inputs * each + STAGGER, outputs * each + STAGGER
    transformed = r[Z] + worker * r[Z_SLOT]
    sums = transformed + PRODUCTS * from_step
    first, last = share((tiles + strip - 1) // strip, part, parts)
    for unit in range(first, last):
        p0 = unit * strip
        count = min(strip, tiles - p0)
        for c in range(inputs):
            for t in range(count):
                x = x0 + c * r[X_CHANNEL] + xpix[p0 + t]
                v = transformed + c * each + t * LANES
                input_tile(A, x, r[X_ROW], A, v, from_step)
        for i in range(PRODUCTS):
            near, far = share(outputs, i, PRODUCTS)
            if r[MODE] != POOLED:
                prefetch_tiles(A, y0, ypix, p0, p0 + count, r[Y_ROW], r[Y_CHANNEL], near, far)
            products(
                A, T, P, r, NO, transformed + i * from_step, pixels, NOUGHT, count, channels,
                inputs, outputs, r[W] + i * r[OUT], NOUGHT, inputs, MISSING,
                sums + i * to_step, pixels, each, NOUGHT, NOUGHT,
            )  # fmt: skip
        for c in range(outputs):
            bias = r[BIAS] + c if r[BIAS] >= 0 else -1
            for t in range(count):
                s, inside = sums + c * each + t * LANES, c * r[Y_CHANNEL] + ypix[p0 + t]
                if r[MODE] == POOLED:
                    output_pool_tile(
                        A, s, to_step, P, bias, A, y0 + inside, r[RELU], A, m0 + inside
                    )
                else:
                    output_tile(
                        A, s, to_step, P, bias, A, y0 + inside, r[Y_ROW], r[RELU], r[MODE]
                    )  # fmt: skip


@linked
def winograd_gradient(A, T, r, block, slot, worker, part, parts):
    """One block's gradient of the transformed weights; a unit is one of their four rows.

    X is the input with IN channels, Y the output's gradient with CHANNELS. Inputs are transposed
    to one row a sample, so that the sums over samples need no reduction across lanes.
    """
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    d0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    out = r[EXTRA] + block * r[EXTRA_BLOCK]
    inputs, outputs, strip, tiles = r[IN], r[CHANNELS], r[TAPS], r[POSITIONS]
    xpix, dpix = T[r[X_TABLE] :], T[r[Y_TABLE] :]
    rows = r[Z] + worker * r[Z_SLOT]
    row_step, grad_step = strip * LANES * inputs + STAGGER, strip * LANES * outputs + STAGGER
    grads = rows + 4 * row_step
    spare = grads + 4 * grad_step
    # A tile's last two rows and columns are read for the first time.
    new = x0 + 2 * r[X_ROW] + 2 * LANES
    first, last = share(4, part, parts)
    for p0 in range(0, tiles, strip):
        count = min(strip, tiles - p0)
        end = min(p0 + 2 * strip, tiles)
        for i in range(first, last):
            upper, lower = FIRST[i] * r[X_ROW], SECOND[i] * r[X_ROW]
            for c in range(0, inputs, LANES):
                for t in range(count):
                    x = x0 + c * r[X_CHANNEL] + xpix[p0 + t]
                    for k in range(LANES):
                        at = x + k * r[X_CHANNEL]
                        input_row_tile(
                            A, at + upper, at + lower, SIGN[i], A, spare + k * LANES,
                            LANES * LANES,
                        )  # fmt: skip
                    for j in range(4):
                        transpose_tile(
                            A, spare + j * LANES * LANES, LANES,
                            A, rows + j * row_step + t * LANES * inputs + c, inputs,
                        )  # fmt: skip
            for t in range(count):
                for o in range(outputs):
                    d = d0 + o * r[Y_CHANNEL] + dpix[p0 + t]
                    e = grads + (t * outputs + o) * LANES
                    gradient_row_tile(A, d, r[Y_ROW], UPPER[i], LOWER[i], A, e, grad_step)
            for j in range(4):
                near, far = share(inputs, 4 * (i - first) + j, 4 * (last - first))
                prefetch_tiles(
                    A, new, xpix, p0 + strip, end, r[X_ROW], r[X_CHANNEL], near, far
                )  # fmt: skip
                weights = out + (4 * i + j) * outputs * inputs
                for o in range(0, outputs, 8):
                    d, g = grads + j * grad_step + o * LANES, weights + o * inputs
                    for c in range(0, inputs - LANES, 2 * LANES):
                        outer_tile(
                            8, 2, A, d, outputs * LANES, count * LANES,
                            A, rows + j * row_step + c, inputs, A, g + c, inputs, p0 > 0,
                        )  # fmt: skip
                    if inputs % (2 * LANES):
                        c = inputs - LANES
                        outer_tile(
                            8, 1, A, d, outputs * LANES, count * LANES,
                            A, rows + j * row_step + c, inputs, A, g + c, inputs, p0 > 0,
                        )  # fmt: skip


@linked
def winograd_reduce(A, G, r, blocks, worker, part, parts):
    """Gradients of IN kernels from those of their transforms, summed over blocks in order."""
    first, last = share(r[IN] // LANES, part, parts)
    spare = r[Z] + worker * r[Z_SLOT]
    for unit in range(first, last):
        i = unit * LANES
        weight_gradient_sum_tile(A, r[EXTRA] + i, r[IN], blocks, r[EXTRA_BLOCK], A, spare)
        for lane in range(LANES):
            target = r[W] + (i + lane) * 9
            for k in range(9):
                G[target + k] = A[spare + k * LANES + lane]
