"""Random numbers for images: those of :mod:`fastcnn.backends.counter_random`, compiled.

A hash of the key and a counter; each image has :data:`DRAWS` counters, so that neither the order of
images nor the number of threads matters.
"""

import numpy as np

from fastcnn.codegen import linked

#: Number of counters per image.
DRAWS = 128


@linked
def random_bits(key: np.uint64, counter: int) -> int:
    """:func:`fastcnn.backends.counter_random.uniform_bits` for one counter."""
    value = _lowbias32(np.uint32(np.uint32(counter) ^ np.uint32(key & 0xFFFFFFFF)))
    return int(_lowbias32(np.uint32(value + np.uint32(key >> np.uint64(32)))))


@linked
def _lowbias32(value: np.uint32) -> np.uint32:
    value = np.uint32(value ^ (value >> np.uint32(16)))
    value = np.uint32(value * np.uint32(0x7FEB352D))
    value = np.uint32(value ^ (value >> np.uint32(15)))
    value = np.uint32(value * np.uint32(0x846CA68B))
    return np.uint32(value ^ (value >> np.uint32(16)))


@linked
def uniform(key: np.uint64, counter: int) -> float:
    """A number in [0, 1)."""
    return random_bits(key, counter) * 2.0**-32


@linked
def whole_number(key: np.uint64, counter: int, largest: int) -> int:
    """An integer from ``-largest`` to ``largest``."""
    return int(uniform(key, counter) * (2 * largest + 1)) - largest
