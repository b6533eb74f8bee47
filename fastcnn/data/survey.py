"""Choice of size and colour for a folder of pictures, from a sample of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fastcnn.data.cifar import is_cifar, is_cifar_archive
from fastcnn.data.folders import parts, without_outer
from fastcnn.data.images import COLOURS_LOST, decode, picture_shape
from fastcnn.data.parquet import parquet_pictures
from fastcnn.data.picture_sets import as_size
from fastcnn.data.picture_table import CSV, path_rows
from fastcnn.data.picture_tree import Node, Source, archive_kind, folder_node, opened_archive
from fastcnn.data.pictures import Pictures
from fastcnn.errors import ConfigurationError, DataError
from fastcnn.files import expanded

#: Numbers of pictures whose size is examined, and of those searched for colours.
LOOKED_AT, SEARCHED = 100, 20
#: Candidate sides of a network's input: the largest that most pictures fill is chosen.
SIDES = (16, 24, 28, 32, 48, 64)
#: Range of --image-size.
LEAST_SIDE, MOST_SIDE = 4, 1024


def chosen_pictures(
    data: str | Path,
    *,
    image_size: int | tuple[int, int] | str | None = None,
    gray: bool | None = None,
) -> tuple[Pictures, str]:
    """Choose a rule for reading all pictures of a data set; also returns its description.

    Pictures of one common size up to 64 pixels keep it; others are resized to a square of at most
    64 pixels that half of them fill. They are read in grey if none of those examined has colours.

    Parameters
    ----------
    data : path
        A folder, an archive or a table of pictures, as for :func:`fastcnn.data.load`.
    image_size : int, or (height, width), or text such as "32x48", optional
    gray : bool, optional
        Whether to read in grey, or in colour.

    Returns
    -------
    Pictures
    str

    Raises
    ------
    DataError
        If the data have no classes of pictures, or a picture cannot be read.
    ConfigurationError
        If ``image_size`` is out of bounds.

    Examples
    --------
    >>> from fastcnn.data import chosen_pictures, load
    >>> rule, line = chosen_pictures("leaves", image_size=48)  # doctest: +SKIP
    >>> train, test = load("leaves", pictures=rule)  # doctest: +SKIP
    """
    asked = None if image_size is None else as_size(image_size)
    if asked is not None and not LEAST_SIDE <= min(asked) <= max(asked) <= MOST_SIDE:
        raise ConfigurationError(
            f"image_size must lie in {LEAST_SIDE}..{MOST_SIDE} pixels, got {image_size}"
        )
    with _sources(expanded(data)) as sources:
        some = [sources[index] for index in _evenly(len(sources), LOOKED_AT)]
        shapes = [picture_shape(one) for one in some]
        sizes = np.array([shape[1:] for shape in shapes])
        height, width = asked or _size(sizes)
        if gray is None:
            coloured = [one for one, shape in zip(some, shapes, strict=True) if shape[0] == 3]
            searched = [coloured[index] for index in _evenly(len(coloured), SEARCHED)]
            gray = not any(COLOURS_LOST in decode(one, (1, height, width))[1] for one in searched)
    rule = Pictures((1 if gray else 3, height, width), "stretch")
    one_size = f"of {sizes[0, 1]} x {sizes[0, 0]} pixels"
    sides = f"with sides of {sizes.min()} to {sizes.max()} pixels"
    given = one_size if (sizes == sizes[0]).all() else sides
    return rule, (
        f"pictures {given} are read in {'grey' if gray else 'colour'} and as {width} x {height}"
    )


def are_pictures(path: Path) -> bool:
    """Whether data are picture files: a folder, an archive or a table of them."""
    if path.is_dir():
        return not is_cifar(path)
    if not path.is_file():
        return False
    suffix = path.suffix.lower()
    if suffix in CSV:
        return path_rows(path) is not None
    if suffix == ".parquet":
        return parquet_pictures(path) is not None
    return suffix != ".npz" and archive_kind(path) is not None and not is_cifar_archive(path)


@contextmanager
def _sources(path: Path) -> Iterator[Sequence[Source]]:
    """The training pictures of a data set, by class if it has class folders."""
    if path.suffix.lower() in (*CSV, ".parquet"):
        rows = path_rows(path) if path.suffix.lower() in CSV else parquet_pictures(path)
        if rows is None:
            raise DataError(f"{path}: has a table of pixels, and no picture files")
        yield [source for _, source in rows]
    elif path.is_dir():
        yield _of_classes(path, folder_node(path))
    else:
        with opened_archive(path) as root:
            yield _of_classes(path, without_outer(root))


def _of_classes(path: Path, root: Node) -> list[Source]:
    found, _, _ = parts(path, root)
    return [source for pictures in found[0].classes.values() for _, source in pictures]


def _evenly(count: int, most: int) -> list[int]:
    """At most ``most`` evenly spaced indices below ``count``."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))})


def _size(sizes: np.ndarray) -> tuple[int, int]:
    if (sizes == sizes[0]).all() and sizes[0].min() >= LEAST_SIDE and sizes[0].max() <= SIDES[-1]:
        return int(sizes[0][0]), int(sizes[0][1])
    filled = float(np.median(sizes.min(axis=1)))
    side = max((side for side in SIDES if side <= filled), default=SIDES[0])
    return side, side
