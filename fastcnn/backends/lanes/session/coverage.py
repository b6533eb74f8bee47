"""Which arrays the engine accepts: non-empty float32. All others are computed by im2col."""

import logging
from functools import lru_cache

import numpy as np

from fastcnn.codegen.build import disabled_by

log = logging.getLogger("fastcnn.lanes")


def covered(*arrays: np.ndarray) -> bool:
    """Whether the engine accepts these arrays; if not, logs once that im2col is used."""
    if reason := disabled_by():
        _say_once(f"does not support {reason}")
        return False
    if all(array.dtype == np.float32 and array.size for array in arrays):
        return True
    _say_once(f"computes in float32, not in {arrays[0].dtype}")
    return False


@lru_cache
def _say_once(reason: str) -> None:
    log.info("the lanes engine %s: using im2col for these arrays", reason)
