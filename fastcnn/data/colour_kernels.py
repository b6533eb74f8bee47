"""Augmentation kernels for colour changes and erasing, applied after geometry."""

import math
from typing import Any

import numpy as np

from fastcnn.codegen import linked
from fastcnn.data.image_random import uniform

#: First counter of random erasing, after those of elastic displacements, and its attempts to place
#: a rectangle, with four numbers each.
ERASED, ATTEMPTS = 88, 10
#: Range of the erased share of an image, and the largest aspect ratio of the rectangle.
LEAST_ERASED, MOST_ERASED, LONGEST = 0.02, 1 / 3, 10 / 3
#: Weights of red, green and blue in grey (ITU-R BT.601), as in Pillow and torchvision.
RED, GREEN, BLUE = 0.299, 0.587, 0.114


@linked
def change_colours(
    out: np.ndarray, brightness: Any, contrast: Any, saturation: Any, angle: float
) -> None:
    """Change brightness, contrast, saturation and hue, in this order, and clip the result.

    Contrast is relative to the mean grey, saturation to each pixel's grey. The hue is rotated about
    the grey axis of YIQ, which is linear, unlike HSV.
    """
    C, H, W = out.shape
    zero, top = np.float32(0), np.float32(255 if out.itemsize == 1 else 1)
    rounding = np.float32(0.5) if out.itemsize == 1 else zero
    red, green, blue = np.float32(RED), np.float32(GREEN), np.float32(BLUE)
    mean: Any = 0.0
    for h in range(H):
        for w in range(W):
            if C == 3:
                grey = (
                    red * min(brightness * np.float32(out[0, h, w]), top)
                    + green * min(brightness * np.float32(out[1, h, w]), top)
                    + blue * min(brightness * np.float32(out[2, h, w]), top)
                )
                mean += grey
            else:
                for c in range(C):
                    mean += min(brightness * np.float32(out[c, h, w]), top) / C
    middle = np.float32(mean / (H * W))
    if C != 3:
        for c in range(C):
            for h in range(H):
                for w in range(W):
                    value = min(brightness * np.float32(out[c, h, w]), top)
                    value = middle + contrast * (value - middle)
                    out[c, h, w] = min(max(value, zero), top) + rounding
        return
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    for h in range(H):
        for w in range(W):
            r = min(brightness * np.float32(out[0, h, w]), top)
            g = min(brightness * np.float32(out[1, h, w]), top)
            b = min(brightness * np.float32(out[2, h, w]), top)
            r = min(max(middle + contrast * (r - middle), zero), top)
            g = min(max(middle + contrast * (g - middle), zero), top)
            b = min(max(middle + contrast * (b - middle), zero), top)
            grey = red * r + green * g + blue * b
            r = min(max(grey + saturation * (r - grey), zero), top)
            g = min(max(grey + saturation * (g - grey), zero), top)
            b = min(max(grey + saturation * (b - grey), zero), top)
            if sin != zero:
                y = red * r + green * g + blue * b
                i = np.float32(0.5959) * r - np.float32(0.2746) * g - np.float32(0.3213) * b
                q = np.float32(0.2115) * r - np.float32(0.5227) * g + np.float32(0.3112) * b
                i, q = cos * i - sin * q, sin * i + cos * q
                r = y + np.float32(0.956) * i + np.float32(0.619) * q
                g = y - np.float32(0.272) * i - np.float32(0.647) * q
                b = y - np.float32(1.106) * i + np.float32(1.703) * q
            out[0, h, w] = min(max(r, zero), top) + rounding
            out[1, h, w] = min(max(g, zero), top) + rounding
            out[2, h, w] = min(max(b, zero), top) + rounding


@linked
def erase_rectangle(out: np.ndarray, key: np.uint64, start: int, fill: float) -> None:
    """Fill a random rectangle that fits; none if ten attempts fail."""
    _, H, W = out.shape
    for attempt in range(ATTEMPTS):
        counter = start + 4 * attempt
        area = LEAST_ERASED + (MOST_ERASED - LEAST_ERASED) * uniform(key, counter)
        stretch = math.exp(math.log(LONGEST) * (2.0 * uniform(key, counter + 1) - 1.0))
        rows = int(math.sqrt(area * H * W * stretch) + 0.5)
        columns = int(math.sqrt(area * H * W / stretch) + 0.5)
        if 0 < rows < H and 0 < columns < W:
            row = int(uniform(key, counter + 2) * (H - rows + 1))
            column = int(uniform(key, counter + 3) * (W - columns + 1))
            for c in range(len(out)):
                for h in range(row, row + rows):
                    for w in range(column, column + columns):
                        out[c, h, w] = fill
            return


@linked
def cut_square(out: np.ndarray, row: int, column: int, side: int, fill: float) -> None:
    C, H, W = out.shape
    for c in range(C):
        for h in range(max(0, row), min(H, row + side)):
            for w in range(max(0, column), min(W, column + side)):
                out[c, h, w] = fill
