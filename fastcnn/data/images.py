"""Image files: one picture for a prediction, or folders of them as a data set."""

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


def read_folder(folder: str | Path, seed: int = 0) -> Any:
    """Read a folder of class subfolders as training and test sets.

    ``folder/train/CLASS/*.png`` and ``folder/test/CLASS/*.png``, or ``folder/CLASS/*.png``, of
    which a seeded 15 % become the test set. All pictures take the size and colour of the first.

    Returns
    -------
    train, test : Dataset

    Raises
    ------
    DataError
        If there are no classes, no pictures, or one cannot be read.
    """
    from fastcnn.data.dataset import Dataset
    from fastcnn.data.preprocessing import Preprocessing

    folder = Path(folder)
    has_split = (folder / "train").is_dir() and (folder / "test").is_dir()
    root = folder / "train" if has_split else folder
    classes = tuple(sorted(item.name for item in root.iterdir() if item.is_dir()))
    if len(classes) < 2:
        raise DataError(f"{folder}: needs a subfolder for each of at least two classes")
    shape = _shape_of_first(root, classes)
    images, labels = _read_classes(root, classes, shape)
    if has_split:
        parts = ((images, labels), _read_classes(folder / "test", classes, shape))
    else:
        order = np.random.default_rng(seed).permutation(len(images))
        held = max(1, round(0.15 * len(images)))
        parts = (
            (images[order[held:]], labels[order[held:]]),
            (images[order[:held]], labels[order[:held]]),
        )
    preprocessing = Preprocessing.measure(parts[0][0])
    train, test = (Dataset(*part, classes, preprocessing, folder.name) for part in parts)
    return train, test


def _flattened(file: Any, mode: str) -> Any:
    """Convert to a mode, with transparent areas white as on paper."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(file)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    return picture.convert(mode)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def _shape_of_first(root: Path, classes: tuple[str, ...]) -> tuple[int, int, int]:
    from PIL import Image

    for name in classes:
        for path in _pictures(root / name):
            try:
                with Image.open(path) as file:
                    grey = file.mode in ("1", "L", "I", "I;16", "LA")
                    return (1 if grey else 3, file.height, file.width)
            except OSError as error:
                raise DataError(f"{path}: cannot be read as an image ({error})") from None
    raise DataError(f"{root}: no pictures in its subfolders ({', '.join(sorted(SUFFIXES))})")


def _read_classes(
    root: Path, classes: tuple[str, ...], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for index, name in enumerate(classes):
        for path in _pictures(root / name):
            images.append(read_image(path, shape, invert=False))
            labels.append(index)
    if not images:
        raise DataError(f"{root}: no pictures in its subfolders ({', '.join(sorted(SUFFIXES))})")
    return np.stack(images), np.asarray(labels, np.int64)
