"""How far sums of gradients over blocks and places reach; see reach.py."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena, gradient
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def reduce(r: Reach) -> Touches:
    sums = r.along(r.count(L.OUT), 1)
    yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + sums, 1)
    yield gradient("W", sums + r[L.W])


def reduce_kernels(r: Reach) -> Touches:
    kernels, taps = r.count(L.IN) // LANES * LANES, r.count(L.TAPS)
    if kernels:
        yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK), taps * kernels)
        inputs, outputs = r.count(L.DOWN, 1), r.count(L.CHANNELS)
        if kernels != -(-outputs // LANES) * LANES * inputs:
            raise ProgramError(f"{kernels} sums of kernels of {outputs} by {inputs} channels")
        yield gradient("W", r.along(taps * outputs * inputs, 1) + r[L.W])


def sum_places(r: Reach) -> Touches:
    sums = r.along(r.count(L.OUT), 1)
    yield gradient("W", sums + r[L.W])
    yield gradient("EXTRA", sums + r[L.EXTRA])
