"""Costs and records of the kernels of convolutions of small maps."""

import numpy as np

from fastcnn.backends.lanes.convolution.direct_batch import kernels, reach
from fastcnn.backends.lanes.convolution.direct_batch.kernels import ENTRIES
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row, distinct
from fastcnn.backends.lanes.kernels.record import clipped, numbered
from fastcnn.codegen.simd import LANES
from fastcnn.codegen.target import blocking


def _tile(r: Row) -> str:
    return clipped((8, 3), blocking().products)


def _product(r: Row) -> Cost:
    kinds = r.table(L.STRIP_TABLE, ENTRIES * r[L.POSITIONS]).reshape(-1, ENTRIES).astype(np.int64)
    blocks = max(0, min(r[L.STRIP_ROWS], r.blocks - r[L.GROUPS]))
    samples = min(LANES * blocks, max(0, r.batch - LANES * r[L.GROUPS]))
    outputs, products = r[L.CHANNELS] * kinds[:, 1].sum(), (kinds[:, 1] * kinds[:, 3]).sum()
    vector = FLOAT_BYTES * LANES * blocks
    last = int((kinds[:, 2] + kinds[:, 3]).max())
    seen = distinct(r.table(L.M_TABLE, last))
    read = products // max(1, int(kinds[:, 1].sum())) + (outputs if r[L.MODE] == L.MASKED else 0)
    return Cost(
        int(2 * r[L.CHANNELS] * products * samples),
        int(vector * read + FLOAT_BYTES * r[L.CHANNELS] * seen),
        int(vector * outputs),
    )


def _turn(r: Row) -> Cost:
    vectors = r[L.POSITIONS] * r[L.IN] + r[L.GROUPS] * r[L.CHANNELS]
    return r.cost(0, vectors, vectors)


def _gradient(r: Row) -> Cost:
    pairs = int(r.table(L.M_TABLE, r[L.TAPS] + 1)[-1])
    weights = r[L.IN] * r[L.CHANNELS]
    vectors = r[L.POSITIONS] * r[L.IN] + r[L.GROUPS] * r[L.CHANNELS]
    return r.cost(2 * pairs * weights, vectors, 0, parameters_written=weights * r[L.TAPS])


def _product_sizes(r: Row) -> str:
    return f"{r[L.CHANNELS]}, {r[L.POSITIONS]} kinds of pixels"


def _sizes(r: Row) -> str:
    return f"{r[L.IN]} to {r[L.CHANNELS]}"


K_PRODUCT = numbered(
    kernels.direct_batch,
    "convolution of small maps",
    _product,
    _product_sizes,
    _tile,
    touches=reach.product,
    gradients=("x",),
)
K_TURN = numbered(
    kernels.direct_batch_turn,
    "transpose small maps",
    _turn,
    _sizes,
    touches=reach.turn,
    gradients=("weight",),
)
K_GRADIENT = numbered(
    kernels.direct_batch_gradient,
    "gradient of small maps",
    _gradient,
    _sizes,
    touches=reach.weight_gradient,
    gradients=("weight",),
)
