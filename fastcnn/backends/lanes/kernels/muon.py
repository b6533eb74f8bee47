"""Muon's update: an orthogonalised momentum, of one whole matrix at a time.

The formulas are those of ``fastcnn.optim.Muon``. A matrix is transposed if needed to have no more
rows than columns, and padded with zeros: rows to a tile of 4 and columns to a vector.
"""

import math

import numpy as np

from fastcnn.backends.lanes.kernels.optimizers import (
    DECAY,
    DECOUPLED,
    FACTOR,
    LANES,
    ROOM,
    SETTINGS,
    SPAN,
)
from fastcnn.codegen import linked, simd

#: Rows of a register tile.
TILE = 4
#: Indices of a matrix's settings; A, B and C are the coefficients of the iteration.
BETA, NESTEROV, STEPS, EPS, A, B, C, NORMALIZE, ROWS, COLUMNS, RATIO = range(11)


def muon_scratch(rows: int, columns: int) -> int:
    """Floats of scratch for the update of a matrix."""
    high = -(-min(rows, columns) // TILE) * TILE
    wide = -(-max(rows, columns) // LANES) * LANES
    return 2 * high * wide + 2 * high * (-(-high // LANES) * LANES)


@linked
def _gram(Z, x, high, width, out, step):
    """Products of all pairs of rows, computed for the lower half of the pairs."""
    zero = simd.splat(np.float32(0))
    for i in range(0, high, TILE):
        for j in range(0, i + TILE, 2):
            a = b = c = d = e = f = g = h = zero
            for k in range(0, width, LANES):
                place = x + j * width + k
                left, right = simd.load(Z, place), simd.load(Z, place + width)
                place = x + i * width + k
                p, q = simd.load(Z, place), simd.load(Z, place + width)
                r, s = simd.load(Z, place + 2 * width), simd.load(Z, place + 3 * width)
                a, b = simd.fma(p, left, a), simd.fma(q, left, b)
                c, d = simd.fma(r, left, c), simd.fma(s, left, d)
                e, f = simd.fma(p, right, e), simd.fma(q, right, f)
                g, h = simd.fma(r, right, g), simd.fma(s, right, h)
            for row, total in enumerate((a, b, c, d)):
                Z[out + (i + row) * step + j] = simd.lane_sum(total)
                Z[out + j * step + i + row] = simd.lane_sum(total)
            for row, total in enumerate((e, f, g, h)):
                Z[out + (i + row) * step + j + 1] = simd.lane_sum(total)
                Z[out + (j + 1) * step + i + row] = simd.lane_sum(total)


@linked
def _product(Z, left, step, right, width, high, start, factor, share, out):
    """``factor * start + share * left @ right``; ``left`` is square, all others ``width`` wide."""
    zero = simd.splat(np.float32(0))
    for column in range(0, width, 2 * LANES):
        both = column + LANES < width
        for i in range(0, high, TILE):
            a = b = c = d = e = f = g = h = zero
            for k in range(high):
                place = left + i * step + k
                p, q = simd.splat(Z[place]), simd.splat(Z[place + step])
                r, s = simd.splat(Z[place + 2 * step]), simd.splat(Z[place + 3 * step])
                x = simd.load(Z, right + k * width + column)
                a, b = simd.fma(p, x, a), simd.fma(q, x, b)
                c, d = simd.fma(r, x, c), simd.fma(s, x, d)
                if both:
                    y = simd.load(Z, right + k * width + column + LANES)
                    e, f = simd.fma(p, y, e), simd.fma(q, y, f)
                    g, h = simd.fma(r, y, g), simd.fma(s, y, h)
            first = (a, b, c, d)
            second = (e, f, g, h)
            for row in range(TILE):
                place = (i + row) * width + column
                simd.store(
                    Z, out + place, factor * simd.load(Z, start + place) + share * first[row]
                )
                if both:
                    place += LANES
                    simd.store(
                        Z, out + place, factor * simd.load(Z, start + place) + share * second[row]
                    )


@linked
def muon(P, G, S, settings, scale, rate, step, spans, scratch, block, worker):
    """Momentum, its orthogonalisation, and the update."""
    first = spans[SPAN * block]
    row = SETTINGS * spans[SPAN * block + 2]
    rows, columns = np.int64(settings[row + ROWS]), np.int64(settings[row + COLUMNS])
    lying = rows <= columns
    own_rate = rate * settings[row + FACTOR]
    decay, beta = np.float32(settings[row + DECAY]), np.float32(settings[row + BETA])
    nesterov, scale32 = settings[row + NESTEROV] != 0.0, np.float32(scale)
    high = (min(rows, columns) + TILE - 1) // TILE * TILE
    width = (max(rows, columns) + LANES - 1) // LANES * LANES
    squared = (high + LANES - 1) // LANES * LANES
    need = 2 * high * width + 2 * high * squared
    x = worker * np.int64(settings[row + ROOM])
    y = x + high * width
    gram = y + high * width
    mixed = gram + high * squared
    for k in range(x, x + need):
        scratch[k] = np.float32(0)
    norm, before = 0.0, 0.0
    for i in range(rows):
        for j in range(columns):
            k = first + i * columns + j
            g = decay * P[k] + scale32 * G[k]
            v = beta * S[k] + g
            S[k] = v
            u = g + beta * v if nesterov else v
            norm += np.float64(u) * u
            before += np.float64(P[k]) * P[k]
            scratch[x + (i * width + j if lying else j * width + i)] = u
    shrink = simd.splat(np.float32(1.0 / max(math.sqrt(norm), settings[row + EPS])))
    for k in range(x, x + high * width, LANES):
        simd.store(scratch, k, simd.load(scratch, k) * shrink)
    a, b, c = (
        np.float32(settings[row + A]),
        np.float32(settings[row + B]),
        np.float32(settings[row + C]),
    )
    one = np.float32(1.0)
    for _ in range(np.int64(settings[row + STEPS])):
        _gram(scratch, x, high, width, gram, squared)
        _product(scratch, gram, squared, gram, squared, high, gram, b, c, mixed)
        _product(scratch, mixed, squared, x, width, high, x, a, one, y)
        x, y = y, x
    keep = 1.0 - own_rate * settings[row + DECOUPLED]
    if settings[row + NORMALIZE] != 0.0:
        keep *= math.sqrt(np.float64(rows)) / max(math.sqrt(before), settings[row + EPS])
    keep32, along = np.float32(keep), np.float32(own_rate * settings[row + RATIO])
    for i in range(rows):
        for j in range(columns):
            k = first + i * columns + j
            P[k] = keep32 * P[k] - along * scratch[x + (i * width + j if lying else j * width + i)]
