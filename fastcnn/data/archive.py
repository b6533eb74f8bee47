"""Data sets in ``.npz`` files: the report's four arrays, and layouts that others use."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.dataset import Dataset, Normalisation
from fastcnn.errors import DataError
from fastcnn.files import atomic_write


def write_npz(path: str | Path, train: Dataset, test: Dataset) -> None:
    """Write two data sets as ``train_x012, train_y012, test_x012, test_y012``.

    The suffix is the classes' names put together. Images are (N, 28, 28) if they have one
    channel, else (N, C, H, W).
    """
    suffix = "".join(train.classes)
    arrays: dict[str, Any] = {}
    for part, data in (("train", train), ("test", test)):
        images = data.images[:, 0] if data.images.shape[1] == 1 else data.images
        arrays[f"{part}_x{suffix}"] = images
        arrays[f"{part}_y{suffix}"] = data.labels
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    atomic_write(path, buffer.getvalue())


def read_npz(path: str | Path) -> tuple[Dataset, Dataset]:
    """Read training and test sets from an ``.npz`` file.

    Arrays are named ``train_x*, train_y*, test_x*, test_y*`` with any common suffix, or as Keras
    has it ``x_train, y_train, x_test, y_test``. Images are (N, H, W), (N, C, H, W), (N, H, W, C)
    or flat squares (N, H * W), as bytes, or as floats in 0..1 or 0..255; labels are integers or
    one-hot rows.

    Raises
    ------
    DataError
        If the file is missing, corrupt, holds Python objects, or an array is missing or misshapen.
    """
    path = Path(path)
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: a single array, not an .npz archive")
            for part in ("train", "test"):
                for letter in "xy":
                    arrays[part + letter] = file[_key(file.files, part, letter, path)]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        if isinstance(error, DataError):
            raise
        # Numpy takes a file of another kind for a pickled one, and says how to load it.
        reason = error if zipfile.is_zipfile(path) else "it is no zip archive"
        raise DataError(f"{path}: cannot be read as .npz ({reason})") from None
    train_y = _as_labels(arrays["trainy"], path)
    test_y = _as_labels(arrays["testy"], path)
    count = int(max(train_y.max(), test_y.max())) + 1
    suffix = _suffix(path, arrays)
    classes = tuple(suffix) if len(suffix) == count else tuple(map(str, range(count)))
    images = [_as_images(arrays[part + "x"], path) for part in ("train", "test")]
    normalisation = measure_normalisation(images[0])
    name = path.stem
    return (
        Dataset(images[0], train_y, classes, normalisation, name),
        Dataset(images[1], test_y, classes, normalisation, name),
    )


def measure_normalisation(images: np.ndarray) -> Normalisation:
    """Mean and standard deviation of each channel, rounded to four digits."""
    unit = 255.0 if images.dtype == np.uint8 else 1.0
    axes = (0, 2, 3)
    mean = images.mean(axis=axes, dtype=np.float64) / unit
    std = images.std(axis=axes, dtype=np.float64) / unit
    return Normalisation(
        tuple(round(float(value), 4) for value in mean),
        tuple(round(float(value), 4) or 1.0 for value in std),
    )


def _key(names: list[str], part: str, letter: str, path: Path) -> str:
    found = [name for name in names if name.startswith(f"{part}_{letter}")]
    found += [name for name in names if name == f"{letter}_{part}"]
    if len(found) != 1:
        raise DataError(
            f"{path}: needs one array named {part}_{letter}... (as train_x012) or "
            f"{letter}_{part}, has {', '.join(names) or 'none'}"
        )
    return found[0]


def _suffix(path: Path, arrays: dict[str, np.ndarray]) -> str:
    with np.load(path, allow_pickle=False) as file:
        name = _key(file.files, "train", "x", path)
    suffix = name.removeprefix("train_x")
    return suffix if suffix != name and suffix.isdigit() else ""


def _as_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise DataError(f"{path}: labels of shape {labels.shape} are not one-hot rows")
        return labels.argmax(axis=1).astype(np.int64)
    labels = labels.reshape(len(labels)) if labels.ndim == 2 else labels
    whole = labels.astype(np.int64) if labels.dtype.kind in "iuf" else None
    if whole is None or labels.ndim != 1 or (whole != labels).any() or labels.size == 0:
        raise DataError(f"{path}: labels must be whole numbers, got {labels.dtype} {labels.shape}")
    if whole.min() < 0:
        raise DataError(f"{path}: labels must not be negative, got {whole.min()}")
    return whole


def _as_images(images: np.ndarray, path: Path) -> np.ndarray:
    if images.ndim == 2:
        side = round(images.shape[1] ** 0.5)
        if side * side != images.shape[1]:
            raise DataError(f"{path}: rows of {images.shape[1]} values are no square images")
        images = images.reshape(-1, side, side)
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.dtype.kind not in "uifb":
        raise DataError(f"{path}: images have {images.dtype} of shape {images.shape}")
    if images.dtype.kind == "f":
        images = np.ascontiguousarray(images, np.float32)
        if not np.isfinite(images).all():
            raise DataError(f"{path}: images contain NaN or infinity")
        return images / np.float32(255) if images.size and images.max() > 1.5 else images
    if images.size and (images.min() < 0 or images.max() > 255):
        raise DataError(f"{path}: pixels lie in {images.min()}..{images.max()}, not in 0..255")
    return np.ascontiguousarray(images, np.uint8)
