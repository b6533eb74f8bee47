"""Costs and records of weight gradients whose vectors hold input channels."""

import numpy as np

from fastcnn.backends.lanes.convolution.input_lanes import kernels, reach
from fastcnn.backends.lanes.convolution.input_lanes.algorithm import ROWS
from fastcnn.backends.lanes.convolution.input_lanes.kernels import ENTRIES
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row, distinct
from fastcnn.backends.lanes.kernels.record import clipped, numbered
from fastcnn.codegen.target import blocking


def _tile(r: Row) -> str:
    return clipped((ROWS, 3 if r[L.TAPS] * r[L.GROUPS] > 2 else 2), blocking().products)


def _strips(r: Row) -> tuple[int, np.ndarray]:
    """Positions of all strips, and the offsets of the input pixels that they read."""
    strips = r.table(L.STRIP_TABLE, ENTRIES * r[L.POSITIONS]).reshape(-1, ENTRIES)
    end = int((strips[:, 2] + strips[:, 3]).max())
    return int(strips[:, 1].sum()), r.table(L.X_TABLE, end)[strips[0, 2] :]


def _gradient(r: Row) -> Cost:
    inputs, outputs, taps = r[L.IN], r[L.CHANNELS], r[L.TAPS]
    positions, pixels = _strips(r)
    read = distinct(pixels) * inputs + positions * outputs
    weights = taps * inputs * outputs
    sums = outputs if r[L.M] >= 0 else 0
    flops = 2 * positions * weights + positions * sums
    return r.cost(flops, read, 0, partial=weights + sums)


def _sizes(r: Row) -> str:
    return f"{r[L.CHANNELS]} x {_strips(r)[0]}, {r[L.IN] * r[L.TAPS]} taps"


K_GRADIENT = numbered(
    kernels.input_lanes_gradient,
    "weight gradient by channels",
    _gradient,
    _sizes,
    _tile,
    touches=reach.weight_gradient,
    gradients=("weight", "bias"),
)
