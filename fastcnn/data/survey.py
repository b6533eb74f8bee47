"""Which size and colour the pictures of a folder get, from a look at some of them."""

from pathlib import Path

import numpy as np

from fastcnn.data.folders import parts
from fastcnn.data.images import COLOURS_LOST, decode, picture_shape
from fastcnn.data.pictures import Pictures
from fastcnn.errors import ConfigurationError
from fastcnn.files import expanded

#: Pictures whose size is looked at, and of these the ones that are searched for colours.
LOOKED_AT, SEARCHED = 100, 20
#: Sides of a network's input, of which the largest is taken that most pictures fill.
SIDES = (16, 24, 28, 32, 48, 64)
#: Sides that --image-size accepts.
LEAST_SIDE, MOST_SIDE = 4, 1024


def chosen_pictures(
    folder: str | Path, *, image_size: int | None = None, colour: bool | None = None
) -> tuple[Pictures, str]:
    """A rule by which all pictures of a folder can be read, and a line that says what it is.

    Pictures of one size up to 64 pixels keep it; others are stretched to a square of at most 64
    pixels that half of them fill. They are read as grey if none that was looked at has colours.

    Parameters
    ----------
    folder : path
        As :func:`fastcnn.data.load` takes it.
    image_size : int, optional
        Height and width in pixels.
    colour : bool, optional
        Whether to read colours.

    Returns
    -------
    Pictures
    str

    Raises
    ------
    DataError
        If the folder has no classes of pictures, or one of the pictures cannot be read.
    ConfigurationError
        If ``image_size`` is out of bounds.

    Examples
    --------
    >>> from fastcnn.data import chosen_pictures, load
    >>> rule, line = chosen_pictures("leaves", image_size=48)  # doctest: +SKIP
    >>> train, test = load("leaves", pictures=rule)  # doctest: +SKIP
    """
    if image_size is not None and not LEAST_SIDE <= image_size <= MOST_SIDE:
        raise ConfigurationError(
            f"image_size must lie in {LEAST_SIDE}..{MOST_SIDE} pixels, got {image_size}"
        )
    found, _, _ = parts(expanded(folder))
    paths = [path for pictures in found[0].classes.values() for _, path in pictures]
    some = [paths[index] for index in _evenly(len(paths), LOOKED_AT)]
    shapes = [picture_shape(path) for path in some]
    sizes = np.array([shape[1:] for shape in shapes])
    height, width = (image_size, image_size) if image_size else _size(sizes)
    if colour is None:
        coloured = [path for path, shape in zip(some, shapes, strict=True) if shape[0] == 3]
        searched = [coloured[index] for index in _evenly(len(coloured), SEARCHED)]
        colour = any(COLOURS_LOST in decode(path, (1, height, width))[1] for path in searched)
    rule = Pictures((3 if colour else 1, height, width), "stretch")
    low, high = (
        f"{size[1]} x {size[0]}"
        for size in (sizes[sizes.min(axis=1).argmin()], sizes[sizes.min(axis=1).argmax()])
    )
    given = low if low == high else f"{low} to {high}"
    return rule, (
        f"pictures of {given} pixels are read in {'colour' if colour else 'grey'} and as "
        f"{width} x {height}"
    )


def _evenly(count: int, most: int) -> list[int]:
    """Numbers below ``count``, evenly spaced and at most ``most`` of them."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))})


def _size(sizes: np.ndarray) -> tuple[int, int]:
    if (sizes == sizes[0]).all() and sizes[0].min() >= LEAST_SIDE and sizes[0].max() <= SIDES[-1]:
        return int(sizes[0][0]), int(sizes[0][1])
    filled = float(np.median(sizes.min(axis=1)))
    side = max((side for side in SIDES if side <= filled), default=SIDES[0])
    return side, side
