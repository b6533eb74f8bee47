"""Costs and records of convolutions with stride 2: the operations actually executed."""

from functools import partial

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, points
from fastcnn.backends.lanes.convolution.winograd2d import records as plain
from fastcnn.backends.lanes.convolution.winograd2d_phases import gradient_kernels as of_weights
from fastcnn.backends.lanes.convolution.winograd2d_phases import kernels, reach
from fastcnn.backends.lanes.convolution.winograd2d_phases.phases import MATRICES, PHASES
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.record import numbered, sizes_of


def _summands(r: Row, half: int) -> int:
    """Products of a tile, summed over channels, for each output channel."""
    return int(r.table(L.PHASE_TABLE, 2 * points(half) ** 2)[1::2].sum())


def product(r: Row, half: int) -> Cost:
    """The cost of the forward pass, or of a phase of its transpose."""
    inputs, outputs, tiles, matrices = r[L.IN], r[L.CHANNELS], r[L.POSITIONS], MATRICES[half]
    pixels = outputs * plain.pixels_written(r, OUTPUTS)
    flops = 2 * _summands(r, half) * outputs + plain.both_ways(matrices.input) * inputs
    flops = tiles * (flops + (plain.both_ways(matrices.output) + OUTPUTS * OUTPUTS) * outputs)
    read = OUTPUTS * OUTPUTS * tiles * inputs + (pixels if r[L.MODE] else 0)
    numbers = 0
    if r[L.MOMENTS]:
        flops, numbers = flops + 4 * pixels, 2 * outputs * -(-tiles // (r[L.TAPS] * r[L.GROUPS]))
    parameters = points(half) ** 2 * inputs * outputs
    return r.cost(flops, read, pixels, partial=numbers, parameters_read=parameters)


def gradient(r: Row, half: int) -> Cost:
    """The cost of one block's weight gradient."""
    inputs, outputs, tiles, matrices = r[L.IN], r[L.CHANNELS], r[L.POSITIONS], MATRICES[half]
    flops = 2 * _summands(r, half) * outputs + plain.both_ways(matrices.input) * inputs
    flops = tiles * (flops + plain.both_ways(matrices.output.T) * outputs)
    read = OUTPUTS * OUTPUTS * tiles * (inputs + outputs)
    weights = r[L.KERNEL_ROWS] * r[L.M_ROW] * inputs // len(PHASES) * outputs
    back = plain.both_ways(matrices.weight.T) * inputs * outputs * r.blocks
    return r.cost(flops, read, 0, partial=weights) + Cost(back, 0, 0)


def weights(r: Row, half: int) -> Cost:
    """The cost of transforming phases of kernels."""
    count = r[L.IN] * FLOAT_BYTES
    flops = plain.both_ways(MATRICES[half].weight) * r[L.IN]
    return Cost(flops, half * half * count, points(half) ** 2 * count)


def _product(half: int) -> int:
    return numbered(
        kernels.winograd2d_phases,
        "Winograd 2-D by phases",
        partial(product, half=half),
        plain.sizes,
        plain.product_tile,
        fixed={"narrow": half == 2},
        touches=partial(reach.product, half=half),
        speed=0.88,
        gradients=("x",),
    )


def _gradient(half: int) -> int:
    return numbered(
        of_weights.winograd2d_phases_gradient,
        "Winograd 2-D gradient by phases",
        partial(gradient, half=half),
        plain.sizes,
        plain.gradient_tile,
        fixed={"narrow": half == 2},
        touches=partial(reach.gradient, half=half),
        gradients=("weight",),
    )


def _weights(half: int) -> int:
    return numbered(
        kernels.winograd2d_phases_weights,
        "Winograd 2-D weights of phases",
        partial(weights, half=half),
        sizes_of(L.IN),
        fixed={"narrow": half == 2},
        touches=partial(reach.weights, half=half),
        before_backward=True,
        gradients=("x",),
    )


#: By the width of half a kernel.
K_WEIGHTS, K_PRODUCT, K_GRADIENT = (
    {half: kernel(half) for half in MATRICES} for kernel in (_weights, _product, _gradient)
)
