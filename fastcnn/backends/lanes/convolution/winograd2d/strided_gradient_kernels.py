"""The kernel of 3x3 weight gradients with stride 2; see strided.py and gradient_kernels.py."""

from fastcnn.backends.lanes.convolution.winograd import STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.gradient_kernels import (
    TILE_PIXELS,
    products_of_samples,
    turn_tile,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided import (
    FIRST_WEIGHT,
    LARGEST,
    ODD_COLUMNS,
    ODD_ROWS,
    PHASES,
    SHARING,
    WEIGHTS,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided_gradient_tiles import (
    STAGGERED,
    gradient_phase_tile,
    input_phase_tile,
    strided_weight_gradient_tile,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES
INPUTS_TILE = input_phase_tile.among((0, 0), (1, 1), (1, 0), (0, 1))
GRADIENTS_TILE = gradient_phase_tile.among((0, 0), (1, 0), (0, 1))


def strided_gradient_room(inputs: int, together: tuple[int, int], strip: int, own: bool) -> int:
    """Floats of a gradient's scratch memory, with ``together`` inputs and outputs at a time."""
    sums = PRODUCTS * (inputs * together[1] + STAGGER)
    pixels = LARGEST * sum(together) + TILE_PIXELS * together[1]
    return pixels // LANES * strip * STAGGERED + (sums if own else 0)


@linked
def phase_of_inputs(A, r, x, xpix, p0, count, channels, phase, v, step, each):
    """Transform a phase of some input channels of some tiles, groups of 16 channels STEP apart."""
    for c in range(channels):
        target = v + c // LANES * step + c % LANES * LANES
        for t in range(count):
            source = x + c * r[L.X_CHANNEL] + xpix[p0 + t]
            rest = A, source, r[L.X_ROW], r[L.X_CHANNEL], A, target, each, t
            INPUTS_TILE(ODD_ROWS[phase], ODD_COLUMNS[phase], *rest)


@linked
def phase_of_gradients(A, turned, tstep, count, vectors, phase, e, step, each):
    """Transform a phase of transposed gradients, groups of 16 channels STEP apart."""
    for o in range(vectors):
        for t in range(count):
            for n in range(LANES):
                d = turned + o * tstep + t * TILE_PIXELS * STAGGERED + n * LANES
                rest = A, d, A, e + o * step + n * LANES, each, t
                GRADIENTS_TILE(ODD_ROWS[phase], ODD_COLUMNS[phase], *rest)


@linked
def winograd2d_strided_gradient(A, T, r, block, slot, worker, part, parts):
    """The same as ``winograd2d_gradient``; a unit is a phase.

    The transform of odd rows and columns is the transposed gradient itself.
    """
    x0, d0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    inputs, channels, strip, tiles = r[L.IN], r[L.CHANNELS], r[L.TAPS], r[L.POSITIONS]
    xpix, dpix = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    step, tstep = strip * LARGEST * STAGGERED, strip * TILE_PIXELS * STAGGERED
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    grads = transformed + r[L.X_GROUP] // LANES * step
    turned = grads + r[L.GROUPS] // LANES * step
    sums = turned + r[L.GROUPS] // LANES * tstep
    own = r[L.OUT] == 0
    apart = inputs * r[L.GROUPS] + STAGGER if own else r[L.OUT]
    column = inputs * LANES
    first, last = share(PHASES, part, parts)
    if own:
        first, last = (0, PHASES) if part == 0 else (0, 0)
    for o0 in range(0, channels if first < last else 0, r[L.GROUPS]):
        made = min(r[L.GROUPS], channels - o0)
        vectors = (made + LANES - 1) // LANES
        found = sums if own else r[L.EXTRA] + slot * r[L.EXTRA_BLOCK] + o0 * inputs
        for p0 in range(0, tiles, strip):
            count = min(strip, tiles - p0)
            for o in range(vectors):
                d, some = d0 + (o0 + o * LANES) * r[L.Y_CHANNEL], min(LANES, made - o * LANES)
                for t in range(count):
                    target = turned + o * tstep + t * TILE_PIXELS * STAGGERED
                    turn_tile(A, r, LANES, d + dpix[p0 + t], some, target, STAGGERED)
            for phase in range(first, last):
                each, e, estep = SHARING[phase] * strip * STAGGERED, grads, step
                if phase == 1:
                    e, estep = turned, tstep
                else:
                    phase_of_gradients(A, turned, tstep, count, vectors, phase, e, estep, each)
                taken = count * SHARING[phase]
                for c0 in range(0, inputs, r[L.X_GROUP]):
                    some, x = min(r[L.X_GROUP], inputs - c0), x0 + c0 * r[L.X_CHANNEL]
                    phase_of_inputs(A, r, x, xpix, p0, count, some, phase, transformed, step, each)
                    for k in range(WEIGHTS[phase]):
                        g = found + (FIRST_WEIGHT[phase] + k) * apart + c0 * LANES
                        v, grad = transformed + k * each, e + k * each
                        rest = v, step, STAGGERED, grad, estep, g, column, p0 > 0
                        products_of_samples(A, some, vectors, taken, *rest)
        if own:
            weights = r[L.EXTRA] + block * r[L.EXTRA_BLOCK] + 9 * o0 * inputs
            for i in range(0, vectors * column, LANES):
                strided_weight_gradient_tile(A, found + i, apart, A, weights + 9 * i, LANES)
