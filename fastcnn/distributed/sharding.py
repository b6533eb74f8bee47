"""The division of batches among processes."""

from dataclasses import dataclass

#: Samples of a block of the engine; also of a part of an ordered sum.
BLOCK = 16


@dataclass(frozen=True)
class Shards:
    """Divides batches into contiguous, disjoint shares, one per process.

    Shares differ by one unit at most. The engine takes as long for equal shares as for shares of
    whole blocks of 16: the largest has ``ceil(batch / size / 16)`` blocks either way.

    Attributes
    ----------
    batch_size : int
        Samples of all processes together.
    unit : int
        Samples that stay together.
    """

    rank: int
    size: int
    batch_size: int
    unit: int = 1

    def share(self, count: int, rank: int | None = None) -> tuple[int, int]:
        """Start and end of a process' share of a batch of ``count``; may be empty."""
        rank = self.rank if rank is None else rank
        each, left = divmod(-(-count // self.unit), self.size)
        first = rank * each + min(rank, left)
        end = first + each + (rank < left)
        return min(first * self.unit, count), min(end * self.unit, count)

    def smallest(self, count: int) -> int:
        """Samples of the smallest non-empty share of a batch of ``count``."""
        sizes = [end - first for first, end in (self.share(count, r) for r in range(self.size))]
        return min(size for size in sizes if size)

    def places(self, count: int) -> list[slice]:
        """The slices of this process' shares of consecutive batches, among ``count`` samples."""
        if self.size == 1:
            return [slice(0, count)]
        slices = []
        for start in range(0, count, self.batch_size):
            first, end = self.share(min(self.batch_size, count - start))
            if end > first:
                slices.append(slice(start + first, start + end))
        return slices
