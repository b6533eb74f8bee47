"""The cost of a program row, counted from its columns and tables; see ``describe`` and ``profile``.

FLOPs are those of the samples, without idle lanes and without the overshoot of register tiles. A
multiply-add counts as two, even with padding zeros, and an element of a function such as the
sigmoid as one. Bytes are the distinct ones that a row must access: each block's activations, and
parameters once per batch. Repeated reads from a cache or a register are not counted.
"""

from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.codegen.simd import LANES

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """Work of one row for one batch."""

    #: Floating-point operations.
    flops: int = 0
    #: Bytes.
    read: int = 0
    written: int = 0

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.read + self.written

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.read + other.read, self.written + other.written)


def distinct(values: np.ndarray) -> int:
    """Number of distinct values; ``np.unique`` would import ``numpy.ma``."""
    ordered = np.sort(values, axis=None)
    return min(1, ordered.size) + int(np.count_nonzero(np.diff(ordered)))


class Row:
    """A program row with the tables it refers to."""

    def __init__(
        self,
        values: np.ndarray,
        tables: np.ndarray,
        batch: int,
        threads: int = 1,
        blocks: int | None = None,
    ) -> None:
        self._values = values
        self._tables = tables
        #: Samples, or bands of samples, without idle lanes.
        self.batch = batch * max(1, int(values[L.BANDS]))
        self.blocks = -(-batch // LANES) if blocks is None else blocks
        #: Number of blocks of a thread.
        self.own_blocks = max(1, self.blocks // threads)

    def __getitem__(self, column: int) -> int:
        return int(self._values[column])

    @property
    def elements(self) -> int:
        """Channels times positions, over all groups."""
        return max(1, self[L.GROUPS]) * self[L.CHANNELS] * self[L.POSITIONS]

    def table(self, column: int, count: int) -> np.ndarray:
        """The first entries of the table at a column's offset."""
        return self.table_at(self[column], count)

    def table_at(self, place: int, count: int) -> np.ndarray:
        """The first entries of the table at an offset."""
        return self._tables[place : place + count]

    def cost(
        self,
        flops: int,
        read: int,
        written: int,
        *,
        partial: int = 0,
        parameters_read: int = 0,
        parameters_written: int = 0,
    ) -> Cost:
        """The cost of a batch, from FLOPs per sample or band, and vectors and sums per block."""
        vectors = FLOAT_BYTES * LANES * self.blocks
        return Cost(
            flops * self.batch,
            vectors * read + FLOAT_BYTES * parameters_read,
            vectors * written + FLOAT_BYTES * (partial * self.blocks + parameters_written),
        )
