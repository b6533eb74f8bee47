"""Kernels that join two maps, each for one block of 16 samples.

A kernel does the ``part``-th of ``parts`` equal shares of the elements. A is the arena, T the
tables, r the program row.
"""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import STRIP, share
from fastcnn.backends.lanes.kernels.elements import run_length
from fastcnn.backends.lanes.kernels.layout import (
    CHANNELS,
    M_BLOCK,
    M_CHANNEL,
    M_SLOT,
    M_TABLE,
    MODE,
    OF_PIXELS,
    POSITIONS,
    RELU,
    X_BLOCK,
    X_CHANNEL,
    X_SLOT,
    X_TABLE,
    Y_BLOCK,
    Y_CHANNEL,
    Y_SLOT,
    Y_TABLE,
    M,
    X,
    Y,
)
from fastcnn.backends.lanes.kernels.record import Kernel, map_sizes, per_element, register
from fastcnn.codegen import linked, simd

LANES = simd.LANES


@linked
def combination(A, T, r, block, slot, part, parts, minus, times):
    """Y = X + M, X - M or X * M, then rectified with RELU."""
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    m0 = r[M] + block * r[M_BLOCK] + slot * r[M_SLOT]
    positions, relu, run = r[POSITIONS], r[RELU], run_length(T, r, True)
    e, last = share(r[CHANNELS] * positions, part, parts)
    c, p, count = e // positions, e % positions, run - e % run
    while e < last:
        count = min(count, last - e)
        x = x0 + c * r[X_CHANNEL] + T[r[X_TABLE] + p]
        y = y0 + c * r[Y_CHANNEL] + T[r[Y_TABLE] + p]
        m = m0 + c * r[M_CHANNEL] + T[r[M_TABLE] + p]
        for i in range(0, count * LANES, LANES):
            value, other = simd.load(A, x + i), simd.load(A, m + i)
            if times:
                value = simd.mul(value, other)
            elif minus:
                value = simd.sub(value, other)
            else:
                value = simd.add(value, other)
            if relu:
                value = simd.relu(value)
            simd.store(A, y + i, value)
        e, p, count = e + count, p + count, run
        if p == positions:
            c, p = c + 1, 0


@linked
def gating(A, T, r, block, slot, part, parts):
    """Y = X times a factor for each channel, a vector of M, then rectified with RELU."""
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    m0 = r[M] + block * r[M_BLOCK] + slot * r[M_SLOT]
    positions, relu = r[POSITIONS], r[RELU]
    run = min(run_length(T, r, False), positions)
    e, last = share(r[CHANNELS] * positions, part, parts)
    c, p, count = e // positions, e % positions, run - e % run
    while e < last:
        count = min(count, last - e)
        x = x0 + c * r[X_CHANNEL] + T[r[X_TABLE] + p]
        y = y0 + c * r[Y_CHANNEL] + T[r[Y_TABLE] + p]
        factor = simd.load(A, m0 + c * r[M_CHANNEL])
        for i in range(0, count * LANES, LANES):
            value = simd.mul(simd.load(A, x + i), factor)
            if relu:
                value = simd.relu(value)
            simd.store(A, y + i, value)
        e, p, count = e + count, p + count, run
        if p == positions:
            c, p = c + 1, 0


@linked
def product_sums(A, T, r, block, slot, part, parts):
    """Y = sum of X * M over each channel's pixels, or with OF_PIXELS over each pixel's channels."""
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    m0 = r[M] + block * r[M_BLOCK] + slot * r[M_SLOT]
    by_pixel = r[MODE] == OF_PIXELS
    outer, inner = r[CHANNELS], r[POSITIONS]
    if by_pixel:
        outer, inner = inner, outer
    first, last = share(outer, part, parts)
    for o in range(first, last):
        total = simd.splat(np.float32(0))
        for begin in range(0, inner, STRIP):
            strip = simd.splat(np.float32(0))
            for i in range(begin, min(begin + STRIP, inner)):
                c, p = (i, o) if by_pixel else (o, i)
                x = x0 + c * r[X_CHANNEL] + T[r[X_TABLE] + p]
                m = m0 + c * r[M_CHANNEL] + T[r[M_TABLE] + p]
                strip = simd.add(strip, simd.mul(simd.load(A, x), simd.load(A, m)))
            total = simd.add(total, strip)
        y = y0 + T[r[Y_TABLE] + o] if by_pixel else y0 + o * r[Y_CHANNEL] + T[r[Y_TABLE]]
        simd.store(A, y, total)


register(
    {
        L.K_ADD: Kernel(
            combination,
            "add",
            per_element(1, 2, 1),
            map_sizes,
            fixed={"minus": False, "times": False},
        ),
        L.K_SUBTRACT: Kernel(
            combination,
            "subtract",
            per_element(1, 2, 1),
            map_sizes,
            fixed={"minus": True, "times": False},
        ),
        L.K_MULTIPLY: Kernel(
            combination,
            "multiply",
            per_element(1, 2, 1),
            map_sizes,
            fixed={"minus": False, "times": True},
        ),
        L.K_GATE: Kernel(gating, "multiply channels", per_element(1, 1, 1), map_sizes),
        L.K_PRODUCT_SUMS: Kernel(product_sums, "sums of products", per_element(2, 2, 0), map_sizes),
    }
)
