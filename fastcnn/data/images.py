"""Image files."""

from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}


def read_image(path: str | Path, shape: tuple[int, ...], *, invert: bool | None = None) -> Any:
    """Read one picture as bytes of shape (C, H, W).

    Parameters
    ----------
    path : path
        PNG, JPEG or another format that Pillow knows.
    shape : tuple of int
        Wanted (C, H, W), C being 1 (grey) or 3 (RGB); the picture is resized.
    invert : bool, optional
        Whether to exchange black and white. By default a grey picture whose border is bright
        (dark ink on paper) is inverted, since digits are trained bright on dark.

    Returns
    -------
    ndarray of uint8, shape (C, H, W)

    Raises
    ------
    DataError
        If the file is missing, no image, truncated, or too large to be one.
    """
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"pictures have 1 or 3 channels, the model takes {channels}")
    try:
        with Image.open(path) as file:
            picture = _flattened(file, "L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from None
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture, np.uint8)
    if channels == 1:
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        if invert if invert is not None else np.median(border) > 127:
            pixels = 255 - pixels
        return pixels[None].copy()
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def picture_shape(path: str | Path) -> tuple[int, int, int]:
    """Channels (1 for grey, else 3), height and width of a picture.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as file:
            grey = file.mode in ("1", "L", "I", "I;16", "LA")
            return (1 if grey else 3, file.height, file.width)
    except OSError as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from None


def _flattened(file: Any, mode: str) -> Any:
    """Convert to a mode, with transparent areas white as on paper."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(file)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    return picture.convert(mode)
