"""The register tile of convolutions that read weights from the parameters, without packing."""

from typing import Any

from fastcnn.backends.lanes.convolution.direct.tiles import accumulate_taps, emit_map
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.target import blocking, split


@tile(2)
def pixel_tile(at: Emitter, CB: int, PB: int, inputs, taps, kernel, outputs, relu, masked) -> None:
    """CB channels by PB positions of a convolution, stored as those of ``conv_tile``.

    Tap t of an input is at ``tap_table[t]``, and its weight for a channel c at ``w0 + c * wrow +
    weights[t]``.
    """
    (X, x0, xpix, p0), (tap_table, weights, T) = inputs, taps
    (P, w0, wrow, B, b0), (Y, y0, ypix, ystride) = kernel, outputs
    builder = at.builder
    for c, p, rows, columns in split(CB, PB, blocking().products):
        kernels = [at.pointer(P, at.offset(w0, c + i, wrow)) for i in range(rows)]

        def found(t: Any, kernels: list[Any] = kernels) -> list[Any]:
            weight = at.table(weights, t)
            return [at.pointer(kernel, weight) for kernel in kernels]

        places = [at.offset(p0, p + j, 1) for j in range(columns)]
        pixels = [builder.add(x0, at.table(xpix, place)) for place in places]
        biases = at.bias(B, at.optional(b0, c), rows)
        sums = accumulate_taps(at, X, pixels, tap_table, T, found, biases)
        positions = [at.table(ypix, place) for place in places]
        emit_map(at, sums, positions, Y, at.offset(y0, c, ystride), ystride, relu, masked)
