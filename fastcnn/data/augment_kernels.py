"""Augmentation kernels: one image at a time, each with its own random numbers.

C channels, H rows, W columns. Random numbers are those of :mod:`fastcnn.data.image_random`.
"""

import math
from typing import Any

import numpy as np

from fastcnn.codegen import compiled, linked
from fastcnn.data.colour_kernels import ERASED, change_colours, cut_square, erase_rectangle
from fastcnn.data.image_random import DRAWS, uniform, whole_number

#: Uses of the first random numbers; elastic displacements use pairs from ELASTIC on.
ROW_SHIFT, COLUMN_SHIFT, ROTATION, SCALE, FLIP, ROW_CROP, COLUMN_CROP = range(7)
CUTOUT_ROW, CUTOUT_COLUMN, BRIGHTNESS, CONTRAST, SATURATION, HUE, ERASE = range(7, 14)
ELASTIC = 16
#: Control points of an elastic displacement along each side, within the image and with the ring.
POINTS = 4
RING = POINTS + 2


#: Rotation is in radians; a flip is a probability, or 2 plus the epoch's parity where it
#: alternates; reflect is 0 or 1.
SETTINGS = (
    "shift", "rotation", "scale", "elastic", "flip", "crop", "cutout", "fill", "reflect",
    "erase", "brightness", "contrast", "saturation", "hue",
)  # fmt: skip
FILL = SETTINGS.index("fill")


def transform(
    images: np.ndarray,
    order: np.ndarray,
    names: np.ndarray,
    first: int,
    last: int,
    keys: tuple[np.uint64, np.uint64],
    settings: np.ndarray,
    out: np.ndarray,
) -> None:
    """Transform the images ``order[first:last]`` into ``out[first:last]``.

    Images are uint8 or float32 of shape (N, C, H, W). ``names`` key the random numbers of each of
    ``order``: its index in all the data. The second of ``keys`` determines which images are
    mirrored in odd epochs, if flips alternate. ``settings``, float64, are in the order of
    :data:`SETTINGS`.
    """
    _, C, H, W = images.shape
    _transform(
        images,
        order,
        names,
        first,
        last,
        *keys,
        settings,
        out,
        np.zeros((2, POINTS - 1, RING, 4), np.float32),
        np.empty((2, RING, RING), np.float32),
        np.full((C, (H + 3) * (W + 3)), settings[FILL], np.float32),
        *_knots(H),
        *_knots(W),
        np.empty((2, W), np.float32),
        np.empty(W, np.uint32),
    )


@compiled(
    "real[:,:,:,:]",
    "int64[:]",
    "int64[:]",
    "int64",
    "int64",
    "uint64",
    "uint64",
    "float64[:]",
    "out real[:,:,:,:]",
    "out float32[:,:,:,:]",
    "out float32[:,:,:]",
    "out float32[:,:]",
    "int64[:]",
    "float32[:]",
    "int64[:]",
    "float32[:]",
    "out float32[:,:]",
    "out uint32[:]",
)
def _transform(
    images,
    order,
    names,
    first,
    last,
    key,
    flip_key,
    settings,
    out,
    splines,
    field,
    padded,
    row_knots,
    row_shares,
    knots,
    shares,
    line,
    place,
):
    shift, rotation, scale, elastic = settings[0], settings[1], settings[2], settings[3]
    flip, crop, cutout, fill = settings[4], settings[5], settings[6], settings[7]
    reflects, erase = settings[8] > 0.0, settings[9]
    brightness, contrast, saturation, hue = settings[10], settings[11], settings[12], settings[13]
    _, _, H, W = images.shape
    for k in range(first, last):
        start = names[k] * DRAWS
        down = whole_number(key, start + ROW_SHIFT, int(shift))
        down += whole_number(key, start + ROW_CROP, int(crop))
        right = whole_number(key, start + COLUMN_SHIFT, int(shift))
        right += whole_number(key, start + COLUMN_CROP, int(crop))
        if flip < 2.0:
            mirror = uniform(key, start + FLIP) < flip
        else:
            mirror = (uniform(flip_key, start + FLIP) < 0.5) == (flip == 3.0)
        if rotation == 0.0 and scale == 0.0 and elastic == 0.0:
            _move(images[order[k]], out[k], down, right, mirror, fill, reflects)
        else:
            angle = rotation * (2.0 * uniform(key, start + ROTATION) - 1.0)
            factor = 1.0 + scale * (2.0 * uniform(key, start + SCALE) - 1.0)
            cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
            if elastic > 0.0:
                _draw_splines(key, start + ELASTIC, elastic, splines, field)
            _warp(
                images[order[k]],
                out[k],
                down,
                right,
                mirror,
                np.float32(cos),
                np.float32(sin),
                elastic > 0.0,
                splines,
                row_knots,
                row_shares,
                knots,
                shares,
                padded,
                line,
                place,
                field[0, 0],
                reflects,
            )
        if brightness > 0.0 or contrast > 0.0 or saturation > 0.0 or hue > 0.0:
            change_colours(
                out[k],
                np.float32(1.0 + brightness * (2.0 * uniform(key, start + BRIGHTNESS) - 1.0)),
                np.float32(1.0 + contrast * (2.0 * uniform(key, start + CONTRAST) - 1.0)),
                np.float32(1.0 + saturation * (2.0 * uniform(key, start + SATURATION) - 1.0)),
                2.0 * math.pi * hue * (2.0 * uniform(key, start + HUE) - 1.0),
            )
        if uniform(key, start + ERASE) < erase:
            erase_rectangle(out[k], key, start + ERASED, fill)
        if cutout > 0.0:
            row = int(uniform(key, start + CUTOUT_ROW) * H)
            column = int(uniform(key, start + CUTOUT_COLUMN) * W)
            cut_square(out[k], row - int(cutout) // 2, column - int(cutout) // 2, int(cutout), fill)


@linked
def _reflected(place: int, size: int) -> int:
    """Index of a pixel outside, reflected at the edges: -1 is 1."""
    if size == 1:
        return 0
    place = abs(place) % (2 * size - 2)
    return min(place, 2 * size - 2 - place)


@linked
def _move(
    image: np.ndarray,
    out: np.ndarray,
    down: int,
    right: int,
    mirror: bool,
    fill: float,
    reflects: bool,
) -> None:
    """Shift by whole pixels, optionally mirrored: pixel values are preserved."""
    C, H, W = image.shape
    if reflects:
        for c in range(C):
            for h in range(H):
                source = _reflected(h - down, H)
                for w in range(W):
                    column = _reflected(w - right, W)
                    out[c, h, w] = image[c, source, W - 1 - column if mirror else column]
        return
    low, high = max(0, right), min(W, W + right)
    for c in range(C):
        for h in range(H):
            source = h - down
            if source < 0 or source >= H or low >= high:
                out[c, h, :] = fill
                continue
            out[c, h, :low] = fill
            out[c, h, high:] = fill
            if mirror:
                for w in range(low, high):
                    out[c, h, w] = image[c, source, W - 1 - w + right]
            else:
                for w in range(low, high):
                    out[c, h, w] = image[c, source, w - right]


@linked
def _draw_splines(
    key: np.uint64, start: int, size: float, splines: np.ndarray, field: np.ndarray
) -> None:
    """Cubics between control points with normal displacements, along each column of points.

    Normal numbers are drawn in pairs by the Box-Muller method.
    """
    counter = start
    for i in range(RING):
        for j in range(RING):
            radius = size * math.sqrt(-2.0 * math.log(1.0 - uniform(key, counter)))
            angle = 2.0 * math.pi * uniform(key, counter + 1)
            field[0, j, i] = radius * math.cos(angle)
            field[1, j, i] = radius * math.sin(angle)
            counter += 2
    for axis in range(2):
        for j in range(RING):
            for i in range(POINTS - 1):
                k0, k1, k2, k3 = _spline(field[axis, j], i)
                splines[axis, i, j, 0], splines[axis, i, j, 1] = k0, k1
                splines[axis, i, j, 2], splines[axis, i, j, 3] = k2, k3


def _knots(size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel along a side, the preceding control point and the distance from it."""
    place = np.arange(size) * (POINTS - 1) / max(size - 1, 1)
    before = np.minimum(place.astype(np.int64), POINTS - 2)
    return before, (place - before).astype(np.float32)


@linked
def _spline(points: np.ndarray, i: int) -> tuple[float, float, float, float]:
    """Coefficients of the Catmull-Rom cubic between the points ``i + 1`` and ``i + 2``."""
    half = np.float32(0.5)
    a, b, c, d = points[i], points[i + 1], points[i + 2], points[i + 3]
    bend = a - np.float32(2.5) * b + np.float32(2) * c - half * d
    return b, half * (c - a), bend, np.float32(1.5) * (b - c) + half * (d - a)


@linked
def _bend(
    splines: np.ndarray,
    t: float,
    knots: np.ndarray,
    shares: np.ndarray,
    out: np.ndarray,
    points: np.ndarray,
) -> None:
    """Add one axis of an elastic displacement to the coordinates of a row's pixels.

    ``t`` is the row's position between control points; ``knots`` and ``shares`` are those of
    pixels.
    """
    for j in range(RING):
        k0, k1, k2, k3 = splines[j, 0], splines[j, 1], splines[j, 2], splines[j, 3]
        points[j] = k0 + t * (k1 + t * (k2 + t * k3))
    W = out.size
    first = 0
    for j in range(POINTS - 1):
        last = first
        while last < W and knots[last] == j:
            last += 1
        k0, k1, k2, k3 = _spline(points, j)
        for w in range(first, last):
            t = shares[w]
            out[w] += k0 + t * (k1 + t * (k2 + t * k3))
        first = last


@linked
def _warp(
    image: np.ndarray,
    out: np.ndarray,
    down: int,
    right: int,
    mirror: bool,
    cos: float,
    sin: float,
    bends: bool,
    splines: np.ndarray,
    row_knots: np.ndarray,
    row_shares: np.ndarray,
    knots: np.ndarray,
    shares: np.ndarray,
    padded: np.ndarray,
    line: np.ndarray,
    place: np.ndarray,
    points: np.ndarray,
    reflects: bool,
) -> None:
    """Resample each output pixel by bilinear interpolation.

    Loops over a row have no branches, so that they are vectorised: ``padded`` holds the image with
    one row and column of the outside value before it and two after it, and coordinates further out
    are clamped to them.
    """
    C, H, W = image.shape
    one, zero = np.float32(1), np.float32(0)
    rounding = np.float32(0.5) if out.itemsize == 1 else zero  # bytes are truncated
    for c in range(C):
        for h in range(H):
            for w in range(W):
                padded[c, (h + 1) * (W + 3) + w + 1] = image[c, h, w]
    stride = np.float32(W + 3)
    middle_h, middle_w = np.float32((H - 1) * 0.5), np.float32((W - 1) * 0.5)
    limit_h, limit_w = np.float32(H + 1), np.float32(W + 1)
    sign = np.float32(-1) if mirror else one
    from_h, from_w = line[0], line[1]
    for h in range(H):
        dh = np.float32(h - down) - middle_h
        base_h, base_w = middle_h + cos * dh + one, middle_w - sin * dh + one
        for w in range(W):
            dw = sign * (np.float32(w - right) - middle_w)
            from_h[w] = base_h + sin * dw
            from_w[w] = base_w + cos * dw
        if bends:
            i, t = row_knots[h], row_shares[h]
            _bend(splines[0, i], t, knots, shares, from_h, points)
            _bend(splines[1, i], t, knots, shares, from_w, points)
        if reflects:  # coordinates are offset by one pixel
            for w in range(W):
                from_h[w] = one + _reflected_between(from_h[w] - one, np.float32(H - 1))
                from_w[w] = one + _reflected_between(from_w[w] - one, np.float32(W - 1))
        for w in range(W):
            y = min(max(from_h[w], zero), limit_h)
            x = min(max(from_w[w], zero), limit_w)
            whole_h, whole_w = np.float32(np.int32(y)), np.float32(np.int32(x))
            place[w] = np.uint32(np.int32(whole_h * stride + whole_w))
            from_h[w], from_w[w] = y - whole_h, x - whole_w
        for c in range(C):
            plane, result = padded[c], out[c, h]
            for w in range(W):
                p = place[w]
                a0, a1 = plane[p], plane[p + np.uint32(1)]
                b0, b1 = plane[p + np.uint32(W + 3)], plane[p + np.uint32(W + 4)]
                top, bottom = a0 + from_w[w] * (a1 - a0), b0 + from_w[w] * (b1 - b0)
                result[w] = top + from_h[w] * (bottom - top) + rounding


@linked
def _reflected_between(place: Any, last: Any) -> Any:
    """As :func:`_reflected`, for fractional coordinates."""
    if last == np.float32(0):
        return last
    period = np.float32(2) * last
    place = abs(place)
    place -= period * np.float32(np.int32(place / period))
    return min(place, period - place)
