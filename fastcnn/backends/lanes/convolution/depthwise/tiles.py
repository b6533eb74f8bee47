"""Register tile of a convolution of single channels."""

from typing import Any

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import emit_fma, emit_load, emit_splat
from fastcnn.codegen.target import blocking, split


@tile(1)
def depthwise_tile(
    at: Emitter,
    PB: int,
    X: Any,
    x0: Any,
    xpix: Any,
    p0: Any,
    taps: Any,
    T: Any,
    W: Any,
    w0: Any,
    chosen: Any,
    B: Any,
    b0: Any,
    Y: Any,
    y0: Any,
    ypix: Any,
    relu: Any,
    masked: Any,
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
