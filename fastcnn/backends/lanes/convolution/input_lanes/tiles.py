"""The register tile of weight gradients whose vectors hold input channels."""

from typing import Any

from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES, constant, emit_load, emit_store
from fastcnn.codegen.target import blocking, split

#: Samples of a position by which a tile's loop is unrolled.
UNROLLED = 4


@tile(2)
def input_lanes_tile(at: Emitter, CB: int, TB: int, outputs, inputs, kernel, sums, more) -> None:
    """CB output channels by TB taps of 16 input channels, summed over positions and samples.

    ``D`` has samples in its lanes; ``X`` has vectors of 16 channels, one for each sample of a
    pixel. The offsets of the i-th position are entry ``p0 + i`` of ``dpix`` and entry i of
    ``xpix``. Sums of tap t go to ``targets[t]``; with ``more`` they are added to the stored sums.
    """
    (D, d0, dstride, dpix, p0), (X, x0, xpix, count) = outputs, inputs
    (taps, targets, t0), (S, s0, sstride) = kernel, sums
    builder = at.builder
    adds = at.is_set(more)
    for c, t, rows, columns in split(CB, TB, blocking().products):
        tap_numbers = [at.offset(t0, t + j, 1) for j in range(columns)]
        pixels = [at.pointer(X, builder.add(x0, at.table(taps, n))) for n in tap_numbers]
        grads = [at.pointer(D, at.offset(d0, c + i, dstride)) for i in range(rows)]

        def step(
            p, state: list[Any], pixels: list[Any] = pixels, grads: list[Any] = grads
        ) -> list[Any]:
            place, target = at.table(xpix, p), at.table(dpix, builder.add(p0, p))
            vectors = [at.pointer(row, place) for row in pixels]
            numbers = [at.pointer(row, target) for row in grads]

            def some(turn: Any, sums: list[Any]) -> list[Any]:
                for lane in range(UNROLLED):
                    sample = at.offset(at.index(lane), turn, UNROLLED)
                    along = builder.mul(sample, at.index(LANES))
                    x = [at.load(vector, along) for vector in vectors]
                    grads = (at.spread(gradient, sample) for gradient in numbers)
                    sums = at.add_products(grads, x, sums)
                return sums

            return at.loop(0, at.index(LANES // UNROLLED), state, some)

        made = at.loop(0, count, [constant(0.0)] * (rows * columns), step)
        for j, number in enumerate(tap_numbers):
            place = builder.add(s0, at.table(targets, number))
            for i in range(rows):
                pointer = at.pointer(S, at.offset(place, c + i, sstride))
                before = builder.select(adds, emit_load(builder, pointer), constant(0.0))
                emit_store(builder, builder.fadd(before, made[i * columns + j]), pointer)
