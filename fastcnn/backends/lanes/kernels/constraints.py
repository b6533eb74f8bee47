"""Constraints on parameters, applied before a step reads them."""

import math

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.division import share
from fastcnn.backends.lanes.kernels.record import matrix_sizes, numbered
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, parameters
from fastcnn.codegen import linked

#: Rounding tolerance, so that a row that was already scaled is not scaled again.
SLACK = 1.000001


@linked
def limit_norms(A, P, r, part, parts):
    """Scale down each of OUT rows of IN weights whose norm exceeds the limit stored at SCALE."""
    columns, largest = r[L.IN], np.float64(A[r[L.SCALE]])
    first, last = share(r[L.OUT], part, parts)
    for row in range(first, last):
        start, total = r[L.W] + row * columns, 0.0
        for i in range(start, start + columns):
            total += np.float64(P[i]) * np.float64(P[i])
        norm = math.sqrt(total)
        if norm > largest * SLACK:
            factor = largest / norm
            for i in range(start, start + columns):
                P[i] = np.float32(P[i] * factor)


def _cost(r: Row) -> Cost:
    return Cost(2 * r[L.IN] * r[L.OUT], FLOAT_BYTES * r[L.IN] * r[L.OUT], 0)


def _reach(r: Reach) -> Touches:
    yield parameters("W", r.along(r.count(L.IN, 1) * r.count(L.OUT, 1), 1) + r[L.W])
    yield r.floats("SCALE", 1)


K_LIMIT_NORMS = numbered(limit_norms, "largest norm", _cost, matrix_sizes, touches=_reach)
