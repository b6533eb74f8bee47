"""Kernels of batch normalisation.

There are three passes: sums of each block of 16 samples, statistics over all blocks in order, and
the normalisation of each block; likewise backward. Per-channel arrays: BATCH is the offset of
``scale, bias, mean, 1 / std`` and the three coefficients of the input's gradient; EXTRA, with a
stride of EXTRA_BLOCK, two sums of each block; RUNNING the running mean and variance. A row may have
some of the OUT channels.
"""

import math

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.division import STRIP, base, filled_lanes, share
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered, per_channel, per_element
from fastcnn.backends.lanes.reach import norm as reach
from fastcnn.backends.lanes.reach.ranges import gradient as to_gradient
from fastcnn.codegen import linked, simd

LANES = simd.LANES
INFINITE = np.float32(np.inf)
LARGEST = float(np.finfo(np.float32).max)


@linked
def sums(A, T, r, block, slot, count, part, parts):
    """Mean of each channel over one block, and the sum of squared deviations from it.

    A single pass over deviations from the first pixel's mean, which is close enough to the
    channel's to avoid cancellation. Blocks are joined by their means and deviations (Chan, Golub
    and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
    """
    x0 = base(r, L.X, block, slot)
    out = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    positions, xs = r[L.POSITIONS], T[r[L.X_TABLE] :]
    first, last = share(r[L.CHANNELS], part, parts)
    zero = simd.splat(np.float32(0))
    valid = min(LANES, filled_lanes(r, count) - block * LANES)
    size = np.float32(valid * positions)
    share_of_lane = simd.first_lanes(valid, simd.splat(np.float32(1.0 / valid)))
    for c in range(first, last):
        x = x0 + c * r[L.X_CHANNEL]
        # Values are divided before they are added: their sum may overflow, their mean does not.
        near = simd.lane_sum(
            simd.first_lanes(valid, simd.mul(simd.load(A, x + xs[0]), share_of_lane))
        )
        level = simd.splat(near)
        a, b, p = zero, zero, 0
        while p < positions:
            a0, a1, b0, b1 = zero, zero, zero, zero
            end = min(p + STRIP, positions)
            while p + 2 <= end:
                one = simd.sub(simd.load(A, x + xs[p]), level)
                two = simd.sub(simd.load(A, x + xs[p + 1]), level)
                a0, a1 = simd.add(a0, one), simd.add(a1, two)
                b0, b1 = simd.fma(one, one, b0), simd.fma(two, two, b1)
                p += 2
            if p < end:
                one = simd.sub(simd.load(A, x + xs[p]), level)
                a0, b0 = simd.add(a0, one), simd.fma(one, one, b0)
                p += 1
            a, b = simd.add(a, simd.add(a0, a1)), simd.add(b, simd.add(b0, b1))
        total = simd.lane_sum(simd.first_lanes(valid, a))
        squares = simd.lane_sum(simd.first_lanes(valid, b))
        mean = near + total / size
        if not squares < INFINITE:
            mean = mean_by_shares(A, x, xs, positions, valid)
        A[out + c] = mean
        A[out + r[L.OUT] + c] = squared_deviations(squares, total, size, mean)


@linked
def squared_deviations(squares, total, size, mean):
    """The sum of squared deviations from the mean, from both sums relative to a nearby shift.

    Infinite if the sum overflowed, and NaN if any value is not finite. The square of TOTAL may
    overflow where this sum does not.
    """
    if squares < INFINITE:
        return max(squares - total * (total / size), np.float32(0))
    return INFINITE + (mean - mean)


@linked
def mean_by_shares(A, x, xs, positions, valid):
    """Mean of a channel over one block, if the deviations or their sum overflowed."""
    share_of_one = simd.splat(np.float32(1.0 / (valid * positions)))
    total = simd.splat(np.float32(0))
    for p in range(positions):
        total = simd.fma(simd.load(A, x + xs[p]), share_of_one, total)
    return simd.lane_sum(simd.first_lanes(valid, total))


@linked
def join(A, T, r, block, count, part, parts):
    """Mean and squared deviations of a block, from those of TAPS strips, which are at EXTRA.

    TAP_TABLE has the pixels of each strip. The result replaces the first strip's.
    """
    channels, strips, pixels = r[L.CHANNELS], r[L.TAPS], T[r[L.TAP_TABLE] :]
    at = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    valid = np.float64(min(LANES, filled_lanes(r, count) - block * LANES))
    first, last = share(channels, part, parts)
    for c in range(first, last):
        total, seen = 0.0, 0.0
        for strip in range(strips):
            size = valid * pixels[strip]
            total += size * A[at + 2 * channels * strip + c]
            seen += size
        mean, squares = total / seen, 0.0
        for strip in range(strips):
            of_strip = at + 2 * channels * strip + c
            difference = A[of_strip] - mean
            squares += A[of_strip + channels] + valid * pixels[strip] * difference * difference
        A[at + c] = np.float32(mean)
        A[at + channels + c] = np.float32(squares)


@linked
def statistics(A, P, r, blocks, count, part, parts):
    """Scale and bias of each channel from the blocks' sums; updates the running statistics.

    SCALE is the offset of eps and the momentum.
    """
    channels, positions = r[L.CHANNELS], r[L.POSITIONS]
    eps, momentum = np.float64(A[r[L.SCALE]]), np.float64(A[r[L.SCALE] + 1])
    running, out = r[L.RUNNING], r[L.BATCH]
    first, last = share(channels, part, parts)
    for c in range(first, last):
        if r[L.MODE] == L.FROZEN:
            mean = np.float64(A[running + c])
            variance = np.float64(A[running + channels + c])
        else:
            mean, squares, seen = 0.0, 0.0, 0.0
            for block in range(blocks):
                at = r[L.EXTRA] + block * r[L.EXTRA_BLOCK] + c
                size = np.float64(min(LANES, filled_lanes(r, count) - block * LANES) * positions)
                difference = np.float64(A[at]) - mean
                seen += size
                mean += difference * size / seen
                squares += np.float64(A[at + channels])
                squares += difference * difference * size * (seen - size) / seen
            variance = squares / seen
            if running >= 0:
                unbiased = squares / max(seen - 1.0, 1.0)
                old, at = np.float64(A[running + c]), running + channels + c
                A[running + c] = np.float32(old + momentum * (mean - old))
                old = np.float64(A[at])
                A[at] = np.float32(old + momentum * (unbiased - old))
        if variance > LARGEST:
            # The normalised value is 0. Deviations from the mean may have overflowed as well, and
            # infinity times 0 is NaN.
            mean, variance = 0.0, np.inf
        inverse = 1.0 / math.sqrt(variance + eps)
        scale = inverse * P[r[L.W] + c] if r[L.W] >= 0 else inverse
        A[out + c] = np.float32(scale)
        A[out + channels + c] = P[r[L.BIAS] + c] if r[L.BIAS] >= 0 else np.float32(0)
        A[out + 2 * channels + c] = np.float32(mean)
        A[out + 3 * channels + c] = np.float32(inverse)


@linked
def normalise(A, T, r, block, slot, count, part, parts, adds):
    """Y = scale * (X - mean) + bias, with ``adds`` + M; then rectified with RELU.

    Not ``scale * X`` plus an offset, which cancels with a large mean or scale. Idle lanes are 0, or
    M with ``adds``: they would be far from the mean, and must not be infinite.
    """
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    positions, relu, valid = (
        r[L.POSITIONS],
        r[L.RELU],
        min(LANES, filled_lanes(r, count) - block * LANES),
    )
    xs, ys, ms = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.M_CHANNEL]
        scale = simd.first_lanes(valid, simd.splat(A[r[L.BATCH] + c]))
        bias = simd.first_lanes(valid, simd.splat(A[r[L.BATCH] + r[L.OUT] + c]))
        mean = simd.splat(A[r[L.BATCH] + 2 * r[L.OUT] + c])
        for p in range(positions):
            value = simd.fma(simd.sub(simd.load(A, x + xs[p]), mean), scale, bias)
            if adds:
                value = simd.add(value, simd.load(A, m + ms[p]))
            if relu:
                value = simd.relu(value)
            simd.store(A, y + ys[p], value)


@linked
def gradient_sums(A, T, r, block, slot, part, parts, joins):
    """Sums over one block of the gradient, and of the gradient times the normalised input.

    X is the input, Y the output's gradient, masked with RELU where the recomputed output is not
    positive. Idle lanes have no gradient.

    With ``joins``, Y is overwritten with the gradient that is summed: ADDS adds Z to it, and MASKED
    zeroes it where M, the sum of the output and another map, is not positive.
    """
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    z0 = base(r, L.Z, block, slot)
    channels, positions, relu = r[L.OUT], r[L.POSITIONS], r[L.RELU]
    xs, ys = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    ms, zs = T[r[L.M_TABLE] :], T[r[L.Z_TABLE] :]
    out = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    first, last = share(r[L.CHANNELS], part, parts)
    zero = simd.splat(np.float32(0))
    for c in range(first, last):
        x, y = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL]
        m, z = m0 + c * r[L.M_CHANNEL], z0 + c * r[L.Z_CHANNEL]
        scale = simd.splat(A[r[L.BATCH] + c])
        bias = simd.splat(A[r[L.BATCH] + channels + c])
        mean = simd.splat(A[r[L.BATCH] + 2 * channels + c])
        a, b = zero, zero
        for start in range(0, positions, STRIP):
            a0, b0 = zero, zero
            for p in range(start, min(start + STRIP, positions)):
                grad, deviation = simd.load(A, y + ys[p]), simd.sub(simd.load(A, x + xs[p]), mean)
                if joins and r[L.ADDS]:
                    grad = simd.add(grad, simd.load(A, z + zs[p]))
                if joins and r[L.MODE] == L.MASKED:
                    grad = simd.keep_positive(simd.load(A, m + ms[p]), grad)
                if relu:
                    grad = simd.keep_positive(simd.fma(deviation, scale, bias), grad)
                if joins:
                    simd.store(A, y + ys[p], grad)
                a0 = simd.add(a0, grad)
                b0 = simd.fma(grad, deviation, b0)
            a, b = simd.add(a, a0), simd.add(b, b0)
        A[out + c] = simd.lane_sum(a)
        inverse = A[r[L.BATCH] + 3 * channels + c]
        # Where the variance overflowed, the sum may have as well: infinity times 0 is NaN.
        A[out + channels + c] = np.float32(0) if inverse == 0 else simd.lane_sum(b) * inverse


@linked
def gradient_statistics(A, P, G, r, blocks, count, part, parts):
    """Gradients of weight and bias, and the coefficients of the input's gradient."""
    channels, out = r[L.CHANNELS], r[L.BATCH]
    size = np.float64(filled_lanes(r, count) * r[L.POSITIONS])
    first, last = share(channels, part, parts)
    for c in range(first, last):
        total, product = 0.0, 0.0
        for block in range(blocks):
            at = r[L.EXTRA] + block * r[L.EXTRA_BLOCK] + c
            total += np.float64(A[at])
            product += np.float64(A[at + channels])
        if r[L.W] >= 0:
            G[r[L.W] + c] = np.float32(product)
        if r[L.BIAS] >= 0:
            G[r[L.BIAS] + c] = np.float32(total)
        scale, inverse = np.float64(A[out + c]), np.float64(A[out + 3 * channels + c])
        slope, level = 0.0, 0.0
        if r[L.MODE] == L.OF_BATCH:
            slope = -scale * inverse * product / size
            level = -scale * total / size
        A[out + 4 * channels + c] = np.float32(slope)
        A[out + 5 * channels + c] = np.float32(level)


@linked
def gradient(A, T, r, block, slot, count, part, parts):
    """The input's gradient, Z = scale * Y + slope * (X - mean) + level, zero in idle lanes."""
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    channels, positions, relu = r[L.OUT], r[L.POSITIONS], r[L.RELU]
    valid = min(LANES, filled_lanes(r, count) - block * LANES)
    z0 = base(r, L.Z, block, slot)
    xs, ys, zs = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.Z_TABLE] :]
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        x, y = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL]
        z = z0 + c * r[L.Z_CHANNEL]
        scale = simd.splat(A[r[L.BATCH] + c])
        bias = simd.splat(A[r[L.BATCH] + channels + c])
        mean = simd.splat(A[r[L.BATCH] + 2 * channels + c])
        slope = simd.splat(A[r[L.BATCH] + 4 * channels + c])
        level = simd.splat(A[r[L.BATCH] + 5 * channels + c])
        for p in range(positions):
            grad, deviation = simd.load(A, y + ys[p]), simd.sub(simd.load(A, x + xs[p]), mean)
            if relu:
                grad = simd.keep_positive(simd.fma(deviation, scale, bias), grad)
            made = simd.fma(grad, scale, simd.fma(deviation, slope, level))
            simd.store(A, z + zs[p], simd.first_lanes(valid, made))


def _join_cost(r: Row) -> Cost:
    """The cost of joining strips."""
    read, written = 2 * r[L.TAPS] * r[L.CHANNELS] * r.blocks, 2 * r[L.CHANNELS] * r.blocks
    return Cost(3 * read, FLOAT_BYTES * read, FLOAT_BYTES * written)


def _joined_cost(r: Row) -> Cost:
    """The cost of sums that also store the gradient."""
    adds, masks, n = int(r[L.ADDS] > 0), int(r[L.MODE] == L.MASKED), r.elements
    return r.cost((4 + adds) * n, (2 + adds + masks) * n, n, partial=2 * r[L.CHANNELS])


K_NORM_SUMS = numbered(
    sums,
    "normalisation sums",
    per_element(4, 1, 0, 2),
    map_sizes,
    touches=reach.normalisation("X", sums=True),
)
K_NORM_JOIN = numbered(
    join, "normalisation sums of strips", _join_cost, map_sizes, touches=reach.join
)
K_NORM_STATISTICS = numbered(
    statistics, "normalisation statistics", per_channel, map_sizes, touches=reach.statistics
)
K_NORM = numbered(
    normalise,
    "normalise",
    per_element(3, 1, 1),
    map_sizes,
    fixed={"adds": False},
    touches=reach.normalisation("X", "Y", values=3),
)
K_NORM_ADD = numbered(
    normalise,
    "normalise and add",
    per_element(4, 2, 1),
    map_sizes,
    fixed={"adds": True},
    touches=reach.normalisation("X", "Y", "M", values=3),
)
K_NORM_GRADIENT_SUMS = numbered(
    gradient_sums,
    "normalisation gradient sums",
    per_element(4, 2, 0, 2, mask=True),
    map_sizes,
    fixed={"joins": False},
    touches=reach.normalisation("X", "Y", values=4, sums=True),
)
K_NORM_JOINED_GRADIENT_SUMS = numbered(
    gradient_sums,
    "normalisation joined gradient sums",
    _joined_cost,
    map_sizes,
    fixed={"joins": True},
    touches=reach.joined_gradient_sums,
)
K_NORM_GRADIENT_STATISTICS = numbered(
    gradient_statistics,
    "normalisation gradient statistics",
    per_channel,
    map_sizes,
    touches=reach.normalisation(values=6, sums=True, learned=to_gradient),
)
K_NORM_GRADIENT = numbered(
    gradient,
    "normalisation gradient",
    per_element(5, 2, 1, mask=True),
    map_sizes,
    touches=reach.normalisation("X", "Y", "Z", values=6),
)
