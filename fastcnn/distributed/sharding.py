"""Which samples of a batch a process has."""

from dataclasses import dataclass

#: Samples that the engine takes at once; also those of an ordered sum's parts.
BLOCK = 16


@dataclass(frozen=True)
class Shards:
    """Divides batches into contiguous, disjoint shares, one a process.

    Shares differ by one unit at most. Equal shares take the engine as long as shares of whole
    blocks of 16 would: the largest has ``ceil(batch / size / 16)`` blocks either way.

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
        """First sample and end of a process' share of a batch of ``count``; may be empty."""
        rank = self.rank if rank is None else rank
        each, left = divmod(-(-count // self.unit), self.size)
        first = rank * each + min(rank, left)
        end = first + each + (rank < left)
        return min(first * self.unit, count), min(end * self.unit, count)

    def smallest(self, count: int) -> int:
        """Samples of the smallest share of a batch of ``count`` that is not empty."""
        sizes = [end - first for first, end in (self.share(count, r) for r in range(self.size))]
        return min(size for size in sizes if size)

    def places(self, count: int) -> list[slice]:
        """Where this process' shares of consecutive batches stand among ``count`` samples."""
        if self.size == 1:
            return [slice(0, count)]
        slices = []
        for start in range(0, count, self.batch_size):
            first, end = self.share(min(self.batch_size, count - start))
            if end > first:
                slices.append(slice(start + first, start + end))
        return slices
