"""F(4x4, 2x2) or F(4x4, 3x3) of the stride's phases: for kernels of 4x4 to 6x6 with stride 2."""

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import beyond_output, tiles
from fastcnn.backends.lanes.convolution.winograd2d.algorithm import FEWEST_LANES
from fastcnn.backends.lanes.convolution.winograd2d_phases.phases import (
    half,
    input_halo,
    phases_of_products,
    products_of_phase,
    transposed_halo,
    transposed_phases,
)
from fastcnn.backends.lanes.planning.buffers import LANES, Halo

#: Minimum channels on either side for which the transforms pay, and channel pairs for the
#: transpose, whose outputs are transformed phase by phase.
FEWEST_CHANNELS, FEWEST_PAIRS = 16, 512
#: Maximum share of the direct sum's products, and channel pairs above which reading the transformed
#: weights, or adding their sums, for each block takes too long.
MOST_PRODUCTS, MOST_PAIRS, MOST_SUMS = 0.65, 128 * 128, 128 * 256


def _fits(g: ConvGeometry, part: Part) -> bool:
    return half(g) > 0


def _pays(g: ConvGeometry, part: Part) -> bool:
    pairs = g.group_inputs * g.out_channels
    # winograd2d has fewer transformed weights for 3x3: a single odd row or column needs none.
    if max(g.kernel) == 3 or min(g.group_inputs, g.out_channels) < FEWEST_CHANNELS:
        return False
    if part == Part.GRADIENT:
        lanes = -(-g.out_channels // LANES) * LANES
        pays = g.out_channels >= FEWEST_LANES * lanes and pairs <= MOST_SUMS
        return pays and _products(g, part) <= MOST_PRODUCTS
    if pairs > MOST_PAIRS or (part == Part.TRANSPOSE and pairs < FEWEST_PAIRS):
        return False
    return _products(g, part) <= MOST_PRODUCTS


def _products(g: ConvGeometry, part: Part) -> float:
    """Products of whole tiles as a share of the direct sum's."""
    if part == Part.TRANSPOSE:
        count = sum(
            int(products_of_phase(g, phase).sum()) * tiles(rows.pixels) * tiles(columns.pixels)
            for phase, rows, columns in transposed_phases(g)
        )
    else:
        count = int(phases_of_products(g)[:, 1].sum()) * tiles(g.output[0]) * tiles(g.output[1])
    return count / (g.kernel[0] * g.kernel[1] * g.output[0] * g.output[1])


def _gradient_halo(g: ConvGeometry, part: Part) -> Halo:
    if part == Part.TRANSPOSE:
        return transposed_halo(g)
    return (0, beyond_output(g, 0), 0, beyond_output(g, 1))


WINOGRAD_2D_PHASES = Algorithm(
    "winograd2d_phases",
    _fits,
    _pays,
    input_halo,
    _gradient_halo,
    adds=True,
    pools=lambda g: False,
)
