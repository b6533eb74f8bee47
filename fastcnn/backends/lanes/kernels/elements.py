"""Kernels that work element by element, each for one block of 16 samples.

A kernel does the ``part``-th of ``parts`` equal shares of the elements. A is the arena, T the
tables, P the parameters, r the program row.
"""

from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import share
from fastcnn.backends.lanes.kernels.record import Kernel, map_sizes, per_element, register
from fastcnn.codegen import linked, simd

LANES = simd.LANES


@linked
def following(T, table, positions):
    """Positions of a table that follow each other in memory: those of a row, or all."""
    first = T[table]
    if T[table + positions - 1] - first == (positions - 1) * LANES:
        return positions
    count = 1
    while T[table + count] - first == count * LANES:
        count += 1
    return count


@linked
def run_length(T, r, third):
    """Elements that follow each other in X and Y, and with ``third`` in M: a row's, or more.

    Runs begin at multiples of their length.
    """
    positions = r[L.POSITIONS]
    size = positions * LANES
    length = min(following(T, r[L.X_TABLE], positions), following(T, r[L.Y_TABLE], positions))
    joined = r[L.X_CHANNEL] == size and r[L.Y_CHANNEL] == size
    if third:
        length = min(length, following(T, r[L.M_TABLE], positions))
        joined = joined and r[L.M_CHANNEL] == size
    return length * r[L.CHANNELS] if joined and length == positions else length


@linked
def nothing(A, P, r, m, c):
    """No further arguments of a formula."""
    return ()


def element_kernel(each: Any, given: Any = nothing, third: bool = False, whole: bool = True) -> Any:
    """A kernel that does something for each vector of two maps, or with ``third`` of three.

    Parameters
    ----------
    each : Linked
        ``each(A, x, y, m, arguments)``, with the vectors' places.
    given : Linked
        ``given(A, P, r, m, c)``: the arguments of channel ``c``, a tuple; ``m`` is where M begins.
    third : bool
    whole : bool
        Whether channels that follow each other may be taken together: they have equal arguments.
    """

    @linked
    def elements(A, T, P, r, block, slot, part, parts):
        x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
        y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
        m0 = r[L.M] + block * r[L.M_BLOCK] + slot * r[L.M_SLOT]
        positions, run = r[L.POSITIONS], run_length(T, r, third)
        if not whole:
            run = min(run, positions)
        e, last = share(r[L.CHANNELS] * positions, part, parts)
        c, p, count = e // positions, e % positions, run - e % run
        while e < last:
            count = min(count, last - e)
            arguments = given(A, P, r, m0, c)
            x = x0 + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p]
            y = y0 + c * r[L.Y_CHANNEL] + T[r[L.Y_TABLE] + p]
            m = m0 + c * r[L.M_CHANNEL] + T[r[L.M_TABLE] + p] if third else m0
            for i in range(0, count * LANES, LANES):
                each(A, x + i, y + i, m + i, arguments)
            e, p, count = e + count, p + count, run
            if p == positions:
                c, p = c + 1, 0

    return elements


def element_record(each: Any, name: str, cost: Any, **kinds: Any) -> Kernel:
    """The record of such a kernel."""
    symbol = name.replace(" ", "_")
    return Kernel(element_kernel(each, **kinds), name, cost, map_sizes, symbol=symbol)


@linked
def _copied(A, x, y, m, arguments):
    simd.store(A, y, simd.load(A, x))


@linked
def _negated(A, x, y, m, arguments):
    simd.store(A, y, simd.sub(simd.splat(np.float32(0)), simd.load(A, x)))


@linked
def splitmix64(value):
    """See counter_random.py."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@linked
def dropout_key(seed, step, node):
    """See counter_random.py."""
    key = splitmix64(np.uint64(seed))
    key = splitmix64(key ^ np.uint64(step))
    return np.int64(splitmix64(key ^ np.uint64(node)))


@linked
def dropout(A, T, r, seed, step, first_sample, block, slot, part, parts):
    """Zero elements whose hash is below the threshold, scale the rest; forward and backward.

    With MODE 1, all elements of a channel share one hash.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    positions, channelwise = r[L.POSITIONS], r[L.MODE] == 1
    key = dropout_key(seed, step, r[L.KEY])
    run = run_length(T, r, False)
    run = min(run, positions) if channelwise else run
    hashes = r[L.CHANNELS] if channelwise else r[L.CHANNELS] * positions
    counter = (first_sample + block * LANES) * hashes
    one, scale, threshold = simd.splat(np.float32(1)), simd.splat(A[r[L.SCALE]]), r[L.THRESHOLD]
    e, last = share(r[L.CHANNELS] * positions, part, parts)
    c, p, count = e // positions, e % positions, run - e % run
    while e < last:
        count = min(count, last - e)
        x = x0 + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p]
        y = y0 + c * r[L.Y_CHANNEL] + T[r[L.Y_TABLE] + p]
        if channelwise:
            kept = simd.keep_random(counter + c, hashes, key, threshold, one)
            for i in range(0, count * LANES, LANES):
                value = simd.mul(simd.load(A, x + i), scale)
                simd.store(A, y + i, simd.keep_positive(kept, value))
        else:
            for i in range(count):
                value = simd.mul(simd.load(A, x + i * LANES), scale)
                value = simd.keep_random(counter + e + i, hashes, key, threshold, value)
                simd.store(A, y + i * LANES, value)
        e, p, count = e + count, p + count, run
        if p == positions:
            c, p = c + 1, 0


register(
    {
        L.K_COPY: element_record(_copied, "copy", per_element(0, 1, 1)),
        L.K_NEGATE: element_record(_negated, "negate", per_element(1, 1, 1)),
        L.K_DROPOUT: Kernel(dropout, "dropout", per_element(1, 1, 1), map_sizes),
    }
)
