"""Kernel of the bias gradient, for one block of 16 samples."""

from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import STRIP, base, share
from fastcnn.codegen import linked, simd
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import constant


@linked
def bias_gradient(A, T, r, block, slot, part, parts):
    """One block's sums of the output's gradient over positions and samples, for each channel."""
    d0 = base(r, L.Y, block, slot)
    out = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    places, positions = T[r[L.Y_TABLE] :], r[L.POSITIONS]
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        A[out + c] = simd.lane_sum(channel_sum(A, d0 + c * r[L.Y_CHANNEL], places, positions))


@linked
def channel_sum(A, d, places, positions):
    """The sum of a channel over positions, per lane."""
    total = simd.splat(np.float32(0))
    for p in range(0, positions, STRIP):
        total = simd.add(total, strip_sum(A, d, places, p, min(p + STRIP, positions)))
    return total


@tile(0, "vector")
def strip_sum(at: Emitter, D, d, places, p, end) -> Any:
    """The sum of a channel over some positions, per lane."""
    builder = at.builder

    def value(place: Any) -> Any:
        return at.load(D, builder.add(d, at.table(places, place)))

    def four(i: Any, sums: list[Any]) -> list[Any]:
        first = at.offset(p, i, 4)
        return [builder.fadd(sums[k], value(at.offset(first, k, 1))) for k in range(4)]

    def one(place: Any, sums: list[Any]) -> list[Any]:
        return [builder.fadd(sums[0], value(place))]

    fours = builder.sdiv(builder.sub(end, p), at.index(4))
    first, *others = at.loop(0, fours, [constant(0.0)] * 4, four)
    (first,) = at.loop(at.offset(p, fours, 4), end, [first], one)
    sums = [first, *others]
    return builder.fadd(builder.fadd(sums[0], sums[1]), builder.fadd(sums[2], sums[3]))
