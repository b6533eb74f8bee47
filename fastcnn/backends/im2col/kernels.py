"""Compiled loops of a convolution over blocks of columns; axes are named as in columns.py."""

from typing import Any

import numpy as np
from llvmlite import ir

from fastcnn.backends.im2col.products import outer, product
from fastcnn.codegen import compiled, linked
from fastcnn.codegen.simd import (
    INT64,
    LANE_NUMBERS,
    LANES,
    add,
    constant,
    define,
    emit_int_splat,
    emit_load,
    emit_shuffle,
    emit_store,
    first_lanes,
    lane_sum,
    load,
    splat,
    store,
)


def _emit_load_even(builder: Any, array: Any, index: Any) -> Any:
    low = emit_load(builder, builder.gep(array, [index]))
    after = builder.add(index, ir.Constant(INT64, LANES))
    high = emit_load(builder, builder.gep(array, [after]))
    return emit_shuffle(builder, low, high, [2 * lane for lane in range(LANES)])


def _emit_add_even(builder: Any, array: Any, index: Any, x: Any) -> None:
    for first in (0, LANES):
        pointer = builder.gep(array, [builder.add(index, ir.Constant(INT64, first))])
        # A zero between any two lanes of x.
        lanes = [LANES if i % 2 else (first + i) // 2 for i in range(LANES)]
        spread = emit_shuffle(builder, x, constant(0.0), lanes)
        emit_store(builder, builder.fadd(emit_load(builder, pointer), spread), pointer)


def _emit_lanes_from(builder: Any, begin: Any, count: Any, x: Any) -> Any:
    begin, count = (emit_int_splat(builder, n) for n in (begin, count))
    # Unsigned: lanes before the first wrap to values larger than any count.
    inside = builder.icmp_unsigned("<", builder.sub(LANE_NUMBERS, begin), count)
    return builder.select(inside, x, constant(0.0))


#: ``count`` lanes of ``x`` starting at a lane, which may be negative; the others are 0.
_lanes_from = define("vector", _emit_lanes_from, "int64", "int64", "vector")
#: Load every second of 32 floats.
_load_even = define("vector", _emit_load_even, None, "int64")
#: Add to every second of 32 floats.
_add_even = define("void", _emit_add_even, None, "int64", "vector")


@linked
def _copy(target, at, source, begin, count):
    """Copy floats as whole vectors: up to 15 more are read and written."""
    for j in range(0, count, LANES):
        store(target, at + j, load(source, begin + j))


@linked
def _clear(target, at, count):
    """Set floats to zero as whole vectors, as in :func:`_copy`."""
    zero = splat(np.float32(0))
    for j in range(0, count, LANES):
        store(target, at + j, zero)


@linked
def _pad(image, padded, first, samples, numbers):
    """Copy the maps of some samples into larger, zero-padded ones.

    Maps are copied in memory order, so excess floats are overwritten.
    """
    C, N, H, W, top, left, PH, PW = numbers
    for m in range(C * samples):
        begin = (m // samples * N + first + m % samples) * H * W
        at = m * PH * PW
        _clear(padded, at, top * PW + left)
        at += top * PW + left
        for h in range(H):
            if begin + W + LANES <= image.size:
                _copy(padded, at, image, begin, W)
            else:
                for j in range(W):
                    padded[at + j] = image[begin + j]
            after = PW - W
            if h == H - 1:
                after += (PH - top - H) * PW - left
            _clear(padded, at + W, after)
            at += PW
            begin += W
    _clear(padded, C * samples * PH * PW, LANES)


@linked
def _gather(padded, columns, width, first, rows, numbers):
    """Fill columns of some output rows; rows of columns begin ``width`` floats apart."""
    C, N, H, W, OH, OW, KH, KW, stride_h, stride_w, dilation_h, dilation_w = numbers
    line = 0
    for c in range(C):
        for k in range(KH * KW):
            tap = k // KW * dilation_h * W + k % KW * dilation_w
            n, i = first // OH, first % OH
            source = ((c * N + n) * H + i * stride_h) * W + tap
            at = line * width
            for _ in range(rows):
                if stride_w == 1:
                    _copy(columns, at, padded, source, OW)
                elif stride_w == 2:
                    for j in range(0, OW, LANES):
                        store(columns, at + j, _load_even(padded, source + 2 * j))
                else:
                    for j in range(OW):
                        columns[at + j] = padded[source + j * stride_w]
                at += OW
                source += stride_h * W
                i += 1
                if i == OH:
                    n, i = n + 1, 0
                    source = (c * N + n) * H * W + tap
            line += 1


@linked
def _add_rows(columns, at, width, padded, target, OW, KW, dilation):
    """Add one output row's columns of KW adjacent pixels to a row of pixels, for stride 1.

    Reads columns from up to 15 floats before ``at``.
    """
    for j in range(0, OW + (KW - 1) * dilation, LANES):
        total = load(padded, target + j)
        for k in range(KW):
            first = j - k * dilation
            if -LANES < first < OW:
                more = load(columns, at + k * width + first)
                total = add(total, _lanes_from(-first, OW, more))
        store(padded, target + j, total)


@linked
def _scatter(columns, padded, begin, width, first, rows, numbers):
    """Add every column to the pixels it came from, as in :func:`_gather`."""
    C, N, H, W, OH, OW, KH, KW, stride_h, stride_w, dilation_h, dilation_w = numbers
    at_once = KW if stride_w == 1 else 1
    for c in range(C):
        for k in range(0, KH * KW, at_once):
            tap = k // KW * dilation_h * W + k % KW * dilation_w
            n, i = first // OH, first % OH
            target = ((c * N + n) * H + i * stride_h) * W + tap
            at = begin + (c * KH * KW + k) * width
            for _ in range(rows):
                if stride_w == 1:
                    _add_rows(columns, at, width, padded, target, OW, KW, dilation_w)
                elif stride_w == 2:
                    for j in range(0, OW, LANES):
                        more = first_lanes(OW - j, load(columns, at + j))
                        _add_even(padded, target + 2 * j, more)
                else:
                    for j in range(OW):
                        padded[target + j * stride_w] += columns[at + j]
                at += OW
                target += stride_h * W
                i += 1
                if i == OH:
                    n, i = n + 1, 0
                    target = (c * N + n) * H * W + tap


@linked
def _cut_out(padded, image, first, samples, numbers):
    """Copy the maps of some samples out of their padding: the inverse of :func:`_pad`."""
    C, N, H, W, top, left, PH, PW = numbers
    whole = W // LANES * LANES
    for m in range(C * samples):
        at = (m // samples * N + first + m % samples) * H * W
        begin = (m * PH + top) * PW + left
        for _ in range(H):
            _copy(image, at, padded, begin, whole)
            for j in range(whole, W):
                image[at + j] = padded[begin + j]
            at += W
            begin += PW


@compiled(
    "float32[:]",
    "float32[:]",
    "float32[:]",
    "out float32[:]",
    "out float32[:]",
    "out float32[:]",
    "int64[:]",
)
def scatter_blocks(dy, matrix, zeros, padded, columns, image, numbers):
    """Fill an image with ``col2im(matrix^T dy)``."""
    C, N, H, W, top, left, PH, PW, OH, OW, KH, KW = numbers[:12]
    stride_h, stride_w, dilation_h, dilation_w, group, rows, width, M = numbers[12:]
    K, row = C * KH * KW, N * OH * OW
    for sample in range(0, N, group):
        samples = min(group, N - sample)
        _clear(padded, 0, C * samples * PH * PW)
        window = (C, samples, PH, PW, OH, OW, KH, KW, stride_h, stride_w, dilation_h, dilation_w)
        for first in range(0, samples * OH, rows):
            R = min(rows, samples * OH - first)
            at, count = (sample * OH + first) * OW, R * OW
            product(matrix, K, M, 1, K, dy, at, row, count, columns, LANES, width, zeros)
            _scatter(columns, padded, LANES, width, first, R, window)
        _cut_out(padded, image, sample, samples, (C, N, H, W, top, left, PH, PW))


@compiled(
    "float32[:]",
    "float32[:]",
    "float32[:]",
    "float32[:]",
    "out float32[:]",
    "out float32[:]",
    "out float32[:]",
    "out float32[:]",
    "int64[:]",
)
def over_blocks(image, matrix, bias, other, padded, columns, y, gradient, numbers):
    """Fill ``y`` with ``matrix @ columns + bias``; add ``other @ columns^T`` to ``gradient``."""
    C, N, H, W, top, left, PH, PW, OH, OW, KH, KW = numbers[:12]
    stride_h, stride_w, dilation_h, dilation_w, group, rows, width, M = numbers[12:]
    gathers, multiplies, sums = padded.size > 0, y.size > 0, gradient.size > 0
    K, row = C * KH * KW, N * OH * OW
    for sample in range(0, N, group):
        samples = min(group, N - sample)
        if gathers:
            _pad(image, padded, sample, samples, (C, N, H, W, top, left, PH, PW))
        window = (C, samples, PH, PW, OH, OW, KH, KW, stride_h, stride_w, dilation_h, dilation_w)
        for first in range(0, samples * OH, rows):
            R = min(rows, samples * OH - first)
            at, count = (sample * OH + first) * OW, R * OW
            begin = at
            if gathers:
                _gather(padded, columns, width, first, R, window)
                begin = 0
            if multiplies:
                product(matrix, M, K, K, 1, columns, begin, width, count, y, at, row, bias)
            if sums:
                outer(other, M, at, row, columns, K, begin, width, count, gradient)


#: Floats summed in float32, per lane, before their sums are added in float64.
SUMMED = 64 * LANES


@compiled("float32[:]", "out float32[:]")
def row_sums(rows, sums):
    """Fill ``sums`` with the sum of each row of an array."""
    count = rows.size // sums.size
    for m in range(sums.size):
        total, after = 0.0, (m + 1) * count
        for first in range(m * count, after, SUMMED):
            end = min(first + SUMMED, after)
            whole = end - (end - first) % (4 * LANES)
            a = b = c = d = splat(np.float32(0))
            for at in range(first, whole, 4 * LANES):
                a = add(a, load(rows, at))
                b = add(b, load(rows, at + LANES))
                c = add(c, load(rows, at + 2 * LANES))
                d = add(d, load(rows, at + 3 * LANES))
            total += lane_sum(add(add(a, b), add(c, d)))
            for at in range(whole, end):
                total += rows[at]
        sums[m] = total
