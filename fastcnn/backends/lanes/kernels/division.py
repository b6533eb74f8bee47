"""Helpers of kernels: addresses of blocks, shares of work, and the division of long sums."""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.codegen import linked
from fastcnn.codegen.simd import LANES

#: Constants that numba types as int64 variables: a function is compiled again for each literal.
NOUGHT, ONE, MISSING = np.int64(0), np.int64(1), np.int64(-1)
NO, YES = np.bool_(False), np.bool_(True)
#: Positions of a map that are summed separately: the error of a float32 sum of n terms may reach n
#: roundings, which maps of one sign approach.
STRIP = 256


@linked
def base(r, column, block, slot):
    """Offset of a block's part of X, Y, M or Z, as defined in layout.py."""
    return r[column] + block * r[column + 1] + slot * r[column + 2]


@linked
def filled_lanes(r, count):
    """Lanes of a batch that are not idle: those of COUNT samples, or of each one's bands."""
    return count * max(r[L.BANDS], 1)


@linked
def share(units, part, parts):
    """First and last + 1 unit of a share."""
    return units * part // parts, units * (part + 1) // parts


@linked
def map_share(r, part, parts):
    """A share of a map: its first and last + 1 channel, and its first and last + 1 position.

    Large maps are divided by positions, as convolutions divide them: a core then reads what it has
    written itself.
    """
    channels, positions = r[L.CHANNELS], r[L.POSITIONS]
    if positions >= channels * LANES:
        return NOUGHT, channels, *share(positions, part, parts)
    return *share(channels, part, parts), NOUGHT, positions
