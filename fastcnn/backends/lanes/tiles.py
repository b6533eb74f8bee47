"""Register tiles: the inner loops of convolution and of the fully connected layers.

Each intrinsic emits one loop whose accumulators live in vector registers, unrolled over a tile
whose shape is fixed when it is emitted. All work on flat float32 arrays; offsets count floats.

Sizes: CB output channels, PB output positions, TB taps, NB blocks of 16 samples. A *tap* is one
(input channel, kernel row, kernel column); its address is an entry of a table, so that stride,
dilation, padding and flipped kernels differ in their tables only.
"""

import inspect
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from fastcnn.backends.lanes.simd import (
    FLOAT,
    INT32,
    INT64,
    INT_VECTOR,
    LANES,
    VECTOR,
    constant,
    data_pointer,
    emit_fma,
    emit_int_splat,
    emit_load,
    emit_prefetch,
    emit_relu,
    emit_splat,
    emit_store,
    emit_sums,
    emit_transpose,
    emit_wins,
)


class Emitter:
    """The LLVM builder with the address arithmetic that tiles repeat."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context = context
        self.builder = builder
        self.kinds = signature.args
        self.args = [
            data_pointer(context, builder, kind, value) if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args, strict=True)
        ]

    def index(self, value: int) -> Any:
        """An int64 constant."""
        return ir.Constant(INT64, value)

    def offset(self, base: Any, steps: Any, stride: Any) -> Any:
        """``base + steps * stride``."""
        if isinstance(steps, int):
            steps = self.index(steps)
        if isinstance(stride, int):
            stride = self.index(stride)
        return self.builder.add(base, self.builder.mul(steps, stride))

    def pointer(self, array: Any, offset: Any) -> Any:
        """Pointer to an element of an array."""
        return self.builder.gep(array, [offset])

    def table(self, array: Any, index: Any) -> Any:
        """Entry of an int32 table, as int64."""
        return self.builder.sext(self.builder.load(self.pointer(array, index)), INT64)

    def loop(self, start: Any, stop: Any, initial: list[Any], body: Any) -> list[Any]:
        """``for i in range(start, stop): state = body(i, state)``; returns the last state."""
        builder = self.builder
        before = builder.block
        function = builder.function
        head = function.append_basic_block("tile.head")
        inside = function.append_basic_block("tile.body")
        after = function.append_basic_block("tile.end")
        builder.branch(head)
        builder.position_at_end(head)
        counter = builder.phi(INT64)
        counter.add_incoming(start, before)
        state = [builder.phi(value.type) for value in initial]
        for phi, value in zip(state, initial, strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", counter, stop), inside, after)
        builder.position_at_end(inside)
        updated = body(counter, state)
        counter.add_incoming(builder.add(counter, self.index(1)), builder.block)
        for phi, value in zip(state, updated, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return state


def _tile(sizes: int) -> Any:
    """Make an intrinsic of a function ``emit(emitter, *sizes, *arguments)``.

    The first ``sizes`` arguments are literals at the call, the tile's shape; arrays arrive as
    pointers, numbers as int64.
    """

    def decorate(emit: Any) -> Any:
        def define(typing: Any, *arguments: Any) -> Any:
            shape = [argument.literal_value for argument in arguments[:sizes]]
            kinds = [
                argument if isinstance(argument, types.Array) else types.intp
                for argument in arguments[sizes:]
            ]

            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                emitter = Emitter(context, builder, signature, args)
                emit(emitter, *shape, *emitter.args[sizes:])
                return context.get_dummy_value()

            return types.void(*arguments[:sizes], *kinds), generate

        # numba binds calls by this signature; the emitter stands in the typing context's place.
        define.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
        define.__name__ = emit.__name__
        define.__doc__ = emit.__doc__
        return intrinsic(prefer_literal=True)(define)

    return decorate


def _accumulate_taps(
    at: Emitter, CB: int, PB: int, X: Any, x0: Any, xpix: Any, p0: Any,
    taps: Any, t0: Any, T: Any, W: Any, w0: Any, B: Any, b0: Any,
) -> list[list[Any]]:  # fmt: skip
    """Sum over taps of weight times input, from the bias; ``b0 < 0`` means none."""
    builder = at.builder
    rows = [at.pointer(X, builder.add(x0, at.table(xpix, at.offset(p0, p, 1)))) for p in range(PB)]
    has_bias = builder.icmp_signed(">=", b0, at.index(0))
    safe = builder.select(has_bias, b0, at.index(0))
    zero = ir.Constant(FLOAT, 0.0)
    initial = []
    for c in range(CB):
        scalar = builder.load(at.pointer(B, at.offset(safe, c, 1)))
        initial += [emit_splat(builder, builder.select(has_bias, scalar, zero))] * PB

    def step(t: Any, state: list[Any]) -> list[Any]:
        tap = at.table(taps, builder.add(t0, t))
        x = [emit_load(builder, at.pointer(row, tap)) for row in rows]
        first = at.offset(w0, t, CB)
        updated = list(state)
        for c in range(CB):
            weight = emit_splat(builder, builder.load(at.pointer(W, at.offset(first, c, 1))))
            for p in range(PB):
                updated[c * PB + p] = emit_fma(builder, x[p], weight, state[c * PB + p])
        return updated

    flat = at.loop(at.index(0), T, initial, step)
    return [flat[c * PB : (c + 1) * PB] for c in range(CB)]


#: Products of a sum above which asking for its target's cache lines beforehand pays.
MANY_TAPS = 64


def _prefetch_targets(
    at: Emitter, CB: int, PB: int, T: Any, ypix: Any, p0: Any, ystride: Any,
    targets: list[tuple[Any, Any, bool]],
) -> None:  # fmt: skip
    """Ask for what a tile touches after its sums: arrays, offsets, whether they are written."""
    builder = at.builder
    with builder.if_then(builder.icmp_signed(">", T, at.index(MANY_TAPS))):
        for p in range(PB):
            position = at.table(ypix, at.offset(p0, p, 1))
            for c in range(CB):
                inside = at.offset(position, c, ystride)
                for array, first, written in targets:
                    pointer = at.pointer(array, builder.add(first, inside))
                    emit_prefetch(builder, pointer, written)


def _rectify(at: Emitter, value: Any, apply: Any) -> Any:
    return at.builder.select(apply, emit_relu(at.builder, value), value)


@_tile(2)
def conv_tile(
    at: Emitter, CB: int, PB: int, X: Any, x0: Any, xpix: Any, p0: Any,
    taps: Any, t0: Any, T: Any, W: Any, w0: Any, B: Any, b0: Any,
    Y: Any, y0: Any, ypix: Any, ystride: Any, relu: Any,
) -> None:  # fmt: skip
    """CB channels by PB positions of a convolution, with bias and, if ``relu``, a rectifier."""
    _prefetch_targets(at, CB, PB, T, ypix, p0, ystride, [(Y, y0, True)])
    tile = _accumulate_taps(at, CB, PB, X, x0, xpix, p0, taps, t0, T, W, w0, B, b0)
    apply = at.builder.icmp_signed("!=", relu, at.index(0))
    where = [at.builder.add(y0, at.table(ypix, at.offset(p0, p, 1))) for p in range(PB)]
    for c in range(CB):
        for p in range(PB):
            target = at.pointer(Y, at.offset(where[p], c, ystride))
            emit_store(at.builder, _rectify(at, tile[c][p], apply), target)


@_tile(2)
def conv_mask_tile(
    at: Emitter, CB: int, PB: int, X: Any, x0: Any, xpix: Any, p0: Any,
    taps: Any, t0: Any, T: Any, W: Any, w0: Any, B: Any, b0: Any,
    Y: Any, y0: Any, ypix: Any, ystride: Any, M: Any, m0: Any,
) -> None:  # fmt: skip
    """As :func:`conv_tile`, but zero wherever ``M``, laid out as ``Y``, is not positive."""
    builder = at.builder
    _prefetch_targets(at, CB, PB, T, ypix, p0, ystride, [(Y, y0, True), (M, m0, False)])
    tile = _accumulate_taps(at, CB, PB, X, x0, xpix, p0, taps, t0, T, W, w0, B, b0)
    zero = constant(0.0)
    for p in range(PB):
        position = at.table(ypix, at.offset(p0, p, 1))
        for c in range(CB):
            inside = at.offset(position, c, ystride)
            mask = emit_load(builder, at.pointer(M, builder.add(m0, inside)))
            value = builder.select(builder.fcmp_ordered("<=", mask, zero), zero, tile[c][p])
            emit_store(builder, value, at.pointer(Y, builder.add(y0, inside)))


@_tile(2)
def conv_pool_tile(
    at: Emitter, CB: int, PB: int, X: Any, x0: Any, xpix: Any, p0: Any,
    taps: Any, t0: Any, T: Any, W: Any, w0: Any, B: Any, b0: Any,
    Y: Any, y0: Any, ypix: Any, ystride: Any, relu: Any, I: Any, i0: Any,
) -> None:  # fmt: skip
    """Convolution, bias, optional rectifier and 2x2 max-pooling in registers.

    Positions come in fours, one window each; ``ypix`` has one entry a window. ``I``, laid out as
    ``Y``, receives the winner's number, 0 to 3, or 4 where the rectifier closed the window.
    """
    builder = at.builder
    tile = _accumulate_taps(at, CB, PB, X, x0, xpix, p0, taps, t0, T, W, w0, B, b0)
    apply = builder.icmp_signed("!=", relu, at.index(0))
    first = builder.sdiv(p0, at.index(4))
    for window in range(PB // 4):
        position = at.table(ypix, at.offset(first, window, 1))
        for c in range(CB):
            best = tile[c][4 * window]
            winner = constant(0.0)
            for k in range(1, 4):
                candidate = tile[c][4 * window + k]
                wins = emit_wins(builder, candidate, best)
                best = builder.select(wins, candidate, best)
                winner = builder.select(wins, constant(float(k)), winner)
            closed = builder.fcmp_ordered("<=", best, constant(0.0))
            winner = builder.select(apply, builder.select(closed, constant(4.0), winner), winner)
            inside = at.offset(position, c, ystride)
            emit_store(builder, _rectify(at, best, apply), at.pointer(Y, builder.add(y0, inside)))
            emit_store(builder, winner, at.pointer(I, builder.add(i0, inside)))


@_tile(2)
def weight_gradient_tile(
    at: Emitter, CB: int, TB: int, D: Any, d0: Any, dpix: Any, dstride: Any,
    X: Any, x0: Any, xpix: Any, p0: Any, p1: Any, taps: Any, t0: Any, S: Any, s0: Any, sstride: Any,
    first: Any,
) -> None:  # fmt: skip
    """Add to CB x TB sums, kept lane by lane in ``S``, the products over positions p0 to p1.

    ``first`` starts the sums from zero instead of from ``S``.
    """
    builder = at.builder
    taps_at = [
        at.pointer(X, builder.add(x0, at.table(taps, at.offset(t0, t, 1)))) for t in range(TB)
    ]
    grads_at = [at.pointer(D, at.offset(d0, c, dstride)) for c in range(CB)]
    sums_at = [
        at.pointer(S, at.offset(at.offset(s0, c, sstride), t, LANES))
        for c in range(CB)
        for t in range(TB)
    ]
    fresh = builder.icmp_signed("!=", first, at.index(0))
    initial = [
        builder.select(fresh, constant(0.0), emit_load(builder, pointer)) for pointer in sums_at
    ]

    def step(p: Any, state: list[Any]) -> list[Any]:
        position = at.table(xpix, p)
        target = at.table(dpix, p)
        grads = [emit_load(builder, at.pointer(row, target)) for row in grads_at]
        updated = list(state)
        for t in range(TB):
            x = emit_load(builder, at.pointer(taps_at[t], position))
            for c in range(CB):
                updated[c * TB + t] = emit_fma(builder, x, grads[c], state[c * TB + t])
        return updated

    for pointer, value in zip(sums_at, at.loop(p0, p1, initial, step), strict=True):
        emit_store(builder, value, pointer)


@_tile(0)
def lane_sums(at: Emitter, S: Any, s0: Any, G: Any, g0: Any) -> None:
    """Sum the lanes of 16 consecutive vectors of ``S`` into 16 consecutive floats of ``G``."""
    rows = [emit_load(at.builder, at.pointer(S, at.offset(s0, i, LANES))) for i in range(LANES)]
    emit_store(at.builder, emit_sums(at.builder, rows), at.pointer(G, g0))


@_tile(2)
def linear_tile(
    at: Emitter, OB: int, NB: int, X: Any, x0: Any, xblock: Any, K: Any,
    W: Any, w0: Any, wout: Any, win: Any, B: Any, b0: Any,
    Y: Any, y0: Any, yblock: Any, relu: Any,
) -> None:  # fmt: skip
    """OB outputs of NB blocks of a matrix product, with bias and, if ``relu``, a rectifier.

    The weight of output o and input k is ``W[w0 + o * wout + k * win]``: forward and input
    gradient differ in these two strides.
    """
    builder = at.builder
    rows = [at.pointer(X, at.offset(x0, n, xblock)) for n in range(NB)]
    weights = [at.pointer(W, at.offset(w0, o, wout)) for o in range(OB)]
    has_bias = builder.icmp_signed(">=", b0, at.index(0))
    safe = builder.select(has_bias, b0, at.index(0))
    initial = []
    for o in range(OB):
        scalar = builder.load(at.pointer(B, at.offset(safe, o, 1)))
        scalar = builder.select(has_bias, scalar, ir.Constant(FLOAT, 0.0))
        initial += [emit_splat(builder, scalar)] * NB

    def step(k: Any, state: list[Any]) -> list[Any]:
        along = builder.mul(k, at.index(LANES))
        x = [emit_load(builder, at.pointer(row, along)) for row in rows]
        inside = builder.mul(k, win)
        updated = list(state)
        for o in range(OB):
            weight = emit_splat(builder, builder.load(at.pointer(weights[o], inside)))
            for n in range(NB):
                updated[o * NB + n] = emit_fma(builder, x[n], weight, state[o * NB + n])
        return updated

    flat = at.loop(at.index(0), K, initial, step)
    apply = builder.icmp_signed("!=", relu, at.index(0))
    for o in range(OB):
        for n in range(NB):
            target = at.pointer(Y, at.offset(at.offset(y0, n, yblock), o, LANES))
            emit_store(builder, _rectify(at, flat[o * NB + n], apply), target)


@_tile(2)
def outer_tile(
    at: Emitter, OB: int, IB: int, D: Any, d0: Any, dblock: Any, N: Any,
    X: Any, x0: Any, xrow: Any, G: Any, g0: Any, grow: Any,
) -> None:  # fmt: skip
    """Weight gradient of a fully connected layer: OB outputs by IB vectors of 16 inputs.

    ``D`` is in lanes (block, output, 16); ``X`` has one row of inputs a sample, so that the sum
    over samples needs no reduction across lanes.
    """
    builder = at.builder
    grads = [at.pointer(D, at.offset(d0, o, LANES)) for o in range(OB)]
    inputs = at.pointer(X, x0)

    def step(n: Any, state: list[Any]) -> list[Any]:
        block = builder.ashr(n, at.index(4))
        lane = builder.and_(n, at.index(LANES - 1))
        along = builder.add(builder.mul(block, dblock), lane)
        row = builder.mul(n, xrow)
        x = [emit_load(builder, at.pointer(inputs, at.offset(row, i, LANES))) for i in range(IB)]
        updated = list(state)
        for o in range(OB):
            grad = emit_splat(builder, builder.load(at.pointer(grads[o], along)))
            for i in range(IB):
                updated[o * IB + i] = emit_fma(builder, x[i], grad, state[o * IB + i])
        return updated

    flat = at.loop(at.index(0), N, [constant(0.0)] * (OB * IB), step)
    for o in range(OB):
        for i in range(IB):
            target = at.pointer(G, at.offset(at.offset(g0, o, grow), i, LANES))
            emit_store(builder, flat[o * IB + i], target)


@_tile(0)
def transpose_tile(at: Emitter, X: Any, x0: Any, xrow: Any, Y: Any, y0: Any, yrow: Any) -> None:
    """Transpose 16 x 16 floats whose rows are ``xrow`` apart to rows that are ``yrow`` apart."""
    builder = at.builder
    rows = [emit_load(builder, at.pointer(X, at.offset(x0, i, xrow))) for i in range(LANES)]
    for i, column in enumerate(emit_transpose(builder, rows)):
        emit_store(builder, column, at.pointer(Y, at.offset(y0, i, yrow)))


def _load_samples(at: Emitter, S: Any, rows: list[Any], kind: Any) -> list[Any]:
    """16 consecutive pixels of each sample as float vectors; bytes are converted."""
    builder = at.builder
    if kind.dtype == types.float32:
        return [emit_load(builder, at.pointer(S, row)) for row in rows]
    narrow = ir.VectorType(ir.IntType(8), LANES)
    loaded = []
    for row in rows:
        value = builder.load(builder.bitcast(at.pointer(S, row), narrow.as_pointer()))
        value.align = 1
        loaded.append(builder.uitofp(builder.zext(value, INT_VECTOR), VECTOR))
    return loaded


@_tile(0)
def pack_tile(
    at: Emitter, S: Any, order: Any, first: Any, valid: Any, pixels: Any, pixel: Any,
    N: Any, scale: Any, shift: Any, places: Any, place: Any, Y: Any, y0: Any,
) -> None:  # fmt: skip
    """Gather 16 pixels of 16 samples, transpose, normalise and store them as vectors.

    ``S`` holds samples of ``pixels`` bytes or floats, ``order`` which of them to take; lanes from
    ``valid`` on become zero. ``N`` has the factor at ``scale`` and the summand at ``shift``.
    """
    builder = at.builder
    last = builder.sub(valid, at.index(1))
    rows = []
    for lane in range(LANES):
        inside = builder.icmp_signed("<", at.index(lane), valid)
        chosen = builder.add(first, builder.select(inside, at.index(lane), last))
        sample = builder.load(at.pointer(order, chosen))
        rows.append(at.offset(pixel, sample, pixels))
    columns = emit_transpose(builder, _load_samples(at, S, rows, at.kinds[0]))
    factor = emit_splat(builder, builder.load(at.pointer(N, scale)))
    summand = emit_splat(builder, builder.load(at.pointer(N, shift)))
    lanes = ir.Constant(INT_VECTOR, list(range(LANES)))
    limit = emit_int_splat(builder, builder.trunc(valid, INT32))
    used = builder.icmp_signed("<", lanes, limit)
    for i, column in enumerate(columns):
        value = emit_fma(builder, column, factor, summand)
        target = builder.add(y0, at.table(places, at.offset(place, i, 1)))
        emit_store(builder, builder.select(used, value, constant(0.0)), at.pointer(Y, target))
