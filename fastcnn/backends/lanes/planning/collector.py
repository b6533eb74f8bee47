"""Collects the rows of a program, in phases; those of operations in strips in turns."""

from collections.abc import Callable

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.planning.buffers import Buffer
from fastcnn.backends.lanes.planning.strips import Access, Strips, in_turns, strip_count


class Collector:
    """The rows, with a name for each, and the phases to which they belong.

    Operations run in strips only with ``strips``.
    """

    #: Size of the batch in blocks, and threads.
    blocks: int
    workers: int

    def __init__(self, strips: bool) -> None:
        #: Bands of each sample in the rows that are added.
        self.bands = 0
        self.rows: list[np.ndarray] = []
        self.names: list[str] = []
        #: First and last + 1 row, and the least number of parts in which the rows process the whole
        #: batch, or 0.
        self.phases: list[tuple[int, int, int]] = []
        self._sealed = 0
        self._in_strips = strips
        # Consecutive operations that may run in strips, whose rows are not added yet.
        self._waiting: list[Strips] = []

    def emit(self, name: str, values: np.ndarray, whole: int = 0, apart: bool = True) -> None:
        """Add a row to the current block phase, or as a batch phase of at least ``whole`` parts.

        With ``apart`` False, a batch row joins the preceding batch phase; of that it may depend
        only on its own part.
        """
        self.complete()
        values[L.BANDS] = self.bands
        self._add(name, values, whole, apart)

    def emit_strips(
        self,
        name: str,
        accesses: list[list[Access]],
        row: Callable[[int, int], np.ndarray],
        by_channel: bool = False,
    ) -> None:
        """Add an operation that may run in strips, to the current block phase.

        Parameters
        ----------
        accesses : list of list of Access
            For each strip the parts of maps that it accesses, except those that no other operation
            accesses.
        row : callable
            ``row(first, last)`` is the row of some consecutive strips.
        by_channel : bool
            Whether a strip has all positions of some channels, instead of the other way round.
        """
        if self._in_strips and len(accesses) > 1:
            if self._waiting and self._waiting[-1].by_channel != by_channel:
                self.complete()
            bands = self.bands

            def in_bands(first: int, last: int) -> np.ndarray:
                values = row(first, last)
                values[L.BANDS] = bands
                return values

            self._waiting.append(Strips(name, accesses, in_bands, by_channel))
        else:
            self.emit(name, row(0, len(accesses)))

    def emit_channels(
        self,
        name: str,
        units: int,
        maps: list[tuple[Buffer, bool]],
        row: Callable[[int, int], np.ndarray],
    ) -> None:
        """Add an operation that processes one unit of channels after the other, maybe in strips.

        Parameters
        ----------
        maps : list of (Buffer, bool)
            The maps that it accesses, whose channels belong to the units in order, and whether it
            writes them.
        row : callable
            ``row(first, last)`` is the row of some consecutive units.
        """
        count = strip_count(units, *(buffer for buffer, _ in maps))
        ranges = [(units * i // count, units * (i + 1) // count) for i in range(count)]
        accesses = [
            [
                Access(buffer, 0, buffer.channel, writes, *(end * each for end in ends))
                for buffer, writes in maps
                for each in [buffer.channels // units]
            ]
            for ends in ranges
        ]
        self.emit_strips(
            name, accesses, lambda first, last: row(ranges[first][0], ranges[last - 1][1]), True
        )

    def complete(self) -> None:
        """Add the rows of operations in strips that are not added yet."""
        operations, self._waiting = self._waiting, []
        for name, values in in_turns(operations, self.blocks, self.workers):
            self._add(name, values)

    def seal(self) -> None:
        """End the current phase: the next row begins a new one."""
        self.complete()
        self._sealed = len(self.phases)

    def _add(self, name: str, values: np.ndarray, whole: int = 0, apart: bool = True) -> None:
        index = len(self.rows)
        self.rows.append(values)
        self.names.append(name)
        joins = self.phases and self.phases[-1][2] == int(whole) and not (whole and apart)
        if joins and len(self.phases) > self._sealed:
            self.phases[-1] = (self.phases[-1][0], index + 1, int(whole))
        else:
            self.phases.append((index, index + 1, int(whole)))
