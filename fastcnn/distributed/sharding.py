"""Which samples of a batch a process has."""

import numpy as np

#: Samples that the engine takes at once: shares begin at a multiple of it where there are enough.
BLOCK = 16


def share(count: int, rank: int, size: int) -> tuple[int, int]:
    """First and last sample of a process' contiguous share of a batch.

    Shares are disjoint and cover the batch; they differ by one block at most, or by one sample
    where there are less blocks than processes.
    """
    blocks = -(-count // BLOCK)
    if blocks < size:
        return count * rank // size, count * (rank + 1) // size
    first, last = blocks * rank // size, blocks * (rank + 1) // size
    return first * BLOCK, min(last * BLOCK, count)


def shares_of_batches(order: np.ndarray, batch_size: int, rank: int, size: int) -> list[np.ndarray]:
    """A process' samples of each consecutive batch of ``order``."""
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    parts = [share(len(batch), rank, size) for batch in batches]
    return [batch[first:last] for batch, (first, last) in zip(batches, parts, strict=True)]
