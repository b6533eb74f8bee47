"""Class probabilities of a network's outputs, in one compiled call."""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from fastcnn.codegen import build, simd
from fastcnn.codegen.build import Source
from fastcnn.codegen.elementary import exp
from fastcnn.codegen.entry import ArgumentEntry
from fastcnn.codegen.functions import address_of

LANES = simd.LANES
#: Of logits, probabilities, the first wrong row, rows and classes.
KINDS = ("float32[:]", "float32[:]", "int64[:]", "int64", "int64")
_RUN = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


def softmax_rows(x, y, wrong, rows, classes):
    """Write the softmax of each row of X to Y, and to ``wrong`` the first row that is not finite.

    A vector reaches beyond a row: both arrays have room for one after the last.
    """
    for row in range(rows):
        first = row * classes
        largest, zero = x[first], np.float32(0)
        for k in range(first, first + classes):
            largest = max(largest, x[k])
            # Infinity and NaN make a NaN.
            zero += x[k] - x[k]
        if zero != np.float32(0) and wrong[0] < 0:
            wrong[0] = row
        total = np.float32(0)
        for k in range(0, classes, LANES):
            value = exp(simd.sub(simd.load(x, first + k), simd.splat(largest)))
            total += simd.lane_sum(simd.first_lanes(min(classes - k, LANES), value))
            simd.store(y, first + k, value)
        inverse = simd.splat(np.float32(1) / total)
        for k in range(0, classes, LANES):
            simd.store(y, first + k, simd.mul(simd.load(y, first + k), inverse))


def softmax_source() -> Source:
    """What the function is compiled from."""
    entry = ArgumentEntry("fastcnn_softmax_rows", KINDS)
    return Source(softmax_rows, entry, (__name__, "softmax_source", []))


def probabilities(logits: np.ndarray, rows: int) -> tuple[np.ndarray, int]:
    """The softmax of rows of logits, and the first row that is not finite, or -1.

    Parameters
    ----------
    logits : ndarray of float32, shape (rows * classes + 16,)
        With room for a vector after the last row.

    Returns
    -------
    ndarray of float32, shape (rows, classes)
    int
    """
    size = logits.size - LANES
    made = np.empty_like(logits)
    words = (ctypes.c_int64 * 9)()
    here, wrong = ctypes.addressof(words), 8
    words[:] = [
        address_of(logits),
        logits.size,
        address_of(made),
        made.size,
        here + 8 * wrong,
        1,
        rows,
        size // rows,
        -1,
    ]
    _compiled()(here)
    return made[:size].reshape(rows, -1), words[wrong]


@cache
def _compiled() -> Any:
    (address,) = build.addresses([softmax_source()])
    return _RUN(address)
