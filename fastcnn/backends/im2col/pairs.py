"""Max pooling over adjacent 2 x 2 windows, 16 windows at a time, in float32.

Rows are contiguous, so the vectors of a row with fewer windows extend into the next rows: the
excess lanes are ignored when read, and overwritten later when written.
"""

from typing import Any

import numpy as np

from fastcnn.backends.im2col.columns import _clear
from fastcnn.codegen import compiled, linked
from fastcnn.codegen.build import is_disabled
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES, constant, emit_shuffle


@linked
def beats(value: float, best: float) -> bool:
    """Whether a value replaces the best so far; the first of several NaNs is kept."""
    return (value > best) | ((value != value) & (best == best))


def _winners(at: Emitter, X: Any, upper: Any, lower: Any) -> tuple[Any, list[Any]]:
    """Maxima of 16 windows, and whether each of their last three pixels beats those before it."""
    builder, pixels = at.builder, []
    for place in (upper, lower):
        halves = [at.load(X, at.offset(place, k, LANES)) for k in (0, 1)]
        pixels += [
            emit_shuffle(builder, halves[0], halves[1], [*range(k, 2 * LANES, 2)]) for k in (0, 1)
        ]
    best, wins = pixels[0], []
    for value in pixels[1:]:
        first_nan = builder.and_(
            builder.fcmp_unordered("uno", value, value), builder.fcmp_ordered("ord", best, best)
        )
        wins.append(builder.or_(builder.fcmp_ordered(">", value, best), first_nan))
        best = builder.select(wins[-1], value, best)
    return best, wins


@tile(0)
def _pool_tile(at: Emitter, X: Any, upper: Any, lower: Any, Y: Any, y0: Any) -> None:
    at.store(_winners(at, X, upper, lower)[0], Y, y0)


@tile(0)
def _unpool_tile(at: Emitter, D: Any, d0: Any, X: Any, upper: Any, lower: Any, G: Any) -> None:
    builder, zero = at.builder, constant(0.0)
    grad, pixels = at.load(D, d0), []
    for win in reversed(_winners(at, X, upper, lower)[1]):
        pixels.append(builder.select(win, grad, zero))
        grad = builder.select(win, zero, grad)
    pixels = [grad, *reversed(pixels)]
    for place, left, right in ((upper, *pixels[:2]), (lower, *pixels[2:])):
        for k in (0, 1):
            first = k * LANES // 2
            lanes = [first + lane // 2 + lane % 2 * LANES for lane in range(LANES)]
            row = emit_shuffle(builder, left, right, lanes)
            at.store(row, G, at.offset(place, k, LANES))


@linked
def first_window(start: int, count: int) -> int:
    """First window of a vector: the last 16 of a row overlap those before, if there are enough."""
    return min(start, max(0, count - LANES))


@linked
def _winner(x: np.ndarray, upper: int, lower: int) -> int:
    """Offset of a window's maximum."""
    place = upper
    for other in (upper + 1, lower, lower + 1):
        place = other if beats(x[other], x[place]) else place
    return place


@compiled("float32[:]", "out float32[:]", "int64[:]")
def max_pairs(x: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> None:
    """Fill ``y`` with the maxima; ``numbers`` has the count of maps and both sizes."""
    maps, H, W, OH, OW = numbers
    for m in range(maps):
        for i in range(OH):
            upper, to = (m * H + 2 * i) * W, (m * OH + i) * OW
            lower = upper + W
            for start in range(0, OW, LANES):
                j = first_window(start, OW)
                if lower + 2 * (j + LANES) <= x.size and to + j + LANES <= y.size:
                    _pool_tile(x, upper + 2 * j, lower + 2 * j, y, to + j)
                else:
                    for k in range(OW):
                        y[to + k] = x[_winner(x, upper + 2 * k, lower + 2 * k)]


@compiled("float32[:]", "float32[:]", "out float32[:]", "int64[:]")
def max_pairs_backward(dy: np.ndarray, x: np.ndarray, dx: np.ndarray, numbers: np.ndarray) -> None:
    """Fill ``dx`` with the gradients of the windows, at their maxima."""
    maps, H, W, OH, OW = numbers
    for m in range(maps):
        for i in range(OH):
            upper, at = (m * H + 2 * i) * W, (m * OH + i) * OW
            lower = upper + W
            for start in range(0, OW, LANES):
                j = first_window(start, OW)
                if lower + 2 * (j + LANES) <= x.size and at + j + LANES <= dy.size:
                    _unpool_tile(dy, at + j, x, upper + 2 * j, lower + 2 * j, dx)
                else:
                    for k in range(OW):
                        _clear(dx, upper + 2 * k, 2)
                        _clear(dx, lower + 2 * k, 2)
                        dx[_winner(x, upper + 2 * k, lower + 2 * k)] = dy[at + k]
            _clear(dx, upper + 2 * OW, W - 2 * OW)
            _clear(dx, lower + 2 * OW, W - 2 * OW)
        _clear(dx, (m * H + 2 * OH) * W, (H - 2 * OH) * W)


def are_pairs(x: np.ndarray, windows: tuple[Any, ...], output: Any) -> bool:
    """Whether windows are adjacent 2 x 2 ones inside the map, given all parameters."""
    inside = all(2 * count <= size for count, size in zip(output, x.shape[2:], strict=True))
    squares = windows == ((2, 2), (2, 2), (0, 0), (1, 1))
    return x.dtype == np.float32 and squares and inside and not is_disabled()
