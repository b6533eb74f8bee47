"""Register tiles of depthwise convolutions and of their gradients."""

import math
from functools import partial
from typing import Any

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES, constant, emit_fma, emit_load, emit_store
from fastcnn.codegen.target import blocking, split


@tile(1)
def depthwise_tile(
    at: Emitter, PB: int, inputs, taps, kernel, outputs, relu, masked, later
) -> None:
    """PB positions of a channel, with bias and, if ``relu``, a rectifier.

    Weights are loaded from ``w0`` on, at the indices ``chosen``. If ``masked``, the result is zero
    wherever ``Y`` was zero. The vectors at ``next_x`` and ``next_y`` floats further are prefetched.
    """
    (X, x0, xpix, p0), (tap_table, T) = inputs, taps
    (W, w0, chosen, B, b0), (Y, y0, ypix), (next_x, next_y) = kernel, outputs, later
    builder = at.builder
    (bias,) = at.bias(B, b0, 1)
    for i in range(PB):
        place, target = (at.table(table, at.offset(p0, i, 1)) for table in (xpix, ypix))
        after = builder.add(builder.add(x0, place), next_x)
        at.prefetch(X, after)
        after = builder.add(builder.add(y0, target), next_y)
        at.prefetch(Y, after, write=True)
    for _, p, _, columns in split(1, PB, blocking().windows):
        positions = [at.offset(p0, p + j, 1) for j in range(columns)]
        rows = [at.pointer(X, builder.add(x0, at.table(xpix, place))) for place in positions]

        def step(t: Any, state: list[Any], rows: list[Any] = rows) -> list[Any]:
            tap = at.table(tap_table, t)
            inside = builder.add(w0, at.table(chosen, t))
            weight = at.spread(W, inside)
            return [
                emit_fma(builder, at.load(row, tap), weight, total)
                for row, total in zip(rows, state, strict=True)
            ]

        sums = at.loop(0, T, [bias] * columns, step)
        places = [at.table(ypix, place) for place in positions]
        emit_outputs(at, list(zip(sums, places, strict=True)), Y, y0, relu, masked)


@tile(3)
def row_tile(at: Emitter, KW: int, SW: int, PB: int, inputs, kernel, outputs, relu, later) -> None:
    """PB neighbouring positions of a row of a channel, with bias and, if ``relu``, a rectifier.

    A kernel has ``rows`` rows of KW weights from ``w0`` on, which lie ``xrow`` floats apart in
    ``X``; positions are SW pixels apart. Each pixel is loaded once for all columns of the kernel.
    The vectors at ``next_x`` and ``next_y`` floats further are prefetched.
    """
    (X, x0, xrow, rows), (W, w0, B, b0) = inputs, kernel
    (Y, y0), (next_x, next_y) = outputs, later
    builder = at.builder
    for j in range(PB):
        at.prefetch(X, at.offset(builder.add(x0, next_x), j, SW * LANES))
        at.prefetch(Y, at.offset(builder.add(y0, next_y), j, LANES), write=True)
    (bias,) = at.bias(B, b0, 1)
    for _, p, _, columns in split(1, PB, blocking().windows):
        first = at.offset(x0, p, SW * LANES)

        def step(k: Any, sums: list[Any], first: Any = first) -> list[Any]:
            row = at.pointer(X, at.offset(first, k, xrow))
            x = [at.load(row, at.index(j * LANES)) for j in range(SW * (len(sums) - 1) + KW)]
            for i in range(KW):
                weight = at.spread(W, at.offset(at.offset(w0, k, KW), i, 1))
                sums = [emit_fma(builder, x[SW * j + i], weight, s) for j, s in enumerate(sums)]
            return sums

        for j, total in enumerate(at.loop(0, rows, [bias] * columns, step)):
            at.store(at.rectified(total, relu), Y, at.offset(y0, p + j, LANES))


@tile(1)
def products_tile(
    at: Emitter, TB: int, inputs, p1, taps, kernel, outputs, relu, masked, later
) -> None:
    """The same for positions p0 to p1, with TB taps, whose weights stay in registers.

    The vectors at ``next_x`` and ``next_y`` floats further are prefetched.
    """
    (X, x0, xpix, p0), (W, w0, chosen, B, b0) = inputs, kernel
    (Y, y0, ypix), (next_x, next_y) = outputs, later
    builder = at.builder
    rows = [_under(at, X, x0, taps, at.index(i)) for i in range(TB)]
    numbers = [builder.add(w0, at.table(chosen, at.index(i))) for i in range(TB)]
    weights = [at.spread(W, number) for number in numbers]
    (bias,) = at.bias(B, b0, 1)

    def position(p: Any, state: list[Any]) -> list[Any]:
        place, target = at.table(xpix, p), at.table(ypix, p)
        at.prefetch(rows[0], builder.add(place, next_x))
        after = builder.add(builder.add(y0, target), next_y)
        at.prefetch(Y, after, write=True)
        total = bias
        for row, weight in zip(rows, weights, strict=True):
            total = emit_fma(builder, at.load(row, place), weight, total)
        emit_outputs(at, [(total, target)], Y, y0, relu, masked)
        return state

    at.loop(p0, p1, [], position)


@tile(1)
def gradients_tile(
    at: Emitter, TB: int, maps, pixels, taps, weights, sums, room, first, last, masked, later
) -> None:
    """Contribution of TB taps of the output's gradient at pixels p0 to p1 of an input channel.

    Products with the ``chosen`` weights after ``w0`` are added to the input's gradient, products
    with the input to the sums in ``S``, which are kept per lane. Between tiles the input's
    gradients are in ``R``; the ``first`` tile initialises them to zero, and the ``last`` one stores
    them in ``Z``, if ``masked`` as zeros wherever ``X`` is zero. ``Z`` may equal ``X``. The vectors
    at ``next_d`` and ``next_x`` floats further are prefetched.
    """
    ((D, d0, dpix), (X, x0, xpix), (Z, z0, zpix)), (p0, p1) = maps, pixels
    (tap_table, chosen, t0), (W, w0), (S, s0), (R, r0) = taps, weights, sums, room
    next_d, next_x = later
    builder = at.builder
    rows = [_under(at, D, d0, tap_table, at.offset(t0, i, 1)) for i in range(TB)]
    numbers = [at.table(chosen, at.offset(t0, i, 1)) for i in range(TB)]
    factors = [at.spread(W, builder.add(w0, number)) for number in numbers]
    sums_at = [at.pointer(S, at.offset(s0, number, LANES)) for number in numbers]
    starts = at.is_set(first)
    ends = at.is_set(last)
    hides = builder.and_(ends, at.is_set(masked))
    # No comparison with NaN is true: without a mask every pixel is open.
    closed = builder.select(hides, constant(0.0), constant(math.nan))

    def pixel(p: Any, sums: list[Any], alone: bool) -> list[Any]:
        place, inside = at.table(dpix, p), builder.add(x0, at.table(xpix, p))
        at.prefetch(rows[0], builder.add(place, next_d))
        at.prefetch(X, builder.add(inside, next_x))
        x, total = at.load(X, inside), constant(0.0)
        between = at.pointer(R, at.offset(r0, builder.sub(p, p0), LANES))
        target = at.pointer(Z, builder.add(z0, at.table(zpix, p)))
        if not alone:
            total = builder.select(starts, total, emit_load(builder, between))
            target = builder.select(ends, target, between)
        updated = []
        for row, weight, before in zip(rows, factors, sums, strict=True):
            grad = at.load(row, place)
            total = emit_fma(builder, grad, weight, total)
            updated.append(emit_fma(builder, grad, x, before))
        is_open = builder.fcmp_unordered("!=", x, closed)
        emit_store(builder, builder.select(is_open, total, constant(0.0)), target)
        return updated

    with builder.if_else(builder.and_(starts, ends)) as branches:
        for branch, alone in zip(branches, (True, False), strict=True):
            with branch:
                state = [emit_load(builder, pointer) for pointer in sums_at]
                state = at.loop(p0, p1, state, partial(pixel, alone=alone))
                for pointer, value in zip(sums_at, state, strict=True):
                    emit_store(builder, value, pointer)


def _under(at: Emitter, X, x0, taps, t) -> Any:
    """Address of a tap's first input."""
    return at.pointer(X, at.builder.add(x0, at.table(taps, t)))
