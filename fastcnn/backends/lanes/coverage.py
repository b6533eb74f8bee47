"""Which arrays the engine computes with: float32 that is not empty. All others are im2col's."""

import logging
from functools import lru_cache

import numpy as np

log = logging.getLogger("fastcnn.lanes")


def covered(*arrays: np.ndarray) -> bool:
    """Whether the engine takes these arrays; says once that im2col does otherwise."""
    if all(array.dtype == np.float32 and array.size for array in arrays):
        return True
    _say_once(str(arrays[0].dtype))
    return False


@lru_cache
def _say_once(dtype: str) -> None:
    log.info("the lanes engine computes in float32: arrays of %s go through im2col", dtype)
