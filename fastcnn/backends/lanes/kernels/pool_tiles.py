"""Loops of pooling over windows given by tables."""

from typing import Any

from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    FLOAT,
    constant,
    emit_keep_equal,
    emit_splat,
    emit_store,
    emit_stream,
    emit_wins,
)

#: Distance, in entries of a table of windows, at which gradients are prefetched.
LATER = 96


@tile(2)
def window_tile(
    at: Emitter, K: int, wins: int, inputs, first, count, asked, outputs, winners, rectified
) -> None:
    """The maximum of the pixels of X in a window's list, and its index in the list.

    The list has K entries from ``first`` on, or ``count`` if K is 0. The first of equal values
    wins. If ``rectified``, values that are not above 0 have no argmax, -1. The window that begins
    at entry ``later`` is prefetched, relative to ``later_x``. If ``wins`` is 0, none of this is
    done: only the maximum is stored.
    """
    (X, x0, windows), (later_x, later) = inputs, asked
    (Y, y0), (M, m0) = outputs, winners
    builder = at.builder

    def ask(k: Any) -> None:
        if not wins:
            return
        place = at.table(windows, builder.add(later, k))
        at.prefetch(X, builder.add(later_x, place))

    def pixel(k: Any) -> Any:
        return at.load(X, builder.add(x0, at.table(windows, builder.add(first, k))))

    if K:
        for k in range(K):
            ask(at.index(k))
        best, winner = _best(at, [(pixel(at.index(k)), constant(float(k))) for k in range(K)])
    else:

        def step(k: Any, state: list[Any]) -> list[Any]:
            ask(k)
            place, *found = state
            best = _best(at, [(found[0], found[1]), (pixel(k), place)])
            return [builder.fadd(place, constant(1.0)), *best]

        initial = [constant(1.0), pixel(at.index(0)), constant(0.0)]
        _, best, winner = at.loop(1, count, initial, step)
    at.store(best, Y, y0)
    if not wins:
        return
    # Comparisons with NaN are false.
    floor = builder.select(at.is_set(rectified), constant(0.0), constant(float("nan")))
    closed = builder.fcmp_ordered("<=", best, floor)
    at.store(builder.select(closed, constant(-1.0), winner), M, m0)


def _best(at: Emitter, candidates: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """The maximum of some values, with its companion: a pairwise reduction of neighbours."""
    builder = at.builder
    while len(candidates) > 1:
        rest = candidates[2 * (len(candidates) // 2) :]
        met = []
        for (one, first), (other, second) in zip(candidates[::2], candidates[1::2], strict=False):
            wins = emit_wins(builder, other, one)
            met.append((builder.select(wins, other, one), builder.select(wins, second, first)))
        candidates = met + rest
    return candidates[0]


@tile(1, "vector")
def sum_tile(at: Emitter, K: int, X, x0, windows, first) -> Any:
    """The sum of the K pixels of X in a window's list, from entry ``first`` on."""
    builder, total = at.builder, None
    for k in range(K):
        place = at.table(windows, builder.add(first, at.index(k)))
        pixel = at.load(X, builder.add(x0, place))
        total = pixel if total is None else builder.fadd(total, pixel)
    return total


@tile(0, "int64")
def entry(at: Emitter, table, index) -> Any:
    """An entry of an int32 table, whose index is not wrapped."""
    return at.table(table, index)


@tile(0, "vector")
def spread_tile(at: Emitter, averages, starts, windows, p) -> Any:
    """The gradient of a pixel: the sum of those of the averages of the windows around it.

    From entry ``starts[p]`` on, ``windows`` has the offset of each window in Y, and Y from ``z0``
    on the reciprocals of their divisors.
    """
    (Y, y0, z0), builder = averages, at.builder

    def add(i: Any, sums: list[Any]) -> list[Any]:
        grad = at.load(Y, builder.add(y0, at.table(windows, i)))
        share = builder.fmul(grad, at.spread(Y, builder.add(z0, i)))
        return [builder.fadd(sums[0], share)]

    first, end = at.table(starts, p), at.table(starts, builder.add(p, at.index(1)))
    return at.loop(first, end, [constant(0.0)], add)[0]


@tile(0, "vector")
def winners_tile(
    at: Emitter, Y, y0, M, m0, starts, windows, visits, p0, p1, X, x0, pixels, streams
) -> Any:
    """Add to some pixels of X the gradients of the windows they won; returns their sum.

    From entry ``starts[p]`` on, ``windows`` has the offset of each window of a pixel and the bits
    of the pixel's index in it; ``visits`` entries in all. If ``streams``, stores to X
    bypass the cache.
    """
    builder = at.builder
    sends = at.is_set(streams)

    def step(p: Any, state: list[Any]) -> list[Any]:
        def add(i: Any, sums: list[Any]) -> list[Any]:
            entry = builder.mul(i, at.index(2))
            window = at.table(windows, entry)
            bits = builder.load(at.pointer(windows, builder.add(entry, at.index(1))))
            place = emit_splat(builder, builder.bitcast(bits, FLOAT))
            winner = at.load(M, builder.add(m0, window))
            grad = at.load(Y, builder.add(y0, window))
            return [builder.fadd(sums[0], emit_keep_equal(builder, winner, place, grad))]

        begin, end = at.table(starts, p), at.table(starts, builder.add(p, at.index(1)))
        later = builder.add(begin, at.index(LATER))
        later = builder.select(builder.icmp_signed("<", later, visits), later, begin)
        window = at.table(windows, builder.mul(later, at.index(2)))
        at.prefetch(M, builder.add(m0, window))
        at.prefetch(Y, builder.add(y0, window))
        (sent,) = at.loop(begin, end, [constant(0.0)], add)
        target = at.pointer(X, builder.add(x0, at.table(pixels, p)))
        with builder.if_else(sends) as (then, otherwise):
            with then:
                emit_stream(builder, sent, target)
            with otherwise:
                emit_store(builder, sent, target)
        return [builder.fadd(state[0], sent)]

    return at.loop(p0, p1, [constant(0.0)], step)[0]
