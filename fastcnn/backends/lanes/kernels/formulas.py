"""Templates of element-wise kernels, each for one block of 16 samples.

A kernel is generated from a formula, which it evaluates on each vector.
"""

from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.average_pool import spread_kernel
from fastcnn.backends.lanes.kernels.division import ONE, STRIP, base, share
from fastcnn.backends.lanes.kernels.elements import element_kernel
from fastcnn.backends.lanes.kernels.losses import (
    lane_weights,
    largest_output,
    loss_factor,
    note_loss,
)
from fastcnn.backends.lanes.kernels.tuples import reads
from fastcnn.codegen import linked, simd

LANES = simd.LANES
#: Maximum settings of a formula, after its values and a parameter.
MOST_NUMBERS = 3


@linked
def _number(A, at):
    return A[at]


def _arguments(count: int, learned: bool) -> Any:
    """A formula's arguments after its values: an optional parameter at W, then settings at SCALE.

    There is one parameter for all, for each channel, or for each lane of each channel block.
    """
    read = reads(count, _number)

    @linked
    def numbers(A, P, r, m, c):
        return read(A, r[L.SCALE], ONE)

    @linked
    def parameter_and_numbers(A, P, r, m, c):
        if r[L.MODE] == L.FOR_LANES:
            parameter = simd.load(P, r[L.W] + c * LANES)
        else:
            parameter = simd.splat(P[r[L.W] + c * r[L.MODE]])
        return (parameter, *read(A, r[L.SCALE], ONE))

    return parameter_and_numbers if learned else numbers


def value_kernel(value: Any, learned: bool, count: int) -> Any:
    """Y is the formula's value at X."""

    @linked
    def each(A, x, y, m, arguments):
        simd.store(A, y, value(simd.load(A, x), *arguments))

    return element_kernel(each, _arguments(count, learned), whole=not learned)


def gradient_kernel(gradient: Any, learned: bool, count: int) -> Any:
    """X is the input's gradient, Y the output's, M what the formula's gradient reads."""

    @linked
    def each(A, x, y, m, arguments):
        simd.store(A, x, gradient(simd.load(A, y), simd.load(A, m), *arguments))

    return element_kernel(each, _arguments(count, learned), third=True, whole=not learned)


def averaged_gradient_kernel(gradient: Any, learned: bool, count: int) -> Any:
    """The same if average pooling follows, and Y is the gradient of the averages."""

    @linked
    def each(A, x, grad, m, arguments):
        simd.store(A, x, gradient(grad, simd.load(A, m), *arguments))

    return spread_kernel(each, _arguments(count, learned), third=True)


def parameter_gradient_kernel(gradient: Any, count: int) -> Any:
    """One block's parameter gradient: sums over each channel, or with MODE 0 over all of them."""
    read = reads(count, _number)

    @linked
    def sums(A, T, P, r, block, slot, part, parts):
        y0, m0 = base(r, L.Y, block, slot), base(r, L.M, block, slot)
        out = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
        numbers = read(A, r[L.SCALE], ONE)
        first, last = share(r[L.CHANNELS], part, parts)
        if r[L.MODE] == 0:
            first, last = 0, 0 if part else r[L.CHANNELS]
        whole = 0.0
        for c in range(first, last):
            parameter = simd.splat(P[r[L.W] + c * r[L.MODE]])
            total = simd.splat(np.float32(0))
            for start in range(0, r[L.POSITIONS], STRIP):
                strip = simd.splat(np.float32(0))
                for p in range(start, min(start + STRIP, r[L.POSITIONS])):
                    y = simd.load(A, y0 + c * r[L.Y_CHANNEL] + T[r[L.Y_TABLE] + p])
                    m = simd.load(A, m0 + c * r[L.M_CHANNEL] + T[r[L.M_TABLE] + p])
                    strip = simd.add(strip, gradient(y, m, parameter, *numbers))
                total = simd.add(total, strip)
            if r[L.MODE] == 1:
                A[out + c] = simd.lane_sum(total)
            else:
                whole += np.float64(simd.lane_sum(total))
        if r[L.MODE] == 0 and part == 0:
            A[out] = np.float32(whole)

    return sums


def loss_kernel(value: Any, derivative: Any, given: int, by_channel: bool) -> Any:
    """The weighted mean of a formula over one block's outputs X, and their gradient.

    Y holds the targets, and receives the gradient. At SCALE are the loss's factor, negative for a
    sum instead of a mean, the formula's settings, and those of each channel.
    """
    read = reads(given, _number)
    if by_channel:

        @linked
        def both(x, t, A, at, numbers):
            return value(x, t, A[at], *numbers), derivative(x, t, A[at], *numbers)

    else:

        @linked
        def both(x, t, A, at, numbers):
            return value(x, t, *numbers), derivative(x, t, *numbers)

    @linked
    def element_loss(
        A, r, block, count, order, start, labels, targets, weights, mean_weights, losses, hits, part
    ):
        if part:
            return
        C, P = r[L.CHANNELS], r[L.POSITIONS]
        size = C * P
        x0, y0 = r[L.X] + block * r[L.X_BLOCK], r[L.Y] + block * r[L.Y_BLOCK]
        numbers = read(A, r[L.SCALE] + 1, ONE)
        first = start + block * LANES
        valid = min(LANES, count - block * LANES)
        factor = loss_factor(A[r[L.SCALE]], count, size, mean_weights[r[L.OUT]])
        places = size if weights.size == targets.size else 0
        share = simd.first_lanes(valid, simd.splat(np.float32(factor)))
        if weights.size > 0 and places == 0:
            share = lane_weights(weights, 0, order, first, valid, 0, factor)
        right = simd.splat(np.float32(0))
        if labels.size > 0 and labels.size * size == targets.size:
            label = simd.splat(np.float32(-1))
            for lane in range(valid):
                label = simd.insert(label, lane, np.float32(labels[order[first + lane]]))
            _, place = largest_output(A, x0, LANES, size)
            right = simd.keep_equal(place, label, simd.splat(np.float32(1)))
        total = 0.0
        for begin in range(0, size, STRIP):
            strip = simd.splat(np.float32(0))
            for k in range(begin, min(begin + STRIP, size)):
                if weights.size > 0 and places > 0:
                    share = lane_weights(weights, size, order, first, valid, k, factor)
                x, t = simd.load(A, x0 + k * LANES), simd.load(A, y0 + k * LANES)
                loss, slope = both(x, t, A, r[L.SCALE] + 1 + given + k // P, numbers)
                # Elements of weight zero may have any value, including NaN.
                strip = simd.add(strip, simd.keep_positive(share, simd.mul(share, loss)))
                made = simd.keep_positive(share, simd.mul(share, slope))
                simd.store(A, y0 + k * LANES, made)
            total += simd.lane_sum(strip)
        note_loss(r, block, total, np.int64(simd.lane_sum(right)), losses, hits)

    return element_loss
