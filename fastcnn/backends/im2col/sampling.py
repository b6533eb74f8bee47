"""Padding, interpolation and shuffles over whole arrays, one axis after the other."""

from typing import Any

import numpy as np

from fastcnn.backends import sampling
from fastcnn.backends.geometry import Padding, Pair
from fastcnn.backends.one_row import on_sequences

ROWS, COLUMNS = 2, 3


@on_sequences
def pad(x: np.ndarray, padding: Padding, mode: str) -> np.ndarray:
    """Copies of rows, then of columns; or the map surrounded by zeros."""
    if mode == "constant":
        y = np.zeros((*x.shape[:2], *sampling.padded_output(x.shape[2:], padding, mode)), x.dtype)
        inside, seen = _overlap(x.shape[2:], padding)
        y[inside] = x[seen]
        return y
    for axis, sides in ((ROWS, padding[0]), (COLUMNS, padding[1])):
        x = np.take(x, sampling.padded_sources(x.shape[axis], sides, mode), axis)
    return x


@on_sequences
def pad_backward(grad_output: np.ndarray, x: np.ndarray, padding: Padding, mode: str) -> np.ndarray:
    """The sums of the copies' gradients; or the gradient without its padding."""
    if mode == "constant":
        grad_x = np.zeros(x.shape, x.dtype)
        inside, seen = _overlap(x.shape[2:], padding)
        grad_x[seen] = grad_output[inside]
        return grad_x
    for axis, sides in ((COLUMNS, padding[1]), (ROWS, padding[0])):
        sources = sampling.padded_sources(x.shape[axis], sides, mode)
        grad_output = _sum_to(grad_output, sources, x.shape[axis], axis)
    return grad_output


def _overlap(size: tuple[int, ...], padding: Padding) -> tuple[Any, Any]:
    """Slices of a padded map and of the original map that overlap."""
    inside: list[Any] = [...]
    seen: list[Any] = [...]
    for length, (before, after) in zip(size, padding, strict=True):
        kept = length + min(before, 0) + min(after, 0)
        inside.append(slice(max(before, 0), max(before, 0) + kept))
        seen.append(slice(max(-before, 0), max(-before, 0) + kept))
    return tuple(inside), tuple(seen)


def _sum_to(values: np.ndarray, targets: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Sums of the rows with the same target, in a map of ``size`` rows."""
    order = np.argsort(targets, kind="stable")
    found, first = np.unique(targets[order], return_index=True)
    sums = np.add.reduceat(np.take(values, order, axis), first, axis)
    if len(found) == size:
        return sums
    shape = [*values.shape]
    shape[axis] = size
    total = np.zeros(shape, values.dtype)
    total[(slice(None),) * axis + (found,)] = sums
    return total


@on_sequences
def interpolate(
    x: np.ndarray,
    size: Pair | None,
    scale_factor: Pair | None,
    mode: str,
    align_corners: bool = False,
) -> np.ndarray:
    """Interpolate each output row from two rows, then each column from two columns."""
    output = sampling.interpolated_output(x.shape[2:], size, scale_factor)
    for axis, wanted in ((ROWS, output[0]), (COLUMNS, output[1])):
        first, second, share = sampling.interpolation_taps(
            x.shape[axis], wanted, mode, align_corners
        )
        y = np.take(x, first, axis)
        between = np.flatnonzero(share)
        if between.size:
            part = _along(share[between], axis).astype(x.dtype)
            where = (slice(None),) * axis + (between,)
            y[where] = (1 - part) * y[where] + part * np.take(x, second[between], axis)
        x = y
    return x


@on_sequences
def interpolate_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    size: Pair | None,
    scale_factor: Pair | None,
    mode: str,
    align_corners: bool = False,
) -> np.ndarray:
    """Distribute the gradient of each column, then of each row, by its weights."""
    output = sampling.interpolated_output(x.shape[2:], size, scale_factor)
    grad = grad_output
    for axis, wanted in ((COLUMNS, output[1]), (ROWS, output[0])):
        length = x.shape[axis]
        first, second, share = sampling.interpolation_taps(length, wanted, mode, align_corners)
        between = np.flatnonzero(share)
        if not between.size:
            grad = _sum_to(grad, first, length, axis)
            continue
        kept = grad * _along(1 - share, axis).astype(x.dtype)
        given = np.take(grad, between, axis) * _along(share[between], axis).astype(x.dtype)
        both = np.concatenate([kept, given], axis)
        grad = _sum_to(both, np.concatenate([first, second[between]]), length, axis)
    return grad


def _along(values: np.ndarray, axis: int) -> np.ndarray:
    return values.reshape(-1, *(1,) * (3 - axis))


def pixel_shuffle(x: np.ndarray, upscale_factor: int) -> np.ndarray:
    """Move squares of ``upscale_factor`` ** 2 channels to squares of pixels."""
    N, C, H, W = x.shape
    r = upscale_factor
    parts = x.reshape(N, C // r**2, r, r, H, W).transpose(0, 1, 4, 2, 5, 3)
    return np.array(parts, order="C").reshape(N, C // r**2, H * r, W * r)


def pixel_shuffle_backward(
    grad_output: np.ndarray, x: np.ndarray, upscale_factor: int
) -> np.ndarray:
    """The inverse permutation, applied to the gradient."""
    return pixel_unshuffle(grad_output, upscale_factor)


def pixel_unshuffle(x: np.ndarray, downscale_factor: int) -> np.ndarray:
    """Move squares of pixels to channels."""
    N, C, H, W = x.shape
    r = downscale_factor
    parts = x.reshape(N, C, H // r, r, W // r, r).transpose(0, 1, 3, 5, 2, 4)
    return np.array(parts, order="C").reshape(N, C * r**2, H // r, W // r)


def pixel_unshuffle_backward(
    grad_output: np.ndarray, x: np.ndarray, downscale_factor: int
) -> np.ndarray:
    """The inverse permutation, applied to the gradient."""
    return pixel_shuffle(grad_output, downscale_factor)


def channel_shuffle(x: np.ndarray, groups: int) -> np.ndarray:
    """Interleave the channels of the groups."""
    return np.take(x, sampling.shuffled_channels(x.shape[1], groups), 1)


def channel_shuffle_backward(grad_output: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """The inverse permutation: a shuffle with as many groups as each group had channels."""
    return np.take(grad_output, sampling.shuffled_channels(x.shape[1], x.shape[1] // groups), 1)
