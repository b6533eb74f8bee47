"""Kernels with a channel in each lane that look at single numbers, or across lanes.

A block is one sample. A kernel does the ``part``-th of ``parts`` equal shares of its units. A is
the arena, T the tables, P packed weights, r the program row; Z is room of each thread for a line of
numbers that follow each other.
"""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.division import STRIP, share
from fastcnn.backends.lanes.kernels.local_response import inverse_power
from fastcnn.backends.lanes.kernels.record import Kernel, map_sizes, register
from fastcnn.codegen import linked, simd
from fastcnn.codegen.elementary import exp, log, sqrt

LANES = simd.LANES
INFINITE = np.float32(np.inf)
#: Numbers of an entry of a table of runs.
RUN = 5


@linked
def channel_move(A, T, r, block, slot, part, parts):
    """Copy runs of numbers from X to Y.

    TAP_TABLE has for each of POSITIONS runs: where it begins in X and in Y, its length, and the
    floats between its numbers in X and in Y.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    table = T[r[L.TAP_TABLE] :]
    first, last = share(r[L.POSITIONS], part, parts)
    for k in range(first, last):
        x, y, count = x0 + table[RUN * k], y0 + table[RUN * k + 1], table[RUN * k + 2]
        x_step, y_step = table[RUN * k + 3], table[RUN * k + 4]
        for i in range(count):
            A[y + i * y_step] = A[x + i * x_step]


@linked
def variance_of(A, line, members, vectors, mean):
    """Mean squared deviation of a line from a mean."""
    total = simd.splat(np.float32(0))
    for begin in range(0, vectors, STRIP):
        strip = simd.splat(np.float32(0))
        for i in range(begin, min(begin + STRIP, vectors)):
            value = simd.sub(simd.load(A, line + i * LANES), mean)
            value = simd.first_lanes(min(LANES, members - i * LANES), value)
            strip = simd.fma(value, value, strip)
        total = simd.add(total, strip)
    return simd.lane_sum(total) / np.float32(members)


@linked
def is_finite(A, line, vectors):
    """Whether all numbers of a line are finite."""
    zero = simd.splat(np.float32(0))
    total = zero
    for i in range(vectors):
        total = simd.fma(simd.load(A, line + i * LANES), zero, total)
    return simd.lane_sum(total) == 0


@linked
def normalise_line(A, P, r, line, members, vectors, number):
    """(Line - mean) / deviation, then weight and bias; without CENTRED the mean counts as 0."""
    mean = simd.splat(np.float32(0))
    if r[L.MODE] == L.CENTRED:
        level, total = simd.splat(A[line]), simd.splat(np.float32(0))
        for begin in range(0, vectors, STRIP):
            strip = simd.splat(np.float32(0))
            for i in range(begin, min(begin + STRIP, vectors)):
                strip = simd.add(strip, simd.sub(simd.load(A, line + i * LANES), level))
            total = simd.add(total, strip)
        mean = simd.splat(simd.lane_sum(total) / np.float32(members) + A[line])
    variance = variance_of(A, line, members, vectors, mean)
    if r[L.MODE] == L.CENTRED and not variance < INFINITE and is_finite(A, line, vectors):
        # As in sample_norm.py: the normalised value is 0, and no deviation may be infinite.
        mean, variance = simd.splat(np.float32(0)), INFINITE
    inverse = simd.div(simd.splat(np.float32(1)), sqrt(simd.splat(variance + A[r[L.SCALE]])))
    for i in range(vectors):
        at = line + i * LANES
        value = simd.mul(simd.sub(simd.load(A, at), mean), inverse)
        if r[L.W] >= 0:
            value = simd.mul(value, simd.load(P, r[L.W] + number * r[L.OUT] + i * LANES))
        if r[L.BIAS] >= 0:
            value = simd.add(value, simd.load(P, r[L.BIAS] + number * r[L.OUT] + i * LANES))
        if r[L.RELU]:
            value = simd.relu(value)
        simd.store(A, at, value)


@linked
def softmax_line(A, line, members, vectors, largest, logarithm):
    """exp(Line - largest) / sum of them, or the logarithm of that."""
    level, total = simd.splat(largest), simd.splat(np.float32(0))
    for i in range(vectors):
        at = line + i * LANES
        value = simd.sub(simd.load(A, at), level)
        chance = simd.first_lanes(min(LANES, members - i * LANES), exp(value))
        simd.store(A, at, value if logarithm else chance)
        total = simd.add(total, chance)
    whole = simd.splat(simd.lane_sum(total))
    shift, factor = log(whole), simd.div(simd.splat(np.float32(1)), whole)
    for i in range(vectors):
        at = line + i * LANES
        value = simd.load(A, at)
        simd.store(A, at, simd.sub(value, shift) if logarithm else simd.mul(value, factor))


@linked
def channel_sets(A, T, P, r, block, slot, worker, part, parts):
    """Normalise GROUPS sets of POSITIONS numbers by MODE, of which IN tells the softmax.

    X_TABLE and Y_TABLE have a place of each set, then of each member from there. Weights and biases
    are lines, OUT floats apart.
    """
    sets, members = r[L.GROUPS], r[L.POSITIONS]
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    xs, ys = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    inner, inner_y = xs[sets:], ys[sets:]
    line, vectors = r[L.Z] + worker * r[L.Z_SLOT], (members + LANES - 1) // LANES
    first, last = share(sets, part, parts)
    for s in range(first, last):
        x, y = x0 + xs[s], y0 + ys[s]
        largest = A[x + inner[0]]
        for k in range(members):
            value = A[x + inner[k]]
            A[line + k] = value
            largest = max(largest, value)
        for k in range(members, vectors * LANES):
            A[line + k] = A[line]
        if r[L.IN]:
            softmax_line(A, line, members, vectors, largest, r[L.MODE] == L.LOGARITHM)
        else:
            normalise_line(A, P, r, line, members, vectors, s)
        for k in range(members):
            A[y + inner_y[k]] = A[line + k]


@linked
def channel_local_response(A, T, r, block, slot, worker, part, parts):
    """Y = X / (k + alpha / size * sum of squares) ** beta over the TAPS of IN channels around.

    SCALE is where alpha / size, beta and k stand. The squares of a pixel are a line.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    xs, ys = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    blocks, size, line = r[L.CHANNELS], r[L.TAPS], r[L.Z] + worker * r[L.Z_SLOT]
    alpha, beta, k = simd.splat(A[r[L.SCALE]]), A[r[L.SCALE] + 1], simd.splat(A[r[L.SCALE] + 2])
    first, last = share(r[L.POSITIONS], part, parts)
    zero, squares = simd.splat(np.float32(0)), line + size // 2
    for i in range(0, blocks * LANES + size, LANES):
        simd.store(A, line + i, zero)
    for p in range(first, last):
        for c in range(blocks):
            value = simd.load(A, x0 + c * r[L.X_CHANNEL] + xs[p])
            value = simd.first_lanes(min(LANES, r[L.IN] - c * LANES), value)
            simd.store(A, squares + c * LANES, simd.mul(value, value))
        for c in range(blocks):
            total = zero
            for j in range(size):
                total = simd.add(total, simd.load(A, line + c * LANES + j))
            power = inverse_power(simd.fma(total, alpha, k), beta)
            value = simd.mul(simd.load(A, x0 + c * r[L.X_CHANNEL] + xs[p]), power)
            simd.store(A, y0 + c * r[L.Y_CHANNEL] + ys[p], value)


def line_floats(blocks: int, taps: int) -> int:
    """Floats of the line of a local response."""
    return blocks * LANES + taps + LANES


def _move(r: Row) -> Cost:
    numbers = r.batch * int(r.table(L.TAP_TABLE, RUN * r[L.POSITIONS])[2::RUN].sum())
    # Single numbers take as long as vectors.
    return Cost(0, FLOAT_BYTES * LANES * numbers, FLOAT_BYTES * numbers)


def _sets(r: Row) -> Cost:
    numbers = r[L.GROUPS] * r[L.POSITIONS] * r.batch
    return Cost(10 * numbers, 4 * FLOAT_BYTES * LANES * numbers, FLOAT_BYTES * numbers)


def _local_response(r: Row) -> Cost:
    numbers = r[L.CHANNELS] * LANES * r[L.POSITIONS] * r.batch
    size = FLOAT_BYTES * numbers
    return Cost((40 + r[L.TAPS]) * numbers, size, size)


register(
    {
        L.K_CHANNEL_MOVE: Kernel(
            channel_move, "move by channels", _move, lambda r: f"{r[L.POSITIONS]} runs"
        ),
        L.K_CHANNEL_SETS: Kernel(
            channel_sets,
            "sets by channels",
            _sets,
            lambda r: f"{r[L.GROUPS]} x {r[L.POSITIONS]}",
        ),
        L.K_CHANNEL_LOCAL_RESPONSE: Kernel(
            channel_local_response, "local response by channels", _local_response, map_sizes
        ),
    }
)
