"""Phases of a row: pixels that have taps of their own, computed one after the other.

A convolution has one. The input's gradient of a convolution with stride has one for all rows and
columns that are equal modulo the stride: they see the same part of the kernel. All of them read
the same pixels, which a row with several phases fetches once.
"""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Row
from fastcnn.codegen.simd import LANES

#: Numbers of an entry of a table of phases: taps and the table of them, where their weights are
#: found, pixels, and tables of where these are read and written.
PHASE = 6
PHASE_TAPS, TAPS_AT, WEIGHTS_AT, PIXELS, READ_AT, WRITTEN_AT = range(PHASE)


def entries(r: Row) -> list[list[int]]:
    """The phases of a row."""
    table = r.table(L.PHASE_TABLE, r[L.PHASES] * PHASE)
    return [[int(number) for number in entry] for entry in table.reshape(-1, PHASE)]


def products_of(r: Row) -> int:
    """Products for a channel of the output."""
    return sum(entry[PHASE_TAPS] * entry[PIXELS] for entry in entries(r))


def pixels_of(r: Row) -> int:
    """Pixels of a channel of the output."""
    return sum(entry[PIXELS] for entry in entries(r))


def vectors_read(r: Row) -> int:
    """Vectors that a group reads: each once, whichever taps meet there."""
    met = [
        np.add.outer(
            r.table_at(entry[READ_AT], entry[PIXELS]),
            r.table_at(entry[TAPS_AT], entry[PHASE_TAPS]),
        ).ravel()
        for entry in entries(r)
    ]
    return vectors(np.concatenate(met)) if met else 0


def vectors(places: np.ndarray) -> int:
    """Vectors at some places, each once."""
    if not places.size:
        return 0
    numbers = places // LANES
    return int(np.count_nonzero(np.bincount(numbers - numbers.min())))
