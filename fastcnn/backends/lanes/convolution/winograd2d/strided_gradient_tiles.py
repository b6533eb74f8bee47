"""Tiles of the weight gradient with stride 2: the phases of strided.py, one at a time.

Products that share weights are summed together: those of odd rows and columns are pixels of the
input times those of the output's gradient. The terms of a sum are contiguous in memory.
"""

from typing import Any

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.gradient_tiles import PIXEL
from fastcnn.backends.lanes.convolution.winograd2d.strided import (
    EVEN,
    EVENS,
    ODDS,
    STRIDED_SIDE,
    emit_phase,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    Grid,
    ask_for_pixels,
    emit_both_ways,
    emit_product,
    load_all,
    load_pixels,
    store_all,
)
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES

#: Floats from one product of 16 channels of 16 samples to the next, which must not all map to the
#: same few sets of the first-level cache.
STAGGERED = PIXEL + STAGGER


def _store(
    at: Emitter, odd: tuple[int, int], values: list[list[Any]], to: tuple[Any, Any, Any], number
) -> None:
    """Store products of the ``number``-th tile next to those of other tiles that share weights.

    ``to`` is an array, an offset, and the floats from one of a weight's products to another's.
    """
    V, v0, each = to
    members = (ODDS if odd[0] else 1) * (ODDS if odd[1] else 1)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            weight = (0 if odd[0] else i) * (1 if odd[1] else EVENS) + (0 if odd[1] else j)
            member = (i if odd[0] else 0) * (ODDS if odd[1] else 1) + (j if odd[1] else 0)
            place = at.offset(at.offset(v0, weight, each), member, STAGGERED)
            place = at.offset(place, number, members * STAGGERED)
            # Prefetch the address of the next channel, or sample: a store that hits the cache is
            # far cheaper.
            at.prefetch(V, at.offset(place, 1, LANES), write=True)
            store_all(at, [value], V, place, STAGGERED)


@tile(2)
def input_phase_tile(
    at: Emitter, odd_rows: int, odd_columns: int, X, x0, xrow, ahead, V, v0, each, number
) -> None:
    """A phase of the transforms of 9x9 pixels of the input; those ``ahead`` are prefetched.

    Each weight takes ``each`` floats.
    """
    odd = odd_rows, odd_columns
    sides = [range(first, STRIDED_SIDE, 2) for first in odd]
    source = Grid(X, x0, xrow, LANES)
    ask_for_pixels(at, sides, source, ahead)
    pixels = load_pixels(at, sides, source)
    made = emit_phase(at.builder, EVEN.input, odd, pixels)
    _store(at, odd, made, (V, v0, each), number)


@tile(2)
def gradient_phase_tile(
    at: Emitter, odd_rows: int, odd_columns: int, D, d0, E, e0, each, number
) -> None:
    """A phase of the transforms of a sample's gradient of 4x4 outputs."""
    odd, side = (odd_rows, odd_columns), range(OUTPUTS)
    pixels = load_pixels(at, (side, side), Grid(D, d0, OUTPUTS * STAGGERED, STAGGERED))
    made = emit_phase(at.builder, EVEN.output.T, odd, pixels)
    _store(at, odd, made, (E, e0, each), number)


@tile(0)
def strided_weight_gradient_tile(at: Emitter, E, e0, estep, G, g0, gstep) -> None:
    """The gradients of the 9 weights of 16 kernels from those of their 36 distinct products."""
    builder, back = at.builder, EVEN.weight.T
    flat = load_all(at, PRODUCTS, E, e0, estep)
    both, one = EVENS * EVENS, 2 * EVENS
    outer = emit_both_ways(builder, back, [flat[i : i + EVENS] for i in range(0, both, EVENS)])
    columns = emit_product(builder, back, flat[both : both + EVENS])
    rows = emit_product(builder, back, flat[both + EVENS : both + one])
    weights = [outer[0][0], columns[0], outer[0][1], rows[0], flat[-1], rows[1]]
    store_all(at, [*weights, outer[1][0], columns[1], outer[1][1]], G, g0, gstep)
