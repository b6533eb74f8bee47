"""Padding, interpolation and shuffles in nested loops."""

import math

import numpy as np

from fastcnn.backends import sampling
from fastcnn.backends.geometry import Padding, Pair
from fastcnn.backends.one_row import on_sequences

#: Pixels of a channel, each with its weight in an output pixel.
Taps = list[tuple[Pair, float]]


@on_sequences
def pad(x: np.ndarray, padding: Padding, mode: str) -> np.ndarray:
    """Copies of pixels around the map, or zeros; negative padding crops."""
    N, C, H, W = x.shape
    y = np.zeros((N, C, *sampling.padded_output((H, W), padding, mode)), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        h, w = _inside(i - padding[0][0], H, mode), _inside(j - padding[1][0], W, mode)
        if h is not None and w is not None:
            y[n, c, i, j] = x[n, c, h, w]
    return y


@on_sequences
def pad_backward(grad_output: np.ndarray, x: np.ndarray, padding: Padding, mode: str) -> np.ndarray:
    """The gradient of each copy goes to its pixel, that of zeros is dropped."""
    H, W = x.shape[2:]
    grad_x = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(grad_output.shape):
        h, w = _inside(i - padding[0][0], H, mode), _inside(j - padding[1][0], W, mode)
        if h is not None and w is not None:
            grad_x[n, c, h, w] += float(grad_output[n, c, i, j])
    return grad_x.astype(x.dtype)


def _inside(place: int, size: int, mode: str) -> int | None:
    """The source row of a padded row, None for zeros."""
    if 0 <= place < size:
        return place
    if mode == "replicate":
        return 0 if place < 0 else size - 1
    if mode == "reflect":
        return -place if place < 0 else 2 * (size - 1) - place
    if mode == "circular":
        return place + size if place < 0 else place - size
    return None


@on_sequences
def interpolate(
    x: np.ndarray,
    size: Pair | None,
    scale_factor: Pair | None,
    mode: str,
    align_corners: bool = False,
) -> np.ndarray:
    """Nearest pixels, or means of four neighbours, weighted by distance."""
    output = sampling.interpolated_output(x.shape[2:], size, scale_factor)
    y = np.empty((*x.shape[:2], *output), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        taps = _taps(x.shape[2:], output, (i, j), mode, align_corners)
        y[n, c, i, j] = sum(share * float(x[n, c][pixel]) for pixel, share in taps)
    return y


@on_sequences
def interpolate_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    size: Pair | None,
    scale_factor: Pair | None,
    mode: str,
    align_corners: bool = False,
) -> np.ndarray:
    """Each pixel gets the gradients of its output pixels, times its weights."""
    output = sampling.interpolated_output(x.shape[2:], size, scale_factor)
    grad_x = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(grad_output.shape):
        for pixel, share in _taps(x.shape[2:], output, (i, j), mode, align_corners):
            grad_x[n, c][pixel] += share * float(grad_output[n, c, i, j])
    return grad_x.astype(x.dtype)


def _taps(size: tuple[int, ...], output: Pair, place: Pair, mode: str, align_corners: bool) -> Taps:
    rows, columns = (_axis_taps(size[a], output[a], place[a], mode, align_corners) for a in (0, 1))
    return [((h, w), row * column) for h, row in rows for w, column in columns]


def _axis_taps(
    size: int, output: int, i: int, mode: str, align_corners: bool
) -> list[tuple[int, float]]:
    """Input rows of which output row ``i`` is a sum, with their nonzero weights."""
    if mode == "nearest":
        return [(i * size // output, 1.0)]
    if align_corners:
        place = i * (size - 1) / (output - 1) if output > 1 else 0.0
    else:
        place = max((i + 0.5) * size / output - 0.5, 0.0)
    first = min(math.floor(place), size - 1)
    share = place - first
    if first == size - 1 or share == 0.0:
        return [(first, 1.0)]
    return [(first, 1.0 - share), (first + 1, share)]


def pixel_shuffle(x: np.ndarray, upscale_factor: int) -> np.ndarray:
    """``y[c, h * r + i, w * r + j] = x[c * r * r + i * r + j, h, w]``."""
    N, C, H, W = x.shape
    r = upscale_factor
    y = np.empty((N, C // r**2, H * r, W * r), x.dtype)
    for n, c, h, w in np.ndindex(y.shape):
        y[n, c, h, w] = x[n, c * r**2 + h % r * r + w % r, h // r, w // r]
    return y


def pixel_shuffle_backward(
    grad_output: np.ndarray, x: np.ndarray, upscale_factor: int
) -> np.ndarray:
    """Each gradient goes to the pixel from which its output was copied."""
    return pixel_unshuffle(grad_output, upscale_factor)


def pixel_unshuffle(x: np.ndarray, downscale_factor: int) -> np.ndarray:
    """``y[c * r * r + i * r + j, h, w] = x[c, h * r + i, w * r + j]``."""
    N, C, H, W = x.shape
    r = downscale_factor
    y = np.empty((N, C * r**2, H // r, W // r), x.dtype)
    for n, c, h, w in np.ndindex(x.shape):
        y[n, c * r**2 + h % r * r + w % r, h // r, w // r] = x[n, c, h, w]
    return y


def pixel_unshuffle_backward(
    grad_output: np.ndarray, x: np.ndarray, downscale_factor: int
) -> np.ndarray:
    """Each gradient goes to the pixel from which its output was copied."""
    return pixel_shuffle(grad_output, downscale_factor)


def channel_shuffle(x: np.ndarray, groups: int) -> np.ndarray:
    """``y[k * groups + g] = x[g * (C / groups) + k]``."""
    y = np.empty(x.shape, x.dtype)
    size = x.shape[1] // groups
    for g in range(groups):
        for k in range(size):
            y[:, k * groups + g] = x[:, g * size + k]
    return y


def channel_shuffle_backward(grad_output: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """Each gradient goes to the channel from which its output was copied."""
    grad_x = np.empty(x.shape, x.dtype)
    size = x.shape[1] // groups
    for g in range(groups):
        for k in range(size):
            grad_x[:, g * size + k] = grad_output[:, k * groups + g]
    return grad_x
