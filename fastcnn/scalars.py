"""Numbers that users give: numpy's become Python's, which no arithmetic wraps and JSON takes."""

from dataclasses import fields
from typing import Any

import numpy as np

PLAIN = ((np.bool_, bool), (np.integer, int), (np.floating, float))


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
