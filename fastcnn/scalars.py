"""Numbers that users give: numpy's become Python's, which no arithmetic wraps and JSON takes."""

from dataclasses import fields
from typing import Any

import numpy as np

PLAIN = ((np.bool_, bool), (np.integer, int), (np.floating, float))
#: Numbers of an array, or steps of anything: what a 32-bit place can say.
MOST_COUNT = 2**31 - 1


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number, Python's or numpy's; truth values are not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is one of Python's numbers; truth values are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """A value with Python's numbers in the place of numpy's, also within lists and for arrays."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        return next((kind(value) for scalar, kind in PLAIN if isinstance(value, scalar)), value)
    if type(value) in (tuple, list):
        return type(value)(plain(each) for each in value)
    return value


def make_plain(settings: Any) -> None:
    """Give the fields of a dataclass Python's numbers, also if it is frozen."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, (np.generic, np.ndarray, tuple, list)):
            object.__setattr__(settings, each.name, plain(value))
