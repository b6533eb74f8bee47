"""Tiles that move data across lanes: horizontal sums, transposes, packing samples into lanes."""

from typing import Any

from llvmlite import ir

from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    INT32,
    INT_VECTOR,
    LANES,
    VECTOR,
    constant,
    emit_first,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
    emit_store_first,
    emit_sums,
    emit_transpose,
)


@tile(0)
def lane_sums(at: Emitter, S, s0, G, g0) -> None:
    """Sum the lanes of 16 consecutive vectors of ``S`` into 16 consecutive floats of ``G``."""
    rows = [at.load(S, at.offset(s0, i, LANES)) for i in range(LANES)]
    at.store(emit_sums(at.builder, rows), G, g0)


@tile(0)
def transpose_tile(at: Emitter, X, x0, xrow, Y, y0, yrow) -> None:
    """Transpose 16 x 16 floats whose rows are ``xrow`` apart to rows that are ``yrow`` apart."""
    builder = at.builder
    rows = [at.load(X, at.offset(x0, i, xrow)) for i in range(LANES)]
    for i, column in enumerate(emit_transpose(builder, rows)):
        at.store(column, Y, at.offset(y0, i, yrow))


@tile(0)
def transpose_rows_tile(at: Emitter, X, x0, xrow, count, Y, y0, yrow) -> None:
    """The same for the first ``count`` rows, at least one; the others are zero and not read."""
    builder = at.builder
    rows = []
    for i in range(LANES):
        inside = builder.icmp_signed("<", at.index(i), count)
        place = builder.select(inside, at.offset(x0, i, xrow), x0)
        value = at.load(X, place)
        rows.append(builder.select(inside, value, constant(0.0)))
    for i, column in enumerate(emit_transpose(builder, rows)):
        at.store(column, Y, at.offset(y0, i, yrow))


@tile(0)
def transpose_sums_tile(at: Emitter, X, x0, count, xblock, blocks, Y, y0, yrow, valid) -> None:
    """Sum ``count`` consecutive vectors, up to 16, over blocks in order, and transpose the sums.

    Blocks are ``xblock`` floats apart. Each of the first ``valid`` lanes is a row of ``count``
    floats; rows are ``yrow`` floats apart.
    """
    builder = at.builder

    def emit(places: list[Any], store: Any) -> None:
        def step(b: Any, sums: list[Any]) -> list[Any]:
            block = [at.pointer(X, at.offset(place, b, xblock)) for place in places]
            return [
                builder.fadd(total, emit_load(builder, pointer))
                for total, pointer in zip(sums, block, strict=True)
            ]

        first = [at.load(X, place) for place in places]
        sums = at.loop(1, blocks, first, step)
        for lane, row in enumerate(emit_transpose(builder, sums)):
            with builder.if_then(builder.icmp_signed("<", at.index(lane), valid)):
                store(row, at.pointer(Y, at.offset(y0, lane, yrow)))

    places = [at.offset(x0, i, LANES) for i in range(LANES)]
    whole = builder.icmp_signed("==", count, at.index(LANES))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            emit(places, lambda row, pointer: emit_store(builder, row, pointer))
        with otherwise:
            inside = [builder.icmp_signed("<", at.index(i), count) for i in range(LANES)]
            seen = [builder.select(i, place, x0) for i, place in zip(inside, places, strict=True)]
            emit(seen, lambda row, pointer: emit_store_first(builder, count, row, pointer))


def _load_samples(at: Emitter, S, rows: list[Any], kind: str) -> list[Any]:
    """16 consecutive pixels of each sample as float vectors; bytes are converted."""
    builder = at.builder
    if kind == "float32":
        return [at.load(S, row) for row in rows]
    narrow = ir.VectorType(ir.IntType(8), LANES)
    loaded = []
    for row in rows:
        value = builder.load(builder.bitcast(at.pointer(S, row), narrow.as_pointer()))
        value.align = 1
        loaded.append(builder.uitofp(builder.zext(value, INT_VECTOR), VECTOR))
    return loaded


def _of_pixels(at: Emitter, N, firsts: tuple[Any, Any], pixel, size) -> list[Any]:
    """Two values of the channel of each of 16 pixels; a channel has ``size`` pixels."""
    builder = at.builder
    channel, begin = builder.sdiv(pixel, size), builder.srem(pixel, size)
    alone = builder.icmp_signed("<=", builder.add(begin, at.index(LANES)), size)

    def number(first: Any, channel: Any) -> Any:
        return builder.load(at.pointer(N, builder.add(first, channel)))

    with builder.if_else(alone) as (then, otherwise):
        with then:
            of_one = [emit_splat(builder, number(first, channel)) for first in firsts]
            one = builder.block
        with otherwise:
            of_many = [constant(0.0) for _ in firsts]
            for i in range(LANES):
                of_many = [
                    builder.insert_element(vector, number(first, channel), ir.Constant(INT32, i))
                    for vector, first in zip(of_many, firsts, strict=True)
                ]
                begin = builder.add(begin, at.index(1))
                ends = builder.icmp_signed("==", begin, size)
                begin = builder.select(ends, at.index(0), begin)
                channel = builder.add(channel, builder.zext(ends, channel.type))
            many = builder.block
    found = []
    for first, second in zip(of_one, of_many, strict=True):
        found.append(builder.phi(VECTOR))
        found[-1].add_incoming(first, one)
        found[-1].add_incoming(second, many)
    return found


@tile(0)
def pack_tile(
    at: Emitter, S, order, first, valid, pixels, pixel, size, N, scale, shift, places, place, Y, y0
) -> None:
    """Gather 16 pixels of 16 samples, normalise, transpose and store them as vectors.

    ``S`` holds samples of ``pixels`` bytes or floats, ``order`` the indices of samples; lanes from
    ``valid`` on are set to zero. ``N`` has the scales of channels, of ``size`` pixels each, from
    ``scale`` on, and their offsets from ``shift`` on.
    """
    builder = at.builder
    last = builder.sub(valid, at.index(1))
    rows = []
    for lane in range(LANES):
        inside = builder.icmp_signed("<", at.index(lane), valid)
        chosen = builder.add(first, builder.select(inside, at.index(lane), last))
        sample = builder.load(at.pointer(order, chosen))
        rows.append(at.offset(pixel, sample, pixels))
    factor, summand = _of_pixels(at, N, (scale, shift), pixel, size)
    loaded = _load_samples(at, S, rows, at.kinds[0])
    columns = emit_transpose(builder, [emit_fma(builder, row, factor, summand) for row in loaded])
    used = emit_first(builder, valid)
    for i, column in enumerate(columns):
        target = builder.add(y0, at.table(places, at.offset(place, i, 1)))
        at.store(builder.select(used, column, constant(0.0)), Y, target)


@tile(0)
def channels_tile(at: Emitter, S, s0, size, valid, N, scale, shift, Y, y0) -> None:
    """Normalise 16 pixels of 16 channels, transpose and store them as adjacent vectors.

    Channels of ``S`` are ``size`` values apart; lanes from ``valid`` on repeat the last one.
    """
    builder = at.builder
    last = builder.sub(valid, at.index(1))
    channels = [
        builder.select(builder.icmp_signed("<", at.index(lane), valid), at.index(lane), last)
        for lane in range(LANES)
    ]
    loaded = _load_samples(at, S, [at.offset(s0, c, size) for c in channels], at.kinds[0])
    rows = []
    for c, row in zip(channels, loaded, strict=True):
        factor, summand = (at.spread(N, builder.add(first, c)) for first in (scale, shift))
        rows.append(emit_fma(builder, row, factor, summand))
    for i, pixel in enumerate(emit_transpose(builder, rows)):
        at.store(pixel, Y, at.offset(y0, i, LANES))


@tile(1)
def normalised_tile(at: Emitter, each: int, S, s0, N, scale, shift, Y, y0) -> None:
    """Normalise 16 consecutive bytes or floats by one scale and offset, or by 16 if ``each``."""
    (values,) = _load_samples(at, S, [s0], at.kinds[0])
    read = at.load if each else at.spread
    at.store(emit_fma(at.builder, values, read(N, scale), read(N, shift)), Y, y0)


@tile(0)
def unpack_tile(at: Emitter, X, x0, places, place, valid, Y, y0, size) -> None:
    """Transpose 16 vectors and store 16 elements of each of the first ``valid`` samples.

    A table has the offsets of the vectors; the samples' rows in ``Y`` are ``size`` floats apart.
    """
    builder = at.builder
    vectors = []
    for i in range(LANES):
        source = builder.add(x0, at.table(places, at.offset(place, i, 1)))
        vectors.append(at.load(X, source))
    for lane, elements in enumerate(emit_transpose(builder, vectors)):
        with builder.if_then(builder.icmp_signed("<", at.index(lane), valid)):
            at.store(elements, Y, at.offset(y0, lane, size))
