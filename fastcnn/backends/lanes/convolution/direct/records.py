"""Costs and records of convolutions as sums over taps."""

import numpy as np

from fastcnn.backends.lanes.convolution.direct import kernels
from fastcnn.backends.lanes.convolution.tiles import gradient_tile, product_tile
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.record import Kernel, map_sizes, per_element, register, sizes_of
from fastcnn.codegen.simd import LANES


def _pack(r: Row) -> Cost:
    return Cost(0, 2 * FLOAT_BYTES * r[L.TAPS], FLOAT_BYTES * r[L.TAPS])


def _input_vectors(r: Row) -> int:
    """Vectors of its input that a convolution reads: each once, whichever taps meet there."""
    pixels = r.table(L.X_TABLE, r[L.POSITIONS]) // LANES
    taps = r.table(L.TAP_TABLE, r[L.TAPS]) // LANES
    if not len(pixels) or not len(taps):
        return 0
    seen = np.zeros(int(pixels.max()) + int(taps.max()) + 1, np.bool_)
    for tap in taps:
        seen[pixels + tap] = True
    return r[L.GROUPS] * int(seen.sum())


def _weights(r: Row) -> int:
    return r[L.GROUPS] * r[L.CHANNELS] * r[L.TAPS]


def _convolution(r: Row) -> Cost:
    pooled, masked = r[L.MODE] == L.POOLED, r[L.MODE] == L.MASKED
    outputs = r.elements // (4 if pooled else 1)
    read = _input_vectors(r) + (outputs if masked else 0)
    written = 2 * outputs if pooled else outputs
    weights = _weights(r)
    return r.cost(2 * r.elements * r[L.TAPS], read, written, parameters_read=weights)


def _weight_gradient(r: Row) -> Cost:
    pooled = r[L.MODE] == L.POOLED
    read = _input_vectors(r) + r.elements // (2 if pooled else 1)
    flops = r.elements * (2 * r[L.TAPS] + (1 if pooled else 0))
    return r.cost(flops, read, 0, partial=_weights(r))


def _conv_sizes(r: Row) -> str:
    groups = f", {r[L.GROUPS]} groups" if r[L.GROUPS] > 1 else ""
    channels = r[L.GROUPS] * r[L.CHANNELS]
    return f"{channels} x {r[L.POSITIONS]}, {r[L.TAPS]} taps{groups}"


register(
    {
        L.K_PACK: Kernel(kernels.pack, "pack", _pack, sizes_of(L.TAPS)),
        L.K_CONV: Kernel(
            kernels.convolution, "convolution", _convolution, _conv_sizes, product_tile
        ),
        L.K_WEIGHT_GRADIENT: Kernel(
            kernels.weight_gradient, "weight gradient", _weight_gradient, _conv_sizes, gradient_tile
        ),
        L.K_BIAS_GRADIENT: Kernel(
            kernels.bias_gradient, "bias gradient", per_element(1, 1, 0, 1), map_sizes
        ),
    }
)
