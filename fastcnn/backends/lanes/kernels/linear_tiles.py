"""Register tiles of fully connected layers: OB outputs, NB blocks of 16 samples, IB inputs."""

from typing import Any

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES, constant, emit_fma, emit_load, emit_prefetch, emit_store
from fastcnn.codegen.target import blocking, split

#: Inputs whose weight gradients are computed at a time, how many of these strips, and how many
#: tiles of four outputs, wait in the second-level cache for their update.
STRIP, RUN, TILES = 64, 8, 16
#: Floats between outputs of a waiting gradient, which must not all map to one cache set.
WAITING = RUN * STRIP + LANES
OUTER_ROOM = 4 * TILES * WAITING


@tile(2)
def linear_tile(at: Emitter, OB: int, NB: int, x, K, kernel, bias, y, relu, masked, more) -> None:
    """OB outputs of NB blocks of a matrix product, stored as those of ``conv_tile``.

    The weight of output o and input k is ``W[w0 + o * wout + k * win]``: forward and input gradient
    differ in these two strides. With ``more``, sums are added to those in ``Y``, without bias.
    """
    (X, x0, xblock), (W, w0, wout, win), (B, b0), (Y, y0, yblock) = x, kernel, bias, y
    for o, n, rows, columns in split(OB, NB, blocking().products):
        inputs = X, at.offset(x0, n, xblock), xblock
        weights = W, at.offset(w0, o, wout), wout, win
        own = B, at.optional(b0, o)
        outputs = Y, at.offset(at.offset(y0, n, yblock), o, LANES), yblock
        _multiply(at, (rows, columns), inputs, K, weights, own, outputs, relu, masked, more)


def _multiply(
    at: Emitter, sizes: tuple[int, int], inputs, K, weights, bias, outputs, relu, masked, more
) -> None:
    (OB, NB), (X, x0, xblock), (W, w0, wout, win) = sizes, inputs, weights
    (B, b0), (Y, y0, yblock) = bias, outputs
    builder = at.builder
    rows = [at.pointer(X, at.offset(x0, n, xblock)) for n in range(NB)]
    kernels = [at.pointer(W, at.offset(w0, o, wout)) for o in range(OB)]
    inside = [at.offset(at.offset(0, n, yblock), o, LANES) for o in range(OB) for n in range(NB)]
    adds = at.is_set(more)
    biases = [vector for vector in at.bias(B, b0, OB) for _ in range(NB)]
    initial = [
        builder.select(adds, at.load(Y, builder.add(y0, place)), vector)
        for place, vector in zip(inside, biases, strict=True)
    ]

    def step(k: Any, state: list[Any]) -> list[Any]:
        along = builder.mul(k, at.index(LANES))
        x = [at.load(row, along) for row in rows]
        within = builder.mul(k, win)
        updated = list(state)
        for o in range(OB):
            weight = at.spread(kernels[o], within)
            for n in range(NB):
                updated[o * NB + n] = emit_fma(builder, x[n], weight, state[o * NB + n])
        return updated

    flat = at.loop(0, K, initial, step)
    emit_outputs(at, list(zip(flat, inside, strict=True)), Y, y0, relu, masked)


@tile(2)
def outer_tile(
    at: Emitter, OB: int, IB: int, D, d0, dblock, N, X, x0, xrow, G, g0, grow, more
) -> None:
    """Weight gradient of a fully connected layer: OB outputs by IB vectors of 16 inputs.

    ``D`` is in lanes (block, output, 16); ``X`` has one row of inputs per sample, so that the sum
    over samples needs no horizontal reduction. With ``more``, sums are added to those in ``G``.
    """
    for o, i, rows, columns in split(OB, IB, blocking().products):
        d, x = at.offset(d0, o, LANES), at.offset(x0, i, LANES)
        g = at.offset(at.offset(g0, o, grow), i, LANES)
        _multiply_samples(at, rows, columns, D, d, dblock, N, X, x, xrow, G, g, grow, more)


def _multiply_samples(
    at: Emitter, OB: int, IB: int, D, d0, dblock, N, X, x0, xrow, G, g0, grow, more
) -> None:
    builder = at.builder
    adds = at.is_set(more)
    targets = [
        at.pointer(G, at.offset(at.offset(g0, o, grow), i, LANES))
        for o in range(OB)
        for i in range(IB)
    ]
    grads = [at.pointer(D, at.offset(d0, o, LANES)) for o in range(OB)]
    inputs = at.pointer(X, x0)
    with builder.if_then(adds):
        # Prefetch the stored sums while the products are computed.
        for pointer in targets:
            emit_prefetch(builder, pointer, write=True)

    def step(n: Any, state: list[Any]) -> list[Any]:
        block = builder.ashr(n, at.index(4))
        lane = builder.and_(n, at.index(LANES - 1))
        along = builder.add(builder.mul(block, dblock), lane)
        row = builder.mul(n, xrow)
        x = [at.load(inputs, at.offset(row, i, LANES)) for i in range(IB)]
        updated = list(state)
        for o in range(OB):
            grad = at.spread(grads[o], along)
            for i in range(IB):
                updated[o * IB + i] = emit_fma(builder, x[i], grad, state[o * IB + i])
        return updated

    flat = at.loop(0, N, [constant(0.0)] * (OB * IB), step)
    # Partial sums are added: one long sum would lose precision.
    for pointer, value in zip(targets, flat, strict=True):
        before = builder.select(adds, emit_load(builder, pointer), constant(0.0))
        emit_store(builder, builder.fadd(before, value), pointer)
