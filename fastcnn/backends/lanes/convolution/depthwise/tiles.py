"""Register tiles of a convolution of single channels, and of its weights' gradient."""

from typing import Any

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    LANES,
    constant,
    emit_fma,
    emit_load,
    emit_prefetch,
    emit_splat,
    emit_store,
)
from fastcnn.codegen.target import blocking, split


@tile(1)
def depthwise_tile(
    at: Emitter, PB: int, X, x0, xpix, p0, taps, T, W, w0, chosen, B, b0, Y, y0, ypix, relu, masked
) -> None:
    """PB positions of a channel, with bias and, if ``relu``, a rectifier.

    The weight of a tap is the ``chosen`` one after ``w0``. If ``masked``, zero wherever ``Y`` was
    zero.
    """
    builder = at.builder
    (bias,) = at.bias(B, b0, 1)
    for _, p, _, columns in split(1, PB, blocking().windows):
        positions = [at.offset(p0, p + j, 1) for j in range(columns)]
        rows = [at.pointer(X, builder.add(x0, at.table(xpix, place))) for place in positions]

        def step(t: Any, state: list[Any], rows: list[Any] = rows) -> list[Any]:
            tap = at.table(taps, t)
            inside = builder.add(w0, at.table(chosen, t))
            weight = emit_splat(builder, builder.load(at.pointer(W, inside)))
            return [
                emit_fma(builder, emit_load(builder, at.pointer(row, tap)), weight, total)
                for row, total in zip(rows, state, strict=True)
            ]

        sums = at.loop(at.index(0), T, [bias] * columns, step)
        places = [at.table(ypix, place) for place in positions]
        emit_outputs(at, list(zip(sums, places, strict=True)), Y, y0, relu, masked)


@tile(1)
def weight_gradient_tile(
    at: Emitter, TB: int, D, d0, dpix, X, x0, xpix, p0, p1, taps, t0, S, s0, first
) -> None:
    """Add to TB sums, kept lane by lane in ``S``, a channel's products over positions p0 to p1.

    ``first`` starts the sums from zero instead of from ``S``.
    """
    builder = at.builder
    for _, t, _, columns in split(1, TB, blocking().gradients):
        tap, sums = at.offset(t0, t, 1), at.offset(s0, t, LANES)
        taps_at = [_under(at, X, x0, taps, at.offset(tap, i, 1)) for i in range(columns)]
        # The last tap of the next tile: its inputs arrive while this one computes.
        next_at = _under(at, X, x0, taps, at.offset(tap, 2 * columns - 1, 1))
        grads_at = at.pointer(D, d0)
        sums_at = [at.pointer(S, at.offset(sums, i, LANES)) for i in range(columns)]
        fresh = builder.icmp_signed("!=", first, at.index(0))
        initial = [
            builder.select(fresh, constant(0.0), emit_load(builder, pointer)) for pointer in sums_at
        ]

        def step(
            p, state: list[Any], taps_at: list[Any] = taps_at, next_at=next_at, grads_at=grads_at
        ) -> list[Any]:
            position = at.table(xpix, p)
            grad = emit_load(builder, at.pointer(grads_at, at.table(dpix, p)))
            emit_prefetch(builder, at.pointer(next_at, position), level=3)
            return [
                emit_fma(builder, emit_load(builder, at.pointer(tap, position)), grad, total)
                for tap, total in zip(taps_at, state, strict=True)
            ]

        for pointer, value in zip(sums_at, at.loop(p0, p1, initial, step), strict=True):
            emit_store(builder, value, pointer)


def _under(at: Emitter, X, x0, taps, t) -> Any:
    """Pointer to a tap's first input."""
    return at.pointer(X, at.builder.add(x0, at.table(taps, t)))
