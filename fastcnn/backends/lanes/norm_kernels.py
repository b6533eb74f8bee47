"""Kernels of batch normalisation.

Three passes: sums of each block of 16 samples, statistics over all blocks in their order, and the
normalisation of each block; backward the same. Arrays of one value a channel: BATCH is where
``scale, shift, mean, 1 / std`` and the three coefficients of the input's gradient stand; EXTRA,
with a stride of EXTRA_BLOCK, two sums of each block; RUNNING the running mean, the running
variance and the number of batches.
"""

import math

import numpy as np
from numba import njit

from fastcnn.backends.lanes import simd
from fastcnn.backends.lanes.division import share
from fastcnn.backends.lanes.layout import (
    BATCH,
    BIAS,
    CHANNELS,
    EXTRA,
    EXTRA_BLOCK,
    FROZEN,
    M_BLOCK,
    M_CHANNEL,
    M_SLOT,
    M_TABLE,
    MODE,
    OF_BATCH,
    POSITIONS,
    RELU,
    RUNNING,
    SCALE,
    X_BLOCK,
    X_CHANNEL,
    X_SLOT,
    X_TABLE,
    Y_BLOCK,
    Y_CHANNEL,
    Y_SLOT,
    Y_TABLE,
    Z_BLOCK,
    Z_CHANNEL,
    Z_SLOT,
    Z_TABLE,
    M,
    W,
    X,
    Y,
    Z,
)

LANES = simd.LANES


@njit(nogil=True)
def sums(A, T, r, block, slot, valid, part, parts):
    """Mean of each channel over one block, and the squared deviations from it.

    Squares about the block's own mean lose nothing where the mean is large (Chan, Golub and
    LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
    """
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    out = r[EXTRA] + block * r[EXTRA_BLOCK]
    positions, xs = r[POSITIONS], T[r[X_TABLE] :]
    first, last = share(r[CHANNELS], part, parts)
    zero = simd.splat(np.float32(0))
    for c in range(first, last):
        x = x0 + c * r[X_CHANNEL]
        a, b, p = zero, zero, 0
        while p + 2 <= positions:
            a = simd.add(a, simd.load(A, x + xs[p]))
            b = simd.add(b, simd.load(A, x + xs[p + 1]))
            p += 2
        if p < positions:
            a = simd.add(a, simd.load(A, x + xs[p]))
        total = simd.lane_sum(simd.first_lanes(valid, simd.add(a, b)))
        mean = total / np.float32(valid * positions)
        middle = simd.splat(mean)
        a, b, p = zero, zero, 0
        while p + 2 <= positions:
            one = simd.sub(simd.load(A, x + xs[p]), middle)
            two = simd.sub(simd.load(A, x + xs[p + 1]), middle)
            a, b = simd.fma(one, one, a), simd.fma(two, two, b)
            p += 2
        if p < positions:
            one = simd.sub(simd.load(A, x + xs[p]), middle)
            a = simd.fma(one, one, a)
        A[out + c] = mean
        A[out + r[CHANNELS] + c] = simd.lane_sum(simd.first_lanes(valid, simd.add(a, b)))


@njit(nogil=True)
def statistics(A, P, r, blocks, count, part, parts):
    """Scale and shift of each channel from the blocks' sums; updates the running statistics.

    SCALE is where eps and the momentum stand; a negative momentum asks for the plain mean over
    all batches.
    """
    channels, positions = r[CHANNELS], r[POSITIONS]
    eps, momentum = np.float64(A[r[SCALE]]), np.float64(A[r[SCALE] + 1])
    running, out = r[RUNNING], r[BATCH]
    tracked = np.float64(A[running + 2 * channels]) if running >= 0 else 0.0
    first, last = share(channels, part, parts)
    for c in range(first, last):
        if r[MODE] == FROZEN:
            mean = np.float64(A[running + c])
            variance = np.float64(A[running + channels + c])
        else:
            mean, squares, seen = 0.0, 0.0, 0.0
            for block in range(blocks):
                at = r[EXTRA] + block * r[EXTRA_BLOCK] + c
                size = np.float64(min(LANES, count - block * LANES) * positions)
                difference = np.float64(A[at]) - mean
                seen += size
                mean += difference * size / seen
                squares += np.float64(A[at + channels])
                squares += difference * difference * size * (seen - size) / seen
            variance = squares / seen
            if running >= 0:
                factor = momentum if momentum >= 0.0 else 1.0 / (tracked + 1.0)
                unbiased = squares / max(seen - 1.0, 1.0)
                old, at = np.float64(A[running + c]), running + channels + c
                A[running + c] = np.float32(old + factor * (mean - old))
                old = np.float64(A[at])
                A[at] = np.float32(old + factor * (unbiased - old))
        inverse = 1.0 / math.sqrt(variance + eps)
        scale = inverse * P[r[W] + c] if r[W] >= 0 else inverse
        shift = np.float64(P[r[BIAS] + c]) if r[BIAS] >= 0 else 0.0
        A[out + c] = np.float32(scale)
        A[out + channels + c] = np.float32(shift - mean * scale)
        A[out + 2 * channels + c] = np.float32(mean)
        A[out + 3 * channels + c] = np.float32(inverse)


@njit(nogil=True)
def normalise(A, T, r, block, slot, part, parts):
    """Y = scale * X + shift for each channel, then rectified with RELU."""
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    positions, relu = r[POSITIONS], r[RELU]
    xs, ys = T[r[X_TABLE] :], T[r[Y_TABLE] :]
    first, last = share(r[CHANNELS], part, parts)
    for c in range(first, last):
        x, y = x0 + c * r[X_CHANNEL], y0 + c * r[Y_CHANNEL]
        scale = simd.splat(A[r[BATCH] + c])
        shift = simd.splat(A[r[BATCH] + r[CHANNELS] + c])
        for p in range(positions):
            value = simd.fma(simd.load(A, x + xs[p]), scale, shift)
            if relu:
                value = simd.relu(value)
            simd.store(A, y + ys[p], value)


@njit(nogil=True)
def gradient_sums(A, T, r, block, slot, part, parts):
    """Sums over one block of the gradient, and of the gradient times the normalised input.

    X is the input, Y the output's gradient, M the output, which masks it with RELU. Idle lanes
    have no gradient.
    """
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    m0 = r[M] + block * r[M_BLOCK] + slot * r[M_SLOT]
    channels, positions, relu = r[CHANNELS], r[POSITIONS], r[RELU]
    xs, ys, ms = T[r[X_TABLE] :], T[r[Y_TABLE] :], T[r[M_TABLE] :]
    out = r[EXTRA] + block * r[EXTRA_BLOCK]
    first, last = share(channels, part, parts)
    zero = simd.splat(np.float32(0))
    for c in range(first, last):
        x, y, m = x0 + c * r[X_CHANNEL], y0 + c * r[Y_CHANNEL], m0 + c * r[M_CHANNEL]
        mean = simd.splat(A[r[BATCH] + 2 * channels + c])
        a, b = zero, zero
        for p in range(positions):
            grad = simd.load(A, y + ys[p])
            if relu:
                grad = simd.keep_positive(simd.load(A, m + ms[p]), grad)
            a = simd.add(a, grad)
            b = simd.fma(grad, simd.sub(simd.load(A, x + xs[p]), mean), b)
        A[out + c] = simd.lane_sum(a)
        A[out + channels + c] = simd.lane_sum(b) * A[r[BATCH] + 3 * channels + c]


@njit(nogil=True)
def gradient_statistics(A, P, G, r, blocks, count, part, parts):
    """Gradients of weight and bias, and the coefficients of the input's gradient."""
    channels, out = r[CHANNELS], r[BATCH]
    size = np.float64(count * r[POSITIONS])
    first, last = share(channels, part, parts)
    for c in range(first, last):
        total, product = 0.0, 0.0
        for block in range(blocks):
            at = r[EXTRA] + block * r[EXTRA_BLOCK] + c
            total += np.float64(A[at])
            product += np.float64(A[at + channels])
        if r[W] >= 0:
            G[r[W] + c] = np.float32(product)
        if r[BIAS] >= 0:
            G[r[BIAS] + c] = np.float32(total)
        scale, mean = np.float64(A[out + c]), np.float64(A[out + 2 * channels + c])
        inverse = np.float64(A[out + 3 * channels + c])
        slope, level = 0.0, 0.0
        if r[MODE] == OF_BATCH:
            slope = -scale * inverse * product / size
            level = -scale * total / size - slope * mean
        A[out + 4 * channels + c] = np.float32(slope)
        A[out + 5 * channels + c] = np.float32(level)


@njit(nogil=True)
def gradient(A, T, r, block, slot, valid, part, parts):
    """The input's gradient, Z = scale * Y + slope * X + level, zero in idle lanes."""
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    m0 = r[M] + block * r[M_BLOCK] + slot * r[M_SLOT]
    channels, positions, relu = r[CHANNELS], r[POSITIONS], r[RELU]
    z0 = r[Z] + block * r[Z_BLOCK] + slot * r[Z_SLOT]
    xs, ys, ms, zs = T[r[X_TABLE] :], T[r[Y_TABLE] :], T[r[M_TABLE] :], T[r[Z_TABLE] :]
    first, last = share(channels, part, parts)
    for c in range(first, last):
        x, y, m = x0 + c * r[X_CHANNEL], y0 + c * r[Y_CHANNEL], m0 + c * r[M_CHANNEL]
        z = z0 + c * r[Z_CHANNEL]
        scale = simd.splat(A[r[BATCH] + c])
        slope = simd.splat(A[r[BATCH] + 4 * channels + c])
        level = simd.splat(A[r[BATCH] + 5 * channels + c])
        for p in range(positions):
            grad = simd.load(A, y + ys[p])
            if relu:
                grad = simd.keep_positive(simd.load(A, m + ms[p]), grad)
            value = simd.fma(simd.load(A, x + xs[p]), slope, level)
            value = simd.fma(grad, scale, value)
            simd.store(A, z + zs[p], simd.first_lanes(valid, value))
