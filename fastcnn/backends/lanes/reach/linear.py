"""Memory that rows of fully connected layers and of sums over blocks access."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.linear_tiles import OUTER_ROOM, STRIP
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena, gradient, parameters
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def linear(r: Reach) -> Touches:
    r.among(L.BY_BLOCK, (0, 1))
    r.count(L.BY_STRIP)
    inputs, outputs = r.count(L.IN, 1), r.count(L.OUT)
    yield arena("X", r.buffer(L.X) + r.along(inputs, LANES))
    yield arena("Y", r.buffer(L.Y) + r.along(max(r.count(L.GROUPS), 1) * outputs, LANES))
    yield parameters("W", r.along(inputs * outputs, 1) + r[L.W])
    yield r.bias(outputs)


def join(r: Reach) -> Touches:
    outputs = r.count(L.OUT)
    yield arena("X", r.buffer(L.X) + r.along(r.count(L.GROUPS, 1) * outputs, LANES))
    yield arena("Y", r.buffer(L.Y) + r.along(outputs, LANES))
    yield parameters("BIAS", r.optional(L.BIAS, outputs))


def transpose(r: Reach) -> Touches:
    r.among(L.BY_BLOCK, (0, 1))
    yield arena("X", r.buffer(L.X) + r.along(-(-r.count(L.IN) // LANES) * LANES, LANES))
    yield arena("EXTRA", r.workers(L.EXTRA, L.EXTRA_BLOCK) + _strips(r, L.OUT), STRIP)


def _strips(r: Reach, step: int) -> Range:
    """Offsets of the rows of a part's strips, one for each sample."""
    strips = -(-r.count(L.IN) // STRIP)
    most = -(-strips // max(r.count(L.BY_STRIP), 1))
    return r.along(most, r[step]) + r.along(LANES * r.samples, STRIP)


def outer(r: Reach) -> Touches:
    inputs, outputs = r.count(L.IN), r.count(L.OUT)
    yield arena("X", r.workers(L.X, L.X_SLOT) + _strips(r, L.EXTRA), STRIP)
    yield arena("Y", r.blocks(L.Y, L.Y_BLOCK) + r.along(outputs, LANES))
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), OUTER_ROOM)
    yield gradient("W", r.along(inputs * outputs, 1) + r[L.W])


def bias_gradient(r: Reach) -> Touches:
    outputs = r.count(L.OUT)
    yield arena("Y", r.blocks(L.Y, L.Y_BLOCK) + r.along(outputs, LANES))
    yield gradient("BIAS", r.along(outputs, 1) + r[L.BIAS])


def reduce(r: Reach) -> Touches:
    sums = r.along(r.count(L.OUT), 1)
    yield r.sums(sums)
    yield gradient("W", sums + r[L.W])


def reduce_kernels(r: Reach) -> Touches:
    kernels, taps = r.count(L.IN) // LANES * LANES, r.count(L.TAPS)
    if kernels:
        yield r.sums(0, taps * kernels)
        inputs, outputs = r.count(L.DOWN, 1), r.count(L.CHANNELS)
        if kernels != -(-outputs // LANES) * LANES * inputs:
            raise ProgramError(f"{kernels} sums of kernels of {outputs} by {inputs} channels")
        yield gradient("W", r.along(taps * outputs * inputs, 1) + r[L.W])


def sum_places(r: Reach) -> Touches:
    sums = r.along(r.count(L.OUT), 1)
    yield gradient("W", sums + r[L.W])
    yield gradient("EXTRA", sums + r[L.EXTRA])
