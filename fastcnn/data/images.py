"""Picture files: one decoder for all formats, to upright 8-bit pixels."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.arguments import as_count
from fastcnn.data.pictures import Pictures
from fastcnn.data.reading import read_bytes, regular_file
from fastcnn.errors import ConfigurationError, DataError
from fastcnn.notebook import brief

#: Formats that Pillow may detect, regardless of the file's name: it knows others, such as
#: PostScript, which it passes to another program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
#: Most pixels of a picture, and of a side: small files can unpack to gigabytes.
MAX_PIXELS, MAX_SIDE = 64_000_000, 2**15
#: Most bytes of a file: those of the most pixels, uncompressed.
MAX_BYTES = 8 * MAX_PIXELS
#: Pictures with longer sides than this are downsampled before anything else.
LARGE = 1024
#: Largest pixel value of each of Pillow's single-channel high-depth modes.
DEEP = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I;16N": 65535, "I": 65535, "F": 1}
GREY = {"1", "L", "LA", *DEEP}
MODES = GREY | {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
#: Smallest channel difference of a coloured pixel; JPEG makes grey ones differ slightly.
COLOURED = 24
COLOURS_LOST = "colours read as grey"
#: TIFF's tags for the bits of a pixel, their meaning and their sign, and that of the orientation
#: in all formats.
BITS, PHOTOMETRIC, SAMPLE_FORMAT, ORIENTATION = 258, 262, 339, 0x0112
WHITE_IS_ZERO, SIGNED = 0, 2


@dataclass(frozen=True)
class Picture:
    """A picture as a sample for a network.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (C, H, W)
    done : tuple of str
        The conversions applied, in words.
    """

    pixels: np.ndarray
    done: tuple[str, ...]

    __repr__ = brief


def read_picture(
    source: Any, pictures: Pictures, *, invert: bool | None = None, most_pixels: int = MAX_PIXELS
) -> Picture:
    """Read a picture by a network's rule.

    Parameters
    ----------
    source : path, bytes, or Member of an archive
        A PNG, JPEG, WebP, GIF, BMP or TIFF file, or its content. The format is detected from the
        content, not the suffix.
    pictures : Pictures
        The rule, as from ``model.preprocessing.pictures``.
    invert : bool, optional
        Whether to exchange black and white; by default according to the rule.
    most_pixels : int
        Larger pictures are refused.

    Returns
    -------
    Picture

    Raises
    ------
    DataError
        If the file is missing, not a picture of these formats, damaged or too large, or has values
        that are not pixels.
    """
    if not isinstance(pictures, Pictures):
        raise ConfigurationError(f"read_picture: pictures must be a Pictures, got {pictures!r}")
    pixels, notes = decode(source, pictures.shape, most_pixels)
    pixels, done = pictures.apply(pixels, invert)
    return Picture(pixels, (*notes, *done))


def read_image(
    path: str | Path, shape: tuple[int, ...], *, invert: bool | None = None
) -> np.ndarray:
    """Read a picture as bytes of shape (C, H, W), resized to that size.

    Parameters
    ----------
    path : path
        A PNG, JPEG, WebP, GIF, BMP or TIFF file of 1 to 32 bits; 16 bits are scaled to 8, and
        floating-point pixels are in 0..1. EXIF orientation is applied; transparent areas become
        white.
    shape : tuple of int
        Requested (C, H, W), with C of 1 (grey) or 3 (RGB).
    invert : bool, optional
        Whether to exchange black and white. By default a grey picture whose border is bright
        (dark ink on paper) is inverted, since digits are trained bright on dark.

    Returns
    -------
    ndarray of uint8, shape (C, H, W)

    Raises
    ------
    DataError
        As for :func:`read_picture`.
    """
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if len(sizes) != 3 or sizes[0] not in (1, 3):
        raise DataError(f"pictures have shape (1, H, W) or (3, H, W), not {shape!r}")
    channels, height, width = (as_count("read_image", "shape", size) for size in sizes)
    paper: Any = "dark" if channels == 1 else None
    rule = Pictures((channels, height, width), "stretch", paper, inverts=channels == 1)
    return read_picture(path, rule, invert=invert).pixels


def picture_shape(path: Any) -> tuple[int, int, int]:
    """Channels (1 for grey, else 3), height and width of an upright picture.

    Raises DataError as for :func:`read_image`.
    """
    picture, _ = _opened(path, MAX_PIXELS)
    return (1 if picture.mode in ("L", "LA") else 3, picture.height, picture.width)


def decode(
    source: Any, shape: tuple[int, int, int], most_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, list[str]]:
    """The upright pixels of a picture on a white background, (C, h, w), and losses, in words.

    C of the network's ``shape`` selects grey or colour. A picture that is larger than 1,024 pixels
    and than twice H x W is downsampled by an integer factor. Raises DataError as
    :func:`read_picture` does.
    """
    from PIL import Image

    channels, height, width = shape
    picture, notes = _opened(source, most_pixels)
    smaller = min(
        -(-max(picture.size) // LARGE),
        max(1, min(picture.width // (2 * width), picture.height // (2 * height))),
    )
    if smaller > 1:
        picture = picture.reduce(smaller)
    if picture.mode in ("LA", "RGBA"):
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture.convert("RGBA"))
    if channels == 1 and picture.mode != "L" and _is_coloured(picture):
        notes.append(COLOURS_LOST)
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"), np.uint8)
    pixels = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels), notes


def _is_coloured(picture: Any) -> bool:
    red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.int16), 2, 0)
    return bool(max(np.abs(red - green).max(), np.abs(green - blue).max()) > COLOURED)


def _opened(source: Any, most_pixels: int) -> tuple[Any, list[str]]:
    """An upright Pillow image of mode L, LA, RGB or RGBA, and notes."""
    from PIL import Image, UnidentifiedImageError

    # Given a path, Pillow would memory-map a TIFF, and then rotate it wrongly.
    if isinstance(source, bytes):
        name, content = "the picture", source
    elif isinstance(source, (str, Path)):
        name, content = _content(source)
    else:
        name, content = source.name, source.read()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            _check(opened, name, most_pixels)
            frames = getattr(opened, "n_frames", 1)
            opened.load()
            picture = _turned(_eight_bits(opened, name), _orientation(opened))
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name}: not a picture of the formats {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders' errors for damaged files have no common base
        reason = str(error) or type(error).__name__
        raise DataError(f"{name}: damaged, cannot be read as a picture ({reason})") from None
    notes = [f"the first of {frames} frames"] if frames > 1 else []
    # Perhaps 8-bit values that a program stored in 16 or 32 bits.
    if opened.mode in DEEP and picture.getchannel(0).getextrema()[1] <= 1:
        notes.append(f"nearly black, as its pixels are white at {_largest(opened, opened.mode):,}")
    return picture, notes


def _content(path: str | Path) -> tuple[str, bytes]:
    """A file's name and content."""
    file = regular_file(path)
    if file.stat().st_size > MAX_BYTES:
        raise DataError(f"{file}: has more than {MAX_BYTES:,} bytes, too many for a picture")
    return str(file), read_bytes(file)


def _check(opened: Any, name: str, most_pixels: int) -> None:
    """Refuse a picture based on its header, before its pixels take memory."""
    width, height = opened.size
    if width * height > most_pixels or max(width, height) > MAX_SIDE:
        raise DataError(
            f"{name}: {width:,} x {height:,} pixels are too many, at most {most_pixels:,} and "
            f"{MAX_SIDE:,} per side"
        )
    if min(width, height) < 1:
        raise DataError(f"{name}: has no pixels")
    if opened.mode not in MODES:
        raise DataError(f"{name}: pictures of mode {opened.mode} are not supported")


def _eight_bits(opened: Any, name: str) -> Any:
    """The picture in mode L, LA, RGB or RGBA."""
    from PIL import Image, ImageOps

    mode, transparent = opened.mode, opened.info.get("transparency")
    if mode in DEEP:
        values = np.asarray(opened)
        most = _largest(opened, mode)
        if not (values.min() >= 0 and values.max() <= most):  # NaN is neither
            raise DataError(
                f"{name}: pixels of mode {mode} must lie in 0..{most}, got "
                f"{values.min():g}..{values.max():g}"
            )
        grey = Image.fromarray(np.rint(values * (255.0 / most)).astype(np.uint8))
        # Pillow does so itself for pixels of up to 8 bits.
        if _tags(opened).get(PHOTOMETRIC) == WHITE_IS_ZERO:
            grey = ImageOps.invert(grey)
        if isinstance(transparent, int):
            alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
            grey.putalpha(Image.fromarray(alpha))
        return grey
    if mode == "P" and transparent is None:
        colours = np.reshape(opened.getpalette("RGB"), (-1, 3))
        used = np.flatnonzero(opened.histogram()[: len(colours)])
        is_grey = bool((colours[used] == colours[used, :1]).all())
        return opened.convert("L" if is_grey else "RGB")
    if transparent is not None or mode in ("P", "PA", "RGBa"):
        return opened.convert("LA" if mode in ("1", "L") else "RGBA")
    if mode in ("L", "LA", "RGB", "RGBA"):
        return opened
    return opened.convert("L" if mode == "1" else "RGB")


def _largest(opened: Any, mode: str) -> int:
    """The value of a white pixel in a high-depth mode."""
    tags = _tags(opened)
    bits = tags.get(BITS, (0,))[0] - (tags.get(SAMPLE_FORMAT, (0,))[0] == SIGNED)
    return 2 ** int(bits) - 1 if 8 < bits < 16 else DEEP[mode]


def _tags(opened: Any) -> Any:
    return getattr(opened, "tag_v2", {})


def _orientation(opened: Any) -> int:
    """The EXIF orientation of a picture; 1, upright, if its EXIF data are damaged."""
    try:
        return int(opened.getexif().get(ORIENTATION, 1))
    except Exception:  # unreadable metadata do not make a picture unusable
        return 1


def _turned(picture: Any, orientation: int) -> Any:
    from PIL.Image import Transpose

    methods = (
        *(Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM),
        *(Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90),
    )  # of the orientations 2 to 8
    return picture.transpose(methods[orientation - 2]) if 2 <= orientation <= 8 else picture
