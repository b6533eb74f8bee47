"""Costs and records of F(4x4, 3x3) over many blocks at a time."""

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS
from fastcnn.backends.lanes.convolution.winograd2d.records import (
    CARRIED,
    both_ways,
    gradient_tile,
    pixels_written,
    product_tile,
    sizes,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import MATRICES, PRODUCTS
from fastcnn.backends.lanes.convolution.winograd2d_batch import kernels, reach
from fastcnn.backends.lanes.convolution.winograd2d_batch.gradient_kernels import (
    winograd2d_batch_gradient,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.record import numbered
from fastcnn.codegen.simd import LANES


def _cost(r: Row, flops: int, read: int, written: int, weights: int = 0) -> Cost:
    """The cost of a batch, from FLOPs and vectors per tile."""
    blocks = max(0, min(r[L.STRIP_ROWS], r.blocks - r[L.GROUPS]))
    samples = min(LANES * blocks, max(0, r.batch - LANES * r[L.GROUPS]))
    vectors = FLOAT_BYTES * LANES * blocks * r[L.POSITIONS]
    return Cost(
        flops * r[L.POSITIONS] * samples,
        vectors * read + FLOAT_BYTES * weights,
        vectors * written,
    )


def _inputs(r: Row) -> Cost:
    return _cost(r, both_ways(MATRICES.input) * r[L.IN], OUTPUTS**2 * r[L.IN], PRODUCTS * r[L.IN])


def _products(r: Row) -> Cost:
    inputs, outputs = PRODUCTS * r[L.IN], PRODUCTS * r[L.CHANNELS]
    weights = inputs * r[L.CHANNELS]
    return _cost(r, 2 * weights, inputs, outputs, weights)


def _products_of_kernels(r: Row) -> Cost:
    kernels = r[L.IN] * r[L.CHANNELS]
    vectors = PRODUCTS * r[L.IN], PRODUCTS * r[L.CHANNELS]
    cost = _cost(r, 2 * PRODUCTS * kernels, *vectors, 9 * kernels)
    return cost + Cost(both_ways(MATRICES.weight) * kernels, 0, 0)


def _gradient(r: Row) -> Cost:
    inputs, outputs, tiles = r[L.IN], r[L.CHANNELS], r[L.POSITIONS]
    flops = 2 * PRODUCTS * inputs * outputs + both_ways(MATRICES.input) * inputs
    flops += both_ways(MATRICES.output.T) * outputs
    pixels, kernels = OUTPUTS**2 * tiles * (inputs + outputs), inputs * outputs
    cost = r.cost(tiles * flops, pixels, 0, parameters_written=9 * kernels)
    return cost + Cost(both_ways(MATRICES.weight.T) * kernels, 0, 0)


def _outputs(r: Row) -> Cost:
    channels = r[L.CHANNELS]
    flops = (both_ways(MATRICES.output) + OUTPUTS * OUTPUTS) * channels
    side = OUTPUTS // 2 if r[L.MODE] == L.POOLED else OUTPUTS
    pixels = channels * pixels_written(r, side) // r[L.POSITIONS]
    flops += 4 * pixels if r[L.MOMENTS] else 0
    read = PRODUCTS * channels + (pixels if r[L.MODE] in (L.MASKED, L.ADDED) else 0)
    return _cost(r, flops, read, pixels * (2 if r[L.MODE] == L.POOLED else 1))


def _adjoint_inputs(r: Row) -> Cost:
    flops = both_ways(MATRICES.output.T) * r[L.IN]
    return _cost(r, flops, OUTPUTS**2 * r[L.IN], PRODUCTS * r[L.IN])


def _adjoint_outputs(r: Row) -> Cost:
    channels = r[L.CHANNELS]
    flops = (both_ways(MATRICES.input.T) + CARRIED + OUTPUTS * OUTPUTS) * channels
    pixels = channels * r[L.Y_ROWS] * r[L.Y_WIDTH] // r[L.POSITIONS]
    return _cost(r, flops, PRODUCTS * channels + (pixels if r[L.MODE] == L.MASKED else 0), pixels)


K_WINOGRAD2D_BATCH_INPUTS = numbered(
    kernels.winograd2d_batch_inputs,
    "Winograd 2-D inputs",
    _inputs,
    sizes,
    gradients=("x",),
    touches=reach.inputs,
)
K_WINOGRAD2D_BATCH_PRODUCTS = numbered(
    kernels.winograd2d_batch_products,
    "Winograd 2-D products",
    _products,
    sizes,
    product_tile,
    gradients=("x",),
    touches=reach.products,
)
K_WINOGRAD2D_BATCH_PRODUCTS_OF_KERNELS = numbered(
    kernels.winograd2d_batch_products_of_kernels,
    "Winograd 2-D products",
    _products_of_kernels,
    sizes,
    product_tile,
    gradients=("x",),
    touches=reach.products_of_kernels,
)
K_WINOGRAD2D_BATCH_OUTPUTS = numbered(
    kernels.winograd2d_batch_outputs,
    "Winograd 2-D outputs",
    _outputs,
    sizes,
    gradients=("x",),
    touches=reach.outputs,
)
K_WINOGRAD2D_BATCH_ADJOINT_INPUTS = numbered(
    kernels.winograd2d_batch_adjoint_inputs,
    "Winograd 2-D gradients",
    _adjoint_inputs,
    sizes,
    gradients=("x",),
    touches=reach.adjoint_inputs,
)
K_WINOGRAD2D_BATCH_ADJOINT_OUTPUTS = numbered(
    kernels.winograd2d_batch_adjoint_outputs,
    "Winograd 2-D gradients of inputs",
    _adjoint_outputs,
    sizes,
    gradients=("x",),
    touches=reach.adjoint_outputs,
)
K_GRADIENT = numbered(
    winograd2d_batch_gradient,
    "Winograd 2-D gradient",
    _gradient,
    sizes,
    gradient_tile,
    touches=reach.weight_gradient,
    gradients=("weight",),
)
