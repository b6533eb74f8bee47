"""The input gradient of a 3x3 convolution with stride 2, phase by phase.

A tile is 8x8 pixels of the input. The pixels of a phase use one part of the kernel: even rows its
first and last row, odd ones its middle row. No two tiles share a pixel.
"""

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.kernels import CHUNK, SUMS, SUMS_STEP, products
from fastcnn.backends.lanes.convolution.winograd2d.strided import (
    FIRST_PRODUCT,
    LARGEST,
    ODD_COLUMNS,
    ODD_ROWS,
    PHASES,
    SHARING,
    WEIGHTS,
)
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.strided_tiles import (
    strided_adjoint_input_tile,
    strided_adjoint_output_tile,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES
#: By whether rows and columns are odd.
KINDS = (0, 0), (1, 1), (1, 0), (0, 1)
INPUTS_TILE = strided_adjoint_input_tile.among(*KINDS)
OUTPUTS_TILE = strided_adjoint_output_tile.among(*KINDS)


@linked
def first_gradient(odd, padding):
    """Rows from a tile's first gradient to a phase's: even pixels also read the gradient before."""
    return odd * ((padding + 1) % 2)


@linked
def first_pixel(odd, padding):
    """Rows from a tile's first pixel to a phase's; parity counts from the padded border."""
    return (odd + padding) % 2


@linked
def transformed_gradients(A, r, phase, x, v, step):
    """Transform a phase of a tile of a channel."""
    rest = A, x, r[L.X_ROW], r[L.X_CHANNEL], A, v, step
    INPUTS_TILE(ODD_ROWS[phase], ODD_COLUMNS[phase], *rest)


@linked
def pixels_of_channel(A, T, P, r, phase, c, y, p0, count, sums, step, spare):
    """Pixels of a phase of some tiles of a channel."""
    ypix, left = T[r[L.Y_TABLE] :], T[r[L.STRIP_TABLE] :]
    top, side = first_pixel(ODD_ROWS[phase], r[L.TOP]), first_pixel(ODD_COLUMNS[phase], r[L.LEFT])
    bias = r[L.BIAS] + c if r[L.BIAS] >= 0 else -1
    for t in range(count):
        place = y + ypix[p0 + t] + top * r[L.Y_ROW] + side * LANES
        rows = (left[2 * (p0 + t)] - top + 1) // 2
        columns = (left[2 * (p0 + t) + 1] - side + 1) // 2
        sources, to = (A, sums + t * LANES, step), (A, place, r[L.Y_ROW])
        rest = sources, (P, bias), to, (rows, columns, spare), r[L.RELU], r[L.MODE]
        OUTPUTS_TILE(ODD_ROWS[phase], ODD_COLUMNS[phase], *rest)


@linked
def ask_for_phase(A, T, r, phase, y, p0, count):
    """Prefetch the addresses of a phase's pixels in some tiles of a channel."""
    ypix = T[r[L.Y_TABLE] :]
    top, side = first_pixel(ODD_ROWS[phase], r[L.TOP]), first_pixel(ODD_COLUMNS[phase], r[L.LEFT])
    for t in range(p0, p0 + count):
        place = y + ypix[t] + top * r[L.Y_ROW] + side * LANES
        for i in range(OUTPUTS):
            for j in range(OUTPUTS):
                simd.prefetch_write(A, place + 2 * (i * r[L.Y_ROW] + j * LANES))


@linked
def winograd2d_strided_adjoint(A, T, P, r, block, slot, worker, part, parts):
    """The transpose of a convolution with stride 2; a unit is a strip of TAPS tiles.

    X is the output's gradient with IN channels, Y the input's; POSITIONS tiles, for which
    STRIP_TABLE has the number of rows and columns of Y from each one's first on. TOP and LEFT are
    the padding. S_TABLE has the offset of each product's weights; Z is scratch for transforms.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    inputs, outputs, strip, tiles = r[L.IN], r[L.CHANNELS], r[L.TAPS], r[L.POSITIONS]
    xpix = T[r[L.X_TABLE] :]
    each = strip * LANES
    from_step = inputs * each + STAGGER
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    sums = transformed + LARGEST * from_step
    spare = sums + LARGEST * SUMS_STEP
    first, last = share((tiles + strip - 1) // strip, part, parts)
    for unit in range(first, last):
        p0 = unit * strip
        taken = min(strip, tiles - p0)
        for phase in range(PHASES):
            x = x0 + first_gradient(ODD_ROWS[phase], r[L.TOP]) * r[L.X_ROW]
            x += first_gradient(ODD_COLUMNS[phase], r[L.LEFT]) * LANES
            for c in range(inputs):
                for t in range(taken):
                    v = transformed + c * each + t * LANES
                    of_tile = x + c * r[L.X_CHANNEL] + xpix[p0 + t]
                    transformed_gradients(A, r, phase, of_tile, v, from_step)
            weights = r[L.S_TABLE] + FIRST_PRODUCT[phase]
            for c0 in range(0, outputs, CHUNK):
                made = min(CHUNK, outputs - c0)
                for k in range(WEIGHTS[phase] * SHARING[phase]):
                    if k < made:
                        ask_for_phase(A, T, r, phase, y0 + (c0 + k) * r[L.Y_CHANNEL], p0, taken)
                    v, w = transformed + k * from_step, r[L.W] + T[weights + k] + c0 * inputs
                    products(A, v, taken, inputs, each, w, made, sums + k * SUMS_STEP, SUMS)
                for c in range(made):
                    s, y = sums + c * SUMS, y0 + (c0 + c) * r[L.Y_CHANNEL]
                    if c + 1 < made:
                        ask_for_phase(A, T, r, phase, y + r[L.Y_CHANNEL], p0, taken)
                    pixels_of_channel(A, T, P, r, phase, c0 + c, y, p0, taken, s, SUMS_STEP, spare)
