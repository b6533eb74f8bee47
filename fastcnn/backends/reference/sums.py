"""Sums and roots of Python floats that overflow to infinity, as those of arrays do.

``math`` raises instead: OverflowError for a sum beyond the largest number, ValueError for the sum
of two infinities of opposite sign or the root of a negative number.
"""

import math
from collections.abc import Iterable


def total(values: Iterable[float]) -> float:
    """The exact sum, rounded once; infinity or NaN where IEEE 754 says so."""
    numbers = list(values)
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return sum(numbers)


def root(value: float) -> float:
    """Square root; NaN for a negative number."""
    return math.sqrt(value) if value >= 0.0 else math.nan
