"""Augmentation: random changes of training images, different in each epoch."""

import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from fastcnn.arguments import as_count, plain_array
from fastcnn.backends.counter_random import dropout_key
from fastcnn.cores import available_cores
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.scalars import is_integer, make_plain

log = logging.getLogger("fastcnn.data")
#: Used instead of a node's index in the keys of random numbers; no node has these.
STREAM = -1
MIX_STREAM = -2
FLIP_STREAM = -3
PASTE_STREAM = -4
#: Number of images below which another thread does not pay off.
FEW_IMAGES = 256
#: Seconds that only a compilation can take.
LONG_TO_LOAD = 1.0
#: Setting of ``flip``.
ALTERNATING = "alternating"


@dataclass(frozen=True)
class Augment:
    """Random changes of images.

    The changes of an image depend only on the seed, the epoch and its index in the data, not on its
    batch or the number of threads. Geometry is applied first, in one interpolation (shifts, crops
    or flips alone move whole pixels without blurring), then colour, erasing, and mixing.

    Parameters
    ----------
    shift : int
        Largest shift in whole pixels, vertically and horizontally.
    rotation : float
        Largest rotation in degrees, in both directions, about the centre.
    scale : float
        Scaling by a factor between ``1 - scale`` and ``1 + scale``.
    elastic : float
        Elastic distortion: standard deviation in pixels of the displacements of 4 x 4 control
        points (and a ring around them), interpolated smoothly.
    flip : float, bool or "alternating"
        Probability of a horizontal flip; True is 0.5. Alternating: a random half of the images in
        the first epoch, the other half in the second, and so on, so that each image is seen both
        ways in any two consecutive epochs.
    crop : int
        Pixels added on each side before a random window of the original size is cropped.
    cutout : int
        Side of a square that is erased, centred on a random pixel.
    erase : float
        Probability of random erasing: a rectangle of 2 to 33 % of the image is filled.
    brightness, contrast, saturation : float
        Each is multiplied by a random factor between ``1 - value`` and ``1 + value``.
    hue : float
        Rotates the hue by up to this fraction of the colour circle, in both directions.
    mixup : float
        Mixes each image, and its class, with another one; the weight of the first is drawn from
        Beta(mixup, mixup). 0 disables mixing, 1 draws weights uniformly.
    cutmix : float
        As ``mixup``, but a rectangle of the other image is pasted in; weights are shares of area.
    padding_mode : {"constant", "reflect"}
        Values outside the image: ``fill``, or the image mirrored at its edges.
    fill : float
        Value outside the image and in erased areas, in units of the stored images.

    Raises
    ------
    ConfigurationError
        If a value is invalid.

    References
    ----------
    Simard, Steinkraus and Platt, "Best practices for convolutional neural networks", ICDAR 2003,
    for elastic distortions; Ronneberger, Fischer and Brox, arXiv:1505.04597, section 3.1, for
    displacements on a coarse grid; DeVries and Taylor, arXiv:1708.04552, for cut-outs; Zhang,
    Cisse, Dauphin and Lopez-Paz, arXiv:1710.09412, for mix-up; Yun and others, arXiv:1905.04899,
    for CutMix; Zhong and others, arXiv:1708.04896, for random erasing; Jordan, arXiv:2404.00498,
    for alternating flips.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.arange(9, dtype=np.uint8).reshape(1, 1, 3, 3)
    >>> Augment(flip=1.0).apply(images)[0, 0].tolist()
    [[2, 1, 0], [5, 4, 3], [8, 7, 6]]
    """

    shift: int = 0
    rotation: float = 0.0
    scale: float = 0.0
    elastic: float = 0.0
    flip: float | str = 0.0
    crop: int = 0
    cutout: int = 0
    erase: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    padding_mode: str = "constant"
    fill: float = 0.0

    def __post_init__(self) -> None:
        make_plain(self)
        if self.flip is True:
            object.__setattr__(self, "flip", 0.5)
        mode = self.padding_mode
        if not isinstance(mode, str) or mode not in ("constant", "reflect"):
            raise ConfigurationError(
                f"Augment: padding_mode must be constant or reflect, got {self.padding_mode!r}"
            )
        limits = {"rotation": 180.0, "scale": 1.0, "flip": 1.0, "mixup": 2.0, "cutmix": 2.0}
        limits |= {"erase": 1.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
        for field in fields(self):
            value = getattr(self, field.name)
            alternates = field.name == "flip" and isinstance(value, str) and value == ALTERNATING
            if field.name == "padding_mode" or alternates:
                continue
            whole = field.type is int
            kinds = int if whole else (int, float)
            low = -np.inf if field.name == "fill" else 0
            high = limits.get(field.name, np.inf)
            number = isinstance(value, kinds) and not (isinstance(value, bool) and value)
            if not number or not low <= value <= high or not abs(value) <= sys.float_info.max:
                kind = "a whole number" if whole else "a number"
                if field.name == "flip":
                    kind = f"{ALTERNATING!r} or a number"
                bounds = "" if low < 0 else " of at least 0"
                bounds += f" and at most {high:g}" if np.isfinite(high) else ""
                raise ConfigurationError(
                    f"Augment: {field.name} must be {kind}{bounds}, got {value!r}"
                )
            object.__setattr__(self, field.name, int(value) if whole else float(value))
        if self.scale == 1.0:
            raise ConfigurationError("Augment: scale must be below 1: a factor of 0 leaves nothing")
        if self.mixup and self.cutmix:
            raise ConfigurationError("Augment: mixup and cutmix exclude each other")
        moves = self.shift or self.crop or self.rotation or self.scale or self.elastic
        if self.padding_mode == "reflect" and not moves:
            raise ConfigurationError(
                "Augment: padding_mode='reflect' has no effect: nothing moves (shift, crop, ...)"
            )
        leaves = moves and self.padding_mode == "constant"
        if self.fill and not (leaves or self.cutout or self.erase):
            raise ConfigurationError(
                f"Augment: fill={self.fill:g} has no effect: nothing is moved in or erased"
            )

    @property
    def _colours(self) -> bool:
        return bool(self.brightness or self.contrast or self.saturation or self.hue)

    @property
    def moves(self) -> bool:
        """Whether pixels of images are moved."""
        settings = (self.shift, self.rotation, self.scale, self.elastic, self.flip, self.crop)
        return any(settings)

    @property
    def mixes(self) -> bool:
        """Whether images and their classes are mixed with others, as :meth:`mix` does."""
        return bool(self.mixup or self.cutmix)

    @classmethod
    def parse(cls, text: str) -> "Augment":
        """Parse an augmentation from text, as on the command line.

        Parameters
        ----------
        text : str
            Settings separated by commas, ``"shift=2,rotation=10,flip"``; the first may be the name
            of one of :data:`PRESETS`.

        Raises
        ------
        ConfigurationError
            If a name is unknown or a value is not a number.
        """
        words = [word.strip() for word in text.split(",") if word.strip()]
        chosen = cls()
        if words and words[0] in PRESETS:
            chosen = PRESETS[words.pop(0)]
        known = {field.name: field.type for field in fields(cls)}
        values: dict[str, Any] = {}
        for word in words:
            name, equals, number = (part.strip() for part in word.partition("="))
            if name in values:
                raise ConfigurationError(f"augment: {name} is given twice")
            if name not in known:
                raise ConfigurationError(
                    f"augment: no setting named {name!r}: there are {', '.join(known)}, "
                    f"and, in the first place, {' or '.join(PRESETS)}"
                )
            try:
                if number in WORDS.get(name, ()):
                    values[name] = number
                else:
                    values[name] = _number(number) if equals else {"flip": True}[name]
            except (KeyError, ValueError):
                words_too = "".join(f" or {text}" for text in WORDS.get(name, ()))
                raise ConfigurationError(
                    f"augment: {name} needs a number{words_too}, such as {name}="
                    f"{WORDS.get(name, ('2',))[0]}, got {word!r}"
                ) from None
        return replace(chosen, **values)

    def apply(
        self,
        images: np.ndarray,
        indices: Any = None,
        *,
        names: np.ndarray | None = None,
        seed: int = 0,
        epoch: int = 0,
        threads: int | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Augmented copies of some images, without mixing.

        Parameters
        ----------
        images : ndarray of uint8, float32 or float64, shape (N, C, H, W)
        indices : array_like of int, shape (M,), optional
            Indices of the images, in order; by default all.
        names : ndarray of int, shape (M,), optional
            Keys of each image's random numbers; by default ``indices``.
        seed, epoch : int
            Different seeds or epochs give different changes.
        threads : int, optional
            By default all cores that this process may use.
        out : ndarray, optional
            Array to fill and return: at least M images, contiguous, apart from ``images``.

        Returns
        -------
        ndarray, shape (M, C, H, W), of the type of ``images``

        Raises
        ------
        ShapeError
            If ``images`` are not maps, an index is out of range, or ``names`` or ``out`` do not
            fit.
        ConfigurationError
            If the images are of another type, or cannot hold ``fill``.
        """
        images, order, names = self._check(images, indices, names)
        for name, value in (("seed", seed), ("epoch", epoch)):
            if not is_integer(value):
                raise ConfigurationError(f"augment: {name} must be an integer, got {value!r}")
        shape = (len(order), *images.shape[1:])
        result = np.empty(shape, images.dtype) if out is None else np.asarray(out)[: len(order)]
        if (
            (result.shape, result.dtype) != (shape, images.dtype)
            or not (result.flags.c_contiguous and result.flags.writeable)
            or np.may_share_memory(result, images)
        ):
            raise ShapeError(
                f"augment: out must be writable, contiguous, of shape {shape} and the type of the "
                "images, and not share their memory"
            )
        from fastcnn.data.augment_kernels import SETTINGS, transform

        key = np.uint64(dropout_key(seed, epoch, STREAM))
        flip_key = np.uint64(dropout_key(seed, 0, FLIP_STREAM))
        settings = np.array([self._setting(name, epoch) for name in SETTINGS], np.float64)
        threads = available_cores() if threads is None else as_count("augment", "threads", threads)
        threads = max(1, min(threads, len(order) // FEW_IMAGES))
        _load(images.dtype.str)
        run = partial(
            transform, images, order, names, keys=(key, flip_key), settings=settings, out=result
        )
        bounds = np.linspace(0, len(order), threads + 1).astype(int)
        if threads == 1:
            run(first=0, last=len(order))
        else:
            with ThreadPoolExecutor(threads) as pool:
                parts = [pool.submit(run, first=a, last=b) for a, b in pairwise(bounds)]
            for part in parts:
                part.result()
        return result

    def mix(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        indices: Any = None,
        *,
        classes: int,
        names: np.ndarray | None = None,
        among: np.ndarray | None = None,
        seed: int = 0,
        epoch: int = 0,
        threads: int | None = None,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augmented copies of some images, each mixed with another of all images.

        Parameters
        ----------
        images, indices, names, seed, epoch, threads, out
            As for :meth:`apply`.
        labels : ndarray of int, shape (N,)
        classes : int
            Number of classes.
        among : ndarray of int, optional
            Indices of the images to mix in; by default all.

        Returns
        -------
        images : ndarray, shape (M, C, H, W)
        probabilities : ndarray of float32, shape (M, classes)
            The weight of each image at its class.
        """
        from fastcnn.data.mixing_kernels import blend, draw_partners, paste

        images, order, names = self._check(images, indices, names)
        labels = plain_array("augment: labels", labels)
        classes = as_count("augment", "classes", classes)
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise ShapeError(f"augment: mixing needs {len(images)} classes, got {labels.shape}")
        if not 0 <= labels.min() <= labels.max() < classes:
            raise DataError(f"augment: labels must lie in 0..{classes - 1}")
        keys: dict[str, Any] = {"seed": seed, "epoch": epoch, "threads": threads}
        mixed = self.apply(images, order, names=names, **keys, out=out)
        partners, shares = np.empty_like(order), np.ones(len(order), np.float32)
        key = np.uint64(dropout_key(seed, epoch, MIX_STREAM))
        count = len(images) if among is None else as_count("augment", "len(among)", len(among))
        draw_partners(names, count, key, self.mixup or self.cutmix, partners, shares)
        if among is not None:
            partners = np.ascontiguousarray(among, np.int64)[partners]
        others = self.apply(images, partners, **keys)
        if self.mixup:
            blend(mixed, others, shares)
        else:
            paste_key = np.uint64(dropout_key(seed, epoch, PASTE_STREAM))
            paste(mixed, others, names, paste_key, shares)
        probabilities = np.zeros((len(order), classes), np.float32)
        rows = np.arange(len(order))
        probabilities[rows, labels[order]] += shares
        probabilities[rows, labels[partners]] += np.float32(1) - shares
        return mixed, probabilities

    def _setting(self, name: str, epoch: int) -> float:
        """A setting in the form read by the kernels."""
        if name == "reflect":
            return float(self.padding_mode == "reflect")
        if name == "rotation":
            return float(np.deg2rad(self.rotation))
        if name == "flip" and self.flip == ALTERNATING:
            return 2.0 + epoch % 2
        return float(getattr(self, name))

    def _check(
        self, images: Any, indices: Any, names: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The images, and as int64 their indices and the keys of their random numbers."""
        images = plain_array("augment: images", images)
        if images.ndim != 4 or images.size == 0:
            raise ShapeError(f"augment: images must be (N, C, H, W), got shape {images.shape}")
        if images.dtype not in (np.uint8, np.float32, np.float64):
            raise ConfigurationError(
                f"augment: images must be uint8, float32 or float64, got {images.dtype}"
            )
        if images.dtype == np.uint8 and not 0 <= self.fill <= 255:
            raise ConfigurationError(f"augment: fill must lie in 0..255 for bytes, got {self.fill}")
        channels = images.shape[1]
        if (self.saturation or self.hue) and channels != 3:
            raise ConfigurationError(
                "augment: saturation and hue need images of three channels, red, green and blue, "
                f"got {channels}"
            )
        order = np.arange(len(images)) if indices is None else np.asarray(indices)
        if order.ndim != 1 or order.dtype.kind not in "iu":
            raise ShapeError(f"augment: indices must be integers of shape (M,), got {order.dtype}")
        if order.size and not 0 <= order.min() <= order.max() < len(images):
            raise ShapeError(f"augment: indices must lie in 0..{len(images) - 1}")
        if images.dtype != np.uint8 and self._colours:
            chosen = images if indices is None else images[order]
            if chosen.size and not 0.0 <= chosen.min() <= chosen.max() <= 1.0:
                raise ConfigurationError(
                    "augment: brightness, contrast, saturation and hue need bytes or numbers in "
                    f"0..1, got {chosen.min():.4g}..{chosen.max():.4g}"
                )
        order = np.ascontiguousarray(order, np.int64)
        keys = order if names is None else np.asarray(names)
        if keys.shape != order.shape or keys.dtype.kind not in "iu":
            raise ShapeError(
                f"augment: names must be integers of shape {order.shape}, got {keys.dtype} of "
                f"shape {keys.shape}"
            )
        return images, order, np.ascontiguousarray(keys, np.int64)


#: Settings that are, or may be, words.
WORDS = {"flip": (ALTERNATING,), "padding_mode": ("reflect", "constant")}
#: Presets for kinds of images.
PRESETS: dict[str, Augment] = {
    "digits": Augment(shift=2, rotation=10.0, scale=0.1),
    "pictures": Augment(flip=0.5, crop=4),
}


@cache
def _load(kind: str) -> None:
    """Load the kernels for an image type; log if they had to be compiled."""
    from fastcnn.data.augment_kernels import SETTINGS, transform

    began = time.perf_counter()
    nothing, none, key = np.zeros((0, 1, 1, 1), kind), np.zeros(0, np.int64), np.uint64(0)
    transform(nothing, none, none, 0, 0, (key, key), np.zeros(len(SETTINGS)), nothing)
    seconds = time.perf_counter() - began
    if seconds > LONG_TO_LOAD:
        log.warning("the kernels of augmentation are ready after %.1f s, once", seconds)


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value
