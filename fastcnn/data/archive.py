"""Data sets in ``.npz`` files: the report's four arrays, and other common layouts."""

import io
import math
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastcnn.data.arrays import as_image_sets, as_label_sets, as_text
from fastcnn.data.dataset import Dataset
from fastcnn.data.preprocessing import measure_normalisation
from fastcnn.data.reading import CHUNK, check_unpacked, regular_file
from fastcnn.errors import DataError
from fastcnn.files import atomic_write, expanded

#: Names of the four arrays as written by Keras, MedMNIST and this package; in this package's files,
#: a sequence of digits, the class names, may follow.
PATTERNS = {
    "train_x": r"train_x.*|[xX]_train|train_images",
    "train_y": r"train_y.*|[yY]_train|train_labels",
    "test_x": r"test_x.*|[xX]_test|test_images",
    "test_y": r"test_y.*|[yY]_test|test_labels",
}
NPY_MAGIC = b"\x93NUMPY"
#: Most bytes of an array's header: that of a numeric array has 118.
MOST_HEADER_BYTES = 10_000
UNPACK = (
    "Data sets are .npz, .csv and .parquet files, and folders, zip or tar archives of pictures: "
    "convert or unpack others"
)
#: Kinds of arrays allowed for images or labels: booleans, numbers and text.
KINDS = "biufUS"


def write_npz(path: str | Path, train: Dataset, test: Dataset) -> None:
    """Write two data sets as ``train_x012, train_y012, test_x012, test_y012``.

    The suffix is the concatenated class names, if each is a digit; names other than the numbers
    from 0 are stored in an additional array, ``classes``. Images are (N, 28, 28) if they have one
    channel, otherwise (N, C, H, W), as recorded in an array ``layout``.

    Parameters
    ----------
    path : path
    train, test : Dataset
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
        ``x_train, y_train, x_test, y_test`` as in Keras, or ``train_images, train_labels,
        test_images, test_labels`` as in MedMNIST. Images are (N, H, W), (N, C, H, W), (N, H, W, C)
        or flattened squares (N, H * W), as bytes, or as floats in 0..1 or 0..255. Labels are
        integers of any type, (N,) or (N, 1), one-hot rows, or text. An array ``classes`` may name
        the classes.
    layout : {"NCHW", "NHWC"}, optional
        Position of the channels of four-dimensional images; by default as given by an array
        ``layout`` in the file, or inferred from the shape, if only one of the two gives 1 to 4
        channels or square images.

    Notes
    -----
    Whatever is inferred is inferred once, from the training images, for both parts, and logged.

    Raises
    ------
    DataError
        If the file is missing, corrupt or holds Python objects, or an array is missing, of a wrong
        shape or ambiguous.
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
    """The class names in an archive: from an array, or from the names of its arrays."""
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


class Archive:
    """The arrays of an ``.npz`` file by name, each read on demand.

    Sizes stated in the file are not trusted. Raises DataError if it is missing or not such an
    archive.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = regular_file(path)
        self.size = self.path.stat().st_size
        try:
            self._zip = zipfile.ZipFile(self.path)
        except Exception as error:  # damaged directories raise many kinds of errors
            reason = error if zipfile.is_zipfile(self.path) else self._other_kind()
            raise DataError(f"{self.path}: cannot be read ({reason})") from None
        self._members = {info.filename: info for info in self._zip.infolist()}
        self.names = [name.removesuffix(".npy") for name in self._members if name.endswith(".npy")]
        if self._members and not self.names:
            raise DataError(f"{self.path}: holds no arrays. {UNPACK}")

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> np.ndarray:
        """One array.

        Raises
        ------
        DataError
            If it is damaged, implausibly large, or of Python objects.
        """
        where = f"{self.path}: {name}"
        member = self._members[f"{name}.npy"]
        if member.compress_size > self.size:
            raise DataError(f"{where}: damaged: it is larger than the file")
        check_unpacked(where, member.compress_size, member.file_size)
        try:
            with self._zip.open(member) as file:
                start, shape, fortran, dtype = _header(file.read(MOST_HEADER_BYTES), where)
                size = math.prod(shape) * dtype.itemsize
                if size == 0:
                    raise DataError(f"{where}: holds nothing: its shape is {shape}")
                if size != member.file_size - start:
                    raise DataError(
                        f"{where}: its header says {dtype} of shape {shape}, {size:,} bytes, but "
                        f"{member.file_size - start:,} follow"
                    )
                file.seek(start)
                values = np.empty(math.prod(shape), dtype)
                _fill(values, file)
        except DataError:
            raise
        except Exception as error:  # as above
            raise DataError(f"{where}: cannot be read ({error})") from None
        values = values.reshape(shape, order="F" if fortran else "C")
        return values.astype(dtype.newbyteorder("="), copy=False)

    def _other_kind(self) -> str:
        with self.path.open("rb") as file:
            start = file.read(len(NPY_MAGIC))
        if start == NPY_MAGIC:
            return (
                "it is a single array, .npy: put images and labels into one file with "
                "numpy.savez(x_train=..., y_train=..., x_test=..., y_test=...)"
            )
        if not start:
            return "it is empty"
        if start.startswith(b"PK\3\4"):
            return "it is a zip archive whose end is missing or damaged: copy or download it again"
        return f"it is not a zip archive. {UNPACK}"


def _fill(values: np.ndarray, file: IO[bytes]) -> None:
    """Read an array's memory in pieces: reading it in one go would need twice the memory."""
    target, start = values.view(np.uint8).data, 0
    while part := file.read(CHUNK):
        target[start : start + len(part)] = part
        start += len(part)
    if start != len(target):
        raise EOFError("the file ends within the array")


def _header(content: bytes, where: str) -> tuple[int, tuple[int, ...], bool, np.dtype]:
    """Length of the header of an array in numpy's format; shape, order and type."""
    try:
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file, max_header_size=MOST_HEADER_BYTES)
    except Exception:  # numpy evaluates the header's text: damaged ones raise many kinds of errors
        raise DataError(f"{where}: not an array in numpy's format") from None
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise DataError(
            f"{where}: must be numbers or text, holds Python objects or records ({dtype})"
        )
    if any(not 0 <= size < 2**62 for size in shape) or len(shape) > 32:
        raise DataError(f"{where}: not an array in numpy's format: shape {shape}")
    return file.tell(), shape, fortran, dtype
