"""Kernels of samples that are divided into bands of rows, one band in each lane.

Band i of sample b is in lane ``b * bands + i``; see planning/bands.py.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered
from fastcnn.backends.lanes.kernels.sampling import K_MOVE
from fastcnn.backends.lanes.planning.bands import ROWS, Cut, Extension
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches
from fastcnn.codegen import linked, simd

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.forward import Forward
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner

LANES = simd.LANES
#: Numbers of a run: its offsets in X and Y, its vectors, and the first of its lanes' sources.
OF_RUN = 4


@linked
def gather_lanes(A, T, r, block, slot, part, parts):
    """Copy lanes of X to other lanes of Y, or add them with ADDS, in runs of vectors.

    TAP_TABLE has four numbers for each of POSITIONS runs, see OF_RUN, and X_TABLE for each lane the
    offset of its source from the vector's in X, or -1: such a lane gets the value at SCALE, and
    nothing is added to it.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    runs, adds, rest = r[L.POSITIONS], r[L.ADDS], A[r[L.SCALE]]
    table, lanes = T[r[L.TAP_TABLE] :], T[r[L.X_TABLE] :]
    # A vector may be in several runs, so threads have whole channels.
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        for k in range(runs):
            x = x0 + c * r[L.X_CHANNEL] + table[OF_RUN * k]
            y = y0 + c * r[L.Y_CHANNEL] + table[OF_RUN * k + 1]
            size, sources = table[OF_RUN * k + 2] * LANES, lanes[table[OF_RUN * k + 3] :]
            # Lane by lane: the address then grows by the same step.
            for lane in range(LANES):
                source = sources[lane]
                if source >= 0 and adds:
                    for i in range(0, size, LANES):
                        A[y + i + lane] += A[x + i + source]
                elif source >= 0:
                    for i in range(0, size, LANES):
                        A[y + i + lane] = A[x + i + source]
                elif not adds:
                    for i in range(0, size, LANES):
                        A[y + i + lane] = rest


def _cost(r: Row) -> Cost:
    vectors = r[L.CHANNELS] * int(r.table(L.TAP_TABLE, OF_RUN * r[L.POSITIONS])[2::OF_RUN].sum())
    adds = vectors if r[L.ADDS] else 0
    return r.cost(adds, vectors + adds, vectors)


def _reach(r: Reach) -> Touches:
    r.among(L.ADDS, (0, 1))
    runs = r.table(L.TAP_TABLE, OF_RUN * r.count(L.POSITIONS, 1)).reshape(-1, OF_RUN)
    lengths = (runs[:, 2].clip(1) - 1) * LANES
    for x, _, _, first in runs.tolist():
        lanes = r.table_at(r[L.X_TABLE] + first, LANES, "X_TABLE")
        lanes = lanes[lanes >= 0] + x
        yield r.pixels("X", Range.of(lanes, lanes + lengths.max()), 1)
    yield r.pixels("Y", Range.of(runs[:, 1], runs[:, 1] + lengths))
    yield r.floats("SCALE", 1)


K_GATHER_LANES = numbered(gather_lanes, "gather lanes", _cost, map_sizes, touches=_reach)
_LANE = np.arange(LANES)


def _runs(x: "Buffer", y: "Buffer", axis: int, places: tuple[int, int, int]) -> list[Any]:
    """Offsets in X and Y and lengths of the vectors of some rows, or of columns of all rows.

    ``places`` has the first one in X and in Y, and their number.
    """
    i, j, count = places
    if axis == ROWS:
        return [(x.at(i + k, 0), y.at(j + k, 0), y.width) for k in range(count)]
    return [(x.at(k, i), y.at(k, j), count) for k in range(y.height)]


def _gathered(
    planner: "Planner",
    name: str,
    x: "Buffer",
    y: "Buffer",
    axis: int,
    parts: list[tuple[tuple[int, int, int], np.ndarray]],
    adds: bool = False,
    fill: float = 0.0,
) -> None:
    """Add the row that fills parts of Y from lanes of X.

    Each part has its places, see :func:`_runs`, and the source of each lane, or -1, for ``fill``.
    """
    parts = [(places, lanes) for places, lanes in parts if places[2] > 0]
    runs = [
        (*run, k * LANES)
        for k, (places, _) in enumerate(parts)
        for run in _runs(x, y, axis, places)
    ]
    values = row(
        K_GATHER_LANES,
        **x.columns("x"),
        **y.columns("y"),
        channels=y.channels,
        x_channel=x.channel,
        y_channel=y.channel,
        positions=len(runs),
        tap_table=planner.table(runs),
        x_table=planner.table([lanes for _, lanes in parts]),
        adds=int(adds),
        scale=planner.constant([fill]),
    )
    planner.emit(name, values)


def _moved(
    planner: "Planner", name: str, x: "Buffer", y: "Buffer", axis: int, places: tuple[int, int, int]
) -> None:
    """Add the row that copies rows, or columns, of X to Y."""
    runs = _runs(x, y, axis, places)
    columns = {"channels": y.channels, "x_channel": x.channel, "y_channel": y.channel}
    columns |= {"positions": len(runs), "tap_table": planner.table(runs)}
    values = row(K_MOVE, **x.columns("x"), **y.columns("y"), **columns)
    planner.emit(name, values)


def _neighbours(bands: int, step: int) -> np.ndarray:
    """The lane of the band that is ``step`` below a lane's own, or -1 outside the sample."""
    band, source = _LANE % bands + step, _LANE + step
    return np.where((band >= 0) & (band < bands) & (source < LANES), source, -1)


def _size(x: "Buffer", axis: int) -> int:
    return x.height if axis == ROWS else x.width


def _divide(planner: "Planner", name: str, x: "Buffer", y: "Buffer", cut: Cut) -> None:
    """Divide bands X, or whole samples, into bands Y; what is beyond X is zero."""
    along, most = (x.row if cut.axis == ROWS else x.pixel), _size(x, cut.axis)
    start = _LANE % cut.each * cut.step
    lanes = start * along + _LANE // cut.each
    # The first part ends where the last band leaves the map, and so on.
    ends = sorted({*(most - start).clip(0, _size(y, cut.axis)).tolist()} - {0})
    parts = [
        ((first, first, last - first), np.where(start + first < most, lanes, -1))
        for first, last in pairwise([0, *ends])
    ]
    _gathered(planner, name, x, y, cut.axis, parts)


def _unite(planner: "Planner", name: str, x: "Buffer", y: "Buffer", cut: Cut) -> None:
    """Unite adjacent bands X to one, or to a whole sample, Y, without what is beyond it."""
    size, parts = _size(x, cut.axis), []
    for part in range(cut.each):
        source = _LANE * cut.each + part
        lanes = np.where(source < LANES, source, -1)
        count = min(size, _size(y, cut.axis) - part * size)
        parts.append(((0, part * size, count), lanes))
    _gathered(planner, name, x, y, cut.axis, parts)


def _conversion(name: str, there: Any, back: Any) -> dict[str, Any]:
    """The lowering of a step between bands and whole samples, whose gradient is the way back."""

    def forward(walk: "Forward", group: "Group") -> None:
        x, y, cut = walk.values[group.source], walk.output(group), group.node.arguments["cut"]
        there(walk.planner, f"{group.node.name}: {name}", x, y, cut)

    def backward(walk: "Backward", group: "Group", grad: "Buffer") -> None:
        grad_x, cut = walk.wanted(group), group.node.arguments["cut"]
        if grad_x is not None:
            back(walk.planner, f"{group.node.name}: gradient of {name}", grad, grad_x, cut)

    return {"forward": forward, "backward": backward}


def _extend(walk: "Forward", group: "Group") -> None:
    """A band with rows, or columns, of its neighbours."""
    planner, x, y = walk.planner, walk.values[group.source], walk.output(group)
    more: Extension = group.node.arguments["extension"]
    size = _size(x, more.axis)
    _moved(planner, f"{group.node.name}: copy", x, y, more.axis, (0, more.above, size))
    upper, lower = _neighbours(more.bands, -1), _neighbours(more.bands, 1)
    parts = [
        ((size - more.above, 0, more.above), upper),
        ((0, more.above + size, more.below), lower),
    ]
    name = f"{group.node.name}: rows of neighbours"
    _gathered(planner, name, x, y, more.axis, parts, fill=more.fill)


def _extend_gradient(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    """The gradients of a band's own rows, in its own band and in its neighbours."""
    planner, grad_x = walk.planner, walk.wanted(group)
    if grad_x is None:
        return
    more: Extension = group.node.arguments["extension"]
    size, name = _size(grad_x, more.axis), group.node.name
    places = (more.above, 0, size)
    _moved(planner, f"{name}: gradient of copy", grad, grad_x, more.axis, places)
    upper, lower = _neighbours(more.bands, -1), _neighbours(more.bands, 1)
    parts = [
        ((0, size - more.above, more.above), lower),
        ((more.above + size, 0, more.below), upper),
    ]
    _gathered(planner, f"{name}: gradient of neighbours", grad, grad_x, more.axis, parts, adds=True)


lowered("split_bands", **_conversion("split", _divide, _unite))
lowered("join_bands", **_conversion("join", _unite, _divide))
lowered("extend_bands", forward=_extend, backward=_extend_gradient)
