"""Kernels of samples that are divided into bands of rows, one band in each lane.

Band i of sample b is in lane ``b * bands + i``; see planning/bands.py.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered
from fastcnn.backends.lanes.kernels.sampling import K_MOVE
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena, channels_of
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
        if lanes.size:
            reached = Range(int(lanes.min()), int(lanes.max() + lengths.max()))
            yield arena("X", channels_of(r, L.X, L.X_CHANNEL, reached), 1)
    written = Range(int(runs[:, 1].min()), int((runs[:, 1] + lengths).max()))
    yield arena("Y", channels_of(r, L.Y, L.Y_CHANNEL, written))
    yield arena("SCALE", Range(r[L.SCALE], r[L.SCALE]), 1)


K_GATHER_LANES = numbered(gather_lanes, "gather lanes", _cost, map_sizes, touches=_reach)
_LANE = np.arange(LANES)


def _gathered(
    planner: "Planner",
    name: str,
    x: "Buffer",
    y: "Buffer",
    rows: list[tuple[int, int, np.ndarray]],
    adds: bool = False,
    fill: float = 0.0,
) -> None:
    """Add the row that fills some rows of Y.

    Each one is given by its row of X and of Y, and by the source of each lane, or -1.
    """
    runs = [(x.at(i, 0), y.at(j, 0), y.width, k * LANES) for k, (i, j, _) in enumerate(rows)]
    values = row(
        K_GATHER_LANES,
        **x.columns("x"),
        **y.columns("y"),
        channels=y.channels,
        x_channel=x.channel,
        y_channel=y.channel,
        positions=len(rows),
        tap_table=planner.table(runs),
        x_table=planner.table([lanes for _, _, lanes in rows]),
        adds=int(adds),
        scale=planner.constant([fill]),
    )
    planner.emit(name, values)


def _moved(planner: "Planner", name: str, x: "Buffer", y: "Buffer", first: int, to: int) -> None:
    """Add the row that copies rows of X, from the first on, to rows of Y."""
    count = min(x.height, y.height)
    runs = [(x.at(first + i, 0), y.at(to + i, 0), y.width) for i in range(count)]
    columns = {"channels": y.channels, "x_channel": x.channel, "y_channel": y.channel}
    columns |= {"positions": count, "tap_table": planner.table(runs)}
    values = row(K_MOVE, **x.columns("x"), **y.columns("y"), **columns)
    planner.emit(name, values)


def _neighbours(bands: int, step: int) -> np.ndarray:
    """The lane of the band that is ``step`` below a lane's own, or -1 outside the sample."""
    band = _LANE % bands + step
    return np.where((band >= 0) & (band < bands), _LANE + step, -1)


def _divide(planner: "Planner", name: str, x: "Buffer", y: "Buffer", each: int) -> None:
    """Divide bands X, or whole samples, into EACH bands Y."""
    down = _LANE % each * y.height * x.row
    _gathered(planner, name, x, y, [(i, i, down + _LANE // each) for i in range(y.height)])


def _unite(planner: "Planner", name: str, x: "Buffer", y: "Buffer", each: int) -> None:
    """Unite EACH adjacent bands X to one, or to a whole sample, Y."""
    rows = []
    for part in range(each):
        source = _LANE * each + part
        lanes = np.where(source < LANES, source, -1)
        rows += [(i, part * x.height + i, lanes) for i in range(x.height)]
    _gathered(planner, name, x, y, rows)


def _conversion(name: str, there: Any, back: Any) -> dict[str, Any]:
    """The lowering of a step between bands and whole samples, whose gradient is the way back."""

    def forward(walk: "Forward", group: "Group") -> None:
        x, y, each = walk.values[group.source], walk.output(group), group.node.arguments["each"]
        there(walk.planner, f"{group.node.name}: {name}", x, y, each)

    def backward(walk: "Backward", group: "Group", grad: "Buffer") -> None:
        grad_x, each = walk.wanted(group), group.node.arguments["each"]
        if grad_x is not None:
            back(walk.planner, f"{group.node.name}: gradient of {name}", grad, grad_x, each)

    return {"forward": forward, "backward": backward}


def _extend(walk: "Forward", group: "Group") -> None:
    """A band with rows of its neighbours."""
    planner, x, y = walk.planner, walk.values[group.source], walk.output(group)
    bands, above, below, fill = _extension(group)
    _moved(planner, f"{group.node.name}: copy", x, y, 0, above)
    upper, lower = _neighbours(bands, -1), _neighbours(bands, 1)
    rows = [(x.height - above + i, i, upper) for i in range(above)]
    rows += [(i, above + x.height + i, lower) for i in range(below)]
    _gathered(planner, f"{group.node.name}: rows of neighbours", x, y, rows, fill=fill)


def _extend_gradient(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    """The gradients of a band's own rows, in its own band and in its neighbours."""
    planner, grad_x = walk.planner, walk.wanted(group)
    if grad_x is None:
        return
    bands, above, below, _ = _extension(group)
    _moved(planner, f"{group.node.name}: gradient of copy", grad, grad_x, above, 0)
    upper, lower = _neighbours(bands, -1), _neighbours(bands, 1)
    rows = [(i, grad_x.height - above + i, lower) for i in range(above)]
    rows += [(above + grad_x.height + i, i, upper) for i in range(below)]
    _gathered(planner, f"{group.node.name}: gradient of neighbours", grad, grad_x, rows, adds=True)


def _extension(group: "Group") -> tuple[int, int, int, float]:
    arguments = group.node.arguments
    return arguments["bands"], arguments["above"], arguments["below"], arguments["fill"]


lowered("split_bands", **_conversion("split", _divide, _unite))
lowered("join_bands", **_conversion("join", _unite, _divide))
lowered("extend_bands", forward=_extend, backward=_extend_gradient)
