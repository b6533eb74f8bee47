"""Compiled loops of a convolution over blocks of columns; names of axes are those of columns.py."""

import numpy as np

from fastcnn.backends.im2col.products import outer, product
from fastcnn.codegen import compiled, linked
from fastcnn.codegen.simd import LANES, load, splat, store


@linked
def _copy(target, at, source, begin, count):
    """Copy floats by whole vectors: up to 15 more are read, and written."""
    for j in range(0, count, LANES):
        store(target, at + j, load(source, begin + j))


@linked
def _clear(target, at, count):
    """Set floats to zero by whole vectors, as in :func:`_copy`."""
    zero = splat(np.float32(0))
    for j in range(0, count, LANES):
        store(target, at + j, zero)


@linked
def _pad(image, padded, first, samples, numbers):
    """Copy maps of some samples into larger ones, with zeros around them.

    In the order of memory: what a copy writes too much is written again.
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
    """Fill columns of some output rows; their own rows begin ``width`` floats apart."""
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


@compiled(
    "float32[:]", "float32[:]", "float32[:]", "float32[:]",
    "out float32[:]", "out float32[:]", "out float32[:]", "out float32[:]", "int64[:]",
)  # fmt: skip
def over_blocks(image, matrix, bias, other, padded, columns, y, gradient, numbers):
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
