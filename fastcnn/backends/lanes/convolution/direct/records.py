"""Costs and records of the kernels of direct convolution."""

import numpy as np

from fastcnn.backends.lanes.convolution import phases
from fastcnn.backends.lanes.convolution.direct import gradient_kernels, kernels, reach
from fastcnn.backends.lanes.convolution.direct.bias import bias_gradient
from fastcnn.backends.lanes.convolution.tiles import gradient_tile, product_tile
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered, per_element
from fastcnn.codegen.simd import LANES


def _packed(r: Row) -> int:
    tiles = r.table(L.STRIP_TABLE, r[L.POSITIONS] * kernels.TILE)
    return r[L.GROUPS] * int(tiles[1 :: kernels.TILE].sum()) * r[L.IN] * r[L.TAPS]


def _pack(r: Row) -> Cost:
    return Cost(0, FLOAT_BYTES * _packed(r), FLOAT_BYTES * _packed(r))


def _weights(r: Row) -> int:
    return r[L.GROUPS] * r[L.CHANNELS] * r[L.TAPS]


def _convolution(r: Row) -> Cost:
    pooled, meets = r[L.MODE] == L.POOLED, r[L.MODE] in (L.MASKED, L.ADDED)
    channels = r[L.GROUPS] * r[L.CHANNELS]
    outputs = channels * phases.pixels_of(r) // (4 if pooled else 1)
    read = r[L.GROUPS] * phases.vectors_read(r) + (outputs if meets else 0)
    written = 2 * outputs if pooled else outputs
    return r.cost(2 * channels * phases.products_of(r), read, written, parameters_read=_weights(r))


def _weight_gradient(r: Row) -> Cost:
    pooled = r[L.MODE] == L.POOLED
    times = 2 if pooled else 1
    rows, columns = times * r[L.Y_ROWS], times * r[L.Y_WIDTH]
    pixels = np.add.outer(
        np.arange(rows) * r[L.X_ROW], np.arange(columns) * r[L.ALONG] * LANES
    ).ravel()
    inputs = phases.vectors_met([(pixels, r.table(L.TAP_TABLE, r[L.TAPS]))])
    read = r[L.GROUPS] * inputs + r.elements // (2 if pooled else 1)
    sums = int(r[L.BIAS] >= 0)
    met = r.elements // 4 if r[L.KERNEL_ROWS] else r.elements
    flops = met * (2 * r[L.TAPS] + sums)
    partial = _weights(r) + sums * r[L.GROUPS] * r[L.CHANNELS]
    return r.cost(flops, read, 0, partial=partial)


def _tile(r: Row) -> str:
    return product_tile(r, r[L.MODE] == L.POOLED)


def _gradient_tile(r: Row) -> str:
    return gradient_tile(r, r[L.TAPS], r[L.IN], r[L.MODE] == L.POOLED)


def _sizes(r: Row) -> str:
    return _sizes_of_pixels(r, phases.pixels_of(r))


def _gradient_sizes(r: Row) -> str:
    return _sizes_of_pixels(r, r[L.POSITIONS])


def _sizes_of_pixels(r: Row, pixels: int) -> str:
    groups = f", {r[L.GROUPS]} groups" if r[L.GROUPS] > 1 else ""
    channels = r[L.GROUPS] * r[L.CHANNELS]
    return f"{channels} x {pixels}, {r[L.TAPS]} taps{groups}"


K_PACK = numbered(
    kernels.pack,
    "pack",
    _pack,
    lambda r: str(_packed(r)),
    gradients=("x",),
    touches=reach.pack,
    before_backward=True,
)
K_CONV = numbered(
    kernels.convolution,
    "convolution",
    _convolution,
    _sizes,
    _tile,
    gradients=("x",),
    touches=reach.product,
)
K_WEIGHT_GRADIENT = numbered(
    gradient_kernels.weight_gradient,
    "weight gradient",
    _weight_gradient,
    _gradient_sizes,
    _gradient_tile,
    gradients=("weight", "bias"),
    touches=reach.weight_gradient,
    strength_reduction=False,
)
K_BIAS_GRADIENT = numbered(
    bias_gradient,
    "bias gradient",
    per_element(1, 1, 0, 1),
    map_sizes,
    gradients=("bias",),
    touches=reach.bias_gradient,
)
