"""What kernels share: places of blocks, and shares of work; long sums divided into short ones."""

import numpy as np

from fastcnn.codegen import linked

#: Arguments that numba takes for any others: a function is compiled again for each literal.
NOUGHT, ONE, MISSING = np.int64(0), np.int64(1), np.int64(-1)
NO, YES = np.bool_(False), np.bool_(True)
#: Positions of a map that are summed up by themselves: a sum of n float32 one after the other may
#: be off by n roundings, which maps of one sign come near.
STRIP = 256


@linked
def base(r, column, block, slot):
    """Where a block's part of X, Y, M or Z begins; layout.py has the sum."""
    return r[column] + block * r[column + 1] + slot * r[column + 2]


@linked
def share(units, part, parts):
    """First and last unit of a share."""
    return units * part // parts, units * (part + 1) // parts
