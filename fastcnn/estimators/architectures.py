"""The network of an estimator: by name, made by a function, or a copy of a given one."""

import inspect
import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from fastcnn.data.arrays import image_layout
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.layers import Flatten, Layer, Linear, MaxPool2d, Model, ReLU, Sequential, init
from fastcnn.models import MODELS, auto_cnn
from fastcnn.models.chains import makers

Shape = tuple[int, ...]
Architecture = str | Model | Callable[[Shape, int, int], Model]

#: The network chosen to suit the samples, see :func:`fastcnn.models.auto_cnn`.
AUTO = "auto"
#: Least height and width at which flattened square samples are treated as images.
LEAST_SIDE = 8


def input_geometry(
    shape: Shape, given: Shape | None, layout: str | None = None
) -> tuple[Shape, str | None]:
    """Shape of one sample, and the layout of four-dimensional ones.

    ``(N, C, H, W)``, ``(N, H, W, C)`` and ``(N, H, W)`` are images. ``(N, features)`` is a table,
    unless ``features`` is a square of at least 8 x 8: then it holds images of one channel.

    Parameters
    ----------
    shape : tuple of int
        Shape of an array of samples.
    given : tuple of int, optional
        ``(C, H, W)`` or ``(features,)``.
    layout : {"NCHW", "NHWC"}, optional
        Layout of four-dimensional samples, if given.

    Raises
    ------
    DataError
        If the position of the channels is ambiguous, even with ``given``.
    ShapeError
        If samples do not match ``given``.
    ConfigurationError
        If ``given`` has the channels last, or ``layout`` is invalid.
    """
    if layout is not None:
        if len(shape) != 4:
            raise ConfigurationError(
                f"layout has no effect: X of shape {shape} has no channels of its own"
            )
        found = image_layout(shape, layout)
        sample = (shape[3], *shape[1:3]) if found == "NHWC" else tuple(shape[1:])
        if given is not None and given != sample:
            raise ShapeError(
                f"X of shape {shape} in layout {layout} has samples of shape {sample}, not "
                f"input_shape {given}"
            )
        return sample, found
    if given is not None:
        return given, _given_layout(shape, given)
    if len(shape) == 4:
        try:
            layout = image_layout(shape)
        except DataError:
            raise DataError(
                f"X of shape {shape} may be (N, C, H, W) or (N, H, W, C): specify which with "
                "input_shape=(C, H, W)"
            ) from None
        return (shape[3], *shape[1:3]) if layout == "NHWC" else shape[1:], layout
    if len(shape) == 3:
        return (1, *shape[1:]), None
    side = math.isqrt(shape[1])
    return (1, side, side) if side * side == shape[1] and side >= LEAST_SIDE else shape[1:], None


def _given_layout(shape: Shape, given: Shape) -> str | None:
    sample = tuple(shape[1:])
    fits = math.prod(sample) == math.prod(given)
    if len(given) == 3 and len(sample) == 3:
        if sample == given:
            _check_channels_first(shape)
            return "NCHW"
        if sample == (*given[1:], given[0]):
            return "NHWC"
        fits = False
    elif len(given) == 3 and len(sample) == 2:
        fits = fits and sample in (given[1:], (given[0], math.prod(given[1:])))
    if not fits:
        raise ShapeError(f"samples of shape {sample} do not fit input_shape {given}")
    return None


def _check_channels_first(shape: Shape) -> None:
    """Refuse ``input_shape=(H, W, C)``, the order of other packages."""
    try:
        layout = image_layout(shape)
    except DataError:
        return
    if layout == "NHWC":
        raise ConfigurationError(
            f"input_shape must be (C, H, W): for X of shape {shape} give "
            f"{(shape[3], *shape[1:3])}, got {tuple(shape[1:])}"
        )


def build_network(
    architecture: Architecture, input_shape: Shape, outputs: int, samples: int, seed: int
) -> Model:
    """A new network for samples of ``input_shape``; ``samples`` is their number.

    Raises
    ------
    ConfigurationError
        If there is none with that name.
    """
    if isinstance(architecture, Model):
        network = deepcopy(architecture)
    elif isinstance(architecture, type) or not (
        callable(architecture) or isinstance(architecture, str)
    ):
        raise ConfigurationError(
            "architecture must be a name, a Model, or a function of input_shape, outputs and "
            f"seed that returns one, got {architecture!r}"
        )
    elif callable(architecture):
        network = architecture(input_shape, outputs, seed)
        if not isinstance(network, Model):
            raise ConfigurationError(
                f"architecture: the function returned {type(network).__name__}, not a model"
            )
    elif architecture == AUTO:
        network = _auto(input_shape, outputs, samples, seed)
    elif architecture in NETWORKS:
        network = NETWORKS[architecture](input_shape, outputs, seed)
    elif architecture in MODELS:
        sized = "input_shape" in inspect.signature(MODELS[architecture]).parameters
        size: dict[str, Any] = {"input_shape": input_shape} if sized else {}
        network = MODELS[architecture](num_classes=outputs, seed=seed, **size)
    else:
        raise ConfigurationError(
            f"architecture must be one of {', '.join([AUTO, *NETWORKS, *MODELS])}, a model, or a "
            f"function of (input_shape, outputs, seed), got {architecture!r}"
        )
    return network


def sample_shape(network: Model, input_shape: Shape, outputs: int) -> Shape:
    """The shape of a sample for a network: (C, L) for sequences, which look like grey images.

    Raises
    ------
    ConfigurationError
        If the network does not have ``outputs`` outputs per sample.
    ShapeError
        If it does not accept these samples.
    """
    try:
        given = network.output_shape(input_shape)
    except ShapeError as of_image:
        if len(input_shape) != 3 or input_shape[0] != 1:
            raise
        input_shape = input_shape[1:]
        try:
            given = network.output_shape(input_shape)
        except ShapeError as of_sequence:
            raise max(of_image, of_sequence, key=lambda error: error.accepted) from None
    if given != (outputs,):
        raise ConfigurationError(
            f"architecture: the network has outputs of shape {given}, {outputs} are needed"
        )
    return input_shape


def _auto(input_shape: Shape, outputs: int, samples: int, seed: int) -> Model:
    """The network of ``fastcnn train --model auto`` for images, or a small one for tables."""
    if len(input_shape) != 3:
        return _mlp(input_shape, outputs, seed)
    channels, height, width = input_shape
    return auto_cnn((channels, height, width), outputs, samples, seed)


def _mlp(input_shape: Shape, outputs: int, seed: int) -> Model:
    _, linear = makers(seed)
    return Sequential(*_dense(math.prod(input_shape), 100, outputs, linear))


def _cnn(input_shape: Shape, outputs: int, seed: int) -> Model:
    if len(input_shape) != 3 or min(input_shape[1:]) < 4:
        raise ConfigurationError(
            f"architecture 'cnn' needs images of at least 4 x 4, got samples of {input_shape}"
        )
    channels, height, width = input_shape
    conv, linear = makers(seed)
    layers: list[Layer] = []
    for before, after in ((channels, 16), (16, 32)):
        layers += [conv(before, after, 3, padding=1), ReLU()]
        if min(height, width) >= LEAST_SIDE:  # a second pooling of 8 x 8 would leave 2 x 2
            layers.append(MaxPool2d(2))
            height, width = height // 2, width // 2
    return Sequential(*layers, *_dense(32 * height * width, 64, outputs, linear))


def _dense(features: int, hidden: int, outputs: int, linear: Callable[..., Linear]) -> list[Layer]:
    first = linear(features, hidden, init.Kaiming())
    return [Flatten(), first, ReLU(), linear(hidden, outputs, init.Xavier())]


#: Networks for any shape of sample, in addition to those of :data:`fastcnn.models.MODELS`.
NETWORKS: dict[str, Callable[[Shape, int, int], Model]] = {"mlp": _mlp, "cnn": _cnn}
