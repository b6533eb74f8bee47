"""Handwriting-like digits drawn by the package: a data set that needs no file and no network.

Each digit has a few writing styles, given as strokes through a few points. A sample takes one
style, moves its points, bends and tilts the whole by random smooth and affine maps, and draws it
with a pen of random width; noise and blur vary. Sizes and centring follow MNIST's conventions.
"""

from typing import Any

import numpy as np

from fastcnn.arguments import as_count
from fastcnn.data.dataset import Dataset
from fastcnn.data.preprocessing import measure_normalisation
from fastcnn.errors import ConfigurationError
from fastcnn.scalars import plain

SIZE = 28
#: Points along the pen's path of one digit, over all strokes.
PATH_POINTS = 48

# Strokes as points (x, y) in the unit square, y downwards; a smooth curve runs through them.
Stroke = list[tuple[float, float]]
STYLES: dict[int, list[list[Stroke]]] = {
    0: [
        [
            [
                (0.55, 0.02),
                (0.22, 0.18),
                (0.12, 0.55),
                (0.3, 0.92),
                (0.62, 0.95),
                (0.86, 0.62),
                (0.8, 0.2),
                (0.5, 0.03),
            ]
        ],
        [
            [
                (0.62, 0.08),
                (0.3, 0.1),
                (0.1, 0.45),
                (0.2, 0.85),
                (0.55, 0.98),
                (0.88, 0.7),
                (0.88, 0.3),
                (0.6, 0.05),
                (0.4, 0.1),
            ]
        ],
    ],
    1: [
        [[(0.52, 0.0), (0.5, 0.35), (0.48, 0.7), (0.47, 1.0)]],
        [[(0.3, 0.22), (0.42, 0.12), (0.55, 0.0)], [(0.55, 0.0), (0.53, 0.5), (0.5, 1.0)]],
        [
            [(0.3, 0.2), (0.53, 0.02)],
            [(0.53, 0.02), (0.52, 0.5), (0.52, 0.98)],
            [(0.28, 0.98), (0.76, 0.98)],
        ],
    ],
    2: [
        [
            [(0.15, 0.25), (0.35, 0.04), (0.7, 0.08), (0.76, 0.35), (0.5, 0.68), (0.14, 0.95)],
            [(0.14, 0.95), (0.5, 0.92), (0.9, 0.95)],
        ],
        [
            [
                (0.18, 0.2),
                (0.45, 0.02),
                (0.76, 0.18),
                (0.68, 0.5),
                (0.4, 0.8),
                (0.18, 0.92),
                (0.14, 0.78),
                (0.32, 0.74),
                (0.6, 0.92),
                (0.9, 0.88),
            ]
        ],
    ],
    3: [
        [
            [(0.18, 0.12), (0.45, 0.02), (0.75, 0.14), (0.7, 0.38), (0.42, 0.48)],
            [(0.42, 0.48), (0.75, 0.56), (0.82, 0.8), (0.5, 0.98), (0.15, 0.86)],
        ],
        [
            [(0.2, 0.06), (0.5, 0.04), (0.8, 0.06)],
            [(0.8, 0.06), (0.62, 0.25), (0.45, 0.42)],
            [(0.45, 0.42), (0.78, 0.52), (0.8, 0.82), (0.48, 0.98), (0.16, 0.88)],
        ],
    ],
    4: [
        [
            [(0.32, 0.03), (0.24, 0.3), (0.14, 0.58)],
            [(0.14, 0.58), (0.5, 0.58), (0.88, 0.55)],
            [(0.7, 0.04), (0.66, 0.5), (0.62, 1.0)],
        ],
        [
            [(0.62, 0.02), (0.38, 0.34), (0.1, 0.66)],
            [(0.1, 0.66), (0.5, 0.66), (0.92, 0.64)],
            [(0.62, 0.02), (0.63, 0.5), (0.62, 1.0)],
        ],
    ],
    5: [
        [
            [(0.8, 0.04), (0.5, 0.05), (0.26, 0.06)],
            [(0.26, 0.06), (0.24, 0.24), (0.22, 0.42)],
            [(0.22, 0.42), (0.52, 0.38), (0.82, 0.58), (0.74, 0.88), (0.42, 0.98), (0.14, 0.88)],
        ],
        [
            [
                (0.3, 0.06),
                (0.24, 0.25),
                (0.24, 0.45),
                (0.55, 0.42),
                (0.78, 0.64),
                (0.62, 0.92),
                (0.2, 0.94),
            ],
            [(0.3, 0.06), (0.55, 0.06), (0.82, 0.02)],
        ],
    ],
    6: [
        [
            [
                (0.7, 0.03),
                (0.38, 0.24),
                (0.18, 0.6),
                (0.3, 0.93),
                (0.62, 0.95),
                (0.8, 0.72),
                (0.6, 0.52),
                (0.34, 0.6),
                (0.2, 0.78),
            ]
        ],
        [
            [
                (0.45, 0.0),
                (0.24, 0.35),
                (0.2, 0.75),
                (0.42, 0.98),
                (0.74, 0.88),
                (0.72, 0.6),
                (0.45, 0.55),
                (0.22, 0.72),
            ]
        ],
    ],
    7: [
        [[(0.12, 0.08), (0.5, 0.06), (0.85, 0.05)], [(0.85, 0.05), (0.62, 0.45), (0.42, 1.0)]],
        [
            [(0.14, 0.22), (0.18, 0.08), (0.5, 0.08), (0.84, 0.06)],
            [(0.84, 0.06), (0.65, 0.5), (0.5, 0.98)],
            [(0.34, 0.52), (0.8, 0.48)],
        ],
    ],
    8: [
        [
            [
                (0.76, 0.16),
                (0.5, 0.02),
                (0.24, 0.18),
                (0.38, 0.42),
                (0.66, 0.58),
                (0.78, 0.82),
                (0.5, 0.98),
                (0.22, 0.84),
                (0.34, 0.58),
                (0.64, 0.4),
                (0.78, 0.18),
            ]
        ],
        [
            [
                (0.5, 0.48),
                (0.26, 0.34),
                (0.3, 0.08),
                (0.6, 0.03),
                (0.74, 0.24),
                (0.5, 0.48),
                (0.22, 0.68),
                (0.28, 0.94),
                (0.62, 0.97),
                (0.8, 0.74),
                (0.52, 0.49),
            ]
        ],
    ],
    9: [
        [
            [(0.76, 0.24), (0.5, 0.04), (0.24, 0.22), (0.34, 0.48), (0.62, 0.46), (0.76, 0.22)],
            [(0.76, 0.22), (0.74, 0.6), (0.66, 1.0)],
        ],
        [
            [
                (0.72, 0.14),
                (0.42, 0.05),
                (0.22, 0.3),
                (0.42, 0.5),
                (0.7, 0.38),
                (0.76, 0.14),
                (0.78, 0.5),
                (0.68, 0.84),
                (0.4, 0.98),
                (0.2, 0.9),
            ]
        ],
    ],
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
        Bright ink on a dark ground.
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
    """Training and test sets of drawn digits; labels count from 0 in the order of ``classes``."""
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


def _write(
    style: list[Stroke], count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paths of ``count`` samples in one style: points, and whether ink leads to the next one."""
    share = np.array([len(stroke) for stroke in style], float)
    lengths = np.maximum(2, np.round(share / share.sum() * PATH_POINTS)).astype(int)
    lengths[np.argmax(lengths)] += PATH_POINTS - lengths.sum()
    parts, down = [], []
    for stroke, length in zip(style, lengths, strict=True):
        points = np.asarray(stroke) + generator.normal(0.0, 0.03, (count, len(stroke), 2))
        parts.append(_curve(points, int(length)))
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
