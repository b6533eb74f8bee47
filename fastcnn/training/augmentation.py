"""Augmentations, checked against the samples they apply to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastcnn.backends.graph import Port
from fastcnn.data.augment import Augment
from fastcnn.data.dataset import Samples
from fastcnn.errors import ConfigurationError
from fastcnn.losses import JointLoss, Loss
from fastcnn.losses.classes import ClassLoss

#: Axes of an image.
MAP = 3
#: Seed offset between the random numbers of two inputs.
OTHER_INPUT = 1_000_003


@dataclass(frozen=True)
class InputAugments:
    """Augments images of several inputs, which are packed in one row per sample.

    Each input draws its own random numbers.
    """

    parts: tuple[tuple[Port, Augment], ...]
    mixes: ClassVar[bool] = False

    @property
    def moves(self) -> bool:
        """Whether pixels of images are moved."""
        return any(augment.moves for _, augment in self.parts)

    def apply(
        self,
        samples: np.ndarray,
        indices: Any = None,
        *,
        names: np.ndarray | None = None,
        seed: int = 0,
        out: Any = None,
        **keys: Any,
    ) -> np.ndarray:
        """Augmented copies of some samples; arguments as for :meth:`Augment.apply`."""
        rows = np.arange(len(samples)) if indices is None else np.asarray(indices)
        names = rows if names is None else names
        made = samples[rows]
        for place, (port, augment) in enumerate(self.parts):
            own = made[:, port.start : port.stop]
            images = np.ascontiguousarray(own).reshape(len(rows), *port.shape)
            drawn = seed + place * OTHER_INPUT
            own[...] = augment.apply(images, names=names, seed=drawn, **keys).reshape(own.shape)
        if out is None:
            return made
        out[: len(rows)] = made
        return out[: len(rows)]


def as_augment(given: Any, inputs: Sequence[Port]) -> Augment | InputAugments | None:
    """The augmentation for a model with ``inputs``, which are empty if it has only one.

    Raises ConfigurationError if an input does not exist or is not an image.
    """
    if given is None or (not inputs and not isinstance(given, dict)):
        return given
    ports = {port.name: port for port in inputs}
    if not isinstance(given, dict):
        raise ConfigurationError(
            f"augment: the model has the inputs {', '.join(ports)}: name one, as in "
            f"augment={{{next(iter(ports))!r}: 'shift=2'}}"
        )
    if not ports:
        raise ConfigurationError(
            "augment must be text such as 'shift=2,flip', or an Augment: a dictionary names one of "
            f"several inputs, and the model has one, got {given!r}"
        )
    for name, each in given.items():
        if name not in ports:
            raise ConfigurationError(
                f"augment: the model has {', '.join(ports)}; there is no input {name!r}"
            )
        if not isinstance(each, Augment):
            raise ConfigurationError(f"augment: {name} must be text or an Augment, got {each!r}")
        if len(ports[name].shape) != MAP:
            raise ConfigurationError(
                f"augment: the input {name!r} of shape {ports[name].shape} has no images"
            )
        if each.mixes:
            raise ConfigurationError(
                f"augment: mix-up and CutMix of the input {name!r} alone would not mix the others"
            )
        _check_sizes(each, ports[name].shape[1:])
    return InputAugments(tuple((ports[name], each) for name, each in given.items()))


def check_augment(augment: Augment | InputAugments, data: Samples, loss: Loss) -> None:
    """Refuse an augmentation that does not suit the samples, before training begins."""
    if not isinstance(augment, (Augment, InputAugments)):
        raise ConfigurationError(
            f"augment must be an Augment, got {augment!r}; Augment.parse reads text"
        )
    if augment.mixes and (data.labels.dtype.kind not in "iu" or data.labels.ndim != 1):
        raise ConfigurationError(
            "mix-up and CutMix mix classes: the targets must be integers, one per sample"
        )
    if augment.mixes and isinstance(loss, ClassLoss) and not loss.takes_probabilities:
        raise ConfigurationError(
            f"mix-up and CutMix give each sample shares of classes, and {type(loss).__name__} "
            "takes single classes: use CrossEntropyLoss"
        )
    ignored = getattr(loss, "ignore_index", None)
    if augment.mixes and ignored is not None:
        raise ConfigurationError(
            f"mix-up and CutMix give each sample shares of classes, and ignore_index={ignored} is "
            "of single classes: leave out the samples that are ignored"
        )
    shapes = [np.shape(data.labels)[1:]]
    if isinstance(loss, JointLoss):
        shapes = [port.shape for port in loss.ports]
    maps = [shape for shape in shapes if len(shape) > 1]
    if augment.moves and maps:
        raise ConfigurationError(
            "augment moves the pixels of images but not those of their targets of shape "
            f"{maps[0]}: use only settings that move nothing (erase, cutout, brightness, contrast, "
            "saturation, hue)"
        )
    if isinstance(augment, Augment):
        _check_sizes(augment, np.shape(data.images)[2:])
    augment.apply(data.images, [0])


def _check_sizes(augment: Augment, sides: tuple[int, ...]) -> None:
    for name in ("shift", "crop", "cutout"):
        if sides and getattr(augment, name) >= max(sides):
            raise ConfigurationError(
                f"augment: {name} must be smaller than the pictures of {sides[0]} x {sides[-1]} "
                f"pixels, got {getattr(augment, name)}"
            )
