"""Pictures as data sets: all converted to one size by one rule, on all cores."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from fastcnn.cores import available_cores
from fastcnn.data.dataset import Dataset
from fastcnn.data.images import picture_shape, read_picture
from fastcnn.data.picture_tree import Source
from fastcnn.data.pictures import Pictures
from fastcnn.data.preprocessing import measure_normalisation
from fastcnn.data.storage import allocate
from fastcnn.errors import ConfigurationError, DataError, counted
from fastcnn.scalars import is_integer

log = logging.getLogger("fastcnn.data")

#: Number of pictures read per task.
BLOCK = 64
#: Names of the parts of a data set, in folders and tables.
PART_NAMES = {
    "training": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Reading:
    """The given options for converting pictures to samples.

    Attributes
    ----------
    pictures : Pictures, optional
        The complete rule, such as that of a trained model.
    image_size : int or (height, width), optional
        Size of all pictures; by default that of the first.
    gray : bool, optional
        Grey or colour; by default as in the first picture.

    Raises
    ------
    ConfigurationError
        At construction, if these are invalid, or both a rule and a part of it are given.
    """

    pictures: Pictures | None = None
    image_size: int | tuple[int, int] | None = None
    gray: bool | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("image_size", "gray") if getattr(self, name) is not None]
        if self.pictures is not None and given:
            raise ConfigurationError(f"{given[0]} has no effect with pictures, which sets it")
        if self.gray is not None and not isinstance(self.gray, bool):
            raise ConfigurationError(f"gray must be True or False, got {self.gray!r}")
        if self.image_size is not None:
            object.__setattr__(self, "image_size", as_size(self.image_size))

    def check_unused(self, data: Any) -> None:
        """Refuse a size or a colour for data that are not picture files."""
        if (self.image_size, self.gray) != (None, None):
            raise ConfigurationError(f"image_size and gray are for picture files, not for {data}")

    def rule(self, first: Source) -> Pictures:
        """The rule for reading pictures, the first of which is given.

        Raises DataError if that is not a picture.
        """
        if self.pictures is not None:
            return self.pictures
        channels, height, width = 1, 1, 1
        if self.image_size is None or self.gray is None:
            channels, height, width = picture_shape(first)
        if isinstance(self.image_size, tuple):
            height, width = self.image_size
        if self.gray is not None:
            channels = 1 if self.gray else 3
        return Pictures((channels, height, width), "stretch")


def as_size(value: Any) -> tuple[int, int]:
    """Height and width of an image: one number for both, two numbers, or text such as ``32x48``.

    Raises ConfigurationError if it is none of these.
    """
    sizes = value
    if isinstance(value, str):
        parts = value.lower().split("x")
        sizes = [int(part) if part.isascii() and part.isdigit() else 0 for part in parts]
    elif is_integer(value):
        sizes = [value]
    whole = isinstance(sizes, (list, tuple)) and all(
        isinstance(size, (int, np.integer)) and 1 <= size <= 2**15 for size in sizes
    )
    if not whole or len(sizes) not in (1, 2):
        raise ConfigurationError(
            "image_size must be a number of pixels, or height and width, such as 32 or 32x48 "
            f"(height x width), got {value!r}"
        )
    return int(sizes[0]), int(sizes[-1])


#: Pictures named of those that cannot be read.
REFUSED = 5
#: Name, label and bytes of a picture.
Listed = tuple[str, int, Source]


def picture_sets(
    name: str,
    title: str,
    classes: tuple[str, ...],
    parts: Mapping[str, Sequence[Listed]],
    rule: Pictures,
    trained: Pictures | None,
) -> tuple[Dataset, Dataset]:
    """Read pictures as the training and test sets ``name``; ``title`` is for messages.

    Parts are ``training`` and ``test``, and optionally ``validation``, which is attached to the
    training set. ``trained`` is whether the rule is that of a trained model, which is kept
    unchanged.
    """
    done = Counter[str]()
    images = {
        part: read_pictures([source for _, _, source in listed], rule, title, done)
        for part, listed in parts.items()
    }
    total = sum(map(len, parts.values()))
    if done:
        changes = [f"{change} ({n:,} of {total:,})" for change, n in done.most_common()]
        log.warning("%s: %s", title, ", ".join(changes))
    _say_copies(title, parts, images)
    like = Pictures.like(images["training"], from_files=True)
    preprocessing = replace(measure_normalisation(images["training"]), pictures=trained or like)
    made = {
        part: Dataset(
            images[part],
            np.array([label for _, label, _ in listed], np.int64),
            classes,
            preprocessing,
            name,
            tuple(picture for picture, _, _ in listed),
        )
        for part, listed in parts.items()
        if listed
    }
    return replace(made["training"], validation=made.get("validation")), made["test"]


def _say_copies(
    title: str, parts: Mapping[str, Sequence[Listed]], images: Mapping[str, np.ndarray]
) -> None:
    """Log pictures that have two classes, or are in both training and other parts."""
    seen: dict[bytes, tuple[str, str, int]] = {}
    found: dict[str, list[tuple[str, str]]] = {}
    for part, listed in parts.items():  # training is the first
        for (name, label, _), image in zip(listed, images[part], strict=True):
            key = blake2b(image, digest_size=16).digest()
            other_part, other, other_label = seen.setdefault(key, (part, name, label))
            if other_label != label:
                found.setdefault("are of two classes", []).append((other, name))
            elif other_part != part:
                what = f"are in the {other_part} and in the {part} part"
                found.setdefault(what, []).append((other, name))
    for what, pairs in found.items():
        first, second = pairs[0]
        log.warning(
            "%s: pictures with the same pixels %s, such as %s and %s (%s)",
            *(title, what, first, second, counted(len(pairs), "pair")),
        )


def read_pictures(
    sources: Sequence[Source], rule: Pictures, title: str, done: Counter[str] | None = None
) -> np.ndarray:
    """Read pictures by a rule as bytes (N, C, H, W), on all cores: decoders release the GIL.

    They are kept in memory, or in a temporary file if they would take more than half of it.
    ``done`` counts the conversions. Raises DataError for all that cannot be read.
    """
    _, height, width = rule.shape
    images = allocate(
        (len(sources), *rule.shape),
        np.uint8,
        f"{title}: {len(sources):,} pictures of {width} x {height} pixels",
    )

    def read(start: int) -> tuple[Counter[str], list[str]]:
        changes, refused = Counter[str](), []
        for index in range(start, min(start + BLOCK, len(sources))):
            try:
                picture = read_picture(sources[index], rule)
            except DataError as error:
                refused.append(str(error))
                continue
            images[index] = picture.pixels
            changes.update(picture.done)
        return changes, refused

    starts = range(0, len(sources), BLOCK)
    with ThreadPoolExecutor(max(1, min(available_cores(), len(starts)))) as pool:
        try:
            blocks = list(pool.map(read, starts))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if refused := [reason for _, some in blocks for reason in some]:
        more = len(refused) - REFUSED
        rest = [f"and {counted(more, 'more picture')}"] if more > 0 else []
        raise DataError("; ".join([*refused[:REFUSED], *rest]))
    if done is not None:
        for changes, _ in blocks:
            done.update(changes)
    return images
