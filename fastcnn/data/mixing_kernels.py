"""Kernels that mix pairs of images: blending, or pasting a rectangle."""

import math

import numpy as np

from fastcnn.codegen import compiled
from fastcnn.data.image_random import DRAWS, uniform


@compiled("int64[:]", "int64", "uint64", "float64", "out int64[:]", "out float32[:]")
def draw_partners(
    names: np.ndarray,
    count: int,
    key: np.uint64,
    alpha: float,
    partners: np.ndarray,
    shares: np.ndarray,
) -> None:
    """A partner for each image, and the weight of the first: Beta(alpha, alpha), or 1.

    Johnk's method: draw powers of two uniform numbers until their sum is at most 1; return the
    first's share of it.
    """
    for k in range(len(names)):
        counter = names[k] * DRAWS
        partners[k] = int(uniform(key, counter) * count)
        if alpha <= 0.0:
            shares[k] = 1.0
            continue
        shares[k] = 0.5  # if all draws are rejected: for alpha = 2 once in 10**5
        for attempt in range(1, DRAWS // 2):
            u = math.log(1.0 - uniform(key, counter + 2 * attempt)) / alpha
            v = math.log(1.0 - uniform(key, counter + 2 * attempt + 1)) / alpha
            if math.exp(u) + math.exp(v) <= 1.0:
                shares[k] = 1.0 / (1.0 + math.exp(min(v - u, 80.0)))
                break


def blend(images: np.ndarray, others: np.ndarray, shares: np.ndarray) -> None:
    """Mix other images into the first, in place."""
    size = images[0].size if len(images) else 0
    _blend(images.reshape(len(images), size), others.reshape(len(images), size), shares)


@compiled("out real[:,:]", "real[:,:]", "float32[:]")
def _blend(images: np.ndarray, others: np.ndarray, shares: np.ndarray) -> None:
    rounding = np.float32(0.5) if images.itemsize == 1 else np.float32(0)  # bytes are truncated
    for k in range(len(images)):
        share = np.float32(shares[k])
        first, second = images[k], others[k]
        for i in range(first.size):
            other = np.float32(second[i])
            first[i] = other + share * (np.float32(first[i]) - other) + rounding


@compiled("out real[:,:,:,:]", "real[:,:,:,:]", "int64[:]", "uint64", "out float32[:]")
def paste(
    images: np.ndarray, others: np.ndarray, names: np.ndarray, key: np.uint64, shares: np.ndarray
) -> None:
    """Paste a rectangle of other images into the first, in place.

    Its sides are those of the image times the root of the share to replace, its centre is a random
    pixel, and it is clipped to the image; ``shares`` are updated to the remaining area.
    """
    _, C, H, W = images.shape
    for k in range(len(images)):
        counter = names[k] * DRAWS
        side = math.sqrt(max(0.0, 1.0 - float(shares[k])))
        rows, columns = int(side * H), int(side * W)
        row = int(uniform(key, counter) * H) - rows // 2
        column = int(uniform(key, counter + 1) * W) - columns // 2
        top, bottom = max(0, row), min(H, row + rows)
        left, right = max(0, column), min(W, column + columns)
        for c in range(C):
            for h in range(top, bottom):
                for w in range(left, right):
                    images[k, c, h, w] = others[k, c, h, w]
        cut = max(0, bottom - top) * max(0, right - left)
        shares[k] = np.float32(1.0 - cut / (H * W))
