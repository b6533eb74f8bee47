"""Padding, interpolation and shuffles: layers without parameters that rearrange pixels."""

import math
from typing import Any, ClassVar

from fastcnn.arguments import as_count
from fastcnn.backends import sampling
from fastcnn.backends.graph import Shape
from fastcnn.backends.one_row import with_one_row
from fastcnn.errors import ConfigurationError, ShapeError, counted
from fastcnn.layers.base import Layer, check_samples

__all__ = [
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "Unflatten",
    "Upsample",
    "ZeroPad1d",
    "ZeroPad2d",
]

MAP, SEQUENCE = ("H", "W"), ("L",)


class _Pad(Layer):
    operation: ClassVar[str] = "pad"
    flops_each: ClassVar[int] = 0
    axes: ClassVar[tuple[str, ...]] = MAP
    mode: ClassVar[str]

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__()
        owner, axes = type(self).__name__, len(self.axes)
        sides = sampling.as_padding(owner, padding, axes, cuts=self.mode == "constant")
        self.padding = tuple(size for pair in reversed(sides[-axes:]) for size in pair)
        self._sides = sides

    @property
    def arguments(self) -> dict[str, Any]:
        """Padding as ``((top, bottom), (left, right))``, and its mode."""
        return {"padding": self._sides, "mode": self.mode}

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C, top + H + bottom, left + W + right)``, or ``(C, left + L + right)``."""
        check_samples(input_shape, self.axes)
        sides = zip(input_shape[1:], self._sides[-len(self.axes) :], strict=True)
        return (input_shape[0], *(sampling.padded_size(*axis, self.mode) for axis in sides))


class ZeroPad2d(_Pad):
    """Zero padding of maps; negative values crop.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)

    Examples
    --------
    >>> ZeroPad2d((1, 2, 0, -1)).output_shape((3, 8, 8))
    (3, 7, 11)
    """

    mode: ClassVar[str] = "constant"


class ZeroPad1d(_Pad):
    """Zero padding of sequences ``(C, L)``.

    Parameters
    ----------
    padding : int or (left, right)
        Negative values crop.
    """

    mode: ClassVar[str] = "constant"
    axes: ClassVar[tuple[str, ...]] = SEQUENCE


class ReflectionPad2d(_Pad):
    """Reflection padding of maps: mirrored at the border, without repeating the edge.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        Must be less than the size of the map.
    """

    mode: ClassVar[str] = "reflect"


class ReflectionPad1d(_Pad):
    """:class:`ReflectionPad2d` of sequences ``(C, L)``.

    Parameters
    ----------
    padding : int or (left, right)
        Must be less than the length of the sequence.
    """

    mode: ClassVar[str] = "reflect"
    axes: ClassVar[tuple[str, ...]] = SEQUENCE


class ReplicationPad2d(_Pad):
    """Replication padding of maps: copies of the edge pixels.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
    """

    mode: ClassVar[str] = "replicate"


class ReplicationPad1d(_Pad):
    """:class:`ReplicationPad2d` of sequences ``(C, L)``.

    Parameters
    ----------
    padding : int or (left, right)
    """

    mode: ClassVar[str] = "replicate"
    axes: ClassVar[tuple[str, ...]] = SEQUENCE


class CircularPad2d(_Pad):
    """Circular padding of maps: pixels from the opposite side.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        At most the size of the map.
    """

    mode: ClassVar[str] = "circular"


class CircularPad1d(_Pad):
    """:class:`CircularPad2d` of sequences ``(C, L)``.

    Parameters
    ----------
    padding : int or (left, right)
        At most the length of the sequence.
    """

    mode: ClassVar[str] = "circular"
    axes: ClassVar[tuple[str, ...]] = SEQUENCE


#: Padding layers, by mode and number of axes.
PADS = {(kind.mode, len(kind.axes)): kind for kind in _Pad.__subclasses__()}


class Upsample(Layer):
    """Resize maps ``(C, H, W)`` or sequences ``(C, L)`` by interpolation.

    Parameters
    ----------
    size : int or (int, int), optional
        Size of the output.
    scale_factor : int or (int, int), optional
        Ratio of output to input size; integers only.
    mode : {"nearest", "bilinear", "linear"}
        "linear" is for sequences.
    align_corners : bool, optional
        Whether the centres of the corner pixels of input and output are aligned, rather than their
        edges (the default). Not for "nearest".

    Examples
    --------
    >>> Upsample(scale_factor=2).output_shape((3, 8, 10))
    (3, 16, 20)
    """

    operation: ClassVar[str] = "interpolate"
    always_shown: ClassVar[tuple[str, ...]] = ("mode",)

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        scale_factor: int | tuple[int, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        given = (size, scale_factor, mode, align_corners)
        checked = sampling.as_interpolation(type(self).__name__, *given)
        self.size, self.scale_factor = checked["size"], checked["scale_factor"]
        self.mode, self.align_corners = checked["mode"], checked["align_corners"]

    def arguments_for(self, *input_shapes: Shape) -> dict[str, Any]:
        """Size or factor as pairs, and the mode of interpolation."""
        checked = {name: getattr(self, name) for name in _INTERPOLATION}
        axes = len(input_shapes[0]) - 1
        if axes not in (1, 2):
            raise ShapeError(
                f"expects samples of shape (C, H, W) or (C, L), got {tuple(input_shapes[0])}"
            )
        return sampling.interpolation_of(type(self).__name__, axes, checked)

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C, OH, OW)``, or ``(C, OL)``."""
        made = self.arguments_for(input_shape)
        size = with_one_row(input_shape)[1:]
        output = sampling.interpolated_output(size, made["size"], made["scale_factor"])
        return (input_shape[0], *output[-(len(input_shape) - 1) :])

    def flops(self, *input_shapes: Shape) -> int:
        """Two per contributing input pixel."""
        return {"nearest": 0, "linear": 4, "bilinear": 8}[self.mode] * super().flops(*input_shapes)


_INTERPOLATION = ("size", "scale_factor", "mode", "align_corners")


class PixelShuffle(Layer):
    """Rearrange channels to pixels: ``(C * r * r, H, W)`` to ``(C, H * r, W * r)``.

    Parameters
    ----------
    upscale_factor : int
        ``r``; its square must divide the channels.

    References
    ----------
    Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network", arXiv:1609.05158.
    """

    operation: ClassVar[str] = "pixel_shuffle"
    passed: ClassVar[tuple[str, ...]] = ("upscale_factor",)
    flops_each: ClassVar[int] = 0

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = as_count("PixelShuffle", "upscale_factor", upscale_factor)

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C, H * r, W * r)``."""
        check_samples(input_shape, MAP)
        return sampling.shuffled_shape(input_shape, self.upscale_factor)


class PixelUnshuffle(Layer):
    """Rearrange pixels to channels: ``(C, H * r, W * r)`` to ``(C * r * r, H, W)``.

    Parameters
    ----------
    downscale_factor : int
        ``r``; must divide height and width.
    """

    operation: ClassVar[str] = "pixel_unshuffle"
    passed: ClassVar[tuple[str, ...]] = ("downscale_factor",)
    flops_each: ClassVar[int] = 0

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = as_count("PixelUnshuffle", "downscale_factor", downscale_factor)

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C * r * r, H, W)``."""
        check_samples(input_shape, MAP)
        return sampling.unshuffled_shape(input_shape, self.downscale_factor)


class ChannelShuffle(Layer):
    """Interleave the channels of groups: ``g * (C / groups) + k`` becomes ``k * groups + g``.

    Parameters
    ----------
    groups : int
        Must divide the number of channels.

    References
    ----------
    Zhang et al., "ShuffleNet", arXiv:1707.01083, section 3.1.
    """

    operation: ClassVar[str] = "channel_shuffle"
    passed: ClassVar[tuple[str, ...]] = ("groups",)
    flops_each: ClassVar[int] = 0

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = as_count("ChannelShuffle", "groups", groups)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (2, 3):
            raise ShapeError(
                f"expects samples of shape (C, H, W) or (C, L), got {tuple(input_shape)}"
            )
        if input_shape[0] % self.groups:
            raise ShapeError(
                f"groups={self.groups} must divide {counted(input_shape[0], 'channel')}"
            )
        return tuple(input_shape)


class Unflatten(Layer):
    """Split one dimension into several, such as ``(C * H * W,)`` into ``(C, H, W)``.

    Parameters
    ----------
    dim : int
        Counted as PyTorch does, with the samples as dimension 0.
    unflattened_size : tuple of int
        At most one of them may be -1, to be inferred.

    Examples
    --------
    >>> Unflatten(1, (2, 3, 4)).output_shape((24,))
    (2, 3, 4)
    """

    operation: ClassVar[str] = "unflatten"
    flops_each: ClassVar[int] = 0
    always_shown: ClassVar[tuple[str, ...]] = ("dim", "unflattened_size")

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        super().__init__()
        self.dim = as_count("Unflatten", "dim", dim)
        sizes = unflattened_size if isinstance(unflattened_size, (tuple, list)) else ()
        known = [as_count("Unflatten", "unflattened_size", n) for n in sizes if n != -1]
        if not sizes or len(known) + 1 < len(sizes):
            raise ConfigurationError(
                "Unflatten: unflattened_size must be a tuple of positive integers, at most one "
                f"of them -1, got {unflattened_size!r}"
            )
        self.unflattened_size = tuple(int(size) for size in sizes)

    def arguments_for(self, *input_shapes: Shape) -> dict[str, Any]:
        """The shape of a sample."""
        return {"shape": self.output_shape(input_shapes[0])}

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape, with one dimension replaced by the sizes."""
        if self.dim > len(input_shape):
            raise ShapeError(f"samples of shape {tuple(input_shape)} have no dimension {self.dim}")
        size = input_shape[self.dim - 1]
        known = math.prod(n for n in self.unflattened_size if n != -1)
        sizes = tuple(size // known if n == -1 else n for n in self.unflattened_size)
        if math.prod(sizes) != size:
            raise ShapeError(
                f"{size} elements cannot have shape {self.unflattened_size}: samples have shape "
                f"{tuple(input_shape)}"
            )
        made = (*input_shape[: self.dim - 1], *sizes, *input_shape[self.dim :])
        if len(made) > 3:
            raise ShapeError(f"the output would have shape {made}; samples have at most 3 axes")
        return made
