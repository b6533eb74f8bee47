"""The rule for converting pictures to a network's input, recorded with the model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fastcnn.errors import ConfigurationError, DataError, counted

FITS = ("stretch", "crop", "ink")
PAPERS = ("dark", "bright", None)
#: Grey values up to which paper counts as dark, from which it counts as bright, and the ink
#: threshold.
DARK, BRIGHT, INK = 64, 191, 32
#: Number of training images examined, and the share of them that must have similar borders.
LOOKED_AT, MOST = 1000, 0.95


@dataclass(frozen=True)
class Pictures:
    """The rule for converting pictures of any size to samples of a network.

    Training pictures from a folder and pictures for later predictions are read by the same rule.
    For a network trained on arrays, the rule is derived from its training images, see :meth:`like`.

    Attributes
    ----------
    shape : tuple of int
        (C, H, W) of a sample; C is 1 for grey, 3 for red, green and blue.
    fit : {"stretch", "crop", "ink"}
        How a picture of another size is fitted: stretched; its centre cropped and resized; or, as
        for the digits of MNIST (LeCun and others, "The MNIST database of handwritten digits"), its
        ink scaled to a box of ``fill`` times the shorter side, with the centre of mass in the
        middle. A picture of the right size is left unchanged.
    paper : {"dark", "bright", None}
        The border of the training images, if it is similar for nearly all.
    inverts : bool
        Whether black and white are exchanged in a grey picture on the other kind of paper.
    fill : float
        Relative size of the box, for ``fit="ink"``.

    Raises
    ------
    ConfigurationError
        At construction, if these are invalid.
    """

    shape: tuple[int, int, int]
    fit: Literal["stretch", "crop", "ink"] = "stretch"
    paper: Literal["dark", "bright"] | None = None
    inverts: bool = False
    fill: float = 1.0

    def __post_init__(self) -> None:
        shape = self.shape
        whole = isinstance(shape, (tuple, list)) and all(type(size) is int for size in shape)
        if not whole or not self.fits(tuple(shape)):
            raise ConfigurationError(
                f"pictures: shape must be (1, H, W) for grey or (3, H, W) for colour, got {shape!r}"
            )
        object.__setattr__(self, "shape", tuple(shape))
        for name, known in (("fit", FITS), ("paper", PAPERS), ("inverts", (True, False))):
            if getattr(self, name) not in known:
                raise ConfigurationError(
                    f"pictures: {name} must be one of {known}, got {getattr(self, name)!r}"
                )
        if not isinstance(self.fill, (int, float)) or not 0.0 < self.fill <= 1.0:
            raise ConfigurationError(f"pictures: fill must lie in 0..1, got {self.fill!r}")
        if self.inverts and self.paper is None:
            raise ConfigurationError("pictures: inverts needs paper, dark or bright")
        if self.fit == "ink" and (self.paper is None or shape[0] != 1):
            raise ConfigurationError("pictures: fit='ink' needs grey pictures and paper")

    @staticmethod
    def fits(shape: tuple[int, ...]) -> bool:
        """Whether pictures can be samples of this shape.

        Parameters
        ----------
        shape : tuple of int
            The shape of one sample.
        """
        return len(shape) == 3 and shape[0] in (1, 3) and 1 <= min(shape) <= max(shape) <= 2**15

    @classmethod
    def like(cls, samples: np.ndarray, *, from_files: bool = False) -> "Pictures":
        """The rule for a network trained on these samples.

        Grey images with nearly always dark (or nearly always bright) borders, such as digits and
        clothes, are treated as ink on paper: pictures on the other kind of paper are inverted, and
        the ink is scaled to its size in training. Other pictures are centre-cropped.

        Parameters
        ----------
        samples : ndarray, shape (N, C, H, W)
            Bytes, or numbers in 0..1.
        from_files : bool
            Whether they were read from picture files: others are then read the same way, stretched
            and never inverted.
        """
        _, channels, height, width = samples.shape
        shape = (channels, height, width)
        step = max(1, len(samples) // LOOKED_AT)
        grey = samples[::step][:LOOKED_AT]
        if grey.dtype != np.uint8:
            grey = np.clip(np.rint(grey * 255.0), 0, 255).astype(np.uint8)
        paper = _paper(grey)
        if from_files:
            return cls(shape, "stretch", paper)
        if channels == 1 and paper is not None:
            bright = grey[:, 0] if paper == "dark" else 255 - grey[:, 0]
            sizes = _ink_sizes(bright)
            if len(sizes) > len(grey) / 2:
                fill = min(1.0, float(np.median(sizes)) / min(height, width))
                return cls(shape, "ink", paper, True, fill)
        return cls(shape, "crop", paper)

    @classmethod
    def from_dict(cls, values: Any) -> "Pictures":
        """The inverse of :meth:`to_dict`.

        Parameters
        ----------
        values : mapping

        Raises
        ------
        ConfigurationError
            If the values are not those of a rule.
        """
        known = tuple(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or not {"shape"} <= set(values) <= set(known):
            raise ConfigurationError(
                f"pictures must be a table with {', '.join(known)}, got {values!r}"
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON files."""
        return {**asdict(self), "shape": list(self.shape)}

    def describe(self) -> str:
        """A one-line description."""
        channels, height, width = self.shape
        colour = "grey" if channels == 1 else "colour"
        how = {
            "stretch": f"stretched to {width} x {height} pixels",
            "crop": f"their middle resized to {width} x {height} pixels",
            "ink": f"their ink scaled to {self._box()} of {min(height, width)} pixels and centred",
        }[self.fit]
        turned = f", inverted if not on {self.paper} paper" if self.inverts else ""
        return f"{colour} pictures, {how}{turned}"

    def apply(self, pixels: np.ndarray, invert: bool | None = None) -> tuple[np.ndarray, list[str]]:
        """Convert pixels to the network's size.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (C, H, W)
        invert : bool, optional
            Whether to exchange black and white; by default according to the rule.

        Returns
        -------
        ndarray of uint8
            In the shape of this rule.
        list of str
            The conversions applied, in words.
        """
        if pixels.shape[0] != self.shape[0]:
            raise DataError(
                f"pictures have {counted(self.shape[0], 'channel')}, got {pixels.shape}"
            )
        done = []
        paper = None if self.paper is None else _paper(pixels[None], MOST_OF_ONE)
        asked = invert if invert is not None else self.inverts and paper not in (None, self.paper)
        if asked:
            pixels = 255 - pixels
            reason = "as asked" if invert is not None else f"it is on {paper} paper"
            done.append(f"inverted ({reason})")
        _, height, width = self.shape
        if pixels.shape == self.shape:
            return np.ascontiguousarray(pixels), done
        if self.fit == "ink":
            done.append(f"ink scaled to {self._box()} of {min(height, width)} pixels and centred")
            return self._centred(pixels[0])[None], done
        if self.fit == "crop":
            pixels = _middle(pixels, height / width)
            done.append(f"the middle resized to {width} x {height} pixels")
        else:
            done.append(f"stretched to {width} x {height} pixels")
        return np.stack([_resized(plane, height, width) for plane in pixels]), done

    def _box(self) -> int:
        return max(1, round(self.fill * min(self.shape[1:])))

    def _centred(self, grey: np.ndarray) -> np.ndarray:
        """A grey picture with its ink scaled to the usual size and centred."""
        _, height, width = self.shape
        if self.paper == "bright":
            grey = 255 - grey
        made = np.zeros((height, width), np.uint8)
        ends = _ink(grey)
        if ends.size:
            (top, bottom), (left, right) = ends
            ink = grey[top : bottom + 1, left : right + 1]
            scale = self._box() / max(ink.shape)
            rows, columns = (max(1, round(side * scale)) for side in ink.shape)
            ink = _resized(ink, rows, columns)
            mass = ink.astype(np.float64) / max(int(ink.sum()), 1)
            centre = (mass.sum(axis=1) @ np.arange(rows), mass.sum(axis=0) @ np.arange(columns))
            top = int(np.clip(round((height - 1) / 2 - centre[0]), 0, height - rows))
            left = int(np.clip(round((width - 1) / 2 - centre[1]), 0, width - columns))
            made[top : top + rows, left : left + columns] = ink
        return 255 - made if self.paper == "bright" else made


#: For a single picture, the median of the border decides.
MOST_OF_ONE = 0.0


def _paper(images: np.ndarray, most: float = MOST) -> Literal["dark", "bright"] | None:
    """Whether nearly all borders of images (N, C, H, W) are dark, or bright."""
    sides = (images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1])
    borders = np.concatenate([side.reshape(len(images), -1) for side in sides], axis=1)
    medians = np.median(borders, axis=1)
    if most == MOST_OF_ONE:
        return "bright" if medians[0] > 127 else "dark"
    if (medians <= DARK).mean() >= most:
        return "dark"
    return "bright" if (medians >= BRIGHT).mean() >= most else None


def _ink(grey: np.ndarray) -> np.ndarray:
    """First and last row and column with ink, bright on dark; empty if there is none."""
    rows = np.flatnonzero(grey.max(axis=1) > INK)
    columns = np.flatnonzero(grey.max(axis=0) > INK)
    return np.array([rows[[0, -1]], columns[[0, -1]]]) if len(rows) else np.empty((0, 2), int)


def _ink_sizes(images: np.ndarray) -> np.ndarray:
    """The larger of the ink's height and width in each image (N, H, W) with ink."""
    sides = []
    for inked in (images.max(axis=2) > INK, images.max(axis=1) > INK):
        inked = inked[inked.any(axis=1)]
        sides.append(inked.shape[1] - inked.argmax(axis=1) - inked[:, ::-1].argmax(axis=1))
    return np.maximum(*sides)


def _middle(pixels: np.ndarray, ratio: float) -> np.ndarray:
    """The largest centre crop with a height of ``ratio`` times its width."""
    _, height, width = pixels.shape
    rows = max(1, min(height, round(width * ratio)))
    columns = max(1, min(width, round(height / ratio)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return pixels[:, top : top + rows, left : left + columns]


def _resized(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    picture: Any = Image.fromarray(np.ascontiguousarray(plane))
    # Each pass rounds to bytes, and their order depends on the version of Pillow.
    for size in ((width, picture.height), (width, height)):
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(picture, np.uint8)
