"""Kernels of augmentation: one image after the other, each from its own random numbers.

C channels, H rows, W columns. Random numbers are those of
:mod:`fastcnn.backends.counter_random`: a hash of the key and a counter, of which each image has
:data:`DRAWS`, so that neither the order of images nor the number of threads matters.
"""

import math

import numpy as np

from fastcnn.codegen import compiled, linked

#: Counters of one image.
DRAWS = 128
#: What the first of them decide; elastic displacements come from ELASTIC on, two by two.
(
    ROW_SHIFT,
    COLUMN_SHIFT,
    ROTATION,
    SCALE,
    FLIP,
    ROW_CROP,
    COLUMN_CROP,
    CUTOUT_ROW,
    CUTOUT_COLUMN,
) = range(9)
ELASTIC = 16
#: Control points of an elastic displacement along each side, within the image and with the ring.
POINTS = 4
RING = POINTS + 2


@linked
def random_bits(key: np.uint64, counter: int) -> int:
    """What :func:`fastcnn.backends.counter_random.uniform_bits` gives for one counter."""
    value = _lowbias32(np.uint32(np.uint32(counter) ^ np.uint32(key & 0xFFFFFFFF)))
    return int(_lowbias32(np.uint32(value + np.uint32(key >> np.uint64(32)))))


@linked
def _lowbias32(value: np.uint32) -> np.uint32:
    value = np.uint32(value ^ (value >> np.uint32(16)))
    value = np.uint32(value * np.uint32(0x7FEB352D))
    value = np.uint32(value ^ (value >> np.uint32(15)))
    value = np.uint32(value * np.uint32(0x846CA68B))
    return np.uint32(value ^ (value >> np.uint32(16)))


@linked
def uniform(key: np.uint64, counter: int) -> float:
    """A number in 0..1, 1 excluded."""
    return random_bits(key, counter) * 2.0**-32


@linked
def _whole(key: np.uint64, counter: int, largest: int) -> int:
    """A whole number from ``-largest`` to ``largest``."""
    return int(uniform(key, counter) * (2 * largest + 1)) - largest


def transform(
    images: np.ndarray,
    order: np.ndarray,
    first: int,
    last: int,
    key: np.uint64,
    settings: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the images ``order[first:last]`` into ``out[first:last]``, each transformed.

    Parameters
    ----------
    images : ndarray of uint8 or float32, shape (N, C, H, W)
    order : ndarray of int64
    key : int
        64 bits.
    settings : ndarray of float64, shape (8,)
        Shift in pixels, rotation in radians, scale, elastic displacement in pixels, probability
        of a flip, crop in pixels, side of the cut-out square, and the value outside the image.
    out : ndarray, shape (len(order), C, H, W), of the type of ``images``
    """
    C, H, W = images.shape[1:]
    _transform(
        images,
        order,
        first,
        last,
        key,
        settings,
        out,
        np.zeros((2, POINTS - 1, RING, 4), np.float32),
        np.empty((2, RING, RING), np.float32),
        np.full((C, (H + 3) * (W + 3)), settings[7], np.float32),
        *_knots(H),
        *_knots(W),
        np.empty((2, W), np.float32),
        np.empty(W, np.uint32),
    )


@compiled(
    "real[:,:,:,:]",
    "int64[:]",
    "int64",
    "int64",
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
    first,
    last,
    key,
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
    _, H, W = images.shape[1:]
    for k in range(first, last):
        start = order[k] * DRAWS
        down = _whole(key, start + ROW_SHIFT, int(shift))
        down += _whole(key, start + ROW_CROP, int(crop))
        right = _whole(key, start + COLUMN_SHIFT, int(shift))
        right += _whole(key, start + COLUMN_CROP, int(crop))
        mirror = uniform(key, start + FLIP) < flip
        if rotation == 0.0 and scale == 0.0 and elastic == 0.0:
            _move(images[order[k]], out[k], down, right, mirror, fill)
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
            )
        if cutout > 0.0:
            row = int(uniform(key, start + CUTOUT_ROW) * H)
            column = int(uniform(key, start + CUTOUT_COLUMN) * W)
            _cut(out[k], row - int(cutout) // 2, column - int(cutout) // 2, int(cutout), fill)


@linked
def _move(
    image: np.ndarray, out: np.ndarray, down: int, right: int, mirror: bool, fill: float
) -> None:
    """Shift by whole pixels, from the mirror image if wanted: no pixel changes its value."""
    C, H, W = image.shape
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

    Normal numbers come two by two by Box and Muller's method.
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
    """For each pixel along a side the control point before it, and its distance from that."""
    place = np.arange(size) * (POINTS - 1) / max(size - 1, 1)
    before = np.minimum(place.astype(np.int64), POINTS - 2)
    return before, (place - before).astype(np.float32)


@linked
def _spline(points: np.ndarray, i: int) -> tuple[float, float, float, float]:
    """Coefficients of Catmull and Rom's cubic between the points ``i + 1`` and ``i + 2``."""
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
    """Add one axis of an elastic displacement to the places of a row's pixels.

    ``t`` is where the row lies between control points; ``knots`` and ``shares`` say it of pixels.
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
) -> None:
    """Take each pixel of the result from where it comes from, between four pixels of the image.

    Loops over a row without branches, so that they become vector instructions: ``padded`` holds
    the image with one row and column of the value outside before it and two after it, and places
    further out are moved there.
    """
    C, H, W = image.shape
    one, zero = np.float32(1), np.float32(0)
    rounding = np.float32(0.5) if out.itemsize == 1 else zero  # bytes are cut off
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
def _cut(out: np.ndarray, row: int, column: int, side: int, fill: float) -> None:
    C, H, W = out.shape
    for c in range(C):
        for h in range(max(0, row), min(H, row + side)):
            for w in range(max(0, column), min(W, column + side)):
                out[c, h, w] = fill


@compiled("int64[:]", "int64", "uint64", "float64", "out int64[:]", "out float32[:]")
def draw_partners(
    order: np.ndarray,
    count: int,
    key: np.uint64,
    alpha: float,
    partners: np.ndarray,
    shares: np.ndarray,
) -> None:
    """Another image for each one, and the share of the first: Beta(alpha, alpha), or all of it.

    Johnk's method: of two powers of uniform numbers whose sum is at most 1, one's share in it.
    """
    for k in range(len(order)):
        counter = order[k] * DRAWS
        partners[k] = int(uniform(key, counter) * count)
        if alpha <= 0.0:
            shares[k] = 1.0
            continue
        shares[k] = 0.5  # should all draws be refused, which for alpha = 2 one in 10**5 sees
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
    rounding = np.float32(0.5) if images.itemsize == 1 else np.float32(0)  # bytes are cut off
    for k in range(len(images)):
        share = np.float32(shares[k])
        first, second = images[k], others[k]
        for i in range(first.size):
            other = np.float32(second[i])
            first[i] = other + share * (np.float32(first[i]) - other) + rounding
