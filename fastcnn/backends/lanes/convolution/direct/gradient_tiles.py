"""Register tiles of weights' gradients: sums over a grid of pixels, kept lane by lane.

Sizes: CB output channels, TB taps, of which RUN at a time lie side by side in memory: the columns
of a kernel. A grid has ``rows`` rows of ``columns`` pixels. Pixels of ``D`` lie side by side, those
of ``X`` are ``xstep`` floats apart. With few addresses no register is missing for the sums: a tile
that takes each address from a table is half as fast.
"""

from typing import Any

from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    LANES,
    constant,
    emit_fma,
    emit_keep_equal,
    emit_load,
    emit_prefetch,
    emit_store,
)
from fastcnn.codegen.target import blocking, split


def _pointers(at: Emitter, array: Any, first: Any, count: int, stride: Any) -> list[Any]:
    return [at.pointer(array, at.offset(first, i, stride)) for i in range(count)]


def _taps(at: Emitter, TB: int, RUN: int, X: Any, x0: Any, taps: Any, t0: Any) -> list[Any]:
    """Where the first taps of the runs of a tile are."""
    starts = [at.table(taps, at.offset(t0, t, 1)) for t in range(0, TB, RUN)]
    return [at.pointer(X, at.builder.add(x0, start)) for start in starts]


def _inputs(at: Emitter, TB: int, RUN: int, runs: list[Any], place: Any) -> list[Any]:
    """Pointers to the inputs of all taps, ``place`` floats after the runs' first."""
    pointers = []
    for t in range(TB):
        run = at.pointer(runs[t // RUN], place)
        pointers.append(at.pointer(run, at.index(t % RUN * LANES)) if t % RUN else run)
    return pointers


@tile(4)
def grid_gradient_tile(
    at: Emitter,
    CB: int,
    TB: int,
    RUN: int,
    ASKS: int,
    D: Any,
    d0: Any,
    dstride: Any,
    drow: Any,
    X: Any,
    x0: Any,
    xrow: Any,
    xstep: Any,
    rows: Any,
    columns: Any,
    taps: Any,
    t0: Any,
    S: Any,
    s0: Any,
    sstride: Any,
    first: Any,
    later: Any,
    lrow: Any,
    totals: Any,
) -> None:
    """Add to CB x TB sums in ``S`` the products over a grid; ``first`` starts them from zero.

    With ASKS, what something reads later is asked for meanwhile: of ``X`` from ``later`` on as
    many vectors in as many rows, ``lrow`` floats apart. With runs, the sums of ``D`` are added to
    those of each channel at ``totals``.
    """
    for c, t, height, width in split(CB, TB, blocking().gradients):
        _accumulate_grid(
            at,
            height,
            width,
            1 if width % RUN else RUN,
            ASKS if c == t == 0 else 0,
            RUN > 1 and t == 0,
            D,
            at.offset(d0, c, dstride),
            dstride,
            drow,
            X,
            x0,
            xrow,
            xstep,
            rows,
            columns,
            taps,
            at.offset(t0, t, 1),
            S,
            at.offset(at.offset(s0, c, sstride), t, LANES),
            sstride,
            first,
            later,
            lrow,
            at.offset(totals, c, LANES),
        )


def _accumulate_grid(
    at: Emitter,
    CB: int,
    TB: int,
    RUN: int,
    ASKS: int,
    SUMS: bool,
    D: Any,
    d0: Any,
    dstride: Any,
    drow: Any,
    X: Any,
    x0: Any,
    xrow: Any,
    xstep: Any,
    rows: Any,
    columns: Any,
    taps: Any,
    t0: Any,
    S: Any,
    s0: Any,
    sstride: Any,
    first: Any,
    later: Any,
    lrow: Any,
    totals: Any,
) -> None:
    builder = at.builder
    runs = _taps(at, TB, RUN, X, x0, taps, t0)
    grads = _pointers(at, D, d0, CB, dstride)
    asked = [at.pointer(X, later)] if ASKS else []
    sums_at = [
        at.pointer(S, at.offset(at.offset(s0, c, sstride), t, LANES))
        for c in range(CB)
        for t in range(TB)
    ]
    sums_at += _pointers(at, S, totals, CB if SUMS else 0, LANES)
    fresh = builder.icmp_signed("!=", first, at.index(0))
    initial = [
        builder.select(fresh, constant(0.0), emit_load(builder, pointer)) for pointer in sums_at
    ]

    def line(h: Any, state: list[Any]) -> list[Any]:
        inputs = [at.pointer(run, builder.mul(h, xrow)) for run in runs]
        outputs = [at.pointer(grad, builder.mul(h, drow)) for grad in grads]
        wanted = [at.pointer(place, builder.mul(h, lrow)) for place in asked]

        def pixel(w: Any, sums: list[Any]) -> list[Any]:
            along = builder.mul(w, at.index(LANES))
            vectors = [emit_load(builder, at.pointer(d, along)) for d in outputs]
            for place in wanted:
                emit_prefetch(builder, at.pointer(place, along))
            updated = list(sums)
            pointers = _inputs(at, TB, RUN, inputs, builder.mul(w, xstep))
            for t, pointer in enumerate(pointers):
                x = emit_load(builder, pointer)
                for c, vector in enumerate(vectors):
                    i = c * TB + t
                    updated[i] = emit_fma(builder, x, vector, sums[i])
            for c, vector in enumerate(vectors if SUMS else []):
                i = CB * TB + c
                updated[i] = builder.fadd(sums[i], vector)
            return updated

        return at.loop(at.index(0), columns, state, pixel)

    for pointer, value in zip(sums_at, at.loop(at.index(0), rows, initial, line), strict=True):
        emit_store(builder, value, pointer)


@tile(3)
def pooled_gradient_tile(
    at: Emitter,
    CB: int,
    TB: int,
    RUN: int,
    D: Any,
    d0: Any,
    dstride: Any,
    drow: Any,
    M: Any,
    m0: Any,
    X: Any,
    x0: Any,
    xrow: Any,
    xstep: Any,
    rows: Any,
    columns: Any,
    taps: Any,
    t0: Any,
    S: Any,
    s0: Any,
    sstride: Any,
    totals: Any,
) -> None:
    """CB x TB sums of products with what 2x2 max-pooling sends back.

    ``D`` is the gradient of a grid of windows, ``M``, laid out alike, their winners: 0 to 3, or 4
    for none. The sums of what is sent to each channel go to ``totals``.
    """
    for c, t, height, width in split(CB, TB, blocking().gradients):
        _accumulate_windows(
            at,
            height,
            width,
            1 if width % RUN else RUN,
            D,
            at.offset(d0, c, dstride),
            dstride,
            drow,
            M,
            at.offset(m0, c, dstride),
            X,
            x0,
            xrow,
            xstep,
            rows,
            columns,
            taps,
            at.offset(t0, t, 1),
            S,
            at.offset(at.offset(s0, c, sstride), t, LANES),
            sstride,
            at.offset(totals, c, LANES),
        )


def _accumulate_windows(
    at: Emitter,
    CB: int,
    TB: int,
    RUN: int,
    D: Any,
    d0: Any,
    dstride: Any,
    drow: Any,
    M: Any,
    m0: Any,
    X: Any,
    x0: Any,
    xrow: Any,
    xstep: Any,
    rows: Any,
    columns: Any,
    taps: Any,
    t0: Any,
    S: Any,
    s0: Any,
    sstride: Any,
    totals: Any,
) -> None:
    builder = at.builder
    runs = _taps(at, TB, RUN, X, x0, taps, t0)
    grads = _pointers(at, D, d0, CB, dstride)
    winners = _pointers(at, M, m0, CB, dstride)

    def line(h: Any, state: list[Any]) -> list[Any]:
        above = builder.mul(h, at.offset(xrow, xrow, 1))
        inputs = [at.pointer(run, above) for run in runs]
        outputs = [at.pointer(grad, builder.mul(h, drow)) for grad in grads]
        places = [at.pointer(winner, builder.mul(h, drow)) for winner in winners]

        def window(w: Any, sums: list[Any]) -> list[Any]:
            along = builder.mul(w, at.index(LANES))
            vectors = [emit_load(builder, at.pointer(output, along)) for output in outputs]
            won = [emit_load(builder, at.pointer(place, along)) for place in places]
            updated = list(sums)
            left = builder.mul(w, at.offset(xstep, xstep, 1))
            for k in range(4):
                place = at.offset(at.offset(left, k % 2, xstep), k // 2, xrow)
                sent = [
                    emit_keep_equal(builder, winner, constant(float(k)), vector)
                    for winner, vector in zip(won, vectors, strict=True)
                ]
                for t, pointer in enumerate(_inputs(at, TB, RUN, inputs, place)):
                    x = emit_load(builder, pointer)
                    for c in range(CB):
                        updated[c * TB + t] = emit_fma(builder, x, sent[c], updated[c * TB + t])
                for c in range(CB):
                    updated[CB * TB + c] = builder.fadd(updated[CB * TB + c], sent[c])
            return updated

        return at.loop(at.index(0), columns, state, window)

    sums = at.loop(at.index(0), rows, [constant(0.0)] * (CB * TB + CB), line)
    for c in range(CB):
        for t in range(TB):
            place = at.offset(at.offset(s0, c, sstride), t, LANES)
            emit_store(builder, sums[c * TB + t], at.pointer(S, place))
        emit_store(builder, sums[CB * TB + c], at.pointer(S, at.offset(totals, c, LANES)))
