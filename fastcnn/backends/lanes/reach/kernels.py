"""How far each kernel's rows reach; see reach.py."""

from collections.abc import Callable

import numpy as np

from fastcnn.backends.lanes.convolution.direct.gradient_kernels import RUNS, SCRATCH, TAP_BLOCK
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.elements import elements_reach
from fastcnn.backends.lanes.kernels.linear import OUTER_ROOM, STRIP
from fastcnn.backends.lanes.reach import (
    channels,
    constraints,
    gradient_sums,
    norm,
    winograd,
)
from fastcnn.backends.lanes.reach.phases import phases
from fastcnn.backends.lanes.reach.ranges import (
    MODES,
    MORE_POSITIONS,
    MORE_TAPS,
    Range,
    Reach,
    Touches,
    arena,
    bias,
    gradient,
    optional,
    parameters,
)
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError


def _pack(r: Reach) -> Touches:
    count = r.count(L.TAPS)
    source = r.entries(L.TAP_TABLE, count)
    yield arena("W", r.along(count, 1) + r[L.W], 1)
    yield parameters("TAP_TABLE", Range(max(source.low, 0), source.high))


def _convolution(r: Reach) -> Touches:
    groups, channels, weights, most = (
        r.count(column) for column in (L.GROUPS, L.CHANNELS, L.TAPS, L.POSITIONS)
    )
    outputs, pooled = groups * channels, r.among(L.MODE, MODES) == L.POOLED
    if not outputs * most:
        return
    if r[L.IN] > 0:
        # What is asked for beforehand may lie anywhere; its tables must not.
        r.table(L.X_TABLE, most + LANES - 1)
        r.table(L.EXTRA, r.count(L.IN))
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP])
    packed = r.along(groups, channels * weights) + r[L.W]
    for phase in phases(r):
        if phase.pixels > most:
            raise ProgramError(f"a phase has {phase.pixels} pixels, the first {most}")
        given = phase.pixels // 4 + 1 if pooled else phase.pixels + MORE_POSITIONS
        targets = r.along(outputs, r[L.Y_CHANNEL]) + phase.written(given)
        if r[L.IN] > 0 and not pooled:
            phase.written(phase.pixels + L.POSITION_PAD)
        yield arena("X", x + phase.read() + phase.taps())
        yield arena("Y", r.buffer(L.Y) + targets)
        if pooled or r[L.MODE] == L.ADDED:
            yield arena("M", r.buffer(L.M) + targets)
        yield arena("W", packed + phase.weights_at + r.along(channels * phase.count, 1), 1)
    yield from bias(r, outputs)


def _weight_gradient(r: Reach) -> Touches:
    groups, channels, taps = (r.count(column) for column in (L.GROUPS, L.CHANNELS, L.TAPS))
    rows, columns = r.count(L.Y_ROWS), r.count(L.Y_WIDTH)
    pooled, run = r[L.MODE] == L.POOLED, r.among(L.IN, (1, *RUNS))
    outputs, times = groups * channels, 2 if pooled else 1
    if run > 1 and (taps % (9 if run == 3 else run) or (_steps(r, taps, run) != LANES).any()):
        raise ProgramError(f"{taps} taps, which are not {run} and {run} side by side")
    if r.count(L.KERNEL_ROWS) and not (pooled and _lie_as_pixels(r, taps, run)):
        raise ProgramError(f"taps do not lie as pixels in {r[L.KERNEL_ROWS]} rows of {run}")
    x = r.buffer(L.X) + r.along(groups, r[L.X_GROUP]) + r.along(times * rows, r[L.X_ROW])
    x += r.along(times * columns, r.count(L.ALONG, 1) * LANES)
    each, scratch = r.along(outputs, r[L.Y_CHANNEL]), r.workers(L.M, L.M_SLOT)
    out = r.blocks(L.EXTRA, L.EXTRA_BLOCK)
    yield arena("X", x + r.entries(L.TAP_TABLE, taps + MORE_TAPS))
    yield arena("M", scratch, SCRATCH)
    yield arena("EXTRA", out + r.along(outputs * taps, 1), 1)
    pixels = each + r.along(rows, r[L.Y_ROW]) + r.along(columns, LANES)
    yield arena("Y", r.buffer(L.Y) + pixels)
    if pooled:
        yield arena("Z", r.buffer(L.Z) + pixels)
    if r[L.BIAS] >= 0:
        yield arena("BIAS", out + r[L.BIAS] + r.along(outputs, 1), 1)
        if not pooled:
            summed = each + r.entries(L.Y_TABLE, r.count(L.POSITIONS))
            yield arena("Y", r.buffer(L.Y) + summed)


def _lie_as_pixels(r: Reach, taps: int, run: int) -> bool:
    """Whether taps are rows of runs as far apart as rows of X, which some tiles read whole."""
    high = r[L.KERNEL_ROWS]
    fits = high % 3 == 0 if run == 3 else run == 5 and high > 1
    if not fits or high * run > TAP_BLOCK or taps % (high * run) or r[L.ALONG] != 1:
        return False
    places = r.table(L.TAP_TABLE, taps).reshape(-1, high, run)
    return bool((np.diff(places, axis=1) == r[L.X_ROW]).all())


def _steps(r: Reach, taps: int, run: int) -> np.ndarray:
    """Floats from each tap of a run to the next."""
    return np.diff(r.table(L.TAP_TABLE, taps).reshape(-1, run))


def _bias_gradient(r: Reach) -> Touches:
    channels, positions = r.count(L.CHANNELS), r.count(L.POSITIONS)
    each = r.along(channels, r[L.Y_CHANNEL]) + r.entries(L.Y_TABLE, positions)
    yield arena("Y", r.buffer(L.Y) + each)
    yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(channels, 1), 1)


def _learned(r: Reach) -> Touches:
    """A parameter of each channel, or of all, or one in each lane."""
    mode = r.among(L.MODE, (L.FOR_ALL, L.FOR_CHANNELS, L.FOR_LANES))
    step = LANES if mode == L.FOR_LANES else mode
    each = r.along(r.count(L.CHANNELS), step)
    yield parameters("W", each + r[L.W], LANES if mode == L.FOR_LANES else 1)


def loss_reach(numbers: int, by_channel: bool) -> Callable[[Reach], Touches]:
    """That of a loss with some numbers at SCALE, and perhaps one for each channel after them."""

    def touches(r: Reach) -> Touches:
        channels = r.count(L.CHANNELS, 1)
        r.count(L.OUT)  # of which a run has as many mean weights
        outputs = r.along(channels * r.count(L.POSITIONS, 1), LANES)
        yield arena("X", r.blocks(L.X, L.X_BLOCK) + outputs)
        yield arena("Y", r.blocks(L.Y, L.Y_BLOCK) + outputs)
        read = numbers + (channels if by_channel else 0)
        yield arena("SCALE", Range(r[L.SCALE], r[L.SCALE]), read)

    return touches


def formula_reach(what: str, is_learned: bool, numbers: int) -> Callable[[Reach], Touches]:
    """That of an element-wise operation's kernel; see formula_table.py.

    Parameters
    ----------
    what : {"value", "gradient", "parameter", "loss"}
    is_learned : bool
        Whether the operation has a parameter, or a loss a number for each channel.
    numbers : int
        That it reads at SCALE.
    """
    if what == "loss":
        return loss_reach(1 + numbers, is_learned)
    names = {"value": "XY", "gradient": "XYM", "parameter": "YM"}[what]
    elements = elements_reach(*names, numbers=numbers)

    def touches(r: Reach) -> Touches:
        yield from elements(r)
        if is_learned:
            yield from _learned(r)
        if what == "parameter":
            sums = r.along(r[L.CHANNELS] if r[L.MODE] else 1, 1)
            yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + sums, 1)

    return touches


def _linear(r: Reach) -> Touches:
    r.among(L.BY_BLOCK, (0, 1))
    inputs, outputs = r.count(L.IN, 1), r.count(L.OUT)
    yield arena("X", r.buffer(L.X) + r.along(inputs, LANES))
    yield arena("Y", r.buffer(L.Y) + r.along(max(r.count(L.GROUPS), 1) * outputs, LANES))
    yield parameters("W", r.along(inputs * outputs, 1) + r[L.W])
    yield from bias(r, outputs)


def _linear_join(r: Reach) -> Touches:
    outputs = r.count(L.OUT)
    yield arena("X", r.buffer(L.X) + r.along(r.count(L.GROUPS, 1) * outputs, LANES))
    yield arena("Y", r.buffer(L.Y) + r.along(outputs, LANES))
    yield parameters("BIAS", optional(r, L.BIAS, outputs))


def _transpose(r: Reach) -> Touches:
    r.among(L.BY_BLOCK, (0, 1))
    tiles = -(-r.count(L.IN) // LANES)
    samples = r.along(LANES, r[L.OUT])
    yield arena("X", r.buffer(L.X) + r.along(tiles * LANES, LANES))
    blocks = r.blocks(L.OUT, L.OUT) + -r[L.OUT]
    rows = Range(LANES * blocks.low, LANES * blocks.high) + samples
    yield arena("Y", rows + r[L.Y] + r.along(tiles, LANES))


def _outer(r: Reach) -> Touches:
    r.count(L.GROUPS)
    inputs, outputs = r.count(L.IN), r.count(L.OUT)
    blocks = r.blocks(L.EXTRA, L.EXTRA) + -r[L.EXTRA]
    rows = Range(LANES * blocks.low, LANES * blocks.high) + r.along(LANES, r[L.EXTRA])
    yield arena("X", rows + r[L.X] + r.along(-(-inputs // STRIP), STRIP), STRIP)
    yield arena("Y", r.blocks(L.Y, L.Y_BLOCK) + r.along(outputs, LANES))
    yield arena("M", r.workers(L.M, L.M_SLOT), OUTER_ROOM)
    yield gradient("W", r.along(inputs * outputs, 1) + r[L.W])


def _linear_bias_gradient(r: Reach) -> Touches:
    outputs = r.count(L.OUT)
    yield arena("Y", r.blocks(L.Y, L.Y_BLOCK) + r.along(outputs, LANES))
    yield gradient("BIAS", r.along(outputs, 1) + r[L.BIAS])


def _output(r: Reach) -> Touches:
    elements = r.entries(L.X_TABLE, r.count(L.IN, 1))
    yield arena("X", r.blocks(L.X, L.X_BLOCK) + elements)


def _factors(r: Reach) -> Touches:
    """Factor and summand of each channel."""
    yield arena("SCALE", r.along(2 * r.count(L.OUT, 1), 1) + r[L.SCALE], 1)


def _input(r: Reach) -> Touches:
    yield from _factors(r)
    yield arena("Y", r.buffer(L.Y) + r.entries(L.X_TABLE, r.count(L.IN, 1)))


#: By the number of a kernel in layout.py: what its rows touch, unless its record says it.
REACHES: dict[int, Callable[[Reach], Touches]] = {
    L.K_INPUT: _input,
    L.K_PACK: _pack,
    L.K_CONV: _convolution,
    L.K_WEIGHT_GRADIENT: _weight_gradient,
    L.K_BIAS_GRADIENT: _bias_gradient,
    L.K_LIMIT_NORMS: constraints.limit_norms,
    L.K_LINEAR: _linear,
    L.K_LINEAR_BACKWARD: _linear,
    L.K_LINEAR_JOIN: _linear_join,
    L.K_TRANSPOSE: _transpose,
    L.K_OUTER: _outer,
    L.K_LINEAR_BIAS_GRADIENT: _linear_bias_gradient,
    **dict.fromkeys((L.K_CROSS_ENTROPY, L.K_NLL, L.K_FOCAL), loss_reach(3, by_channel=True)),
    L.K_REDUCE: gradient_sums.reduce,
    L.K_REDUCE_KERNELS: gradient_sums.reduce_kernels,
    L.K_SUM_PLACES: gradient_sums.sum_places,
    L.K_OUTPUT: _output,
    L.K_OUTPUT_GRADIENT: _input,
    L.K_NORM_SUMS: norm.normalisation("X", sums=True),
    L.K_NORM_JOIN: norm.join,
    L.K_NORM_STATISTICS: norm.statistics,
    L.K_NORM: norm.normalisation("X", "Y", values=3),
    L.K_NORM_ADD: norm.normalisation("X", "Y", "M", values=3),
    L.K_NORM_JOINED_GRADIENT_SUMS: norm.joined_gradient_sums,
    L.K_NORM_GRADIENT_SUMS: norm.normalisation("X", "Y", values=4, sums=True),
    L.K_NORM_GRADIENT_STATISTICS: norm.normalisation(values=6, sums=True, learned=gradient),
    L.K_NORM_GRADIENT: norm.normalisation("X", "Y", "Z", values=6),
    L.K_WINOGRAD2D_WEIGHTS: winograd.winograd2d_weights,
    L.K_WINOGRAD2D: winograd.winograd2d,
    L.K_WINOGRAD2D_EDGE: winograd.winograd2d,
    L.K_WINOGRAD2D_ADJOINT: winograd.winograd2d_adjoint,
    L.K_WINOGRAD2D_EDGE_ADJOINT: winograd.winograd2d_adjoint,
    L.K_WINOGRAD2D_WINDOWS_ADJOINT: winograd.winograd2d_adjoint,
    L.K_WINOGRAD2D_EDGE_WINDOWS_ADJOINT: winograd.winograd2d_adjoint,
    L.K_WINOGRAD2D_STRIDED_ADJOINT: winograd.winograd2d_strided_adjoint,
    L.K_WINOGRAD2D_BATCH_INPUTS: winograd.winograd2d_batch_inputs,
    L.K_WINOGRAD2D_BATCH_PRODUCTS: winograd.winograd2d_batch_products,
    L.K_WINOGRAD2D_BATCH_PRODUCTS_OF_KERNELS: winograd.winograd2d_batch_products_of_kernels,
    L.K_WINOGRAD2D_BATCH_OUTPUTS: winograd.winograd2d_batch_outputs,
    L.K_WINOGRAD2D_BATCH_ADJOINT_INPUTS: winograd.winograd2d_batch_adjoint_inputs,
    L.K_WINOGRAD2D_BATCH_ADJOINT_OUTPUTS: winograd.winograd2d_batch_adjoint_outputs,
    L.K_WINOGRAD2D_GRADIENT: winograd.winograd2d_gradient(1),
    L.K_WINOGRAD2D_EDGE_GRADIENT: winograd.winograd2d_gradient(1),
    L.K_WINOGRAD2D_EDGE_WINDOWS_GRADIENT: winograd.winograd2d_gradient(1),
    L.K_WINOGRAD2D_WINDOWS_GRADIENT: winograd.winograd2d_gradient(1),
    L.K_WINOGRAD2D_STRIDED_GRADIENT: winograd.winograd2d_gradient(2),
    L.K_WINOGRAD2D_WEIGHT_GRADIENT: winograd.winograd2d_weight_gradient,
    L.K_WINOGRAD1D_WEIGHTS: winograd.winograd1d_weights,
    L.K_WINOGRAD1D: winograd.winograd1d(back=False),
    L.K_WINOGRAD1D_TRANSPOSED: winograd.winograd1d(back=True),
    L.K_WINOGRAD1D_GRADIENT: winograd.winograd1d_gradient,
    L.K_WINOGRAD1D_REDUCE: winograd.winograd1d_reduce,
    L.K_CHANNEL_INPUT: channels.channel_input,
    L.K_CHANNEL_OUTPUT: channels.channel_output,
    L.K_CHANNEL_CONV: channels.channel_convolution,
    L.K_CHANNEL_DEPTHWISE: channels.channel_depthwise,
    L.K_CHANNEL_DOT: channels.channel_dot,
    L.K_CHANNEL_WINOGRAD: channels.channel_winograd,
}
