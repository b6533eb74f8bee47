"""Out of lanes: a buffer of 16 samples becomes a row of an array for each of them."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import share
from fastcnn.backends.lanes.kernels.record import Kernel, numbered, per_number, sizes_of
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena
from fastcnn.codegen import linked, simd
from fastcnn.codegen.transpose_tiles import unpack_tile

LANES = simd.LANES


@linked
def write_output(A, T, r, block, count, start, outputs, part, parts):
    """Copy one block of X to a row of ``outputs`` for each sample."""
    size, table = r[L.IN], r[L.X_TABLE]
    x0 = r[L.X] + block * r[L.X_BLOCK]
    valid = min(LANES, count - block * LANES)
    y0 = (start + block * LANES) * size
    if size >= LANES:
        first, last = share((size + LANES - 1) // LANES, part, parts)
        for unit in range(first, last):
            # The last tile overlaps the one before it rather than be a short one.
            i = min(unit * LANES, size - LANES)
            unpack_tile(A, x0, T, table + i, valid, outputs, y0 + i, size)
    elif part == 0:
        for lane in range(valid):
            for k in range(size):
                outputs[y0 + lane * size + k] = A[x0 + T[table + k] + lane]


def _reach(r: Reach) -> Touches:
    elements = r.entries(L.X_TABLE, r.count(L.IN, 1))
    yield arena("X", r.blocks(L.X, L.X_BLOCK) + elements)


K_OUTPUT = numbered(
    Kernel(
        write_output,
        "output",
        per_number(0, 1, 1),
        sizes_of(L.IN),
        gradients=("x",),
        touches=_reach,
        of_run="outputs",
    )
)
