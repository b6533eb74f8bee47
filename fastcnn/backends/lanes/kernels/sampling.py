"""Kernels that copy or interpolate pixels by tables, each for one block of 16 samples.

The backward pass uses the same kernels with transposed tables.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row, distinct
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered
from fastcnn.backends.lanes.kernels.taps import Taps, taps_of
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena
from fastcnn.codegen import linked, simd

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner

LANES = simd.LANES


@linked
def move(A, T, r, block, slot, part, parts):
    """Copy runs of vectors from X to Y, or set them to zero.

    TAP_TABLE has for each of POSITIONS runs: its offset in X, -1 for zeros, its offset in Y, and
    its number of vectors.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    runs, table = r[L.POSITIONS], T[r[L.TAP_TABLE] :]
    zero = simd.splat(np.float32(0))
    e, last = share(r[L.CHANNELS] * runs, part, parts)
    c, k = e // runs, e % runs
    while e < last:
        source, count = table[3 * k], table[3 * k + 2]
        x = x0 + c * r[L.X_CHANNEL] + source
        y = y0 + c * r[L.Y_CHANNEL] + table[3 * k + 1]
        if source < 0:
            for i in range(0, count * LANES, LANES):
                simd.store(A, y + i, zero)
        else:
            for i in range(0, count * LANES, LANES):
                simd.store(A, y + i, simd.load(A, x + i))
        e, k = e + 1, k + 1
        if k == runs:
            c, k = c + 1, 0


@linked
def weighted_sums(A, T, r, block, slot, part, parts):
    """Each of POSITIONS pixels of Y is a sum of pixels of X times weights.

    TAP_TABLE has the number of summands of each pixel, X_TABLE their offsets, pixel by pixel, and
    SCALE is the offset of their weights in the arena.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    positions, counts = r[L.POSITIONS], T[r[L.TAP_TABLE] :]
    sources, places = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        x, y, k = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], 0
        for p in range(positions):
            total = simd.splat(np.float32(0))
            for _ in range(counts[p]):
                weight = simd.splat(A[r[L.SCALE] + k])
                total = simd.fma(simd.load(A, x + sources[k]), weight, total)
                k += 1
            simd.store(A, y + places[p], total)


def _move_cost(r: Row) -> Cost:
    runs = r.table(L.TAP_TABLE, 3 * r[L.POSITIONS]).reshape(-1, 3)
    read = int(runs[runs[:, 0] >= 0, 2].sum())
    return r.cost(0, r[L.CHANNELS] * read, r[L.CHANNELS] * int(runs[:, 2].sum()))


def _sums_cost(r: Row) -> Cost:
    summands = int(r.table(L.TAP_TABLE, r[L.POSITIONS]).sum())
    read = distinct(r.table(L.X_TABLE, summands))
    return r.cost(2 * r[L.CHANNELS] * summands, r[L.CHANNELS] * read, r.elements)


def _move_reach(r: Reach) -> Touches:
    runs = r.table(L.TAP_TABLE, 3 * r.count(L.POSITIONS, 1)).reshape(-1, 3).astype(np.int64)
    lengths = (runs[:, 2].clip(1) - 1) * LANES
    for name, column in (("X", 0), ("Y", 1)):
        kept = runs[:, 2] > 0
        if name == "X":
            kept &= runs[:, 0] >= 0
        first = runs[kept, column]
        yield r.pixels(name, Range.of(first, first + lengths[kept]))


def _sums_reach(r: Reach) -> Touches:
    positions = r.count(L.POSITIONS, 1)
    summands = int(r.table(L.TAP_TABLE, positions).clip(0).sum())
    if summands:
        yield r.pixels("X", summands)
        yield arena("SCALE", r.along(summands, 1) + r[L.SCALE], 1)
    yield r.pixels("Y", positions)


K_MOVE = numbered(move, "move", _move_cost, map_sizes, touches=_move_reach)
K_WEIGHTED_SUMS = numbered(
    weighted_sums, "weighted sums", _sums_cost, map_sizes, touches=_sums_reach
)


def places(buffer: "Buffer", steps: tuple[int, int], pixels: np.ndarray) -> np.ndarray:
    """Offsets of pixels of the first group."""
    found: np.ndarray = pixels[0] * steps[1] * buffer.channel + buffer.at(pixels[1], pixels[2])
    return found


def sampling_row(planner: "Planner", taps: Taps, x: "Buffer", y: "Buffer") -> np.ndarray:
    """The row that computes Y from X: copies if no pixels are mixed, else weighted sums."""
    members = max(1, y.channels // taps.groups)
    everything = np.stack([part.ravel() for part in np.mgrid[:members, : y.height, : y.width]])
    targets = places(y, taps.y_steps, everything)
    to, sources = places(y, taps.y_steps, taps.y), places(x, taps.x_steps, taps.x)
    columns = {
        **x.columns("x"),
        **y.columns("y"),
        "channels": taps.groups,
        "x_channel": taps.x_steps[0] * x.channel,
        "y_channel": taps.y_steps[0] * y.channel,
    }
    order = np.argsort(targets, kind="stable")
    targets = targets[order]
    number = np.searchsorted(targets, to)
    counts = np.bincount(number, minlength=len(targets))
    if (counts <= 1).all() and (taps.weight == 1).all():
        found = np.full(len(targets), -1)
        found[number] = sources
        return row(K_MOVE, **columns, **_runs(planner, found, targets))
    by_target = np.argsort(number, kind="stable")
    return row(
        K_WEIGHTED_SUMS,
        **columns,
        positions=len(targets),
        tap_table=planner.table(counts),
        x_table=planner.table(sources[by_target]),
        y_table=planner.table(targets),
        scale=planner.constant(taps.weight[by_target]),
    )


def _runs(planner: "Planner", sources: np.ndarray, targets: np.ndarray) -> dict[str, int]:
    """Columns of runs of vectors that are contiguous on both sides, or zeros."""
    follow = np.diff(targets) == LANES
    zeros = (sources[1:] < 0) & (sources[:-1] < 0)
    follow &= zeros | ((np.diff(sources) == LANES) & (sources[:-1] >= 0))
    first = np.concatenate([[0], np.flatnonzero(~follow) + 1])
    lengths = np.diff([*first, len(targets)])
    table = np.stack([sources[first], targets[first], lengths], axis=1)
    return {"positions": len(first), "tap_table": planner.table(table)}


def forward_sampling(walk: "Forward", group: "Group") -> None:
    """Operations that move pixels, or interpolate them."""
    x, y = walk.values[group.source], walk.output(group)
    name = f"{group.node.name}: {group.operation.replace('_', ' ')}"
    walk.planner.emit(name, sampling_row(walk.planner, taps_of(group.node), x, y))


def backward_sampling(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    """Gradients of the input pixels of which output pixels are sums."""
    grad_x = walk.wanted(group)
    if grad_x is not None:
        name = f"{group.node.name}: gradient of {group.operation.replace('_', ' ')}"
        taps = taps_of(group.node).backward
        walk.planner.emit(name, sampling_row(walk.planner, taps, grad, grad_x))


def _by_channel(walk: "ChannelForward", group: "Group") -> None:
    """The same movement, or interpolation, in every channel."""
    x, y = walk.values[group.source], walk.output(group)
    taps = replace(taps_of(group.node), groups=x.channels)
    name = f"{group.node.name}: {group.operation.replace('_', ' ')}"
    walk.planner.emit(name, sampling_row(walk.planner, taps, x, y))


def _shuffled(walk: "ChannelForward", group: "Group") -> None:
    """Elements that move to another channel."""
    node, taps = group.node, taps_of(group.node)
    each = np.arange(taps.groups)[:, None]
    sources, targets = (
        np.ravel_multi_index(
            (
                each * steps[0] + pixels[0] * steps[1],
                *(np.broadcast_to(part, (taps.groups, len(part))) for part in pixels[1:]),
            ),
            shape,
        ).ravel()
        for steps, pixels, shape in (
            (taps.x_steps, taps.x, node.input_shapes[0]),
            (taps.y_steps, taps.y, node.output_shape),
        )
    )
    walk.move_numbers(group, group.source, sources, targets)


lowered(
    "pad",
    "interpolate",
    forward=forward_sampling,
    backward=backward_sampling,
    channels=_by_channel,
    keeps_lanes=True,
)
lowered(
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    forward=forward_sampling,
    backward=backward_sampling,
    channels=_shuffled,
)
