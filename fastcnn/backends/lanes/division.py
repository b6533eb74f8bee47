"""Dividing work among threads."""

import numpy as np

from fastcnn.backends.lanes.late_codegen import linked

#: Numbers that numba takes for any others: a function is compiled again for each literal.
NOUGHT, ONE = np.int64(0), np.int64(1)


@linked
def share(units, part, parts):
    """First and last unit of a share."""
    return units * part // parts, units * (part + 1) // parts
