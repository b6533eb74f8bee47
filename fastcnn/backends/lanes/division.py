"""Dividing work among threads."""

from numba import njit


@njit(inline="always")
def share(units, part, parts):
    """First and last unit of a share."""
    return units * part // parts, units * (part + 1) // parts
