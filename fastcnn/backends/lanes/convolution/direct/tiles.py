"""Register tiles of direct convolution.

Sizes: CB output channels, PB output positions, TB taps. A *tap* is one (input channel, kernel row,
kernel column); its offset is a table entry, so that stride, dilation, padding and flipped kernels
differ in their tables only. The target decides which part of a tile is computed at a time.
"""

from collections.abc import Callable, Iterator
from typing import Any

from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    LANES,
    constant,
    emit_keep_open,
    emit_load,
    emit_prefetch,
    emit_splat,
    emit_store,
    emit_wins,
)
from fastcnn.codegen.target import blocking, split


def accumulate_taps(
    at: Emitter,
    X,
    inputs: list[Any],
    taps,
    T,
    weights: Callable[[Any], list[Any]],
    biases: list[Any],
) -> list[list[Any]]:
    """Sums over taps of weight times input, starting from the biases: [channel][position].

    ``inputs`` are the addresses of positions; ``weights`` returns the addresses of a tap's weights,
    one for each channel.
    """
    rows = [at.pointer(X, place) for place in inputs]

    def step(t: Any, state: list[Any]) -> list[Any]:
        tap = at.table(taps, t)
        x = [at.load(row, tap) for row in rows]
        numbers = (emit_splat(at.builder, at.builder.load(pointer)) for pointer in weights(t))
        return at.add_products(numbers, x, state)

    flat = at.loop(0, T, [bias for bias in biases for _ in rows], step)
    return [flat[c * len(rows) : (c + 1) * len(rows)] for c in range(len(biases))]


def _conv_parts(
    at: Emitter, CB: int, PB: int, block: tuple[int, int], inputs, kernel
) -> Iterator[tuple[int, int, list[list[Any]]]]:
    """First channel, first position and sums of each part of a tile that fits in registers.

    Weights are packed: CB weights of a tap, then those of the next.
    """
    (X, x0, xpix, p0), (taps, T, W, w0, B, b0) = inputs, kernel
    for c, p, rows, columns in split(CB, PB, block):

        def weights(t: Any, first: int = c, count: int = rows) -> list[Any]:
            place = at.offset(at.offset(w0, first, 1), t, CB)
            return [at.pointer(W, at.offset(place, i, 1)) for i in range(count)]

        pixels = [at.table(xpix, at.offset(p0, p + j, 1)) for j in range(columns)]
        places = [at.builder.add(x0, pixel) for pixel in pixels]
        biases = at.bias(B, at.optional(b0, c), rows)
        yield c, p, accumulate_taps(at, X, places, taps, T, weights, biases)


@tile(2)
def conv_tile(at: Emitter, CB: int, PB: int, inputs, kernel, outputs, relu, met, later) -> None:
    """CB channels by PB positions of a convolution, with bias and, if ``relu``, a rectifier.

    ``inputs`` are X, x0, a table of offsets and its start, ``kernel`` a table of taps, their
    number, W, w0, B and b0, ``outputs`` Y, y0, a table and the channel stride. ``met`` as in
    ``emit_outputs``. The part of ``Y`` that a later tile accesses, at the table entries from the
    first element of ``later`` on, is prefetched, unless that is negative.
    """
    (*_, p0), (Y, y0, ypix, ystride), (next_y, next_pix) = inputs, outputs, later
    builder = at.builder
    with builder.if_then(builder.icmp_signed(">=", next_y, at.index(0))):
        for p in range(PB):
            position = builder.add(next_y, at.table(next_pix, at.offset(p0, p, 1)))
            for c in range(CB):
                place = at.pointer(Y, at.offset(position, c, ystride))
                emit_prefetch(builder, place, write=True)
    for c, p, sums in _conv_parts(at, CB, PB, blocking().products, inputs, kernel):
        positions = [at.table(ypix, at.offset(p0, p + j, 1)) for j in range(len(sums[0]))]
        emit_map(at, sums, positions, Y, at.offset(y0, c, ystride), ystride, relu, met)


def emit_map(
    at: Emitter, sums: list[list[Any]], positions: list[Any], Y, y0, ystride, relu, met
) -> None:
    """Store the sums of some channels at each of some positions, as ``emit_outputs`` does."""
    places = [
        (value, at.offset(position, c, ystride))
        for c, row in enumerate(sums)
        for value, position in zip(row, positions, strict=True)
    ]
    summands = [at.offset(place, 1, met) for _, place in places]
    emit_outputs(at, places, Y, y0, relu, met, summands)


def emit_outputs(
    at: Emitter, places: list[tuple[Any, Any]], Y, y0, relu, met, summands: list[Any] | None = None
) -> None:
    """Store values, rectified; ``met`` says how they combine with what is stored.

    With ``met`` 1 a value is zeroed where a zero is stored: the rectifier's output masks the
    gradient that replaces it. Storing twice at one place, as at the end of a tile, is safe: the
    gradient stored first is either unmasked or zero. With ``met`` 0 nothing is combined. Otherwise
    ``met`` is the distance in floats to each value's summand; ``summands`` are the addresses of
    these.
    """
    builder = at.builder
    with builder.if_else(builder.icmp_signed("==", met, at.index(1))) as (then, otherwise):
        with then:
            for value, inside in places:
                target = at.pointer(Y, builder.add(y0, inside))
                emit_store(
                    builder, emit_keep_open(builder, emit_load(builder, target), value), target
                )
        with otherwise:
            if summands is None:
                _store_rectified(at, places, Y, y0, relu)
                return
            alone = builder.icmp_signed("==", met, at.index(0))
            with builder.if_else(alone) as (nothing, another):
                with nothing:
                    _store_rectified(at, places, Y, y0, relu)
                with another:
                    added = [at.load(Y, builder.add(y0, place)) for place in summands]
                    sums = [
                        (builder.fadd(value, other), inside)
                        for (value, inside), other in zip(places, added, strict=True)
                    ]
                    _store_rectified(at, sums, Y, y0, relu)


def _store_rectified(at: Emitter, places: list[tuple[Any, Any]], Y, y0, relu) -> None:
    for value, inside in places:
        target = at.pointer(Y, at.builder.add(y0, inside))
        emit_store(at.builder, at.rectified(value, relu), target)


@tile(2)
def conv_pool_tile(at: Emitter, CB: int, PB: int, inputs, kernel, outputs, relu, I, i0) -> None:
    """Convolution, bias, optional rectifier and 2x2 max pooling in registers.

    Positions come in fours, one window each; the table of ``outputs`` has one entry per window.
    ``I``, with the layout of ``Y``, receives the argmax, 0 to 3, or 4 if the rectifier closed the
    window.
    """
    (*_, p0), (Y, y0, ypix, ystride) = inputs, outputs
    builder = at.builder
    first = builder.sdiv(p0, at.index(4))
    for c, p, sums in _conv_parts(at, CB, PB, blocking().windows, inputs, kernel):
        for window in range(len(sums[0]) // 4):
            position = at.table(ypix, at.offset(first, p // 4 + window, 1))
            for i, row in enumerate(sums):
                values = row[4 * window : 4 * window + 4]
                inside = at.offset(position, c + i, ystride)
                places = builder.add(y0, inside), builder.add(i0, inside)
                emit_window(at, values, Y, places[0], relu, I, places[1])


def emit_window(at: Emitter, values: list[Any], Y, y0, relu, I, i0) -> None:
    """Store the maximum of a window's four values, rectified, and its index: 4 if closed."""
    builder = at.builder
    best, winner = values[0], constant(0.0)
    for k, candidate in enumerate(values[1:], start=1):
        wins = emit_wins(builder, candidate, best)
        best = builder.select(wins, candidate, best)
        winner = builder.select(wins, constant(float(k)), winner)
    # Comparisons with NaN are false: without a rectifier no window is closed.
    floor = builder.select(at.is_set(relu), constant(0.0), constant(float("nan")))
    closed = builder.fcmp_ordered("<=", best, floor)
    winner = builder.select(closed, constant(4.0), winner)
    at.store(builder.select(closed, constant(0.0), best), Y, y0)
    at.store(winner, I, i0)


@tile(0)
def gather_tile(at: Emitter, P, p0, T, t0, Y, y0) -> None:
    """Gather 16 floats at the offsets of a table from ``p0`` on."""
    builder, made = at.builder, constant(0.0)
    for lane in range(LANES):
        place = builder.add(p0, at.table(T, at.offset(t0, lane, 1)))
        number = builder.load(at.pointer(P, place))
        made = builder.insert_element(made, number, at.index(lane))
    at.store(made, Y, y0)
