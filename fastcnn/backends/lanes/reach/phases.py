"""The phases of a row, and what each of them reads and writes."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastcnn.backends.lanes.convolution.phases import PHASE
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import MORE_POSITIONS, Range, Reach


@dataclass(frozen=True)
class Phase:
    """An entry of a table of phases; see convolution/phases.py."""

    r: Reach
    count: int
    taps_at: int
    weights_at: int
    pixels: int
    read_at: int
    written_at: int

    def taps(self) -> Range:
        """From a pixel to what it is the sum of."""
        return self.r.entries_at(self.taps_at, self.count, "a phase's taps")

    def weights(self) -> Range:
        """Which weights its taps have, where a table says so."""
        return self.r.entries_at(self.weights_at, self.count, "a phase's weights")

    def read(self) -> Range:
        """Pixels, with those that the last tile touches after them."""
        return self.r.entries_at(self.read_at, self.pixels + MORE_POSITIONS, "a phase's pixels")

    def written(self, count: int) -> Range:
        """Where some of the results go."""
        return self.r.entries_at(self.written_at, count, "a phase's targets")


def phases(r: Reach) -> Iterator[Phase]:
    """The phases of a row."""
    table = r.table(L.PHASE_TABLE, PHASE * r.count(L.PHASES)).reshape(-1, PHASE)
    for entry in table.tolist():
        yield Phase(r, *entry)
