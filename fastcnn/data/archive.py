"""Data sets in ``.npz`` files: the report's four arrays, and layouts that others use."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.arrays import as_image_sets, as_label_sets, as_text
from fastcnn.data.dataset import Dataset
from fastcnn.data.npy import Archive
from fastcnn.data.preprocessing import measure_normalisation
from fastcnn.errors import DataError
from fastcnn.files import atomic_write, expanded

#: Names of the four arrays as Keras, MedMNIST and this package write them; a digit sequence, the
#: names of the classes, may follow those of this package.
PATTERNS = {
    "train_x": r"train_x.*|[xX]_train|train_images",
    "train_y": r"train_y.*|[yY]_train|train_labels",
    "test_x": r"test_x.*|[xX]_test|test_images",
    "test_y": r"test_y.*|[yY]_test|test_labels",
}


def write_npz(path: str | Path, train: Dataset, test: Dataset) -> None:
    """Write two data sets as ``train_x012, train_y012, test_x012, test_y012``.

    The suffix is the classes' names put together, if each is a digit; names that are not the
    numbers from 0 on are in a further array, ``classes``. Images are (N, 28, 28) if they have one
    channel, else (N, C, H, W), and an array ``layout`` says so.
    """
    for name, given in (("train", train), ("test", test)):
        if not isinstance(given, Dataset):
            raise DataError(f"write_npz: {name} must be a Dataset, got {given!r:.200}")
    names = train.classes
    suffix = "".join(names) if all(len(name) == 1 and name.isdigit() for name in names) else ""
    arrays: dict[str, Any] = {}
    for part, data in (("train", train), ("test", test)):
        images = data.images[:, 0] if data.images.shape[1] == 1 else data.images
        arrays[f"{part}_x{suffix}"] = images
        arrays[f"{part}_y{suffix}"] = data.labels
    if not suffix and names != tuple(map(str, range(len(names)))):
        arrays["classes"] = np.array(names)
    if train.images.shape[1] > 1:
        arrays["layout"] = np.array("NCHW")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    atomic_write(path, buffer.getvalue())


def read_npz(path: str | Path, *, layout: str | None = None) -> tuple[Dataset, Dataset]:
    """Read training and test sets from an ``.npz`` file.

    Parameters
    ----------
    path : path
        Arrays are named ``train_x*, train_y*, test_x*, test_y*`` with any common suffix, or
        ``x_train, y_train, x_test, y_test`` as Keras has it, or ``train_images, train_labels,
        test_images, test_labels`` as MedMNIST has it. Images are (N, H, W), (N, C, H, W),
        (N, H, W, C) or flat squares (N, H * W), as bytes, or as floats in 0..1 or 0..255. Labels
        are whole numbers of any type, (N,) or (N, 1), one-hot rows, or text. An array ``classes``
        may name the classes.
    layout : {"NCHW", "NHWC"}, optional
        Where the channels of four-dimensional images are; by default what an array ``layout`` in
        the file says, or told by the shape, if only one of the two has 1 to 4 channels or square
        images.

    Notes
    -----
    What is decided from the arrays is decided once, from the training images, for both parts, and
    logged.

    Raises
    ------
    DataError
        If the file is missing, corrupt, holds Python objects, or an array is missing, misshapen or
        may mean two things.
    """
    path = expanded(path)
    with Archive(path) as archive:
        keys = _keys(archive.names, path)
        arrays = {part: archive.read(key) for part, key in keys.items()}
        names = archive.read("classes") if "classes" in archive.names else None
        if layout is None and "layout" in archive.names:
            found = as_text(archive.read("layout").ravel(), f"{path}: layout").tolist()
            layout = found[0] if len(found) == 1 else str(found)
    train_y, test_y, classes = as_label_sets(
        arrays["train_y"],
        arrays["test_y"],
        (f"{path}: {keys['train_y']}", f"{path}: {keys['test_y']}"),
    )
    train_x, test_x = as_image_sets(
        arrays["train_x"],
        arrays["test_x"],
        (f"{path}: {keys['train_x']}", f"{path}: {keys['test_x']}"),
        layout,
    )
    preprocessing = measure_normalisation(train_x)
    classes = _named(classes, names, keys["train_x"].removeprefix("train_x"), path)
    return (
        Dataset(train_x, train_y, classes, preprocessing, path.stem),
        Dataset(test_x, test_y, classes, preprocessing, path.stem),
    )


def _named(
    classes: tuple[str, ...], names: np.ndarray | None, suffix: str, path: Path
) -> tuple[str, ...]:
    """The names of classes that an archive gives: in an array, or in the names of its arrays."""
    if names is None:
        fits = suffix.isdigit() and len(set(suffix)) == len(suffix) == len(classes)
        return tuple(suffix) if fits else classes
    given = tuple(as_text(names.ravel(), f"{path}: classes").tolist())
    if len(given) < len(classes) or len(set(given)) != len(given):
        raise DataError(
            f"{path}: classes must be {len(classes)} different names, got {names.dtype} of shape "
            f"{names.shape}"
        )
    return given


def _keys(names: list[str], path: Path) -> dict[str, str]:
    """The names of the four arrays."""
    keys = {}
    for part, pattern in PATTERNS.items():
        found = [name for name in names if re.fullmatch(pattern, name)]
        if len(found) != 1:
            letter = part[-1]
            kind = part.removesuffix(f"_{letter}")
            raise DataError(
                f"{path}: needs one array named {part}... (as {part}012), {letter}_{kind} or "
                f"{kind}_{'images' if letter == 'x' else 'labels'}, has "
                f"{', '.join(names[:20]) or 'none'}"
            )
        keys[part] = found[0]
    return keys
