"""Sums and roots of Python floats that overflow to infinity, as those of arrays do.

``math`` raises instead: OverflowError for a sum beyond the largest number, ValueError for the sum
of two infinities of opposite sign or the root of a negative number.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from fastcnn.backends.sample_sets import Sets


def total(values: Iterable[float]) -> float:
    """The exact sum, rounded once; infinity or NaN as in IEEE 754."""
    numbers = list(values)
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return sum(numbers)


def root(value: float) -> float:
    """Square root; NaN for a negative number."""
    return math.sqrt(value) if value >= 0.0 else math.nan


def members(x: np.ndarray, sets: Sets) -> Iterator[list[tuple[int, ...]]]:
    """Indices of the elements of each set."""
    places = list(np.ndindex(x.shape[1:]))
    members: list[list[tuple[int, ...]]] = [[] for _ in range(sets.count)]
    for place, number in zip(places, sets.set_numbers(), strict=True):
        members[number].append(place)
    for n in range(x.shape[0]):
        for part in members:
            yield [(n, *place) for place in part]
