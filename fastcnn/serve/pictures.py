"""From what a visitor draws or drops to what the network was trained on."""

import io
from typing import Any

import numpy as np

from fastcnn.errors import DataError

#: Pixels of a picture at most: small files can be made to unpack to gigabytes.
MAX_PIXELS = 16_000_000
#: Pixels of a side beyond which a picture is made smaller before anything else is done with it.
LARGE = 1024
#: Size of the box that a digit of MNIST fills, as a share of the image's side.
FILLED = 20 / 28


def decode(content: bytes, channels: int) -> np.ndarray:
    """A picture's pixels, the right way up, on white paper where it is transparent.

    Returns
    -------
    ndarray of uint8, shape (channels, H, W)

    Raises
    ------
    DataError
        If it is no picture, damaged, or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")) as file:
            if file.width * file.height > MAX_PIXELS:
                raise DataError(f"the picture has {file.width} x {file.height} pixels: too many")
            picture = ImageOps.exif_transpose(_smaller(file)).convert("RGBA")
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("not a picture that can be read") from None
    except Exception as error:  # what damaged files make decoders raise has no common base
        raise DataError(f"the picture cannot be read ({error})") from None
    paper = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(paper, picture).convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(flat, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _smaller(picture: Any) -> Any:
    """The picture with 8 bits a channel, and no side longer than :data:`LARGE`."""
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits: converting would cut them off at 255
        picture = Image.fromarray((np.asarray(picture, np.int64) >> 8).astype(np.uint8))
    elif picture.mode in ("1", "P"):  # between these no values can be interpolated
        picture = picture.convert("L" if picture.mode == "1" else "RGBA")
    if max(picture.size) > LARGE:
        picture.thumbnail((LARGE, LARGE))
    return picture


def prepare(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bring pixels to a network's input; a grey picture is treated as MNIST's digits were.

    Of a coloured one the middle is taken. A grey one becomes bright on dark, its ink scaled to a
    box of 20/28 of the side, its centre of mass in the middle
    (LeCun and others, "The MNIST database of handwritten digits").

    Parameters
    ----------
    pixels : ndarray of uint8, shape (C, H, W)
    shape : tuple of int
        The network's (C, H, W).

    Returns
    -------
    ndarray of uint8, shape (C, H, W)
    """
    channels, height, width = shape
    if channels != 1:
        return np.stack([_resized(part, height, width) for part in _middle(pixels, height / width)])
    grey = pixels[0]
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(border) > 127:
        grey = 255 - grey
    rows, columns = np.nonzero(grey.max(axis=1) > 32)[0], np.nonzero(grey.max(axis=0) > 32)[0]
    if not len(rows):
        return np.zeros((1, height, width), np.uint8)
    ink = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = FILLED * min(height, width) / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape]
    ink = _resized(ink, size[0], size[1])
    mass = ink.astype(np.float64) / max(int(ink.sum()), 1)
    centre = (mass.sum(axis=1) @ np.arange(size[0]), mass.sum(axis=0) @ np.arange(size[1]))
    top = int(np.clip(round((height - 1) / 2 - centre[0]), 0, height - size[0]))
    left = int(np.clip(round((width - 1) / 2 - centre[1]), 0, width - size[1]))
    made = np.zeros((1, height, width), np.uint8)
    made[0, top : top + size[0], left : left + size[1]] = ink
    return made


def _middle(pixels: np.ndarray, ratio: float) -> np.ndarray:
    """The largest part in the middle whose height is ``ratio`` times its width."""
    _, height, width = pixels.shape
    rows = max(1, min(height, round(width * ratio)))
    columns = max(1, min(width, round(height / ratio)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return pixels[:, top : top + rows, left : left + columns]


def _resized(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    picture: Any = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS), np.uint8)
