"""Register tiles with an output channel in each lane.

Sizes: CB blocks of 16 output channels, PB positions. Weights are vectors, inputs are scalars
broadcast to all lanes. A *tap* is one (input channel, kernel row, kernel column); offsets of taps
and positions come from tables, so that one tile serves every geometry, and linear layers as well
(whose positions are samples). In the products of Winograd's transforms, positions are contiguous.
"""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import FLOAT, LANES, constant, emit_first, emit_fma, emit_splat, emit_sums
from fastcnn.codegen.target import blocking, split

#: Value of the column RELU that also bounds sums by 6.
RELU6 = 2


def _bounded(at: Emitter, value, relu) -> Any:
    """Apply ReLU or ReLU6 to ``value``, if requested."""
    builder = at.builder
    caps = builder.icmp_signed("==", relu, at.index(RELU6))
    top = builder.select(caps, constant(6.0), constant(math.inf))
    value = at.rectified(value, relu)
    return builder.select(builder.fcmp_ordered("<", top, value), top, value)


def biases_of(at: Emitter, B, b0, count: int) -> list[Any]:
    """Vectors of biases from ``b0`` on, or zeros if it is negative."""
    builder = at.builder
    exists = builder.icmp_signed(">=", b0, at.index(0))
    safe = builder.select(exists, b0, at.index(0))
    return [
        builder.select(exists, at.load(B, at.offset(safe, c, LANES)), constant(0.0))
        for c in range(count)
    ]


def store_added(at: Emitter, places: list[tuple[Any, Any, Any]], Y, relu, M, m0) -> None:
    """Store sums, each at its address, after adding the summand at its own address."""
    builder = at.builder
    with builder.if_else(builder.icmp_signed(">=", m0, at.index(0))) as (then, otherwise):
        with then:
            for value, place, more in places:
                total = builder.fadd(value, at.load(M, more))
                at.store(_bounded(at, total, relu), Y, place)
        with otherwise:
            for value, place, _ in places:
                at.store(_bounded(at, value, relu), Y, place)


def _multiply(
    at: Emitter, numbers: Callable[[Any], list[Any]], T, W, w0, CB: int, ahead, initial: list[Any]
) -> list[Any]:
    """Sums over T taps of each position's scalars times blocks of channels, [block][position].

    ``numbers`` returns the addresses of a tap's scalars. A tap has the weights of CB blocks,
    starting at ``w0``. For each tap, one vector of the weights from ``ahead`` on is prefetched,
    unless there is one position: the processor then prefetches them well enough itself.
    """
    builder = at.builder

    def step(t: Any, state: list[Any]) -> list[Any]:
        inputs = numbers(t)
        blocks = len(state) // len(inputs)
        if len(inputs) > 1:
            at.prefetch(W, at.offset(ahead, t, LANES))
        first = at.offset(w0, t, CB * LANES)
        weights = [at.load(W, at.offset(first, c, LANES)) for c in range(blocks)]
        updated = list(state)
        for p, pointer in enumerate(inputs):
            x = emit_splat(builder, builder.load(pointer))
            for c in range(blocks):
                place = c * len(inputs) + p
                updated[place] = emit_fma(builder, x, weights[c], state[place])
        return updated

    return at.loop(0, T, initial, step)


@tile(2)
def channel_tile(
    at: Emitter, CB: int, PB: int, inputs, kernel, outputs, relu, summands, ahead
) -> None:
    """CB blocks of channels by PB positions of a sum over T taps.

    ``b0 < 0`` means no bias, ``m0 < 0`` no summand before the rectifier; ``ahead`` as in
    ``_multiply``.
    """
    (X, x0, xpix, p0), (taps, T, W, w0, B, b0) = inputs, kernel
    (Y, y0, ypix, ystride), (M, m0, mpix, mstride) = outputs, summands
    builder = at.builder
    for c0, p1, blocks, positions in split(CB, PB, blocking().products):
        rows = [
            at.pointer(X, builder.add(x0, at.table(xpix, at.offset(p0, p1 + p, 1))))
            for p in range(positions)
        ]

        def numbers(t: Any, rows: list[Any] = rows) -> list[Any]:
            tap = at.table(taps, t)
            return [at.pointer(row, tap) for row in rows]

        bias = biases_of(at, B, at.optional(b0, c0 * LANES), blocks)
        initial = [vector for vector in bias for _ in range(positions)]
        sums = _multiply(at, numbers, T, W, at.offset(w0, c0, LANES), CB, ahead, initial)
        places = []
        for p in range(positions):
            to = at.table(ypix, at.offset(p0, p1 + p, 1))
            more = at.table(mpix, at.offset(p0, p1 + p, 1))
            places += [
                (
                    sums[c * positions + p],
                    builder.add(y0, at.offset(to, c0 + c, ystride)),
                    builder.add(m0, at.offset(more, c0 + c, mstride)),
                )
                for c in range(blocks)
            ]
        store_added(at, places, Y, relu, M, m0)


@tile(2)
def channel_product_tile(
    at: Emitter, CB: int, PB: int, X, x0, taps, T, W, w0, Y, y0, ystride, ahead
) -> None:
    """CB channel blocks by PB positions that are contiguous vectors in X and Y.

    ``ahead`` as in ``_multiply``.
    """
    builder = at.builder
    for c0, p0, blocks, positions in split(CB, PB, blocking().products):
        first = at.offset(x0, p0, LANES)

        def numbers(t: Any, first: Any = first, positions: int = positions) -> list[Any]:
            row = at.pointer(X, builder.add(first, at.table(taps, t)))
            return [at.pointer(row, at.index(p * LANES)) for p in range(positions)]

        initial = [constant(0.0)] * (blocks * positions)
        sums = _multiply(at, numbers, T, W, at.offset(w0, c0, LANES), CB, ahead, initial)
        for c in range(blocks):
            to = at.offset(at.offset(y0, c0 + c, ystride), p0, LANES)
            for p in range(positions):
                at.store(sums[c * positions + p], Y, at.offset(to, p, LANES))


@tile(2)
def dot_tile(at: Emitter, CB: int, PB: int, inputs, kernel, outputs, relu, summands) -> None:
    """CB channels by PB positions, each a sum over T taps and over the 16 lanes of X.

    A tap is one (16 input channels, kernel row, kernel column); in taps from ``full`` on, only the
    first ``used`` lanes count. ``m0 < 0`` as in ``channel_tile``.
    """
    (X, x0, xpix, p0), (taps, full, T, used, W, w0, B, b0) = inputs, kernel
    (Y, y0, ypix), (M, m0, mpix) = outputs, summands
    builder = at.builder
    rows = [at.pointer(X, builder.add(x0, at.table(xpix, at.offset(p0, p, 1)))) for p in range(PB)]
    mask = emit_first(builder, used)

    def step(t: Any, state: list[Any], masked: bool = False) -> list[Any]:
        tap, first = at.table(taps, t), at.offset(w0, t, CB * LANES)
        weights = [at.load(W, at.offset(first, c, LANES)) for c in range(CB)]
        updated = list(state)
        for p, row in enumerate(rows):
            x = at.load(row, tap)
            if masked:
                x = builder.select(mask, x, constant(0.0))
            for c in range(CB):
                updated[c * PB + p] = emit_fma(builder, x, weights[c], state[c * PB + p])
        return updated

    sums = at.loop(0, full, [constant(0.0)] * (CB * PB), step)
    sums = at.loop(full, T, sums, lambda t, state: step(t, state, masked=True))
    totals = emit_sums(builder, sums)
    for c in range(CB):
        bias = builder.load(at.pointer(B, at.offset(b0, c, 1)))
        for p in range(PB):
            total = builder.extract_element(totals, at.index(c * PB + p))
            place = at.offset(at.offset(y0, c, 1), 1, at.table(ypix, at.offset(p0, p, 1)))
            more = at.offset(at.offset(m0, c, 1), 1, at.table(mpix, at.offset(p0, p, 1)))
            builder.store(
                _finished(at, builder.fadd(total, bias), relu, M, m0, more), at.pointer(Y, place)
            )


def _finished(at: Emitter, total, relu, M, m0, more) -> Any:
    """A scalar plus one of M, if given, rectified if requested."""
    builder, zero = at.builder, ir.Constant(FLOAT, 0.0)
    exists = builder.icmp_signed(">=", m0, at.index(0))
    added = builder.load(at.pointer(M, builder.select(exists, more, at.index(0))))
    total = builder.select(exists, builder.fadd(total, added), total)
    clips = builder.and_(at.is_set(relu), builder.fcmp_ordered("<=", total, zero))
    total = builder.select(clips, zero, total)
    six = ir.Constant(FLOAT, 6.0)
    caps = builder.and_(
        builder.icmp_signed("==", relu, at.index(RELU6)), builder.fcmp_ordered(">", total, six)
    )
    return builder.select(caps, six, total)


@tile(1)
def depth_tile(
    at: Emitter, PB: int, X, x0, xpix, p0, taps, T, W, w0, B, b0, Y, y0, ypix, relu, M, m0, mpix
) -> None:
    """PB positions of a block of 16 channels of a depthwise convolution."""
    builder = at.builder
    rows = [at.pointer(X, builder.add(x0, at.table(xpix, at.offset(p0, p, 1)))) for p in range(PB)]
    initial = biases_of(at, B, b0, 1) * PB

    def step(t: Any, state: list[Any]) -> list[Any]:
        tap = at.table(taps, t)
        weight = at.load(W, at.offset(w0, t, LANES))
        return [
            emit_fma(builder, at.load(row, tap), weight, value)
            for row, value in zip(rows, state, strict=True)
        ]

    sums = at.loop(0, T, initial, step)
    places = [
        (
            value,
            builder.add(y0, at.table(ypix, at.offset(p0, p, 1))),
            builder.add(m0, at.table(mpix, at.offset(p0, p, 1))),
        )
        for p, value in enumerate(sums)
    ]
    store_added(at, places, Y, relu, M, m0)
