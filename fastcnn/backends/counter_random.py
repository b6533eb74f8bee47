"""A counter-based random generator: a hash of (key, counter), so order and threads do not matter.

Dropout masks of every backend come from here. Element ``e`` of sample ``n`` has the counter
``n * elements_per_sample + e``, so a mask does not depend on how the work is divided.
"""

import numpy as np

_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF


def _splitmix64(value: int) -> int:
    """One output of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) for a state."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def dropout_key(seed: int, step: int, node: int) -> int:
    """The 64-bit key of one layer's mask at one training step."""
    key = _splitmix64(seed & _MASK64)
    key = _splitmix64(key ^ (step & _MASK64))
    return _splitmix64(key ^ (node & _MASK64))


def _lowbias32(value: np.ndarray) -> np.ndarray:
    """Wellons' 32-bit integer hash "lowbias32"."""
    value = value ^ (value >> np.uint32(16))
    value = value * np.uint32(0x7FEB352D)
    value = value ^ (value >> np.uint32(15))
    value = value * np.uint32(0x846CA68B)
    return value ^ (value >> np.uint32(16))


def uniform_bits(key: int, start: int, count: int) -> np.ndarray:
    """Uniform 32-bit values for the counters ``start`` to ``start + count``.

    ``key`` has 64 bits, as from :func:`dropout_key`.
    """
    counter = np.arange(start, start + count, dtype=np.int64).astype(np.uint32)
    hashed = _lowbias32(counter ^ np.uint32(key & _MASK32))
    return _lowbias32(hashed + np.uint32(key >> 32))


def drop_threshold(p: float) -> int:
    """The threshold below which a 32-bit value drops its element: ``round(p * 2**32)``."""
    return min(round(p * 2.0**32), _MASK32)


def kept_factor(p: float) -> float:
    """The factor of elements that are not dropped; 0 if all should be."""
    return 1.0 / (1.0 - p) if p < 1.0 else 0.0
