"""Dividing work among threads."""

import numpy as np

from fastcnn.codegen import linked

#: Arguments that numba takes for any others: a function is compiled again for each literal.
NOUGHT, ONE, MISSING = np.int64(0), np.int64(1), np.int64(-1)
NO, YES = np.bool_(False), np.bool_(True)


@linked
def share(units, part, parts):
    """First and last unit of a share."""
    return units * part // parts, units * (part + 1) // parts
