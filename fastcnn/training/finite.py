"""Whether the numbers of a training are finite: weights that are not are never kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def not_finite(arrays: Mapping[str, Any]) -> str | None:
    """What is not finite in the first array of which that holds, as words for a message.

    Parameters
    ----------
    arrays : mapping of str to ndarray

    Returns
    -------
    str or None
        None if all are finite.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            return f"{array.size - int(finite.sum())} of {array.size} numbers of {name}"
    return None
