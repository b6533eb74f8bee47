"""im2col and its adjoint col2im: gather windows into columns, scatter columns onto images.

N samples, C channels, (H, W) image, (KH, KW) kernel, (OH, OW) output map. A block of columns holds
the windows of consecutive rows of output maps, counted through all N * OH of them.
"""

from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np

from fastcnn.backends.geometry import Padding, Pair
from fastcnn.codegen import compiled, linked


@linked
def inside(size: int, outputs: int, stride: int, offset: int) -> tuple[int, int]:
    """The outputs j for which ``0 <= j * stride + offset < size``, as first and end."""
    first = min(max(0, (stride - 1 - offset) // stride), outputs)
    end = min(outputs, (size - 1 - offset) // stride + 1)
    return first, max(end, first)


@linked
def _copy(target: np.ndarray, at: int, source: np.ndarray, begin: int, count: int) -> None:
    for j in range(count):
        target[at + j] = source[begin + j]


@linked
def _clear(target: np.ndarray, at: int, count: int) -> None:
    for j in range(count):
        target[at + j] = 0


@compiled("real[:]", "out real[:]", "int64[:]")
def _gather(pixels: np.ndarray, columns: np.ndarray, geometry: np.ndarray) -> None:
    C, N, H, W, OH, OW, KH, KW = geometry[:8]
    stride_h, stride_w, top, left, dilation_h, dilation_w, first_row, R = geometry[8:]
    # Unsigned: possibly negative indices prevent vectorisation.
    at, step = np.uint64(0), np.uint64(stride_w)
    for c in range(C):
        for k in range(KH * KW):
            offset_h = k // KW * dilation_h - top
            offset_w = k % KW * dilation_w - left
            begin, end = inside(W, OW, stride_w, offset_w)
            n, i = first_row // OH, first_row % OH
            before, count, after = np.uint64(begin), np.uint64(end - begin), np.uint64(OW - end)
            for _ in range(R):
                h = i * stride_h + offset_h
                if h < 0 or h >= H or begin >= end:
                    _clear(columns, at, np.uint64(OW))
                    at += np.uint64(OW)
                else:
                    _clear(columns, at, before)
                    at += before
                    source = np.uint64(((c * N + n) * H + h) * W + begin * stride_w + offset_w)
                    if stride_w == 1:
                        _copy(columns, at, pixels, source, count)
                    else:
                        for j in range(count):
                            columns[at + j] = pixels[source + j * step]
                    at += count
                    _clear(columns, at, after)
                    at += after
                i += 1
                if i == OH:
                    n, i = n + 1, 0


@compiled("real[:]", "out real[:]", "int64[:]")
def _scatter(columns: np.ndarray, pixels: np.ndarray, geometry: np.ndarray) -> None:
    C, N, H, W, OH, OW, KH, KW = geometry[:8]
    stride_h, stride_w, top, left, dilation_h, dilation_w, first_row, R = geometry[8:]
    step = np.uint64(stride_w)
    for c in range(C):
        for k in range(KH * KW):
            offset_h = k // KW * dilation_h - top
            offset_w = k % KW * dilation_w - left
            begin, end = inside(W, OW, stride_w, offset_w)
            n, i = first_row // OH, first_row % OH
            for r in range(R):
                h = i * stride_h + offset_h
                if 0 <= h < H and begin < end:
                    at = np.uint64(((c * KH * KW + k) * R + r) * OW + begin)
                    target = np.uint64(((c * N + n) * H + h) * W + begin * stride_w + offset_w)
                    if stride_w == 1:
                        for j in range(np.uint64(end - begin)):
                            pixels[target + j] += columns[at + j]
                    else:
                        for j in range(np.uint64(end - begin)):
                            pixels[target + j * step] += columns[at + j]
                i += 1
                if i == OH:
                    n, i = n + 1, 0


class Window(NamedTuple):
    """Position of a convolution's windows: kernel, stride, padding and dilation."""

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair

    def is_point(self, image: tuple[int, ...], output: tuple[int, ...]) -> bool:
        """Whether columns are the pixels themselves, as in 1 x 1 convolutions.

        The output padding of a transposed convolution adds pixels that no window reads.
        """
        is_single = self.kernel == self.stride == (1, 1) and self.padding == ((0, 0), (0, 0))
        return is_single and image == output

    def geometry(self, shape: tuple[int, ...], output: tuple[int, ...], rows: Pair) -> np.ndarray:
        before = (self.padding[0][0], self.padding[1][0])
        numbers = (shape, output, self.kernel, self.stride, before, self.dilation)
        first, end = rows
        return np.array([*chain.from_iterable(numbers), first, end - first])


@lru_cache(maxsize=1024)
def turned(window: Window) -> Window | None:
    """The windows of the input's pixels in the output, for stride 1; else None."""
    sides = zip(window.kernel, window.padding, window.dilation, strict=True)
    around = [[(size - 1) * step - pad for pad in pads] for size, pads, step in sides]
    (top, bottom), (left, right) = around
    if window.stride != (1, 1) or min(top, bottom, left, right) < 0:
        return None
    return Window(window.kernel, window.stride, ((top, bottom), (left, right)), window.dilation)


def im2col(
    x: np.ndarray, columns: np.ndarray, window: Window, output: tuple[int, ...], rows: Pair
) -> None:
    """Fill a block of columns, shape (C, KH * KW, R, OW), from ``x``, shape (C, N, H, W).

    ``rows`` are the start and end of the block's rows, counted through the maps of all samples;
    positions outside the image are zero.
    """
    _gather(x.reshape(-1), columns.reshape(-1), window.geometry(x.shape, output, rows))


def col2im(
    columns: np.ndarray, x: np.ndarray, window: Window, output: tuple[int, ...], rows: Pair
) -> None:
    """The adjoint of :func:`im2col`: add every element to the pixel of ``x`` it came from."""
    _scatter(columns.reshape(-1), x.reshape(-1), window.geometry(x.shape, output, rows))
