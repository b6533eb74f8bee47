"""Columns of a program row: the interface between the planner and the kernels.

A row is ``WIDTH`` int64. Offsets count floats of the arena; an address is ``offset + block *
block_stride + slot * slot_stride``: buffers that outlive a block's pass have a block stride, others
a slot for each thread.
"""

import numpy as np

WIDTH = 65

# Columns that all kernels share.
KERNEL = 0
X, X_BLOCK, X_SLOT = 1, 2, 3
Y, Y_BLOCK, Y_SLOT = 4, 5, 6
M, M_BLOCK, M_SLOT = 7, 8, 9
W, BIAS = 10, 11
TAPS, TAP_TABLE = 12, 13
POSITIONS, X_TABLE, Y_TABLE = 14, 15, 16
GROUPS, CHANNELS = 17, 18
X_GROUP, X_CHANNEL, Y_CHANNEL = 19, 20, 21
RELU, MODE = 22, 23
IN, OUT = 24, 25
EXTRA, EXTRA_BLOCK = 26, 27
KEY, THRESHOLD = 28, 29
SCALE = 30
M_TABLE, M_CHANNEL = 31, 32
Z, Z_BLOCK, Z_SLOT, Z_TABLE, Z_CHANNEL = 33, 34, 35, 36, 37
BATCH, RUNNING = 38, 39
X_ROW, Y_ROW = 40, 41
#: For maps processed in strips of rows: rows of X, pixels in a row of Y, rows and columns of
#: padding.
X_ROWS, Y_WIDTH, TOP, LEFT = 42, 43, 44, 45
#: Rows of the highest strip; offset of the table of strips.
STRIP_ROWS, STRIP_TABLE = 46, 47
#: Rows of a convolution's kernel.
KERNEL_ROWS = 48
#: Floats between rows of M. Tables of tiles' offsets in the transforms and in the products.
M_ROW, V_TABLE, S_TABLE = 49, 50, 51
#: Tiles that a row of X has in addition to those of Y; pixels in the last rows of Y.
MORE_TILES, Y_LAST = 52, 53
#: Rows and columns of X from one output to the next; whether a row adds to another row's sums.
DOWN, ALONG, ADDS = 54, 55, 56
#: Rows whose products are computed at a time.
PASS_ROWS = 57
#: Parts of a map, with different taps, that are computed one after the other.
PHASES, PHASE_TABLE = 58, 59
#: Whether a convolution writes the mean and squares of each strip of its outputs to EXTRA.
MOMENTS = 60
#: Rows of Y, or those with Y_WIDTH pixels, if others have Y_LAST; tiles in a row of the map.
Y_ROWS, ACROSS = 61, 62
#: Shares of a block, each with separate sums.
SHARES = 63
#: Floats between adjacent pixels of a tile, which are as many columns of the map apart as a kernel
#: is dilated; convolutions draw no random numbers, so the column is reused.
SPACING = 28
#: The same for a tile of Y, where it differs from that of X.
Y_SPACING = 29
#: Whether a row that could process many blocks together processes them one by one; such rows have
#: no shares, so the column is reused.
BY_BLOCK = 63
#: Least number of parts into which the inputs of a linear layer are divided, by strips, in the
#: backward pass; 0 if not. Such rows have no tiles of a map, so the column is reused.
BY_STRIP = 62

#: Bands of each sample, one in each lane; 0 if a lane has a whole sample.
BANDS = 64

#: From this number on, kernels are generated from formulas of element-wise operations.
FIRST_FORMULA = 128

# Modes of convolutions; ADDED adds M, which has the layout of Y.
PLAIN, MASKED, POOLED, ADDED = 0, 1, 2, 3
#: Modes of K_DROPOUT.
ELEMENTS, WHOLE_CHANNELS = 0, 1
#: Modes of the transform of kernels: as they are, or flipped, for the input gradient.
AS_STORED, FLIPPED = 0, 1
#: Modes of losses: a single loss, or the first or a further one of several.
ALONE, FIRST, FURTHER = 0, 1, 2
#: Modes of K_PRODUCT_SUMS.
OF_CHANNELS, OF_PIXELS = 0, 1
#: Modes of the statistics of batch normalisation.
OF_BATCH, FROZEN = 0, 1
#: Modes of normalisation within samples: by deviations from the mean, or from 0.
CENTRED, AROUND_ZERO = 0, 1
#: Modes of the softmax.
PROBABILITY, LOGARITHM = 0, 1

#: Modes of an element-wise operation's parameter: one for all, one per channel, or a vector of them
#: for each block of channels in lanes.
FOR_ALL, FOR_CHANNELS, FOR_LANES = 0, 1, 2

#: Tables of positions are padded to a multiple of this by repeating the last entry.
POSITION_PAD = 16


def row(kernel: int, **columns: int) -> np.ndarray:
    """A program row from columns, named in lower case; IN is ``in_``."""
    values = np.zeros(WIDTH, np.int64)
    values[KERNEL] = kernel
    for name, value in columns.items():
        values[globals()[name.rstrip("_").upper()]] = value
    return values
