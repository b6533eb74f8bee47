"""Kernels for one sample with a pixel in each lane.

Convolutions, pooling and element-wise functions are those of 16 samples, with tables whose vectors
are neighbouring pixels; these do what comes between. A is the arena, T the tables, P the
parameters, r the program row. One thread runs them: another costs more to start than they take.
"""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.layout import (
    BIAS,
    CHANNELS,
    IN,
    OUT,
    POSITIONS,
    RELU,
    SCALE,
    X_CHANNEL,
    X_TABLE,
    Y_CHANNEL,
    Y_TABLE,
    W,
    X,
    Y,
)
from fastcnn.backends.lanes.kernels.record import (
    Kernel,
    map_sizes,
    matrix_sizes,
    per_float,
    register,
    sizes_of,
)
from fastcnn.codegen import linked, simd

LANES = simd.LANES


@linked
def image(A, T, r, order, start, bytes_, floats):
    """Normalise one image and put its pixels where the table says."""
    pixels, channels = r[IN], r[OUT]
    size = pixels // channels
    places, source = T[r[X_TABLE] :], order[start] * pixels
    for channel in range(channels):
        scale, shift = A[r[SCALE] + channel], A[r[SCALE] + channels + channel]
        for i in range(channel * size, (channel + 1) * size):
            value = np.float32(bytes_[source + i]) if bytes_.size > 0 else floats[source + i]
            A[r[Y] + places[i]] = value * scale + shift


@linked
def gather(A, T, r):
    """Copy single floats of each channel from places to others."""
    sources, targets, count = T[r[X_TABLE] :], T[r[Y_TABLE] :], r[POSITIONS]
    for c in range(r[CHANNELS]):
        x, y = r[X] + c * r[X_CHANNEL], r[Y] + c * r[Y_CHANNEL]
        for i in range(count):
            A[y + targets[i]] = A[x + sources[i]]


@linked
def clear(A, T, r):
    """Set single floats of each channel to zero."""
    places, count = T[r[Y_TABLE] :], r[POSITIONS]
    for c in range(r[CHANNELS]):
        y = r[Y] + c * r[Y_CHANNEL]
        for i in range(count):
            A[y + places[i]] = np.float32(0)


@linked
def finished(A, P, r, output, total):
    """Store one output of :func:`matrix_vector`, with bias and rectifier."""
    if r[BIAS] >= 0:
        total += P[r[BIAS] + output]
    if r[RELU] and total <= np.float32(0):
        total = np.float32(0)
    A[r[Y] + output] = total


@linked
def matrix_vector(A, P, r):
    """Fully connected layer of one sample: IN inputs, OUT outputs, four at a time."""
    inner, outer, x = r[IN], r[OUT], r[X]
    whole = inner // LANES * LANES
    zero = simd.splat(np.float32(0))
    o = 0
    while o < outer:
        w = r[W] + o * inner
        if o + 4 <= outer:
            a0, a1, a2, a3 = zero, zero, zero, zero
            for k in range(0, whole, LANES):
                value = simd.load(A, x + k)
                a0 = simd.fma(simd.load(P, w + k), value, a0)
                a1 = simd.fma(simd.load(P, w + inner + k), value, a1)
                a2 = simd.fma(simd.load(P, w + 2 * inner + k), value, a2)
                a3 = simd.fma(simd.load(P, w + 3 * inner + k), value, a3)
            t0, t1, t2, t3 = (
                simd.lane_sum(a0),
                simd.lane_sum(a1),
                simd.lane_sum(a2),
                simd.lane_sum(a3),
            )
            for k in range(whole, inner):
                value = A[x + k]
                t0 += P[w + k] * value
                t1 += P[w + inner + k] * value
                t2 += P[w + 2 * inner + k] * value
                t3 += P[w + 3 * inner + k] * value
            finished(A, P, r, o, t0)
            finished(A, P, r, o + 1, t1)
            finished(A, P, r, o + 2, t2)
            finished(A, P, r, o + 3, t3)
            o += 4
        else:
            a0 = zero
            for k in range(0, whole, LANES):
                a0 = simd.fma(simd.load(P, w + k), simd.load(A, x + k), a0)
            t0 = simd.lane_sum(a0)
            for k in range(whole, inner):
                t0 += P[w + k] * A[x + k]
            finished(A, P, r, o, t0)
            o += 1


def _matrix_vector(r: Row) -> Cost:
    weights = r[L.IN] * r[L.OUT]
    return Cost(2 * weights, FLOAT_BYTES * (weights + r[L.IN]), FLOAT_BYTES * r[L.OUT])


register(
    {
        L.K_IMAGE: Kernel(
            image,
            "normalise image",
            lambda r: Cost(2 * r[L.IN], r[L.IN], FLOAT_BYTES * r[L.IN]),
            sizes_of(L.IN),
        ),
        L.K_GATHER: Kernel(gather, "gather", per_float(1, 1), map_sizes),
        L.K_CLEAR: Kernel(clear, "clear", per_float(0, 1), map_sizes),
        L.K_MATRIX_VECTOR: Kernel(
            matrix_vector, "matrix-vector product", _matrix_vector, matrix_sizes
        ),
    }
)
