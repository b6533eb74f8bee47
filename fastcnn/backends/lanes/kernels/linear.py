"""Kernels of fully connected layers and of gradient sums, over some blocks or the whole batch."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.linear_tiles import STRIP, linear_tile
from fastcnn.backends.lanes.kernels.record import clipped, matrix_sizes, numbered, sizes_of
from fastcnn.backends.lanes.reach import linear as reach
from fastcnn.codegen import linked, simd
from fastcnn.codegen.target import blocking
from fastcnn.codegen.transpose_tiles import transpose_sums_tile

LANES = simd.LANES
LINEAR_TILE = linear_tile.among((6, 4), (4, 4), (1, 4), (8, 2), (16, 1), (4, 1), (1, 1))
#: Vectors of all blocks' inputs that stay in the second-level cache for all outputs.
CHUNK = 4096
#: The same in the backward pass, where each input's weights are in a separate page.
CHUNK_BACK = 1024


@linked
def linear(A, P, r, block, blocks, slot, part, parts, backward):
    """Fully connected layer over some blocks: forward, or the gradient of its input.

    IN inputs and OUT outputs of this product; MASKED zeroes outputs where Y was zero. A unit is 16
    outputs: with few blocks these fill the registers. Many inputs are processed in chunks, each for
    all outputs, with partial sums in Y. Each of GROUPS parts of the inputs has separate sums, which
    are stored one after the other in Y.
    """
    groups, units = max(r[L.GROUPS], 1), (r[L.OUT] + 15) // 16
    waits = blocks >= 4 and r[L.MODE] != L.MASKED
    unit, last = share(groups * units, part, parts)
    if backward and r[L.BY_STRIP]:
        first, end = strip_share(r[L.OUT], part, parts)
        unit, last = first * STRIP // 16, min(end * STRIP // 16, units)
    while unit < last:
        group = unit // units
        first, end = unit - group * units, min(last - group * units, units)
        begin, stop = input_share(r[L.IN], group, groups)
        some = stop - begin
        if waits:
            most = max((CHUNK_BACK if backward else CHUNK) // blocks, 64)
            some = (some + most - 1) // most
            some = (stop - begin + some - 1) // max(some, 1)
        y = group * r[L.OUT] * LANES
        for k in range(begin, stop, some):
            ends = k + some >= stop
            rest = min(some, stop - k), k - begin, ends
            linear_part(A, P, r, block, blocks, slot, first, end, backward, y, k, *rest)
        unit += end - first


@linked
def input_share(inputs, part, parts):
    """First and last + 1 input of a share: whole vectors, except for the last."""
    first, last = share((inputs + LANES - 1) // LANES, part, parts)
    return min(first * LANES, inputs), min(last * LANES, inputs)


@linked
def linear_part(A, P, r, block, blocks, slot, first, last, backward, y, k, count, more, ends):
    """Sums of some units over COUNT inputs from the K-th on; with MORE, added to those in Y."""
    inner, outer = r[L.IN], r[L.OUT]
    wout, win = (1, outer) if backward else (inner, 1)
    biased = not backward and r[L.BIAS] >= 0
    relu = r[L.RELU] if ends else 0
    x_block, y_block, masked = r[L.X_BLOCK], r[L.Y_BLOCK], r[L.MODE] == L.MASKED
    x0 = base(r, L.X, block, slot) + k * LANES
    y0 = base(r, L.Y, block, slot) + y
    w0 = r[L.W] + k * win
    for unit in range(first, last):
        end = min(unit * 16 + 16, outer)
        b = 0
        while b < blocks:
            left = blocks - b
            done = 4 if left >= 4 else 1
            o = unit * 16
            if left in (2, 3) and end - o == 16:
                done = 2
            x = x0 + b * x_block
            while o < end:
                w, y = w0 + o * wout, y0 + b * y_block + o * LANES
                bias = r[L.BIAS] + o if biased else -1
                kernel, to = (P, w, wout, win), (A, y, y_block)
                rest = (A, x, x_block), count, kernel, (P, bias), to, relu, masked, more
                high = outputs_together(end - o, done)
                LINEAR_TILE(high, done, *rest)
                o += high
            b += done


@linked
def outputs_together(left, blocks):
    """Outputs of the next tile of some blocks if ``left`` remain."""
    if blocks == 2:
        return 8
    if blocks == 4 and left >= 6:
        return 6
    if blocks == 1 and left == 16:
        return 16
    return 4 if left >= 4 else 1


@linked
def join_groups(A, P, r, block, slot, part, parts):
    """Outputs of a fully connected layer, from separate sums X of its GROUPS of inputs."""
    outputs = r[L.OUT]
    x, y = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    first, last = share(outputs, part, parts)
    for o in range(first, last):
        total = simd.load(A, x + o * LANES)
        for group in range(1, r[L.GROUPS]):
            total = simd.add(total, simd.load(A, x + (group * outputs + o) * LANES))
        if r[L.BIAS] >= 0:
            total = simd.add(total, simd.splat(P[r[L.BIAS] + o]))
        if r[L.RELU]:
            total = simd.relu(total)
        simd.store(A, y + o * LANES, total)


@linked
def strip_share(inputs, part, parts):
    """First and last + 1 strip of a share of the inputs."""
    return share((inputs + STRIP - 1) // STRIP, part, parts)


@linked
def sum_places(G, r, part, parts):
    """Add the gradient of a shared parameter's other use, EXTRA floats further, to its own."""
    first, last = share(r[L.OUT], part, parts)
    for i in range(first, last):
        G[r[L.W] + i] += G[r[L.EXTRA] + i]


@linked
def reduce_partials(A, G, r, blocks, part, parts):
    """Add the blocks' partial gradients to G, in block order."""
    first, last = share(r[L.OUT], part, parts)
    whole = first + (last - first) // LANES * LANES
    for i in range(r[L.EXTRA] + first, r[L.EXTRA] + whole, LANES):
        total = simd.load(A, i)
        for b in range(1, blocks):
            total = simd.add(total, simd.load(A, i + b * r[L.EXTRA_BLOCK]))
        simd.store(G, r[L.W] - r[L.EXTRA] + i, total)
    for i in range(r[L.EXTRA] + whole, r[L.EXTRA] + last):
        rest = A[i]
        for b in range(1, blocks):
            rest += A[i + b * r[L.EXTRA_BLOCK]]
        G[r[L.W] - r[L.EXTRA] + i] = rest


@linked
def reduce_kernels(A, G, r, blocks, part, parts):
    """Gradients of IN kernels of TAPS weights, summed over blocks in order.

    Partial gradients hold the weights of 16 kernels one after the other, those of 16 of the
    CHANNELS outputs for each of DOWN inputs; with DOWN 1 the kernels are in their own order.
    """
    taps, inputs = r[L.TAPS], r[L.DOWN]
    unit, last = share(r[L.IN] // LANES, part, parts)
    while unit < last:
        output, c = unit // inputs * LANES, unit % inputs
        units = min(inputs - c, last - unit)
        source, target = r[L.EXTRA] + unit * taps * LANES, r[L.W] + (output * inputs + c) * taps
        row, valid = inputs * taps, min(LANES, r[L.CHANNELS] - output)
        for k in range(0, units * taps, LANES):
            count, x = min(LANES, units * taps - k), source + k * LANES
            transpose_sums_tile(A, x, count, r[L.EXTRA_BLOCK], blocks, G, target + k, row, valid)
        unit += units


def _linear(r: Row) -> Cost:
    weights = r[L.IN] * r[L.OUT]
    read = r[L.IN] + (r[L.OUT] if r[L.MODE] == L.MASKED else 0)
    written = r[L.OUT] * max(r[L.GROUPS], 1)
    return r.cost(2 * weights, read, written, parameters_read=weights)


def _join(r: Row) -> Cost:
    flops = r[L.OUT] * (r[L.GROUPS] if r[L.BIAS] >= 0 else r[L.GROUPS] - 1)
    return r.cost(flops, r[L.OUT] * r[L.GROUPS], r[L.OUT], parameters_read=r[L.OUT])


def _reduce(r: Row) -> Cost:
    size = r[L.OUT]
    return Cost(size * (r.blocks - 1), FLOAT_BYTES * size * r.blocks, FLOAT_BYTES * size)


def _reduce_kernels(r: Row) -> Cost:
    size = r[L.TAPS] * r[L.IN]
    return Cost(size * (r.blocks - 1), FLOAT_BYTES * size * r.blocks, FLOAT_BYTES * size)


def _linear_tile(r: Row) -> str:
    together = 1 if r[L.BY_BLOCK] else r.own_blocks
    if together >= 4:
        tile = (4 if r[L.OUT] >= 4 else 1, 4)
    elif together >= 2 and r[L.OUT] >= 16:
        tile = (8, 2)
    else:
        tile = (16 if r[L.OUT] >= 16 else 4 if r[L.OUT] >= 4 else 1, 1)
    return clipped(tile, blocking().products)


def _sum_places(r: Row) -> Cost:
    return Cost(r[L.OUT], 2 * FLOAT_BYTES * r[L.OUT], FLOAT_BYTES * r[L.OUT])


K_LINEAR = numbered(
    linear,
    "linear",
    _linear,
    matrix_sizes,
    _linear_tile,
    fixed={"backward": False},
    many=True,
    touches=reach.linear,
)
K_LINEAR_BACKWARD = numbered(
    linear,
    "linear transposed",
    _linear,
    matrix_sizes,
    _linear_tile,
    fixed={"backward": True},
    many=True,
    touches=reach.linear,
)
K_LINEAR_JOIN = numbered(
    join_groups, "sum of groups of inputs", _join, sizes_of(L.OUT), touches=reach.join
)
K_SUM_PLACES = numbered(
    sum_places, "sum over places", _sum_places, sizes_of(L.OUT), touches=reach.sum_places
)
K_REDUCE = numbered(
    reduce_partials,
    "sum over blocks",
    _reduce,
    sizes_of(L.OUT),
    gradients=("weight", "bias"),
    touches=reach.reduce,
)
K_REDUCE_KERNELS = numbered(
    reduce_kernels,
    "sum of kernels over blocks",
    _reduce_kernels,
    sizes_of(L.IN),
    gradients=("weight",),
    touches=reach.reduce_kernels,
)
