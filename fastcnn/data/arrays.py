"""Conversion of arrays of images and labels in common layouts to data sets.

The meaning of an array is inferred once, from the training array, and applies to the test array
too.
"""

import logging
import math
from collections.abc import Iterator

import numpy as np

from fastcnn.errors import ConfigurationError, DataError

log = logging.getLogger("fastcnn.data")

LAYOUTS = ("NCHW", "NHWC")
#: Numbers of channels of pictures: grey, grey and alpha, RGB, RGBA.
USUAL_CHANNELS = range(1, 5)
#: Number of classes always accepted for integer labels. A single corrupt label of 2**32 - 1 would
#: otherwise make as many classes.
MOST_CLASSES = 1_000
#: Floating-point pixels up to this are in 0..1; resampling slightly exceeds the range.
UNIT_MAXIMUM = 1.5
#: Test images with values this many times larger than the training images are in other units.
OTHER_UNITS = 50.0
#: Bytes of a temporary array.
BLOCK_BYTES = 2**20


def image_layout(shape: tuple[int, ...], given: str | None = None) -> str:
    """Whether four-dimensional samples have their channels first or last.

    Unless given, it is inferred from 1 to 4 channels or square images, if only one layout has them.
    Raises ConfigurationError if ``given`` is not a layout, DataError if the shape is ambiguous.
    """
    if given is not None:
        if not isinstance(given, str) or given not in LAYOUTS:
            raise ConfigurationError(f"layout must be NCHW or NHWC, got {given!r:.200}")
        return given
    first, last = shape[1] in USUAL_CHANNELS, shape[3] in USUAL_CHANNELS
    if first == last:
        first, last = shape[2] == shape[3], shape[1] == shape[2]
    if first == last and shape[1:] != (1, 1, 1):
        raise DataError(
            f"shape {tuple(shape)} may be (N, C, H, W) or (N, H, W, C): specify which with "
            "layout='NCHW' or layout='NHWC', as an argument or as an array in the file"
        )
    return "NCHW" if first else "NHWC"


def as_image_sets(
    train: np.ndarray, test: np.ndarray, names: tuple[str, str], layout: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images as bytes or float32 of shape (N, C, H, W); logs what is inferred.

    Images are (N, H, W), (N, C, H, W), (N, H, W, C), or flattened squares (N, H * W). Bytes and
    other integers are pixels in 0..255, booleans black and white. Floating-point values in 0..255
    are divided by 255 if those of training exceed 1.5; others are unchanged. Raises DataError, with
    the ``names`` of the arrays, if they are not images, or the test images do not match the
    training images.
    """
    for images, name in zip((train, test), names, strict=True):
        if images.ndim not in (2, 3, 4) or images.dtype.kind not in "uifb" or images.size == 0:
            raise DataError(
                f"{name}: images must be numbers of shape (N, H, W), (N, C, H, W), (N, H, W, C) or "
                f"(N, H * W), got {images.dtype} of shape {images.shape}"
            )
    train, test = _channels_first(train, test, names, layout)
    unit = _unit(train, test, names)
    first, second = (
        _converted(part, name, unit) for part, name in zip((train, test), names, strict=True)
    )
    if first.dtype != second.dtype:
        raise DataError(
            f"{names[0]} is {train.dtype} and {names[1]} {test.dtype}: store both as bytes, or "
            "both as floating-point numbers"
        )
    return first, second


def _channels_first(
    train: np.ndarray, test: np.ndarray, names: tuple[str, str], layout: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Views of shape (N, C, H, W)."""
    with_channels = train.ndim == 4 or test.ndim == 4
    if layout is not None and not with_channels:
        raise ConfigurationError(f"layout: {names[0]} of shape {train.shape} has no channels")
    if not with_channels:
        train, test = _with_channel(train, names[0]), _with_channel(test, names[1])
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"{names[0]} has images of shape {train.shape[1:]}, {names[1]} {test.shape[1:]}"
        )
    if not with_channels:
        return train, test
    try:
        found = image_layout(train.shape, layout)
    except DataError as error:
        raise DataError(f"{names[0]}: {error}") from None
    if found == "NCHW":
        return train, test
    if layout is None:
        log.warning("%s of shape %s: the channels are last", names[0], train.shape)
    return train.transpose(0, 3, 1, 2), test.transpose(0, 3, 1, 2)


def as_label_sets(
    train: np.ndarray, test: np.ndarray, names: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Training and test labels as indices (int64) into the class names, and these names.

    Labels are integers of any type or booleans, of shape (N,) or (N, 1); one-hot rows; or text.
    Classes are ``"0"`` to the largest label, or the words in ``train`` in alphabetical order.
    Raises DataError, with the ``names`` of the arrays, if labels are something else, or ``test``
    has a word that ``train`` lacks.
    """
    one, two = (_as_column(part, name) for part, name in zip((train, test), names, strict=True))
    if (one.dtype.kind == "U") != (two.dtype.kind == "U"):
        raise DataError(f"{names[0]} is {train.dtype}, {names[1]} {test.dtype}: make them alike")
    if one.dtype.kind == "U":
        words, first = np.unique(one, return_inverse=True)
        place = np.searchsorted(words, two).clip(max=len(words) - 1)
        unknown = np.unique(two[words[place] != two])
        if len(unknown):
            raise DataError(
                f"{names[1]} has classes that {names[0]} lacks: {', '.join(map(str, unknown[:5]))}"
            )
        return first.astype(np.int64), place.astype(np.int64), tuple(map(str, words))
    if _is_one_hot(train) != _is_one_hot(test) or (
        _is_one_hot(train) and train.shape[1] != test.shape[1]
    ):
        raise DataError(f"{names[0]} has shape {train.shape}, {names[1]} {test.shape}")
    count = train.shape[1] if _is_one_hot(train) else int(max(one.max(), two.max())) + 1
    if count > max(MOST_CLASSES, len(one)):
        raise DataError(
            f"{names[0]}: {len(one):,} labels from 0 to {count - 1:,} would make {count:,} classes"
        )
    missing = np.flatnonzero(np.bincount(one, minlength=count) == 0)
    if len(missing):
        shown = ", ".join(map(str, missing[:10])) + ", ..." * (len(missing) > 10)
        log.warning("%s: %s classes from 0, no sample of %s", names[0], count, shown)
    return one, two, tuple(map(str, range(count)))


def as_text(words: np.ndarray, name: str) -> np.ndarray:
    """Convert an array of text or UTF-8 bytes to text.

    Raises DataError if it holds something else: numpy would convert any numbers, and fail later.
    """
    if words.dtype.kind == "S":
        try:
            return np.char.decode(words, "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{name}: bytes that are not UTF-8 text") from None
    if words.dtype.kind != "U":
        raise DataError(f"{name}: must be text, got {words.dtype}")
    characters = np.ascontiguousarray(words).view(np.uint32)
    if (characters > 0x10FFFF).any() or ((characters >> 11) == 0xD800 >> 11).any():
        raise DataError(f"{name}: not valid text")
    return words


def _is_one_hot(labels: np.ndarray) -> bool:
    return labels.ndim == 2 and labels.shape[1] > 1


def _as_column(labels: np.ndarray, name: str) -> np.ndarray:
    """One label per sample, as int64 or text."""
    kind = labels.dtype.kind
    if labels.ndim not in (1, 2) or labels.size == 0 or kind not in "biufUS":
        raise DataError(
            f"{name}: labels must be whole numbers, one-hot rows or text, got {labels.dtype} of "
            f"shape {labels.shape}"
        )
    if _is_one_hot(labels):
        zero_or_one = kind not in "US" and ((labels == 0) | (labels == 1)).all()
        if not zero_or_one or not (labels.sum(axis=1) == 1).all():
            raise DataError(f"{name}: labels of shape {labels.shape} are not one-hot rows")
        return labels.argmax(axis=1).astype(np.int64)
    labels = labels.reshape(-1)
    if kind in "US":
        return as_text(labels, name)
    if kind == "b":
        return labels.astype(np.int64)
    low, high = float(labels.min()), float(labels.max())
    if not math.isfinite(low) or not math.isfinite(high) or (kind == "f" and (labels % 1).any()):
        raise DataError(f"{name}: labels must be whole numbers, got {labels.dtype} with fractions")
    if low < 0:
        raise DataError(f"{name}: labels must not be negative, got {low:g}")
    if high >= 2**31:
        raise DataError(f"{name}: a label is {int(high):,}, which cannot be a class index")
    return labels.astype(np.int64)


def _with_channel(images: np.ndarray, name: str) -> np.ndarray:
    if images.ndim == 2:
        side = math.isqrt(images.shape[1])
        if side * side != images.shape[1]:
            raise DataError(f"{name}: rows of {images.shape[1]} values are not square images")
        images = images.reshape(-1, side, side)
    return images[:, None]


def blocks(samples: np.ndarray, like: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Views of blocks of samples, to keep temporary arrays small; divided like ``like``."""
    like = samples if like is None else like
    step = max(1, BLOCK_BYTES * len(like) // max(8 * like.size, 1))
    for start in range(0, len(samples), step):
        yield samples[start : start + step]


def is_finite(images: np.ndarray) -> bool:
    """Whether no value is NaN or infinite, with little extra memory."""
    return all(bool(np.isfinite(block).all()) for block in blocks(images))


def _range(images: np.ndarray) -> tuple[float, float]:
    return float(images.min()), float(images.max())


def _unit(train: np.ndarray, test: np.ndarray, names: tuple[str, str]) -> float:
    """The divisor of floating-point pixels, which is logged; refuses test images in other units.

    Values that are not finite are detected at conversion.
    """
    if train.dtype.kind != "f":
        return 1.0
    (low, high), (_, top) = _range(train), _range(test)
    if low >= 0.0 and UNIT_MAXIMUM < high <= 255.0:
        log.warning("%s and %s hold numbers in 0..255: divided by 255", *names)
        if top <= UNIT_MAXIMUM:
            log.warning("%s has no value above %.3g: is it in other units?", names[1], top)
        return 255.0
    if 0.0 < OTHER_UNITS * max(-low, high) < top < math.inf:
        raise DataError(
            f"{names[0]} lies in {low:.3g}..{high:.3g}, {names[1]} goes up to {top:.3g}: scale "
            "both alike"
        )
    return 1.0


def _converted(images: np.ndarray, name: str, unit: float) -> np.ndarray:
    kind = images.dtype.kind
    if kind == "b":
        return np.ascontiguousarray(images, np.uint8) * np.uint8(255)
    low, high = _range(images)
    if kind in "ui":
        if low < 0 or high > 255:
            raise DataError(
                f"{name}: pixels of type {images.dtype} lie in {low:g}..{high:g}, not in 0..255: "
                "scale them to bytes, or store them as floating-point numbers in 0..1"
            )
        return np.ascontiguousarray(images, np.uint8)
    if not math.isfinite(low) or not math.isfinite(high):
        raise DataError(f"{name}: images contain NaN or infinity")
    if images.dtype == np.float32 and unit == 1.0:
        return np.ascontiguousarray(images)
    if max(-low, high) > float(np.finfo(np.float32).max):
        raise DataError(f"{name}: values up to {max(-low, high):g} do not fit float32")
    if unit == 1.0:
        check_float32(images, name)
    made = np.empty(images.shape, np.float32)
    dtype = np.float64 if images.dtype.itemsize > 4 else np.float32
    for block, part in zip(blocks(images), blocks(made, images), strict=True):
        np.divide(block, unit, out=part, casting="same_kind", dtype=dtype)
    return made


def check_float32(values: np.ndarray, name: str) -> None:
    """Refuse float64 values, (N, channels, ...), of which float32 would keep too little.

    Its rounding error in a channel may be up to a hundredth of the channel's standard deviation.
    """
    if values.dtype.kind != "f" or values.dtype.itemsize <= 4:
        return
    axes, channels = (0, *range(2, values.ndim)), values.shape[1]
    start = values[0].reshape(channels, -1)[:, 0].astype(np.float64)
    count = values.size // channels
    largest, total, square = np.zeros((3, channels))
    with np.errstate(over="ignore", invalid="ignore"):
        for block in blocks(values):
            distance = block - start.reshape(-1, *(1,) * (values.ndim - 2))
            largest = np.maximum(largest, np.maximum(block.max(axis=axes), -block.min(axis=axes)))
            total += distance.sum(axis=axes)
            square += np.square(distance, out=distance).sum(axis=axes)
        deviation = np.sqrt(np.maximum(square / count - (total / count) ** 2, 0.0))
    limits, top = np.finfo(np.float32), largest.max()
    if top > float(limits.max) or 0.0 < top < float(limits.tiny):
        raise DataError(f"{name}: values up to {top:g} do not fit float32: scale them")
    # A constant channel may have rounding errors of float64.
    varies, most = deviation > 1e-12 * largest, 0.01 * deviation
    for channel in np.flatnonzero(varies & (2.0**-24 * largest > most)):
        error = values[:, channel] - values[:, channel].astype(np.float32)
        if math.sqrt(np.square(error).mean()) > most[channel]:
            what = "channel" if values.ndim > 2 else "column"
            raise DataError(
                f"{name}: values near {start[channel]:g} with a deviation of "
                f"{deviation[channel]:.3g}, in {what} {channel}, cannot be distinguished in "
                f"float32: subtract the mean, or leave out the {what} if they differ only by noise"
            )
