"""Losses of one block of 16 samples, with the gradient of the outputs.

A is the arena, r the program row; ``losses`` and ``hits`` have an element for each block.
"""

import math

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import IN, SCALE, X_BLOCK, Y_BLOCK, X, Y
from fastcnn.backends.lanes.kernels.record import Kernel, per_number, register, sizes_of
from fastcnn.codegen import linked, simd
from fastcnn.codegen import vector_math as vm

LANES = simd.LANES


@linked
def largest_output(A, x, count):
    """Index of one sample's largest output: the first, or a NaN."""
    place, largest = 0, A[x]
    for k in range(1, count):
        value = A[x + k * LANES]
        if value > largest or (value != value and largest == largest):
            place, largest = k, value
    return place


@linked
def cross_entropy(
    A,
    r,
    block,
    count,
    order,
    start,
    labels,
    targets,
    weights,
    mean_weight,
    losses,
    hits,
    part,
):
    """Loss, hits and gradient of the logits of one block; X logits, Y gradient.

    Against classes, or against rows of probabilities where there are targets.
    """
    if part:
        return
    classes = r[IN]
    x0, y0 = r[X] + block * r[X_BLOCK], r[Y] + block * r[Y_BLOCK]
    smoothing = A[r[SCALE]]
    best = simd.load(A, x0)
    for k in range(1, classes):
        best = simd.maximum(best, simd.load(A, x0 + k * LANES))
    total = simd.splat(np.float32(0))
    for k in range(classes):
        e = vm.exp(simd.sub(simd.load(A, x0 + k * LANES), best))
        simd.store(A, y0 + k * LANES, e)
        total = simd.add(total, e)
    loss, right = 0.0, 0
    inverse = np.float32(1.0) / np.float32(count)
    for k in range(classes):
        at = y0 + k * LANES
        p = simd.div(simd.load(A, at), total)
        p = simd.sub(p, simd.splat(smoothing / np.float32(classes)))
        simd.store(A, at, simd.mul(p, simd.splat(inverse)))
    for lane in range(LANES):
        sample = block * LANES + lane
        if sample >= count:
            for k in range(classes):
                A[y0 + k * LANES + lane] = np.float32(0)
            continue
        row = order[start + sample]
        place = largest_output(A, x0 + lane, classes)
        largest = A[x0 + place * LANES + lane]
        exponentials, mean, own = 0.0, 0.0, 0.0
        for k in range(classes):
            value = np.float64(A[x0 + k * LANES + lane])
            mean += value
            exponentials += math.exp(value - largest)
        log_sum = math.log(exponentials) + largest
        if targets.size > 0:
            label, probable = 0, targets[row * classes]
            for k in range(classes):
                share = targets[row * classes + k]
                if share > probable:
                    label, probable = k, share
                own += (1.0 - smoothing) * share * (log_sum - A[x0 + k * LANES + lane])
                A[y0 + k * LANES + lane] -= (np.float32(1.0) - smoothing) * inverse * share
        else:
            label = labels[row]
            own += (1.0 - smoothing) * (log_sum - A[x0 + label * LANES + lane])
            A[y0 + label * LANES + lane] -= (np.float32(1.0) - smoothing) * inverse
        if smoothing > 0:
            own += smoothing * (log_sum - mean / classes)
        if weights.size > 0:
            weight = weights[row] / mean_weight
            own *= weight
            for k in range(classes):
                A[y0 + k * LANES + lane] *= np.float32(weight)
        loss += own
        right += place == label
    losses[block] = loss / count
    hits[block] = right


@linked
def mean_squared_error(
    A,
    r,
    block,
    count,
    order,
    start,
    labels,
    targets,
    weights,
    mean_weight,
    losses,
    hits,
    part,
):
    """Loss and gradient of one block against rows of targets; hits where there are labels."""
    if part:
        return
    size = r[IN]
    x0, y0 = r[X] + block * r[X_BLOCK], r[Y] + block * r[Y_BLOCK]
    loss, right = 0.0, 0
    classified = labels.size * size == targets.size
    factor = np.float32(2.0 / (count * size))
    for lane in range(LANES):
        sample, weight = block * LANES + lane, 1.0
        if classified and sample < count:
            right += largest_output(A, x0 + lane, size) == labels[order[start + sample]]
        if weights.size > 0 and sample < count:
            weight = weights[order[start + sample]] / mean_weight
        for k in range(size):
            at = k * LANES + lane
            if sample >= count:
                A[y0 + at] = np.float32(0)
                continue
            difference = A[x0 + at] - targets[order[start + sample] * size + k]
            loss += weight * difference * difference
            A[y0 + at] = factor * np.float32(weight) * difference
    losses[block] = loss / (count * size)
    hits[block] = right


register(
    {
        L.K_CROSS_ENTROPY: Kernel(
            cross_entropy, "cross-entropy", per_number(6, 1, 1), sizes_of(L.IN)
        ),
        L.K_MSE: Kernel(mean_squared_error, "squared error", per_number(4, 2, 1), sizes_of(L.IN)),
    }
)
