"""The register tile of sums whose weights are read where the parameters are."""

from typing import Any

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import emit_fma, emit_load, emit_splat
from fastcnn.codegen.target import blocking, split


@tile(2)
def pixel_tile(
    at: Emitter,
    CB: int,
    PB: int,
    X: Any,
    x0: Any,
    xpix: Any,
    p0: Any,
    taps: Any,
    weights: Any,
    T: Any,
    P: Any,
    w0: Any,
    wrow: Any,
    B: Any,
    b0: Any,
    Y: Any,
    y0: Any,
    ypix: Any,
    ystride: Any,
    relu: Any,
    masked: Any,
) -> None:
    """CB channels by PB positions of a convolution, stored as those of ``conv_tile``.

    Tap t of an input is at ``taps[t]``, and its weight for a channel c at ``w0 + c * wrow +
    weights[t]``.
    """
    builder = at.builder
    for c, p, rows, columns in split(CB, PB, blocking().products):
        places = [at.offset(p0, p + j, 1) for j in range(columns)]
        inputs = [at.pointer(X, builder.add(x0, at.table(xpix, place))) for place in places]
        kernels = [at.pointer(P, at.offset(w0, c + i, wrow)) for i in range(rows)]
        biases = at.bias(B, at.optional(b0, c), rows)

        def step(
            t: Any, state: list[Any], inputs: list[Any] = inputs, kernels: list[Any] = kernels
        ) -> list[Any]:
            tap, weight = at.table(taps, t), at.table(weights, t)
            x = [emit_load(builder, at.pointer(row, tap)) for row in inputs]
            updated = []
            for i, kernel in enumerate(kernels):
                factor = emit_splat(builder, builder.load(at.pointer(kernel, weight)))
                sums = state[i * len(x) : (i + 1) * len(x)]
                updated += [
                    emit_fma(builder, value, factor, total)
                    for value, total in zip(x, sums, strict=True)
                ]
            return updated

        initial = [bias for bias in biases for _ in range(columns)]
        sums = at.loop(at.index(0), T, initial, step)
        targets = [at.table(ypix, place) for place in places]
        outputs = [
            (sums[i * columns + j], at.offset(targets[j], c + i, ystride))
            for i in range(rows)
            for j in range(columns)
        ]
        emit_outputs(at, outputs, Y, y0, relu, masked)
