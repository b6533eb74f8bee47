"""Sums of gradients that do not depend on the number of processes."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fastcnn.distributed.world import World


def ordered_sum(world: World, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """The sum of all processes' rows, one after the other, the same bits however they are spread.

    Each process sums a segment of all rows: a row travels once, and the sums once more, where
    gathering all rows everywhere would send each to every process.

    Parameters
    ----------
    rows : ndarray, shape (counts[rank], N)
        This process' rows; those of rank 0 come first.
    counts : sequence of int
        Rows of each process.

    Returns
    -------
    ndarray, shape (N,)
    """
    bounds = [rows.shape[1] * rank // world.size for rank in range(world.size + 1)]
    widths = [end - first for first, end in pairwise(bounds)]
    parts = np.concatenate([rows[:, first:end].reshape(-1) for first, end in pairwise(bounds)])
    mine = widths[world.rank]
    segment = world.exchange(
        parts, [len(rows) * width for width in widths], [count * mine for count in counts]
    ).reshape(sum(counts), mine)
    total = segment[0].copy()
    for row in segment[1:]:
        total += row
    return world.join_parts(total, widths)
