"""Costs and records of convolutions of single channels."""

import numpy as np

from fastcnn.backends.lanes.convolution.depthwise import kernels
from fastcnn.backends.lanes.convolution.tiles import depthwise_gradient_tile, depthwise_tile
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.kernels.record import Kernel, register
from fastcnn.codegen.simd import LANES


def _phases(r: Row) -> list[list[int]]:
    table = r.table(L.PHASE_TABLE, r[L.PHASES] * kernels.PHASE)
    return [list(map(int, entry)) for entry in table.reshape(-1, kernels.PHASE)]


def _vectors(r: Row, parts: list[tuple[int, int, int, int]]) -> int:
    """Vectors of a channel that some positions and taps meet: each once."""
    met = [
        np.add.outer(r.table_at(pixels, positions), r.table_at(table, taps)).ravel()
        for positions, pixels, taps, table in parts
        if positions and taps
    ]
    if not met:
        return 0
    places = np.concatenate(met) // LANES
    return int(np.count_nonzero(np.bincount(places - places.min())))


def _sums(r: Row) -> tuple[int, int, int]:
    """Products, pixels and vectors read of a channel."""
    phases = _phases(r)
    products = sum(taps * positions for taps, _, _, positions, _, _ in phases)
    pixels = sum(positions for _, _, _, positions, _, _ in phases)
    read = _vectors(r, [(count, at, taps, table) for taps, table, _, count, at, _ in phases])
    return products, pixels, read


def _depthwise(r: Row) -> Cost:
    products, pixels, read = _sums(r)
    outputs = r[L.GROUPS] * r[L.CHANNELS]
    masks = outputs * pixels if r[L.MODE] == L.MASKED else 0
    weights = outputs * r[L.TAPS]
    return r.cost(
        2 * outputs * products,
        r[L.GROUPS] * read + masks,
        outputs * pixels,
        parameters_read=weights,
    )


def _depthwise_gradient(r: Row) -> Cost:
    products, pixels, _ = _sums(r)
    groups, weights = r[L.GROUPS], r[L.GROUPS] * r[L.CHANNELS] * r[L.TAPS]
    inputs = _vectors(r, [(r[L.POSITIONS], r[L.X_TABLE], r[L.TAPS], r[L.TAP_TABLE])])
    bias = r[L.BIAS] >= 0
    partial = weights + (groups * r[L.CHANNELS] if bias else 0)
    flops = r.elements * (2 * r[L.TAPS] + bias) + 2 * groups * products
    return r.cost(
        flops,
        r.elements + groups * inputs,
        groups * pixels,
        partial=partial,
        parameters_read=weights if pixels else 0,
    )


def _sizes(r: Row) -> str:
    pixels = sum(entry[3] for entry in _phases(r)) or r[L.POSITIONS]
    return f"{r[L.GROUPS] * r[L.CHANNELS]} x {pixels}, {r[L.TAPS]} taps"


register(
    {
        L.K_DEPTHWISE: Kernel(kernels.depthwise, "depthwise", _depthwise, _sizes, depthwise_tile),
        L.K_DEPTHWISE_GRADIENT: Kernel(
            kernels.depthwise_gradient,
            "depthwise gradients",
            _depthwise_gradient,
            _sizes,
            depthwise_gradient_tile,
        ),
    }
)
