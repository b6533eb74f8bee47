"""Synchronisation points of a program: sums over a batch that several processes exchange."""

from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.norm import K_NORM_GRADIENT_STATISTICS, K_NORM_STATISTICS
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.planning.buffers import LANES


@dataclass(frozen=True)
class Meeting:
    """The sums of each block of one batch normalisation, forward or backward."""

    #: The phase that reads them.
    phase: int
    #: Whether they are means and squared deviations, or the gradient's two sums.
    is_forward: bool
    #: The state key of the running mean that they update.
    running: str | None
    #: Their layout in the arena.
    channels: int
    positions: int
    start: int
    stride: int

    def _blocks(self, arena: np.ndarray, count: int) -> list[tuple[int, np.ndarray]]:
        starts = range(0, count, LANES)
        return [
            (
                min(LANES, count - first) * self.positions,
                arena[self.start + first // LANES * self.stride :][: 2 * self.channels],
            )
            for first in starts
        ]

    def read(self, arena: np.ndarray, count: int) -> list[tuple[float, np.ndarray, np.ndarray]]:
        """Number of values, and the two rows of sums, of each block."""
        return [
            (float(size), *np.split(values.astype(np.float64), 2))  # type: ignore[misc]
            for size, values in self._blocks(arena, count)
        ]

    def write_moments(
        self, arena: np.ndarray, count: int, mean: np.ndarray, variance: np.ndarray
    ) -> None:
        """Set every block's statistics to the mean and the variance of a whole batch."""
        for size, values in self._blocks(arena, count):
            values[: self.channels] = mean
            values[self.channels :] = variance * size

    def write_means(
        self, arena: np.ndarray, count: int, first: np.ndarray, second: np.ndarray
    ) -> None:
        """Set the blocks' sums to those of given means."""
        for size, values in self._blocks(arena, count):
            values[: self.channels] = first * size
            values[self.channels :] = second * size


def norm_meetings(program: Program) -> list[Meeting]:
    """The meetings of a program, in execution order."""
    kernels = {K_NORM_STATISTICS: True, K_NORM_GRADIENT_STATISTICS: False}
    keys = {offset: key for key, (offset, _) in program.running.items()}
    found = []
    for phase, (first, end, _) in enumerate(program.phases):
        for row in program.rows[first:end]:
            if row[L.KERNEL] in kernels and row[L.MODE] == L.OF_BATCH:
                forward = kernels[int(row[L.KERNEL])]
                where = (row[L.CHANNELS], row[L.POSITIONS], row[L.EXTRA], row[L.EXTRA_BLOCK])
                key = keys.get(int(row[L.RUNNING])) if forward else None
                found.append(Meeting(phase, forward, key, *map(int, where)))
    return found
