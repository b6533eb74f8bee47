"""The kernel that copies single floats, with a channel in each lane: a block is one sample."""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.record import numbered
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena
from fastcnn.codegen import linked, simd
from fastcnn.errors import ProgramError

LANES = simd.LANES
#: Fields of an entry of a table of runs.
RUN = 5


@linked
def channel_move(A, T, r, block, slot, part, parts):
    """Copy runs of floats from X to Y.

    For each of POSITIONS runs, TAP_TABLE has its offsets in X and in Y, its length, and its strides
    in X and in Y.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    table = T[r[L.TAP_TABLE] :]
    first, last = share(r[L.POSITIONS], part, parts)
    for k in range(first, last):
        x, y, count = x0 + table[RUN * k], y0 + table[RUN * k + 1], table[RUN * k + 2]
        x_step, y_step = table[RUN * k + 3], table[RUN * k + 4]
        for i in range(count):
            A[y + i * y_step] = A[x + i * x_step]


def _cost(r: Row) -> Cost:
    numbers = r.batch * int(r.table(L.TAP_TABLE, RUN * r[L.POSITIONS])[2::RUN].sum())
    # Single floats take as long as vectors.
    return Cost(0, FLOAT_BYTES * LANES * numbers, FLOAT_BYTES * numbers)


def _reach(r: Reach) -> Touches:
    """Runs of single floats."""
    runs = r.table(L.TAP_TABLE, RUN * r.count(L.POSITIONS, 1)).reshape(-1, RUN).astype(np.int64)
    if (runs[:, 2] < 1).any():
        raise ProgramError("TAP_TABLE has an empty run")
    for name, first, step in (("X", 0, 3), ("Y", 1, 4)):
        ends = runs[:, first] + (runs[:, 2] - 1) * runs[:, step]
        yield arena(name, r.buffer(getattr(L, name)) + Range.of(runs[:, first], ends), 1)


K_MOVE = numbered(
    channel_move, "move by channels", _cost, lambda r: f"{r[L.POSITIONS]} runs", touches=_reach
)
