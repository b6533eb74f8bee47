"""The kernel of weight gradients by phases; see phases.py and winograd2d/gradient_kernels.py."""

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.gradient_kernels import (
    TILE_PIXELS,
    gradient_room,
    products_of_samples,
    turn_tile,
)
from fastcnn.backends.lanes.convolution.winograd2d.gradient_tiles import PIXEL, PRODUCT
from fastcnn.backends.lanes.convolution.winograd2d_phases.kernels import INPUTS_TILE
from fastcnn.backends.lanes.convolution.winograd2d_phases.phases import PHASES
from fastcnn.backends.lanes.convolution.winograd2d_phases.tiles import (
    phase_gradient_tile,
    phase_weight_gradient_tile,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES
#: By the width of half a kernel.
GRADIENTS_TILE = phase_gradient_tile.among((2,), (3,))
KERNELS_TILE = phase_weight_gradient_tile.among((2,), (3,))
ODD_ROWS, ODD_COLUMNS = (tuple(odd) for odd in zip(*PHASES, strict=True))


def phases_gradient_room(
    factors: int, inputs: int, together: tuple[int, int], strip: int, tiles: int
) -> int:
    """Floats of scratch memory, with ``together`` inputs and outputs at a time."""
    return gradient_room(inputs, together, strip, tiles, own=True, products=factors) + LANES


@linked
def winograd2d_phases_gradient(A, T, r, block, slot, worker, part, parts, narrow):
    """One block's weight gradient; a unit is X_GROUP of the input channels.

    X is the input with IN channels, whose offsets TAP_TABLE has, Y the output's gradient with
    CHANNELS, of which GROUPS are transformed at a time, for TAPS of the POSITIONS tiles.
    PHASE_TABLE has the first channel and the number of channels of each product. A kernel has
    KERNEL_ROWS rows of M_ROW weights. For every 16 outputs, EXTRA gets the weights' vectors of
    each input.
    """
    x0, d0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    inputs, channels, strip, tiles = r[L.IN], r[L.CHANNELS], r[L.TAPS], r[L.POSITIONS]
    xpix, dpix = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    of_channel, limits = T[r[L.TAP_TABLE] :], T[r[L.PHASE_TABLE] :]
    half = 2 if narrow else 3
    factors = (half + OUTPUTS - 1) * (half + OUTPUTS - 1)
    tile = factors * PRODUCT
    step = strip * tile
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    grads = transformed + r[L.X_GROUP] // LANES * step
    turned = grads + r[L.GROUPS] // LANES * step
    spare = turned + TILE_PIXELS * PIXEL
    sums = spare + LANES
    apart = r[L.X_GROUP] * r[L.GROUPS] + STAGGER
    # Sums of some inputs are kept for the next strip, if there is one.
    kept = factors * apart if strip < tiles else 0
    real, width = inputs // len(ODD_ROWS), r[L.M_ROW]
    taps = r[L.KERNEL_ROWS] * width
    units = (inputs + r[L.X_GROUP] - 1) // r[L.X_GROUP]
    first, last = share(units, part, parts)
    for o0 in range(0, channels if first < last else 0, r[L.GROUPS]):
        made = min(r[L.GROUPS], channels - o0)
        vectors = (made + LANES - 1) // LANES
        for p0 in range(0, tiles, strip):
            count = min(strip, tiles - p0)
            for o in range(vectors):
                d, some = d0 + (o0 + o * LANES) * r[L.Y_CHANNEL], min(LANES, made - o * LANES)
                for t in range(count):
                    target = grads + o * step + t * tile
                    turn_tile(A, r, LANES, d + dpix[p0 + t], some, turned, PIXEL)
                    for n in range(0, PIXEL, LANES):
                        GRADIENTS_TILE(half, A, turned + n, A, target + n)
            for unit in range(first, last):
                c0 = unit * r[L.X_GROUP]
                some, found = min(r[L.X_GROUP], inputs - c0), sums + unit * kept
                column = some * LANES
                for c in range(some):
                    v = transformed + c // LANES * step + c % LANES * LANES
                    for t in range(count):
                        x = x0 + of_channel[c0 + c] + xpix[p0 + t]
                        ahead, to = r[L.X_CHANNEL], v + t * tile
                        INPUTS_TILE(half, A, x, r[L.X_ROW], r[L.SPACING], ahead, A, to, PRODUCT)
                for k in range(factors):
                    low = max(0, limits[2 * k] - c0) // LANES * LANES
                    high = min(some, limits[2 * k] + limits[2 * k + 1] - c0)
                    if low < high:
                        v, e, g = transformed + k * PRODUCT, grads + k * PRODUCT, found + k * apart
                        v, g = v + low // LANES * step, g + low * LANES
                        rest = v, step, tile, e, step, g, column, p0 > 0
                        products_of_samples(A, high - low, vectors, count, *rest)
                if p0 + count < tiles:
                    continue
                for o in range(vectors):
                    for c in range(some):
                        phase, k = (c0 + c) // real, (c0 + c) % real
                        down, along = ODD_ROWS[phase], ODD_COLUMNS[phase]
                        rows = (r[L.KERNEL_ROWS] - down + 1) // 2
                        g = ((o0 // LANES + o) * real + k) * taps + down * width + along
                        g = r[L.EXTRA] + block * r[L.EXTRA_BLOCK] + g * LANES
                        e, columns = found + o * column + c * LANES, (width - along + 1) // 2
                        to = A, g, width * LANES, rows, columns, spare
                        KERNELS_TILE(half, A, e, apart, *to)
