"""Compiled loops of batch normalisation for float32: sums in float64, in one pass over memory.

Channel c of sample n is P floats starting at ``c * of_channel + n * of_sample``.
"""

from typing import Any

import numpy as np
from llvmlite import ir

from fastcnn.codegen import compiled, linked
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)


def _emit_sums(at: Emitter, vectors: Any, sums: Any, terms: Any) -> None:
    """Add two terms, given as vectors, to the first and the last 16 of 32 float64 sums."""
    zeros = ir.Constant(_DOUBLES, [0.0] * LANES)

    def step(v: Any, state: list[Any]) -> list[Any]:
        found = terms(at.offset(0, v, LANES))
        wide = [at.builder.fpext(term, _DOUBLES) for term in found]
        return [at.builder.fadd(*pair) for pair in zip(state, wide, strict=True)]

    for half, state in enumerate(at.loop(0, vectors, [zeros, zeros], step)):
        for lane in range(LANES):
            place = at.pointer(sums, at.index(half * LANES + lane))
            more = at.builder.extract_element(state, at.index(lane))
            at.builder.store(at.builder.fadd(at.builder.load(place), more), place)


def _emit_deviation(at: Emitter, x: Any, place: Any, mean: Any, c: Any) -> Any:
    centre = at.spread(mean, c)
    return at.builder.fsub(at.load(x, place), centre)


@tile(0)
def _add_deviations(
    at: Emitter, x: Any, x0: Any, vectors: Any, mean: Any, c: Any, sums: Any
) -> None:
    """Sums of deviations from a channel's mean, and of their squares."""

    def terms(offset: Any) -> list[Any]:
        deviation = _emit_deviation(at, x, at.builder.add(x0, offset), mean, c)
        return [deviation, at.builder.fmul(deviation, deviation)]

    _emit_sums(at, vectors, sums, terms)


@tile(0)
def _add_products(
    at: Emitter, dy: Any, x: Any, x0: Any, vectors: Any, mean: Any, c: Any, sums: Any
) -> None:
    """Sums of dy, and of its products with deviations from a channel's mean."""

    def terms(offset: Any) -> list[Any]:
        place = at.builder.add(x0, offset)
        grad = at.load(dy, place)
        return [grad, at.builder.fmul(grad, _emit_deviation(at, x, place, mean, c))]

    _emit_sums(at, vectors, sums, terms)


@linked
def _sum_deviations(x, mean, c, lanes, numbers):
    """Fill ``lanes`` with sums of a channel's deviations from a mean, and of their squares."""
    _, N, P, of_channel, of_sample = numbers
    for i in range(2 * LANES):
        lanes[i] = 0.0
    for n in range(N):
        at = c * of_channel + n * of_sample
        _add_deviations(x, at, P // LANES, mean, c, lanes)
        for j in range(P // LANES * LANES, P):
            deviation = x[at + j] - mean[c]
            lanes[0] += deviation
            lanes[LANES] += deviation * deviation


@linked
def _total(lanes, first):
    total = 0.0
    for i in range(first, first + LANES):
        total += lanes[i]
    return total


@compiled("float32[:]", "out float32[:]", "out float64[:,:]", "out float64[:]", "int64[:]")
def moments(x, mean, sums, lanes, numbers):
    """Fill ``sums``, shape (2, C), with means and sums of squared deviations.

    A channel is read twice while it is in the cache: about 0 first, then about its mean.
    """
    C, N, P, of_channel, of_sample = numbers
    for c in range(C):
        mean[c] = 0.0
        _sum_deviations(x, mean, c, lanes, (C, N, P, of_channel, of_sample))
        sums[0, c] = _total(lanes, 0) / (N * P)
        mean[c] = sums[0, c]
        _sum_deviations(x, mean, c, lanes, (C, N, P, of_channel, of_sample))
        sums[1, c] = _total(lanes, LANES)


@compiled(
    "float32[:]", "float32[:]", "float32[:]", "out float64[:,:]", "out float64[:]", "int64[:]"
)
def products(dy, x, mean, sums, lanes, numbers):
    """Fill ``sums``, shape (2, C), with the sums of ``dy`` and of ``dy * (x - mean)``."""
    C, N, P, of_channel, of_sample = numbers
    for c in range(C):
        for i in range(2 * LANES):
            lanes[i] = 0.0
        for n in range(N):
            at = c * of_channel + n * of_sample
            _add_products(dy, x, at, P // LANES, mean, c, lanes)
            for j in range(P // LANES * LANES, P):
                lanes[0] += dy[at + j]
                lanes[LANES] += dy[at + j] * (x[at + j] - mean[c])
        sums[0, c], sums[1, c] = _total(lanes, 0), _total(lanes, LANES)


@compiled("float32[:]", "float32[:,:]", "out float32[:]", "int64[:]")
def normalise(x, factors, y, numbers):
    """``(x - mean) * scale + bias``; the rows of ``factors`` are these three, per channel."""
    C, N, P, of_channel, of_sample = numbers
    for c in range(C):
        mean, scale, bias = factors[0, c], factors[1, c], factors[2, c]
        for n in range(N):
            at = np.uint64(c * of_channel + n * of_sample)
            for j in range(np.uint64(P)):
                y[at + j] = (x[at + j] - mean) * scale + bias


@compiled("float32[:]", "float32[:]", "float32[:,:]", "out float32[:]", "int64[:]")
def gradient(dy, x, factors, dx, numbers):
    """``(dy - a - (x - mean) * b) * scale``; rows of ``factors`` are mean, scale, a and b."""
    C, N, P, of_channel, of_sample = numbers
    for c in range(C):
        mean, scale = factors[0, c], factors[1, c]
        a, b = factors[2, c], factors[3, c]
        for n in range(N):
            at = np.uint64(c * of_channel + n * of_sample)
            for j in range(np.uint64(P)):
                dx[at + j] = (dy[at + j] - a - (x[at + j] - mean) * b) * scale
