"""Handwriting-like digits drawn by the package: a data set without files or downloads.

Each digit has a few writing styles, given as strokes through a few points. For each sample a style
is chosen, its points are jittered, the whole is distorted by random smooth and affine maps, and
drawn with a pen of random width; noise and blur vary. Sizes and centring follow MNIST's
conventions.
"""

from typing import Any

import numpy as np

from fastcnn.arguments import as_count
from fastcnn.data.dataset import Dataset
from fastcnn.data.preprocessing import measure_normalisation
from fastcnn.errors import ConfigurationError
from fastcnn.scalars import plain

SIZE = 28
#: Number of points along the pen's path of a digit, over all strokes.
PATH_POINTS = 48

#: Styles of each digit: strokes separated by ";", of points "x,y" in hundredths of a square, y
#: downwards. A smooth curve runs through the points of a stroke.
STYLES: dict[int, tuple[str, ...]] = {
    0: (
        "55,2 22,18 12,55 30,92 62,95 86,62 80,20 50,3",
        "62,8 30,10 10,45 20,85 55,98 88,70 88,30 60,5 40,10",
    ),
    1: (
        "52,0 50,35 48,70 47,100",
        "30,22 42,12 55,0; 55,0 53,50 50,100",
        "30,20 53,2; 53,2 52,50 52,98; 28,98 76,98",
    ),
    2: (
        "15,25 35,4 70,8 76,35 50,68 14,95; 14,95 50,92 90,95",
        "18,20 45,2 76,18 68,50 40,80 18,92 14,78 32,74 60,92 90,88",
    ),
    3: (
        "18,12 45,2 75,14 70,38 42,48; 42,48 75,56 82,80 50,98 15,86",
        "20,6 50,4 80,6; 80,6 62,25 45,42; 45,42 78,52 80,82 48,98 16,88",
    ),
    4: (
        "32,3 24,30 14,58; 14,58 50,58 88,55; 70,4 66,50 62,100",
        "62,2 38,34 10,66; 10,66 50,66 92,64; 62,2 63,50 62,100",
    ),
    5: (
        "80,4 50,5 26,6; 26,6 24,24 22,42; 22,42 52,38 82,58 74,88 42,98 14,88",
        "30,6 24,25 24,45 55,42 78,64 62,92 20,94; 30,6 55,6 82,2",
    ),
    6: (
        "70,3 38,24 18,60 30,93 62,95 80,72 60,52 34,60 20,78",
        "45,0 24,35 20,75 42,98 74,88 72,60 45,55 22,72",
    ),
    7: ("12,8 50,6 85,5; 85,5 62,45 42,100", "14,22 18,8 50,8 84,6; 84,6 65,50 50,98; 34,52 80,48"),
    8: (
        "76,16 50,2 24,18 38,42 66,58 78,82 50,98 22,84 34,58 64,40 78,18",
        "50,48 26,34 30,8 60,3 74,24 50,48 22,68 28,94 62,97 80,74 52,49",
    ),
    9: (
        "76,24 50,4 24,22 34,48 62,46 76,22; 76,22 74,60 66,100",
        "72,14 42,5 22,30 42,50 70,38 76,14 78,50 68,84 40,98 20,90",
    ),
}


def draw_digits(
    count: int, *, classes: tuple[int, ...] = tuple(range(10)), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw handwriting-like digits.

    Parameters
    ----------
    count : int
        Number of images; classes are drawn at random with equal probability.
    classes : tuple of int
        Digits to draw from.
    seed : int
        The same seed gives the same images.

    Returns
    -------
    images : ndarray of uint8, shape (count, 1, 28, 28)
        Bright ink on a dark background.
    labels : ndarray of int64, shape (count,)
        The digits themselves.

    Raises
    ------
    ConfigurationError
        If ``count`` is below 1, or a class is not a digit or given twice.
    """
    count = as_count("draw_digits", "count", count)
    classes = _as_digits("draw_digits", classes)
    seed = as_count("draw_digits", "seed", seed, least=0, most=2**64 - 1)
    from fastcnn.data.pen import draw_paths

    generator = np.random.default_rng(seed)
    labels = generator.choice(np.asarray(classes, np.int64), size=count)
    paths = np.empty((count, PATH_POINTS, 2))
    pen_down = np.empty((count, PATH_POINTS), bool)
    for digit in sorted(set(classes)):
        members = np.flatnonzero(labels == digit)
        chosen = generator.integers(len(STYLES[digit]), size=len(members))
        for index, style in enumerate(STYLES[digit]):
            rows = members[chosen == index]
            if len(rows):
                paths[rows], pen_down[rows] = _write(style, len(rows), generator)
    paths = _place(_distort(paths, generator), generator)
    width = generator.normal(1.25, 0.28, count).clip(0.7, 2.0)
    softness = generator.uniform(0.5, 0.95, count)
    images = draw_paths(paths, pen_down, width, softness, SIZE)
    ink = generator.uniform(0.82, 1.0, (count, 1, 1)).astype(np.float32)
    noise = generator.standard_normal(images.shape, dtype=np.float32)
    noise *= generator.uniform(0.0, 0.05, (count, 1, 1)).astype(np.float32)
    images *= ink
    images += noise * (images > 0.02)
    pixels = np.clip(images * 255.0, 0.0, 255.0).astype(np.uint8)
    return pixels[:, None], labels


def digits_dataset(
    train: int = 12_000,
    test: int = 2_000,
    *,
    classes: tuple[int, ...] = tuple(range(10)),
    seed: int = 0,
) -> tuple[Dataset, Dataset]:
    """Training and test sets of drawn digits; labels count from 0 in the order of ``classes``.

    Parameters
    ----------
    train, test : int
        Images of each set.
    classes : tuple of int
        Digits to draw.
    seed : int
        Seed of the drawn digits.
    """
    train, test = (
        as_count("digits_dataset", name, each) for name, each in (("train", train), ("test", test))
    )
    classes = _as_digits("digits_dataset", classes)
    images, labels = draw_digits(train + test, classes=classes, seed=seed)
    lookup = np.full(10, -1, np.int64)
    lookup[list(classes)] = np.arange(len(classes))
    preprocessing = measure_normalisation(images[:train])
    names = tuple(str(digit) for digit in classes)
    name = "digits" + ("" if len(classes) == 10 else "".join(names))
    first, second = (
        Dataset(images[part], lookup[labels[part]], names, preprocessing, name)
        for part in (slice(0, train), slice(train, None))
    )
    return first, second


def _as_digits(owner: str, classes: Any) -> tuple[int, ...]:
    try:
        digits = tuple(plain(digit) for digit in classes)
    except TypeError:
        digits = ()
    known = all(type(digit) is int and digit in STYLES for digit in digits)
    if not digits or not known or len(set(digits)) < len(digits):
        raise ConfigurationError(
            f"{owner}: classes must be different digits 0 to 9, such as (0, 1, 2), got {classes!r}"
        )
    return digits


def _write(style: str, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paths of ``count`` samples in one style: points, and whether the pen is down to the next."""
    strokes = [
        np.array([point.split(",") for point in stroke.split()], float) / 100
        for stroke in style.split(";")
    ]
    share = np.array([len(stroke) for stroke in strokes], float)
    lengths = np.maximum(2, np.round(share / share.sum() * PATH_POINTS)).astype(int)
    lengths[np.argmax(lengths)] += PATH_POINTS - lengths.sum()
    parts, down = [], []
    for stroke, length in zip(strokes, lengths, strict=True):
        parts.append(_curve(stroke + generator.normal(0.0, 0.03, (count, *stroke.shape)), length))
        down.append(np.arange(length) < length - 1)
    return np.concatenate(parts, axis=1), np.broadcast_to(
        np.concatenate(down), (count, PATH_POINTS)
    )


def _curve(points: np.ndarray, length: int) -> np.ndarray:
    """Sample a Catmull-Rom spline through points of shape (count, knots, 2)."""
    knots = points.shape[1]
    if knots == 2:
        share = np.linspace(0.0, 1.0, length)[:, None]
        return points[:, :1] * (1.0 - share) + points[:, 1:] * share
    padded = np.concatenate(
        [2 * points[:, :1] - points[:, 1:2], points, 2 * points[:, -1:] - points[:, -2:-1]], axis=1
    )
    position = np.linspace(0.0, knots - 1.0, length)
    segment = np.minimum(position.astype(int), knots - 2)
    t = (position - segment)[:, None]
    a, b, c, d = (padded[:, segment + k] for k in range(4))
    return 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )


def _distort(paths: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Bend by two smooth waves, then shear, rotate and stretch about the centre."""
    count = len(paths)
    centred = paths - 0.5
    for _ in range(2):
        direction = generator.normal(0.0, 1.0, (count, 1, 2))
        phase = generator.uniform(0.0, 2 * np.pi, (count, 1, 1))
        amplitude = generator.normal(0.0, 0.035, (count, 1, 2))
        wave = np.sin(4.0 * (centred * direction).sum(axis=2, keepdims=True) + phase)
        centred = centred + amplitude * wave
    angle = generator.normal(0.0, 0.13, count)
    shear = generator.normal(0.12, 0.18, count)
    wide = generator.normal(0.82, 0.12, count).clip(0.5, 1.1)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.empty((count, 2, 2))
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * wide, -cos * shear - sin
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * wide, cos - sin * shear
    return np.einsum("nij,npj->npi", matrix, centred)


def _place(paths: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Scale to about 20 pixels and put the centre of mass near the middle, as in MNIST."""
    count = len(paths)
    low, high = paths.min(axis=1), paths.max(axis=1)
    extent = np.maximum((high - low)[:, 1], 0.7 * (high - low)[:, 0])
    size = generator.normal(18.0, 1.1, count).clip(14.0, 20.5)
    scaled = paths * (size / np.maximum(extent, 0.4))[:, None, None]
    middle = 0.5 * (scaled.mean(axis=1) + 0.5 * (scaled.min(axis=1) + scaled.max(axis=1)))
    shift = generator.normal(0.0, 0.7, (count, 1, 2))
    return scaled - middle[:, None] + (SIZE - 1) / 2 + shift
