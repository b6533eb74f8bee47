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
        A[out + c] = simd.lane_sum(channel_sum(A, d0 + c * r[Y_CHANNEL], places, positions))


@linked
def channel_sum(A, d, places, positions):
    """The sum of a channel over positions, sample by sample."""
    total = simd.splat(np.float32(0))
    for p in range(0, positions, STRIP):
        total = simd.add(total, strip_sum(A, d, places, p, min(p + STRIP, positions)))
    return total


@linked
def strip_sum(A, d, places, p, end):
    """The sum of a channel over some positions, sample by sample."""
    zero = simd.splat(np.float32(0))
    a0, a1, a2, a3 = zero, zero, zero, zero
    while p + 4 <= end:
        a0 = simd.add(a0, simd.load(A, d + places[p]))
        a1 = simd.add(a1, simd.load(A, d + places[p + 1]))
        a2 = simd.add(a2, simd.load(A, d + places[p + 2]))
        a3 = simd.add(a3, simd.load(A, d + places[p + 3]))
        p += 4
    while p < end:
        a0 = simd.add(a0, simd.load(A, d + places[p]))
        p += 1
    return simd.add(simd.add(a0, a1), simd.add(a2, a3))
