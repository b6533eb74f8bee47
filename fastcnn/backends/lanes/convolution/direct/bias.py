"""Kernel of the biases' gradient, for one block of 16 samples."""

import numpy as np

from fastcnn.backends.lanes.kernels.division import STRIP, share
from fastcnn.backends.lanes.kernels.layout import (
    CHANNELS,
    EXTRA,
    EXTRA_BLOCK,
    POSITIONS,
    Y_BLOCK,
    Y_CHANNEL,
    Y_SLOT,
    Y_TABLE,
    Y,
)
from fastcnn.codegen import linked, simd


@linked
def bias_gradient(A, T, r, block, slot, part, parts):
    """One block's sums of the output gradient over positions and samples, for each channel."""
    d0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    out = r[EXTRA] + block * r[EXTRA_BLOCK]
    places, positions = T[r[Y_TABLE] :], r[POSITIONS]
    first, last = share(r[CHANNELS], part, parts)
    for c in range(first, last):
        A[out + c] = channel_sum(A, d0 + c * r[Y_CHANNEL], places, positions)


@linked
def channel_sum(A, d, places, positions):
    """The sum of a channel over positions and samples."""
    zero = simd.splat(np.float32(0))
    total, p = zero, 0
    while p < positions:
        a0, a1, a2, a3 = zero, zero, zero, zero
        end = min(p + STRIP, positions)
        while p + 4 <= end:
            a0 = simd.add(a0, simd.load(A, d + places[p]))
            a1 = simd.add(a1, simd.load(A, d + places[p + 1]))
            a2 = simd.add(a2, simd.load(A, d + places[p + 2]))
            a3 = simd.add(a3, simd.load(A, d + places[p + 3]))
            p += 4
        while p < end:
            a0 = simd.add(a0, simd.load(A, d + places[p]))
            p += 1
        total = simd.add(total, simd.add(simd.add(a0, a1), simd.add(a2, a3)))
    return simd.lane_sum(total)
