"""Kernels of local response normalisation, each for one block of 16 samples.

A pixel is divided by a power of the sum over the TAPS channels around it. SCALE is the offset of
alpha / size, beta and k. M has the divisors before the power, and EXTRA, with a stride of
EXTRA_BLOCK for each thread and in M's layout, the gradient that each output sends to the inputs of
its window.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered
from fastcnn.backends.lanes.planning.rows import element_columns
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena
from fastcnn.codegen import linked, simd
from fastcnn.codegen.elementary import exp, log, minimum
from fastcnn.errors import ProgramError

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner

LANES = simd.LANES

#: The largest supported exponent of e: float32 overflows beyond it.
HIGHEST = 88.0


@linked
def inverse_power(value, beta):
    """``value ** -beta``."""
    return exp(minimum(simd.mul(log(value), simd.splat(np.float32(-beta))), HIGHEST))


@linked
def local_response(A, T, r, block, slot, part, parts):
    """Y = X / M ** beta, and M = k + alpha / size * sum of squares over the window."""
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    xs, ys, ms = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    channels, size = r[L.CHANNELS], r[L.TAPS]
    alpha, beta, k = simd.splat(A[r[L.SCALE]]), A[r[L.SCALE] + 1], simd.splat(A[r[L.SCALE] + 2])
    first, last = share(channels, part, parts)
    for c in range(first, last):
        low, high = max(0, c - size // 2), min(channels, c - size // 2 + size)
        x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.M_CHANNEL]
        for p in range(r[L.POSITIONS]):
            total = simd.splat(np.float32(0))
            for j in range(low, high):
                value = simd.load(A, x0 + j * r[L.X_CHANNEL] + xs[p])
                total = simd.fma(value, value, total)
            divisor = simd.fma(total, alpha, k)
            simd.store(A, m + ms[p], divisor)
            value = simd.mul(simd.load(A, x + xs[p]), inverse_power(divisor, beta))
            simd.store(A, y + ys[p], value)


@linked
def local_response_shares(A, T, r, block, slot, part, parts):
    """The gradient sent by each output: EXTRA = Y * X * M ** (-beta - 1), Y being its gradient."""
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    q0 = r[L.EXTRA] + slot * r[L.EXTRA_BLOCK]
    xs, ys, ms = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    beta = A[r[L.SCALE] + 1] + np.float32(1)
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.M_CHANNEL]
        for p in range(r[L.POSITIONS]):
            product = simd.mul(simd.load(A, y + ys[p]), simd.load(A, x + xs[p]))
            value = simd.mul(product, inverse_power(simd.load(A, m + ms[p]), beta))
            simd.store(A, q0 + c * r[L.M_CHANNEL] + ms[p], value)


@linked
def local_response_gradient(A, T, r, block, slot, part, parts):
    """The input's gradient Z = Y * M ** -beta - 2 alpha beta / size * X * sum of EXTRA."""
    x0, y0, z0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.Z, block, slot)
    m0 = base(r, L.M, block, slot)
    q0 = r[L.EXTRA] + slot * r[L.EXTRA_BLOCK]
    xs, ys, ms, zs = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :], T[r[L.Z_TABLE] :]
    channels, size, beta = r[L.CHANNELS], r[L.TAPS], A[r[L.SCALE] + 1]
    factor = simd.splat(np.float32(-2) * A[r[L.SCALE]] * beta)
    first, last = share(channels, part, parts)
    for c in range(first, last):
        # The outputs whose windows contain this channel.
        low, high = max(0, c + size // 2 - size + 1), min(channels, c + size // 2 + 1)
        x, y, z = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], z0 + c * r[L.Z_CHANNEL]
        for p in range(r[L.POSITIONS]):
            total = simd.splat(np.float32(0))
            for j in range(low, high):
                total = simd.add(total, simd.load(A, q0 + j * r[L.M_CHANNEL] + ms[p]))
            power = inverse_power(simd.load(A, m0 + c * r[L.M_CHANNEL] + ms[p]), beta)
            direct = simd.mul(simd.load(A, y + ys[p]), power)
            through = simd.mul(simd.mul(simd.load(A, x + xs[p]), factor), total)
            simd.store(A, z + zs[p], simd.add(direct, through))


@linked
def channel_local_response(A, T, r, block, slot, worker, part, parts):
    """Y = X / (k + alpha / size * sum of squares) ** beta over the TAPS of IN channels around.

    SCALE is the offset of alpha / size, beta and k. The squares of a pixel are a line of scratch.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    xs, ys = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    blocks, size, line = r[L.CHANNELS], r[L.TAPS], r[L.Z] + worker * r[L.Z_SLOT]
    alpha, beta, k = simd.splat(A[r[L.SCALE]]), A[r[L.SCALE] + 1], simd.splat(A[r[L.SCALE] + 2])
    first, last = share(r[L.POSITIONS], part, parts)
    zero, squares = simd.splat(np.float32(0)), line + size // 2
    for i in range(0, blocks * LANES + size, LANES):
        simd.store(A, line + i, zero)
    for p in range(first, last):
        for c in range(blocks):
            value = simd.load(A, x0 + c * r[L.X_CHANNEL] + xs[p])
            value = simd.first_lanes(min(LANES, r[L.IN] - c * LANES), value)
            simd.store(A, squares + c * LANES, simd.mul(value, value))
        for c in range(blocks):
            total = zero
            for j in range(size):
                total = simd.add(total, simd.load(A, line + c * LANES + j))
            power = inverse_power(simd.fma(total, alpha, k), beta)
            value = simd.mul(simd.load(A, x0 + c * r[L.X_CHANNEL] + xs[p]), power)
            simd.store(A, y0 + c * r[L.Y_CHANNEL] + ys[p], value)


def line_floats(blocks: int, taps: int) -> int:
    """Floats of the scratch line of a local response normalisation."""
    return blocks * LANES + taps + LANES


def _window(flops: int, read: int, written: int) -> Callable[[Row], Cost]:
    """Cost of work on each element, and on each element of its window."""

    def cost(r: Row) -> Cost:
        n = r[L.CHANNELS] * r[L.POSITIONS]
        return r.cost((flops + 2 * r[L.TAPS]) * n, read * n, written * n)

    return cost


def _channel_cost(r: Row) -> Cost:
    numbers = r[L.CHANNELS] * LANES * r[L.POSITIONS] * r.batch
    size = FLOAT_BYTES * numbers
    return Cost((40 + r[L.TAPS]) * numbers, size, size)


def _reach(*names: str, shares: bool = True) -> Callable[[Reach], Touches]:
    """Vectors of some buffers at the same elements, and the values stored in M's layout."""

    def touches(r: Reach) -> Touches:
        r.count(L.TAPS, 1)
        for name in names:
            yield r.pixels(name, r.count(L.POSITIONS, 1))
        yield r.floats("SCALE", 3)
        if shares:
            kept = r.along(r.count(L.CHANNELS), r[L.M_CHANNEL])
            places = kept + r.entries(L.M_TABLE, r[L.POSITIONS])
            yield arena("EXTRA", r.workers(L.EXTRA, L.EXTRA_BLOCK) + places)

    return touches


def _channel_reach(r: Reach) -> Touches:
    """Pixels of all channel blocks, and a thread's own line."""
    blocks, positions = r.count(L.CHANNELS, 1), r.count(L.POSITIONS, 1)
    for name in "XY":
        yield r.pixels(name, positions)
    if not (blocks - 1) * LANES < r[L.IN] <= blocks * LANES:
        raise ProgramError(f"{r[L.IN]} channels in {blocks} blocks")
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), line_floats(blocks, r.count(L.TAPS, 1)))
    yield r.floats("SCALE", 3)


K_RESPONSE = numbered(
    local_response,
    "local response",
    _window(4, 1, 2),
    map_sizes,
    touches=_reach("X", "Y", "M", shares=False),
)
K_SHARES = numbered(
    local_response_shares,
    "shares of a local response",
    _window(4, 3, 1),
    map_sizes,
    touches=_reach("X", "Y", "M"),
)
K_GRADIENT = numbered(
    local_response_gradient,
    "gradient of a local response",
    _window(5, 4, 1),
    map_sizes,
    touches=_reach("X", "Y", "M", "Z"),
)
K_CHANNELS = numbered(
    channel_local_response,
    "local response by channels",
    _channel_cost,
    map_sizes,
    touches=_channel_reach,
)


def _columns(planner: "Planner", group: "Group") -> dict[str, int]:
    a = group.node.arguments
    numbers = [a["alpha"] / a["size"], a["beta"], a["k"]]
    return {"taps": a["size"], "scale": planner.constant(numbers)}


def _forward(walk: "Forward", group: "Group") -> None:
    planner = walk.planner
    x, y = walk.values[group.source], walk.output(group)
    divisors = walk.kept[group.target] = planner.buffer(x.shape, passing=not planner.backward)
    columns = element_columns(planner, x=x, y=y, m=divisors) | _columns(planner, group)
    planner.emit(f"{group.node.name}: {group.operation}", row(K_RESPONSE, **columns))


def _backward(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    planner, grad_x = walk.planner, walk.wanted(group)
    if grad_x is None:
        return
    x, divisors = walk.values[group.source], walk.kept[group.target]
    shares = planner.like(divisors, passing=True)
    columns = _columns(planner, group)
    columns |= {"extra": shares.offset, "extra_block": shares.slot}
    elements = element_columns(planner, x=x, y=grad, m=divisors)
    name = f"{group.node.name}: gradient of {group.operation}"
    planner.emit(f"{name}, shares", row(K_SHARES, **elements, **columns))
    elements |= element_columns(planner, z=grad_x)
    planner.emit(name, row(K_GRADIENT, **elements, **columns))


def _channels(walk: "ChannelForward", group: "Group") -> None:
    planner = walk.planner
    x, y = walk.usual(group.source), walk.output(group)
    columns = element_columns(planner, x=x, y=y) | _columns(planner, group)
    columns["in_"] = group.node.output_shape[0]
    line = line_floats(x.channels, columns["taps"])
    values = planner.with_scratch(row(K_CHANNELS, **columns), line)
    planner.emit(f"{group.node.name}: {group.operation}", values)


lowered("local_response_norm", forward=_forward, backward=_backward, channels=_channels)
