"""Readers of data sets."""

import gzip

import numpy as np

from fastcnn import data
from tests.fuzz.registry import register

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (12, 6, 6)).astype(np.uint8)
LABELS = np.arange(12) % 3


def _idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


register("idx", lambda: [_idx(IMAGES), _idx(LABELS)], data.read_idx, "x")
register("idx.gz", lambda: [gzip.compress(_idx(IMAGES))], data.read_idx, "x.gz")
register("idx in gz", lambda: [_idx(IMAGES)], data.read_idx, "x.gz", gzip.compress)
