"""How far rows of constraints on parameters reach; see ranges.py."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena, parameters


def limit_norms(r: Reach) -> Touches:
    yield parameters("W", r.along(r.count(L.IN, 1) * r.count(L.OUT, 1), 1) + r[L.W])
    yield arena("SCALE", Range(r[L.SCALE], r[L.SCALE]), 1)
