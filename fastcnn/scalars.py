"""Conversion of users' numpy scalars to Python's, which do not overflow and suit JSON."""

from dataclasses import fields
from typing import Any

import numpy as np

PLAIN = ((np.bool_, bool), (np.integer, int), (np.floating, float))
#: Largest number of array elements, or of steps: the range of a 32-bit field.
MOST_COUNT = 2**31 - 1


def is_integer(value: Any) -> bool:
    """Whether a value is an integer, Python's or numpy's; booleans are not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is one of Python's numbers; booleans are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """Convert numpy's numbers to Python's, also within lists and arrays."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        return next((kind(value) for scalar, kind in PLAIN if isinstance(value, scalar)), value)
    if type(value) in (tuple, list):
        return type(value)(plain(each) for each in value)
    return value


def make_plain(settings: Any) -> None:
    """Convert numbers in the fields of a dataclass to Python's, even if it is frozen."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, (np.generic, np.ndarray, tuple, list)):
            object.__setattr__(settings, each.name, plain(value))
