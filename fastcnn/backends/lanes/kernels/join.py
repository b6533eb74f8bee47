"""Kernels that join two maps, each for one block of 16 samples.

A kernel does the ``part``-th of ``parts`` equal shares of the elements. A is the arena, T the
tables, r the program row.
"""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import STRIP, share
from fastcnn.backends.lanes.kernels.elements import element_record
from fastcnn.backends.lanes.kernels.record import Kernel, map_sizes, per_element, register
from fastcnn.codegen import linked, simd

LANES = simd.LANES
JOINED = per_element(1, 2, 1)


@linked
def _rectifies(A, P, r, m, c):
    return r[L.RELU]


@linked
def _factor(A, P, r, m, c):
    return simd.load(A, m + c * r[L.M_CHANNEL]), r[L.RELU]


@linked
def _store(A, y, value, relu):
    if relu:
        value = simd.relu(value)
    simd.store(A, y, value)


@linked
def _added(A, x, y, m, relu):
    _store(A, y, simd.add(simd.load(A, x), simd.load(A, m)), relu)


@linked
def _subtracted(A, x, y, m, relu):
    _store(A, y, simd.sub(simd.load(A, x), simd.load(A, m)), relu)


@linked
def _multiplied(A, x, y, m, relu):
    _store(A, y, simd.mul(simd.load(A, x), simd.load(A, m)), relu)


@linked
def _gated(A, x, y, m, factor):
    _store(A, y, simd.mul(simd.load(A, x), factor[0]), factor[1])


@linked
def product_sums(A, T, r, block, slot, part, parts):
    """Y = sum of X * M over each channel's pixels, or with OF_PIXELS over each pixel's channels."""
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    m0 = r[L.M] + block * r[L.M_BLOCK] + slot * r[L.M_SLOT]
    by_pixel = r[L.MODE] == L.OF_PIXELS
    outer, inner = r[L.CHANNELS], r[L.POSITIONS]
    if by_pixel:
        outer, inner = inner, outer
    first, last = share(outer, part, parts)
    for o in range(first, last):
        total = simd.splat(np.float32(0))
        for begin in range(0, inner, STRIP):
            strip = simd.splat(np.float32(0))
            for i in range(begin, min(begin + STRIP, inner)):
                c, p = (i, o) if by_pixel else (o, i)
                x = x0 + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p]
                m = m0 + c * r[L.M_CHANNEL] + T[r[L.M_TABLE] + p]
                strip = simd.add(strip, simd.mul(simd.load(A, x), simd.load(A, m)))
            total = simd.add(total, strip)
        y = y0 + T[r[L.Y_TABLE] + o] if by_pixel else y0 + o * r[L.Y_CHANNEL] + T[r[L.Y_TABLE]]
        simd.store(A, y, total)


register(
    {
        L.K_ADD: element_record(_added, "add", JOINED, given=_rectifies, third=True),
        L.K_SUBTRACT: element_record(_subtracted, "subtract", JOINED, given=_rectifies, third=True),
        L.K_MULTIPLY: element_record(_multiplied, "multiply", JOINED, given=_rectifies, third=True),
        L.K_GATE: element_record(
            _gated, "multiply channels", per_element(1, 1, 1), given=_factor, whole=False
        ),
        L.K_PRODUCT_SUMS: Kernel(product_sums, "sums of products", per_element(2, 2, 0), map_sizes),
    }
)
