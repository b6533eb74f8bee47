"""How far sums of gradients over blocks and places reach; see reach.py."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena, gradient
from fastcnn.codegen.simd import LANES


def reduce(r: Reach) -> Touches:
    sums = r.along(r.count(L.OUT), 1)
    yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + sums, 1)
    yield gradient("W", sums + r[L.W])


def reduce_kernels(r: Reach) -> Touches:
    kernels, taps = r.count(L.IN) // LANES * LANES, r.count(L.TAPS)
    if kernels:
        sums = r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(taps, r[L.IN])
        yield arena("EXTRA", sums, kernels)
        yield arena("Z", r.workers(L.Z, L.Z_SLOT), taps * LANES)
        yield gradient("W", r.along(taps * kernels, 1) + r[L.W])


def sum_places(r: Reach) -> Touches:
    sums = r.along(r.count(L.OUT), 1)
    yield gradient("W", sums + r[L.W])
    yield gradient("EXTRA", sums + r[L.EXTRA])
