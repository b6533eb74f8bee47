"""Register tiles of the weight gradient: sums over a grid of pixels, per lane.

Sizes: CB output channels, TB taps, in runs of RUN taps that are adjacent in memory: the columns of
a kernel. A grid has ``rows`` rows of ``columns`` pixels. Pixels of ``D`` are contiguous, those of
``X`` are ``xstep`` floats apart. Few addresses leave all registers to the sums: a tile that loads
each address from a table is half as fast.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    LANES,
    constant,
    emit_fma,
    emit_has_bits,
    emit_keep_equal,
    emit_load,
    emit_store,
)
from fastcnn.codegen.target import blocking, split


class TilePart(NamedTuple):
    """The part of a tile computed at a time: channels and taps from ``c`` and ``t`` on."""

    c: int
    t: int
    CB: int
    TB: int
    RUN: int

    def runs(self, at: Emitter, X, x0, taps, t0) -> list[Any]:
        """Addresses of the first tap of each run."""
        starts = [at.table(taps, at.offset(t0, self.t + t, 1)) for t in range(0, self.TB, self.RUN)]
        return [at.pointer(X, at.builder.add(x0, start)) for start in starts]

    def outputs(self, at: Emitter, D, d0, dstride) -> list[Any]:
        """Addresses of the channels."""
        return [at.pointer(D, at.offset(d0, self.c + c, dstride)) for c in range(self.CB)]

    def sums(self, at: Emitter, sums, has_totals: bool) -> list[Any]:
        """Addresses of the sums of products, and optionally of each channel's sum."""
        S, s0, sstride, totals = sums
        places = [
            at.offset(at.offset(s0, self.c + c, sstride), self.t + t, LANES)
            for c in range(self.CB)
            for t in range(self.TB)
        ]
        if has_totals:
            places += [at.offset(totals, self.c + c, LANES) for c in range(self.CB)]
        return [at.pointer(S, place) for place in places]

    def inputs(self, at: Emitter, runs: list[Any], place) -> list[Any]:
        """Addresses of the inputs of all taps, ``place`` floats after the start of each run."""
        pointers = []
        for t in range(self.TB):
            run = at.pointer(runs[t // self.RUN], place)
            further = at.index(t % self.RUN * LANES)
            pointers.append(at.pointer(run, further) if t % self.RUN else run)
        return pointers

    def added(self, at: Emitter, sums, runs, place, vectors) -> list[Any]:
        """The sums plus one more pixel: products of vectors, and vectors."""
        updated = list(sums)
        for t, pointer in enumerate(self.inputs(at, runs, place)):
            x = emit_load(at.builder, pointer)
            for c, vector in enumerate(vectors):
                i = c * self.TB + t
                updated[i] = emit_fma(at.builder, x, vector, sums[i])
        for i in range(self.CB * self.TB, len(sums)):
            vector = vectors[i - self.CB * self.TB]
            updated[i] = at.builder.fadd(sums[i], vector)
        return updated


def _parts(CB: int, TB: int, RUN: int) -> Iterator[TilePart]:
    for c, t, height, width in split(CB, TB, blocking().gradients):
        yield TilePart(c, t, height, width, 1 if width % RUN else RUN)


@tile(4)
def grid_gradient_tile(
    at: Emitter, CB: int, TB: int, RUN: int, ASKS: int, outputs, inputs, taps, sums, first, asked
) -> None:
    """Add to CB x TB sums in ``S`` the products over a grid; ``first`` initialises them to zero.

    With ASKS, data of a later tile is prefetched: as many vectors of ``X`` in as many rows from
    ``later`` on, ``lrow`` floats apart. With runs, the sums of ``D`` are added to those of each
    channel at ``totals``.
    """
    (D, d0, dstride, drow), (X, x0, xrow, xstep, rows, columns) = outputs, inputs
    later, lrow = asked
    builder = at.builder
    fresh = at.is_set(first)

    def accumulate(part: TilePart, asks: bool) -> None:
        runs, grads = part.runs(at, X, x0, *taps), part.outputs(at, D, d0, dstride)
        ahead = [at.pointer(X, later)] if asks else []
        sums_at = part.sums(at, sums, RUN > 1 and part.t == 0)
        initial = [
            builder.select(fresh, constant(0.0), emit_load(builder, pointer)) for pointer in sums_at
        ]

        def line(h: Any, state: list[Any]) -> list[Any]:
            x_rows = [at.pointer(run, builder.mul(h, xrow)) for run in runs]
            d_rows = [at.pointer(grad, builder.mul(h, drow)) for grad in grads]
            wanted = [at.pointer(place, builder.mul(h, lrow)) for place in ahead]

            def pixel(w: Any, sums: list[Any]) -> list[Any]:
                along = builder.mul(w, at.index(LANES))
                vectors = [at.load(d, along) for d in d_rows]
                for place in wanted:
                    at.prefetch(place, along)
                return part.added(at, sums, x_rows, builder.mul(w, xstep), vectors)

            return at.loop(0, columns, state, pixel)

        for pointer, value in zip(sums_at, at.loop(0, rows, initial, line), strict=True):
            emit_store(builder, value, pointer)

    for part in _parts(CB, TB, RUN):
        accumulate(part, bool(ASKS) and part.c == part.t == 0)


@tile(2)
def pooled_gradient_tile(at: Emitter, CB: int, TB: int, outputs, inputs, taps, sums) -> None:
    """CB x TB sums of products with the gradient routed through 2x2 max pooling.

    ``D`` is the gradient of a grid of windows; ``M``, of the same layout, has their argmax, 0 to 3,
    or 4 for none. Each channel's sum of the routed gradient goes to ``totals``.
    """
    (D, d0, dstride, drow, M, m0), (X, x0, xrow, xstep, rows, columns) = outputs, inputs
    builder = at.builder

    def accumulate(part: TilePart) -> None:
        runs = part.runs(at, X, x0, *taps)
        grads, winners = part.outputs(at, D, d0, dstride), part.outputs(at, M, m0, dstride)

        def line(h: Any, state: list[Any]) -> list[Any]:
            above = builder.mul(h, at.offset(xrow, xrow, 1))
            x_rows = [at.pointer(run, above) for run in runs]
            d_rows = [at.pointer(grad, builder.mul(h, drow)) for grad in grads]
            places = [at.pointer(winner, builder.mul(h, drow)) for winner in winners]

            def window(w: Any, sums: list[Any]) -> list[Any]:
                along = builder.mul(w, at.index(LANES))
                vectors = [at.load(row, along) for row in d_rows]
                won = [at.load(place, along) for place in places]
                left = builder.mul(w, at.offset(xstep, xstep, 1))
                for k in range(4):
                    place = at.offset(at.offset(left, k % 2, xstep), k // 2, xrow)
                    sent = [
                        emit_keep_equal(builder, winner, constant(float(k)), vector)
                        for winner, vector in zip(won, vectors, strict=True)
                    ]
                    sums = part.added(at, sums, x_rows, place, sent)
                return sums

            return at.loop(0, columns, state, window)

        initial = [constant(0.0)] * (part.CB * part.TB + part.CB)
        sums_at = part.sums(at, sums, True)
        for pointer, value in zip(sums_at, at.loop(0, rows, initial, line), strict=True):
            emit_store(builder, value, pointer)

    for part in _parts(CB, TB, 1):
        accumulate(part)


#: Bits of 2 and 3 that 0 and 1 lack, and of 1 and 3 that 0 and 2 lack, as float32; 4 has both.
BELOW, RIGHT = 0x40000000, 0x00C00000


@tile(2)
def window_gradient_tile(
    at: Emitter, ROWS: int, RUN: int, D, d0, drow, M, m0, X, x0, xrow, rows, columns, S, s0, totals
) -> None:
    """ROWS x RUN sums of products with one channel's gradient, routed through 2x2 max pooling.

    For taps laid out like the pixels of a window: RUN adjacent ones, ROWS ``xrow`` floats apart. A
    tap is multiplied with one of a window's four pixels, selected by the argmax: first the row,
    then the column, which several taps share. That is one product instead of four, and blends are
    cheaper than products.
    """
    builder = at.builder

    def pixel(row: Any, left: Any, i: int) -> Any:
        return at.load(at.pointer(row, left), at.index(i * LANES))

    def accumulate(first: int, start: int, height: int, width: int) -> None:
        corner = at.pointer(X, at.offset(at.offset(x0, start, LANES), first, xrow))

        def line(h: Any, state: list[Any]) -> list[Any]:
            above = at.pointer(corner, builder.mul(h, at.offset(xrow, xrow, 1)))
            inputs = [at.pointer(above, at.offset(0, t, xrow)) for t in range(height + 1)]
            outputs = at.pointer(D, at.offset(d0, h, drow))
            places = at.pointer(M, at.offset(m0, h, drow))

            def window(w: Any, sums: list[Any]) -> list[Any]:
                along = builder.mul(w, at.index(LANES))
                won = at.load(places, along)
                loses = builder.fcmp_ordered("==", won, constant(4.0))
                vector = at.load(outputs, along)
                sent = builder.select(loses, constant(0.0), vector)
                below, right = (emit_has_bits(builder, won, bits) for bits in (BELOW, RIGHT))
                left = builder.mul(w, at.index(2 * LANES))
                uppers = [pixel(inputs[0], left, i) for i in range(width + 1)]
                updated: list[Any] = []
                for row in inputs[1:]:
                    lowers: list[Any] = []
                    chosen: list[Any] = []
                    for i, upper in enumerate(uppers):
                        lowers.append(pixel(row, left, i))
                        chosen.append(builder.select(below, lowers[i], upper))
                        if i:
                            x = builder.select(right, chosen[i], chosen[i - 1])
                            updated.append(emit_fma(builder, x, sent, sums[len(updated)]))
                    uppers = lowers
                return [*updated, builder.fadd(sums[-1], sent)]

            return at.loop(0, columns, state, window)

        *sums, total = at.loop(0, rows, [constant(0.0)] * (height * width + 1), line)
        for i, value in enumerate(sums):
            t, along = divmod(i, width)
            place = (first + t) * RUN + start + along
            at.store(value, S, at.offset(s0, place, LANES))
        at.store(total, S, totals)

    for part in split(ROWS, RUN, blocking().windowed):
        accumulate(*part)
