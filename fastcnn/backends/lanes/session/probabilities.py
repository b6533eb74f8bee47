"""Class probabilities from a network's outputs, in one compiled call."""

import ctypes
from array import array
from functools import cache
from typing import Any

import numpy as np

from fastcnn.codegen import build, simd
from fastcnn.codegen.build import Source
from fastcnn.codegen.elementary import exp
from fastcnn.codegen.entry import ArgumentEntry

LANES = simd.LANES
#: Types of: logits and probabilities, the first wrong row, rows and classes.
KINDS = ("float32[:]", "int64[:]", "int64", "int64")
_RUN = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


def softmax_rows(x, wrong, rows, classes):
    """Replace the rows of X, which begin after one vector, by their softmax, which begins at 0.

    A vector that extends beyond a row of probabilities thus ends before the logits still to be
    read. Logits are followed by room for a vector. ``wrong`` is set to the first row that is not
    finite.
    """
    for row in range(rows):
        y = row * classes
        first = y + LANES
        largest, zero = x[first], np.float32(0)
        for k in range(first, first + classes):
            largest = max(largest, x[k])
            # Infinity or NaN makes this NaN.
            zero += x[k] - x[k]
        if zero != np.float32(0) and wrong[0] < 0:
            wrong[0] = row
        total = np.float32(0)
        for k in range(0, classes, LANES):
            value = exp(simd.sub(simd.load(x, first + k), simd.splat(largest)))
            total += simd.lane_sum(simd.first_lanes(min(classes - k, LANES), value))
            simd.store(x, y + k, value)
        inverse = simd.splat(np.float32(1) / total)
        for k in range(0, classes, LANES):
            simd.store(x, y + k, simd.mul(simd.load(x, y + k), inverse))


def softmax_source() -> Source:
    """The source of the function."""
    entry = ArgumentEntry("fastcnn_softmax_rows", KINDS)
    return Source(softmax_rows, entry, (__name__, "softmax_source", []))


def softmax(values: np.ndarray, place: int, rows: int, classes: int) -> int:
    """Replace rows of logits by their softmax; returns the first that is not finite, or -1.

    ``values``, at the address ``place``, has rows * classes + 2 * LANES floats: logits from
    ``values[LANES]`` on, of which probabilities begin at ``values[0]``.
    """
    words = array("q", (place, values.size, 0, 1, rows, classes, -1))
    here = words.buffer_info()[0]
    words[2] = here + 48
    _compiled()(here)
    return words[6]


@cache
def _compiled() -> Any:
    (address,) = build.addresses([softmax_source()])
    return _RUN(address)
