"""Preprocessing: the conversion of a model's input to the first layer's input."""

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcnn.data.arrays import blocks
from fastcnn.data.pictures import Pictures
from fastcnn.errors import ConfigurationError, DataError, counted

log = logging.getLogger("fastcnn.data")

#: Metadata key of a preprocessing in files.
METADATA = "fastcnn.preprocessing"
#: Divisor of bytes.
BYTE = 255.0
#: Floating-point samples for a model trained on bytes are bytes / 255; resampling may exceed 0..1
#: by this much.
SLACK = 0.25
#: Samples this many times larger or smaller than those of training are in other units.
OTHER_UNITS = 50.0
#: Number of samples whose units are checked, where checking all would cost time.
LOOKED_AT = 64
#: Most channels whose mean and deviation are written out in descriptions.
MOST_TOLD = 8


@dataclass(frozen=True)
class Preprocessing:
    """The conversion of a model's input: bytes are divided by 255, then channels are normalised.

    A model has one, ``model.preprocessing``; ``fit`` sets it from the training data, files and
    checkpoints store it, and every function that accepts samples applies it. Whether samples are
    bytes depends on their type, never on their values: ``uint8`` is divided by 255, other types are
    unchanged. Then ``(value - mean) / std`` is applied.

    Attributes
    ----------
    mean, std : tuple of float
        One value per channel, in units of 0..1 for bytes; empty to skip normalisation.
    trained_on : {None, "uint8", "float"}
        The type of the samples that the model was trained on; None before training.
    bounds : tuple of float, optional
        The smallest and the largest value of floating-point training samples.
    pictures : Pictures, optional
        The rule for converting picture files to samples; None if impossible, or before training.
    pixels : tuple of int
        For a network with several inputs, packed in one array: the number of elements of each
        channel, for the inputs in order. Set by ``model.normalise``.

    Raises
    ------
    ConfigurationError
        At construction, if these are invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn.data import Preprocessing
    >>> images = np.array([[[[0, 255]]]], np.uint8)
    >>> Preprocessing().apply(images)
    array([[[[0., 1.]]]], dtype=float32)
    >>> Preprocessing(mean=(0.5,), std=(0.25,)).apply(images)
    array([[[[-2.,  2.]]]], dtype=float32)
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    trained_on: str | None = None
    bounds: tuple[float, float] | None = None
    pictures: Pictures | None = None
    pixels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("mean", "std", "bounds"):
            value = getattr(self, name)
            if value is None and name == "bounds":
                continue
            if not isinstance(value, (tuple, list)) or not all(map(_is_number, value)):
                raise ConfigurationError(
                    f"preprocessing: {name} must be finite numbers, got {value!r}"
                )
            object.__setattr__(self, name, tuple(float(number) for number in value))
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise ConfigurationError(
                "preprocessing needs one mean and one positive std for each channel, got mean "
                f"{self.mean} and std {self.std}"
            )
        sizes = self.pixels
        if not isinstance(sizes, (tuple, list)) or not all(
            isinstance(size, (int, np.integer)) and size > 0 for size in sizes
        ):
            raise ConfigurationError(f"preprocessing: pixels must be whole numbers, got {sizes!r}")
        object.__setattr__(self, "pixels", tuple(map(int, sizes)))
        if self.pixels and len(self.pixels) != len(self.mean):
            raise ConfigurationError(
                f"preprocessing: pixels has {counted(len(self.pixels), 'channel')}, mean "
                f"{len(self.mean)}"
            )
        told = self.trained_on is None or isinstance(self.trained_on, str)
        if not told or self.trained_on not in (None, "uint8", "float"):
            raise ConfigurationError(
                f"preprocessing: trained_on must be uint8, float or None, got {self.trained_on!r}"
            )
        if self.bounds is not None and not (
            len(self.bounds) == 2 and self.bounds[0] <= self.bounds[1]
        ):
            raise ConfigurationError(f"preprocessing: bounds must be (low, high): {self.bounds}")
        if self.pictures is not None and not isinstance(self.pictures, Pictures):
            raise ConfigurationError(f"preprocessing: not a rule for pictures: {self.pictures!r}")

    # -- making ------------------------------------------------------------------------------

    def trained(self, samples: np.ndarray) -> "Preprocessing":
        """This preprocessing, for a model trained on these samples.

        Parameters
        ----------
        samples : ndarray, shape (N, C, ...)
        """
        if samples.dtype == np.uint8:
            made = replace(self, trained_on="uint8", bounds=None)
        else:
            bounds = (float(samples.min()), float(samples.max()))
            made = replace(self, trained_on="float", bounds=bounds)
        if made.pictures is None and made.takes_bytes and Pictures.fits(samples.shape[1:]):
            return replace(made, pictures=Pictures.like(samples))
        return made

    @classmethod
    def from_dict(cls, values: Any) -> "Preprocessing":
        """The inverse of :meth:`to_dict`.

        Parameters
        ----------
        values : mapping

        Raises
        ------
        ConfigurationError
            If the values are not those of a preprocessing.
        """
        known = tuple(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or not set(values) <= set(known):
            raise ConfigurationError(
                f"preprocessing must be a table with {', '.join(known)}, got {values!r}"
            )
        pictures = values.get("pictures")
        return cls(
            **{**values, "pictures": None if pictures is None else Pictures.from_dict(pictures)}
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON files."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "trained_on": self.trained_on,
            "bounds": None if self.bounds is None else list(self.bounds),
            "pictures": None if self.pictures is None else self.pictures.to_dict(),
        } | ({"pixels": list(self.pixels)} if self.pixels else {})

    def of_channels(self, first: int, count: int) -> "Preprocessing":
        """The preprocessing of some channels, such as those of one of several inputs.

        Parameters
        ----------
        first, count : int
            The first channel and the number of channels.
        """
        places = slice(first, first + count)
        return Preprocessing(self.mean[places], self.std[places])

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "Preprocessing | None":
        """The preprocessing in a file's metadata; None if there is none.

        Parameters
        ----------
        metadata : mapping of str to str

        Raises
        ------
        ConfigurationError
            If they are damaged.
        """
        if METADATA not in metadata:
            return None
        try:
            return cls.from_dict(json.loads(metadata[METADATA]))
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"metadata {METADATA}: {error}") from None

    def to_metadata(self) -> dict[str, str]:
        """Metadata for safetensors and ONNX files, which hold text by name."""
        return {METADATA: json.dumps(self.to_dict())}

    # -- asking ------------------------------------------------------------------------------

    @property
    def is_identity(self) -> bool:
        """Whether floating-point samples are left unchanged."""
        return all(value == 0.0 for value in self.mean) and all(value == 1.0 for value in self.std)

    @property
    def channels(self) -> int:
        """Number of channels of the samples, or of elements for several inputs."""
        return sum(self.pixels) or len(self.mean)

    @property
    def takes_bytes(self) -> bool:
        """Whether the model's training defines the meaning of bytes."""
        if self.trained_on != "float":
            return True
        return self.bounds is not None and 0.0 <= self.bounds[0] <= self.bounds[1] <= 1.0

    def rule_for_pictures(self, input_shape: tuple[int, ...] | None) -> Pictures:
        """The rule for converting pictures to samples of a model.

        Parameters
        ----------
        input_shape : tuple of int or None
            Shape of the model's samples, if known.

        Raises
        ------
        DataError
            If this is impossible; the message says why.
        """
        if self.pictures is not None:
            return self.pictures
        if input_shape is None or not Pictures.fits(input_shape):
            raise DataError(
                f"the network takes samples of shape {input_shape}, which are not pictures"
            )
        if self.trained_on == "float":
            assert self.bounds is not None
            low, high = self.bounds
            raise DataError(
                f"the network was trained on numbers in {low:.4g}..{high:.4g}, and it is unknown "
                "how pixels convert to them: train on bytes or on numbers in 0..1, or predict from "
                "Python"
            )
        raise DataError(
            "the network was not trained by fit: it is unknown how pictures become its input; set "
            "model.preprocessing"
        )

    def describe(self) -> str:
        """A one-line description."""
        text = "bytes divided by 255" if self.takes_bytes else "floating-point samples"
        if self.is_identity:
            return text
        if len(self.mean) > MOST_TOLD:
            return f"{text}, minus a mean and divided by a deviation of each channel"
        mean, std = (", ".join(f"{value:.4g}" for value in part) for part in (self.mean, self.std))
        return f"{text}, minus a mean of {mean}, divided by a deviation of {std}"

    def check(self, samples: np.ndarray, name: str = "samples") -> None:
        """Refuse samples in other units than those of training.

        Parameters
        ----------
        samples : ndarray, shape (N, C, ...)
        name : str
            The samples' name in messages.

        Raises
        ------
        DataError
            If they are not real numbers, are bytes whose meaning training does not define, or lie
            far outside the range of training. Values are only examined to refuse samples.
        ShapeError
            If they have another number of channels.
        """
        if samples.dtype.kind not in "fiub":
            raise DataError(f"{name}: must be real numbers, got dtype {samples.dtype}")
        if self.mean and samples.shape[1] != self.channels:
            raise DataError(
                f"{name}: preprocessing has {counted(self.channels, 'channel')}, got "
                f"{samples.shape[1]}"
            )
        if self.trained_on is None or samples.size == 0:
            return
        if samples.dtype == np.uint8:
            if not self.takes_bytes:
                assert self.bounds is not None
                low, high = self.bounds
                raise DataError(
                    f"{name}: got bytes (uint8), but the model was trained on floating-point "
                    f"samples in {low:.4g}..{high:.4g}: convert them as the training samples were"
                )
            return
        looked_at = samples[:LOOKED_AT]
        low, high = float(looked_at.min()), float(looked_at.max())
        if self.trained_on == "uint8":
            if low < -SLACK or high > 1.0 + SLACK:
                raise DataError(
                    f"{name}: the model was trained on bytes, so other numbers must be bytes / 255 "
                    f"in 0..1, got {low:.4g}..{high:.4g} ({samples.dtype}): give pixels as uint8; "
                    "do not normalise them, the model does (model.preprocessing)"
                )
        elif self.bounds is not None and samples.ndim == 4:
            most = max(map(abs, self.bounds))
            if most > 0.0 and max(-low, high) > OTHER_UNITS * most:
                raise DataError(
                    f"{name}: values lie in {low:.4g}..{high:.4g}, those of training in "
                    f"{self.bounds[0]:.4g}..{self.bounds[1]:.4g}: scale them as in training"
                )
            # A single picture may be that dark; for several, it is logged.
            if len(samples) > 1 and 0.0 < max(-low, high) * OTHER_UNITS < most:
                log.warning(
                    "%s: values lie in %.4g..%.4g, those of training in %.4g..%.4g: are they in "
                    "other units?",
                    name,
                    low,
                    high,
                    *self.bounds,
                )

    # -- converting --------------------------------------------------------------------------

    def factors(self, is_bytes: bool, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Scale and shift of each channel, in float64.

        Parameters
        ----------
        is_bytes : bool
            Whether samples are bytes, which are also divided by 255.
        channels : int
            Number of channels of the samples.
        """
        mean, std = self._statistics(channels)
        return 1.0 / ((BYTE if is_bytes else 1.0) * std), -mean / std

    def is_exact_in_float32(self, samples: np.ndarray) -> bool:
        """Whether scale and shift are accurate in float32, so that kernels may apply them.

        The difference of a large value and a large mean must be computed before rounding to
        float32.

        Parameters
        ----------
        samples : ndarray
            Only their dtype matters.
        """
        if samples.dtype == np.uint8 or self.is_identity:
            return True
        if samples.dtype != np.float32:
            return False
        return all(abs(mean) <= 16.0 * std for mean, std in zip(self.mean, self.std, strict=True))

    def apply(self, samples: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """Convert samples of shape (N, C, ...) to the first layer's input.

        Parameters
        ----------
        samples : ndarray
        dtype : dtype
            float32 or float64; differences from the mean are always computed in float64.

        Returns
        -------
        ndarray of ``dtype``, contiguous and aligned
            ``samples`` themselves if nothing has to be changed.
        """
        samples = np.asarray(samples)
        is_bytes = samples.dtype == np.uint8
        if self.is_identity and not is_bytes:
            return np.require(samples, dtype, ["C", "A"])
        made = np.empty(samples.shape, dtype)
        if is_bytes:
            scale, shift = (
                _by_channel(part.astype(dtype), samples.ndim)
                for part in self.factors(True, samples.shape[1])
            )
            for part, out in zip(blocks(samples), blocks(made, samples), strict=True):
                np.multiply(part, scale, out=out)
                out += shift
            return made
        mean, std = (_by_channel(p, samples.ndim) for p in self._statistics(samples.shape[1]))
        for part, out in zip(blocks(samples), blocks(made, samples), strict=True):
            distance = part - mean
            distance /= std
            out[...] = distance
        return made

    def _statistics(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        if not self.mean:
            return np.zeros(channels), np.ones(channels)
        mean, std = np.array(self.mean), np.array(self.std)
        if self.pixels:
            mean, std = np.repeat(mean, self.pixels), np.repeat(std, self.pixels)
        if len(mean) != channels:
            raise DataError(
                f"preprocessing has {counted(len(mean), 'channel')}, samples have {channels}"
            )
        return mean, std


def measure_normalisation(samples: np.ndarray) -> Preprocessing:
    """The preprocessing that normalises each channel of samples (N, C, ...) to mean 0, deviation 1.

    Computed in float64; a channel with all values equal is not scaled.
    """
    axes = (0, *range(2, samples.ndim))
    unit = BYTE if samples.dtype == np.uint8 else 1.0
    count = samples.size // samples.shape[1]
    mean = np.zeros(samples.shape[1])
    for part in blocks(samples):
        mean += part.sum(axis=axes, dtype=np.float64)
    mean /= count
    square = np.zeros_like(mean)
    for part in blocks(samples):
        distance = part - _by_channel(mean, samples.ndim)
        distance *= distance
        square += distance.sum(axis=axes)
    std = np.sqrt(square / count)
    # All values equal: the deviation is only the mean's rounding error.
    std[std <= 8 * np.finfo(np.float64).eps * np.abs(mean)] = unit
    return Preprocessing(tuple((mean / unit).tolist()), tuple((std / unit).tolist()))


def _is_number(value: Any) -> bool:
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return real and abs(value) <= sys.float_info.max


def _by_channel(values: np.ndarray, ndim: int) -> np.ndarray:
    return values.reshape(1, -1, *(1,) * (ndim - 2))
