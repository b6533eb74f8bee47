"""Register tiles of fully connected layers: OB outputs, NB blocks of 16 samples, IB inputs."""

from typing import Any

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    LANES,
    constant,
    emit_fma,
    emit_load,
    emit_prefetch,
    emit_store,
    emit_sums,
)
from fastcnn.codegen.target import blocking, split

#: Inputs whose weight gradients are computed at a time, how many of these strips at most, and how
#: many tiles of four outputs, wait in the second-level cache for their update.
STRIP, RUN, TILES = 64, 8, 8
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
    builder = at.builder
    for o, n, outputs, blocks in split(OB, NB, blocking().products):
        first, weight = at.offset(x0, n, xblock), at.offset(w0, o, wout)
        own, to = at.optional(b0, o), at.offset(at.offset(y0, n, yblock), o, LANES)
        rows = [at.pointer(X, at.offset(first, i, xblock)) for i in range(blocks)]
        kernels = [at.pointer(W, at.offset(weight, i, wout)) for i in range(outputs)]
        inside = [
            at.offset(at.offset(0, j, yblock), i, LANES)
            for i in range(outputs)
            for j in range(blocks)
        ]
        adds = at.is_set(more)
        biases = [vector for vector in at.bias(B, own, outputs) for _ in range(blocks)]
        initial = [
            builder.select(adds, at.load(Y, builder.add(to, place)), vector)
            for place, vector in zip(inside, biases, strict=True)
        ]
        sums = _multiply(at, rows, K, kernels, win, initial)
        emit_outputs(at, list(zip(sums, inside, strict=True)), Y, to, relu, masked)


def _multiply(
    at: Emitter, rows: list[Any], K, kernels: list[Any], win, initial: list[Any]
) -> list[Any]:
    """Sums over K inputs of blocks and outputs, whose addresses are given."""
    builder = at.builder

    def step(k: Any, state: list[Any]) -> list[Any]:
        along = builder.mul(k, at.index(LANES))
        x = [at.load(row, along) for row in rows]
        within = builder.mul(k, win)
        # In the input gradient, the weights of each K are in another page, and would come late.
        at.prefetch(kernels[0], at.offset(within, 1, LANES))
        return at.add_products((at.spread(own, within) for own in kernels), x, state)

    return at.loop(0, K, initial, step)


@tile(3, "float32")
def outer_tile(
    at: Emitter, OB: int, IB: int, ARRAYS: int, grads, blocks, inputs, outputs, more, later
) -> Any:
    """Weight gradient of a fully connected layer: OB outputs by IB vectors of 16 inputs.

    ``grads`` are in lanes (block, output, 16); ``inputs`` have one row per sample, so that the sum
    over samples needs no horizontal reduction. With ``more``, sums are added to those in
    ``outputs``. The same elements of ARRAYS arrays are prefetched, to be written: P, and those in
    S; ``later`` also has the offset, and the distances of outputs and of arrays. Returns the sum of
    squares of the sums.
    """
    (D, d0, dblock), (X, x0, xrow), (G, g0, grow) = grads, inputs, outputs
    builder, adds = at.builder, at.is_set(more)
    squares = [constant(0.0)] * 4
    for o, i, rows, columns in split(OB, IB, blocking().products):
        g = at.offset(at.offset(g0, o, grow), i, LANES)
        places = [
            at.pointer(G, at.offset(at.offset(g, row, grow), column, LANES))
            for row in range(rows)
            for column in range(columns)
        ]
        with builder.if_then(adds):
            # Prefetch the stored sums while the products are computed.
            for place in places:
                emit_prefetch(builder, place, write=True)
        own = (D, at.offset(d0, o, LANES), dblock), (X, at.offset(x0, i, LANES), xrow)
        arrays = 0 if o or i else ARRAYS
        sums = _multiply_samples(at, (rows, columns), blocks, *own, arrays, later)
        # Partial sums are added: one long sum would lose precision.
        for k, (place, value) in enumerate(zip(places, sums, strict=True)):
            before = builder.select(adds, emit_load(builder, place), constant(0.0))
            total = builder.fadd(before, value)
            emit_store(builder, total, place)
            squares[k % 4] = emit_fma(builder, total, total, squares[k % 4])
    a, b, c, d = squares
    whole = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
    return builder.extract_element(emit_sums(builder, [whole]), at.index(0))


def _multiply_samples(
    at: Emitter, sizes: tuple[int, int], blocks, grads, inputs, arrays: int, later
) -> list[Any]:
    """Sums over the samples of all blocks, [output][vector of inputs]."""
    (OB, IB), (D, d0, dblock), (X, x0, xrow), (P, S, w0, wrow, stride) = sizes, grads, inputs, later
    builder = at.builder

    def add_block(b: Any, state: list[Any]) -> list[Any]:
        def prefetch(output: Any, arrays: int) -> None:
            w = at.offset(w0, builder.and_(output, at.index(3)), wrow)
            for k in range(arrays):
                array, first = (S, at.offset(w, k - 1, stride)) if k else (P, w)
                for line in range(4):
                    at.prefetch(array, at.offset(first, line, LANES), write=True)

        # One output for each block, or two: prefetching all at once would delay the inputs.
        prefetch(b, arrays)
        with builder.if_then(builder.icmp_signed("<", blocks, at.index(4))):
            prefetch(at.offset(b, 1, 2), arrays if arrays < 3 else 1)
        d = at.offset(d0, b, dblock)
        rows = [at.pointer(D, at.offset(d, o, LANES)) for o in range(OB)]
        samples = at.pointer(X, at.offset(x0, builder.mul(b, at.index(LANES)), xrow))

        def add_sample(lane: Any, state: list[Any]) -> list[Any]:
            sample = builder.mul(lane, xrow)
            x = [at.load(samples, at.offset(sample, i, LANES)) for i in range(IB)]
            return at.add_products((at.spread(row, lane) for row in rows), x, state)

        return at.loop(0, at.index(LANES), state, add_sample)

    return at.loop(0, blocks, [constant(0.0)] * (OB * IB), add_block)
