"""The kernel of normalisation within samples and of the softmax, with a channel in each lane.

A block is one sample. P has packed weights; Z is per-thread scratch for a line of contiguous
values.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.division import STRIP, base, share
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.record import numbered
from fastcnn.backends.lanes.kernels.sets import group_sets, sums_of_two
from fastcnn.backends.lanes.planning.rows import fused
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena, parameters
from fastcnn.backends.sample_sets import Sets
from fastcnn.codegen import linked, simd
from fastcnn.codegen.elementary import exp, log, sqrt
from fastcnn.errors import ProgramError

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.planning.channel_planner import ChannelPlanner
    from fastcnn.backends.lanes.planning.grouping import Group

LANES = simd.LANES
INFINITE = np.float32(np.inf)


@linked
def variance_of(A, line, members, vectors, mean):
    """Mean squared deviation of a line from a given mean."""
    total = simd.splat(np.float32(0))
    for begin in range(0, vectors, STRIP):
        strip = simd.splat(np.float32(0))
        for i in range(begin, min(begin + STRIP, vectors)):
            value = simd.sub(simd.load(A, line + i * LANES), mean)
            value = simd.first_lanes(min(LANES, members - i * LANES), value)
            strip = simd.fma(value, value, strip)
        total = simd.add(total, strip)
    return simd.lane_sum(total) / np.float32(members)


@linked
def is_finite(A, line, vectors):
    """Whether all values of a line are finite."""
    zero = simd.splat(np.float32(0))
    total = zero
    for i in range(vectors):
        total = simd.fma(simd.load(A, line + i * LANES), zero, total)
    return simd.lane_sum(total) == 0


@linked
def normalise_line(A, P, r, line, members, vectors, number):
    """(Line - mean) / deviation, then weight and bias; without CENTRED the mean is 0."""
    mean = simd.splat(np.float32(0))
    if r[L.MODE] == L.CENTRED:
        level, total = simd.splat(A[line]), simd.splat(np.float32(0))
        for begin in range(0, vectors, STRIP):
            strip = simd.splat(np.float32(0))
            for i in range(begin, min(begin + STRIP, vectors)):
                strip = simd.add(strip, simd.sub(simd.load(A, line + i * LANES), level))
            total = simd.add(total, strip)
        mean = simd.splat(simd.lane_sum(total) / np.float32(members) + A[line])
    variance = variance_of(A, line, members, vectors, mean)
    if r[L.MODE] == L.CENTRED and not variance < INFINITE and is_finite(A, line, vectors):
        # As in sample_norm.py: the normalised value is 0, and no deviation may be infinite.
        mean, variance = simd.splat(np.float32(0)), INFINITE
    inverse = simd.div(simd.splat(np.float32(1)), sqrt(simd.splat(variance + A[r[L.SCALE]])))
    for i in range(vectors):
        at = line + i * LANES
        value = simd.mul(simd.sub(simd.load(A, at), mean), inverse)
        if r[L.W] >= 0:
            value = simd.mul(value, simd.load(P, r[L.W] + number * r[L.OUT] + i * LANES))
        if r[L.BIAS] >= 0:
            value = simd.add(value, simd.load(P, r[L.BIAS] + number * r[L.OUT] + i * LANES))
        if r[L.RELU]:
            value = simd.relu(value)
        simd.store(A, at, value)


@linked
def softmax_line(A, line, members, vectors, largest, logarithm):
    """exp(Line - largest) / their sum, or the logarithm of that."""
    level, total = simd.splat(largest), simd.splat(np.float32(0))
    for i in range(vectors):
        at = line + i * LANES
        value = simd.sub(simd.load(A, at), level)
        chance = simd.first_lanes(min(LANES, members - i * LANES), exp(value))
        simd.store(A, at, value if logarithm else chance)
        total = simd.add(total, chance)
    whole = simd.splat(simd.lane_sum(total))
    shift, factor = log(whole), simd.div(simd.splat(np.float32(1)), whole)
    for i in range(vectors):
        at = line + i * LANES
        value = simd.load(A, at)
        simd.store(A, at, simd.sub(value, shift) if logarithm else simd.mul(value, factor))


@linked
def channel_sets(A, T, P, r, block, slot, worker, part, parts):
    """Normalise GROUPS sets of POSITIONS values by MODE; IN selects the softmax.

    X_TABLE and Y_TABLE have the offset of each set, then of each member relative to its set, of
    which runs of ALONG are adjacent on both sides. Weights and biases are lines, OUT floats apart.
    """
    sets, members = r[L.GROUPS], r[L.POSITIONS]
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    xs, ys = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    inner, inner_y = xs[sets:], ys[sets:]
    line, vectors = r[L.Z] + worker * r[L.Z_SLOT], (members + LANES - 1) // LANES
    first, last = share(sets, part, parts)
    for s in range(first, last):
        x, y = x0 + xs[s], y0 + ys[s]
        if r[L.ALONG] == LANES:
            for k in range(0, members, LANES):
                simd.store(A, line + k, simd.load(A, x + inner[k]))
            normalise_line(A, P, r, line, members, vectors, s)
            for k in range(0, members, LANES):
                simd.store(A, y + inner_y[k], simd.load(A, line + k))
            continue
        largest = A[x + inner[0]]
        for k in range(members):
            value = A[x + inner[k]]
            A[line + k] = value
            largest = max(largest, value)
        for k in range(members, vectors * LANES):
            A[line + k] = A[line]
        if r[L.IN]:
            softmax_line(A, line, members, vectors, largest, r[L.MODE] == L.LOGARITHM)
        else:
            normalise_line(A, P, r, line, members, vectors, s)
        for k in range(members):
            A[y + inner_y[k]] = A[line + k]


def _cost(r: Row) -> Cost:
    numbers = r[L.GROUPS] * r[L.POSITIONS] * r.batch
    # A single value takes as long as half a vector from the cache.
    read = FLOAT_BYTES * (4 if r[L.ALONG] == LANES else 2 * LANES)
    return Cost(10 * numbers, read * numbers, FLOAT_BYTES * numbers)


def _reach(r: Reach) -> Touches:
    """Members of sets, weights in lines, and a thread's own line."""
    sets, members = r.count(L.GROUPS, 1), r.count(L.POSITIONS, 1)
    line = -(-members // LANES) * LANES
    wide = r.among(L.ALONG, (1, LANES)) == LANES
    if wide and members % LANES:
        raise ProgramError(f"sets of {members} values are not whole vectors")
    for name in "XY":
        places = sums_of_two(r, getattr(L, f"{name}_TABLE"), sets, members)
        yield arena(name, r.buffer(getattr(L, name)) + places, LANES if wide else 1)
    yield arena("Z", r.workers(L.Z, L.Z_SLOT), line)
    if r.among(L.IN, (0, 1)):
        r.among(L.MODE, (L.PROBABILITY, L.LOGARITHM))
        return
    r.among(L.MODE, (L.CENTRED, L.AROUND_ZERO))
    yield r.floats("SCALE", 1)
    for name, column in (("W", L.W), ("BIAS", L.BIAS)):
        if r[column] >= 0:
            yield parameters(name, r.along(sets, r.count(L.OUT)) + r[column], line)


K_SETS = numbered(
    channel_sets,
    "sets by channels",
    _cost,
    lambda r: f"{r[L.GROUPS]} x {r[L.POSITIONS]}",
    touches=_reach,
)


def channel_set_rows(walk: "ChannelForward", group: "Group", **columns: int) -> None:
    """Rows for the sets of a sample; the sets of one row have the same memory layout."""
    planner, node = walk.planner, group.node
    x, y = walk.values[group.source], walk.output(group)
    sets = group_sets(group)
    sources, targets = (_by_set(sets, walk.places[index]) for index in (group.source, group.target))
    numbers = _by_set(sets, sets.weight_numbers())
    patterns = np.concatenate([sources - sources[:, :1], targets - targets[:, :1]], axis=1)
    found: list[int] = np.unique(patterns, axis=0, return_inverse=True)[1].ravel().tolist()
    for pattern in sorted(set(found)):
        mine = np.array([index for index, one in enumerate(found) if one == pattern])
        # Members may be in any order: in that of their addresses, whole vectors may be copied.
        order = np.argsort(sources[mine[0]])
        runs = [places[mine[0]][order] for places in (sources, targets)]
        wide = "in_" not in columns and all(_has_runs(places) for places in runs)
        values = row(
            K_SETS,
            **x.columns("x"),
            **y.columns("y"),
            groups=len(mine),
            positions=sets.members,
            **{
                f"{name}_table": planner.table(
                    np.concatenate([places[mine, order[0]], run - run[0]])
                )
                for name, places, run in zip("xy", (sources, targets), runs, strict=True)
            },
            along=LANES if wide else 1,
            **_lines(walk.planner, group, numbers[mine][:, order]),
            **columns,
        )
        name = f"{node.name}: {group.operation}" + fused(group)
        planner.emit(name, planner.with_scratch(values, sets.members))


def _has_runs(places: np.ndarray) -> bool:
    """Whether offsets are those of whole vectors."""
    runs = places[: len(places) // LANES * LANES].reshape(-1, LANES)
    return runs.size == places.size and bool((np.diff(runs) == 1).all())


def _lines(planner: "ChannelPlanner", group: "Group", numbers: np.ndarray) -> dict[str, int]:
    """Weights and biases in the order of each set's members; stored once if all sets share them."""
    same = bool((numbers == numbers[0]).all())
    numbers = numbers[:1] if same else numbers
    length = -(-numbers.shape[1] // LANES) * LANES
    columns: dict[str, int] = {"w": -1, "bias": -1, "out": 0 if same else length}
    for name, column in (("weight", "w"), ("bias", "bias")):
        values = planner.parameter(group, name)
        if values is not None:
            lines = np.zeros((len(numbers), length), np.float32)
            lines[:, : numbers.shape[1]] = values.ravel()[numbers]
            columns[column] = planner.weight(lines)
    return columns


def _by_set(sets: Sets, values: np.ndarray) -> np.ndarray:
    """Values of a sample's elements, with a row for each set."""
    others = [axis for axis in range(len(sets.view)) if axis not in sets.axes]
    order = values.reshape(sets.view).transpose(*others, *sets.axes)
    return order.reshape(sets.count, sets.members)
