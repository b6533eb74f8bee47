"""Normalisation within each sample, without statistics of the batch."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import as_count, as_dtype, as_flag
from fastcnn.backends.graph import Shape
from fastcnn.backends.sample_sets import sets_of
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import check_samples
from fastcnn.layers.norm import Normalisation

__all__ = ["GroupNorm", "InstanceNorm2d", "LayerNorm", "LayerNorm2d", "RMSNorm"]


class _SampleNorm(Normalisation):
    #: For mean, variance, normalisation, scale and shift.
    flops_each: ClassVar[int] = 7


def _sizes(owner: str, value: Any) -> Shape:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not len(values):
        raise ConfigurationError(f"{owner}: normalized_shape must not be empty")
    return tuple(as_count(owner, "normalized_shape", size) for size in values)


class _TrailingNorm(_SampleNorm):
    """Normalisation over the last dimensions of a sample."""

    passed: ClassVar[tuple[str, ...]] = ("normalized_shape", "eps")
    normalized_shape: Shape

    def output_shape(self, input_shape: Shape) -> Shape:
        size, input_shape = len(self.normalized_shape), tuple(input_shape)
        if input_shape[-size:] != self.normalized_shape:
            hint = ""
            if len(input_shape) == 3 and self.normalized_shape == input_shape[:1]:
                hint = "; LayerNorm2d normalises the channels of each pixel"
            raise ShapeError(
                f"expects samples whose last dimensions are {self.normalized_shape}, "
                f"got {input_shape}{hint}"
            )
        return input_shape


class LayerNorm(_TrailingNorm):
    """Layer normalisation over the last dimensions of each sample: zero mean, unit variance.

    ``LayerNorm((C, H, W))`` normalises a whole map, ``LayerNorm(features)`` a vector. For the
    channels of each pixel, as in ConvNeXt, see :class:`LayerNorm2d`.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Sizes of the last dimensions of a sample.
    eps : float
        Added to the biased variance.
    elementwise_affine : bool
        Whether to learn a weight and a bias per element.
    bias : bool
        Whether there is also a bias.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight, bias : ndarray, shape ``normalized_shape``, or None
        Initially 1 and 0.

    References
    ----------
    Ba, Kiros and Hinton, arXiv:1607.06450.

    Examples
    --------
    >>> LayerNorm((4, 8, 8)).weight.shape
    (4, 8, 8)
    """

    operation: ClassVar[str] = "layer_norm"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.normalized_shape = _sizes("LayerNorm", normalized_shape)
        self.elementwise_affine = as_flag("LayerNorm", "elementwise_affine", elementwise_affine)
        has_bias = as_flag("LayerNorm", "bias", bias) and self.elementwise_affine
        self._fill(self.normalized_shape, eps, self.elementwise_affine, has_bias, dtype)

    def _is_default(self, name: str, value: Any, default: Any) -> bool:
        without = name == "bias" and not self.elementwise_affine
        return without or super()._is_default(name, value, default)


class RMSNorm(_TrailingNorm):
    """Root-mean-square normalisation: ``weight * x / sqrt(mean(x^2) + eps)``, without centring.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Sizes of the last dimensions of a sample, which are normalised together.
    eps : float, optional
        By default the distance from 1 to the next number of ``dtype``: about 1.2e-7 in float32.
    elementwise_affine : bool
        Whether to learn a weight per element.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : ndarray, shape ``normalized_shape``, or None

    References
    ----------
    Zhang and Sennrich, arXiv:1910.07467.
    """

    operation: ClassVar[str] = "rms_norm"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.normalized_shape = _sizes("RMSNorm", normalized_shape)
        self.elementwise_affine = as_flag("RMSNorm", "elementwise_affine", elementwise_affine)
        if eps is None:
            eps = _machine_epsilon(as_dtype("RMSNorm", dtype))
        self._fill(self.normalized_shape, eps, self.elementwise_affine, False, dtype)

    def _is_default(self, name: str, value: Any, default: Any) -> bool:
        if name == "eps":
            default = _machine_epsilon(np.float32 if self.weight is None else self.weight.dtype)
        return super()._is_default(name, value, default)


def _machine_epsilon(dtype: Any) -> float:
    """PyTorch's default of ``eps``, in as few digits as its type needs."""
    return float(str(np.finfo(dtype).eps))


class LayerNorm2d(_SampleNorm):
    """Layer normalisation of the channels of each pixel, as in ConvNeXt.

    Mean and variance are computed per pixel over its channels; each channel has a weight and a
    bias.

    Parameters
    ----------
    num_channels : int
    eps, affine, dtype
        As for :class:`BatchNorm2d`.

    Attributes
    ----------
    weight, bias : ndarray, shape (num_channels,), or None

    References
    ----------
    Liu et al., "A ConvNet for the 2020s", arXiv:2201.03545.
    """

    operation: ClassVar[str] = "layer_norm2d"
    passed: ClassVar[tuple[str, ...]] = ("eps",)

    def __init__(
        self, num_channels: int, eps: float = 1e-6, affine: bool = True, *, dtype: Any = np.float32
    ) -> None:
        super().__init__()
        self.num_channels = as_count("LayerNorm2d", "num_channels", num_channels)
        self.affine = as_flag(type(self).__name__, "affine", affine)
        self._fill((self.num_channels,), eps, self.affine, self.affine, dtype)

    def output_shape(self, input_shape: Shape) -> Shape:
        check_samples(input_shape, ("H", "W"), self.num_channels)
        return tuple(input_shape)


class GroupNorm(_SampleNorm):
    """Group normalisation: a common mean and variance for the channels of a group, over all pixels.

    Parameters
    ----------
    num_groups, num_channels : int
        ``num_groups`` divides ``num_channels``.
    eps, affine, dtype
        As for :class:`BatchNorm2d`.

    Attributes
    ----------
    weight, bias : ndarray, shape (num_channels,), or None

    Raises
    ------
    ConfigurationError
        If the channels cannot be divided into that many groups.

    References
    ----------
    Wu and He, arXiv:1803.08494.
    """

    operation: ClassVar[str] = "group_norm"
    passed: ClassVar[tuple[str, ...]] = ("num_groups", "eps")

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.num_groups = as_count("GroupNorm", "num_groups", num_groups)
        self.num_channels = as_count("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ConfigurationError(
                f"GroupNorm: num_groups must divide num_channels={num_channels}, got {num_groups}"
            )
        self.affine = as_flag(type(self).__name__, "affine", affine)
        self._fill((self.num_channels,), eps, self.affine, self.affine, dtype)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or input_shape[0] != self.num_channels:
            raise ShapeError(
                f"expects samples of shape ({self.num_channels}, ...), got {tuple(input_shape)}"
            )
        check_sets(self.arguments, tuple(input_shape))
        return tuple(input_shape)


class InstanceNorm2d(_SampleNorm):
    """Instance normalisation: each channel of each sample has its own mean and variance.

    It is :class:`GroupNorm` with a group for each channel. There is no ``momentum`` as in PyTorch,
    since there are no running statistics.

    Parameters
    ----------
    num_features : int
        Number of channels.
    eps, affine, dtype
        As for :class:`BatchNorm2d`.
    track_running_stats : bool
        Must be False: with True, PyTorch trains and predicts with different statistics.

    Attributes
    ----------
    weight, bias : ndarray, shape (num_features,), or None

    Raises
    ------
    ConfigurationError
        If running statistics are requested.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, arXiv:1607.08022.
    """

    operation: ClassVar[str] = "group_norm"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.num_features = as_count("InstanceNorm2d", "num_features", num_features)
        if as_flag("InstanceNorm2d", "track_running_stats", track_running_stats):
            raise ConfigurationError(
                "InstanceNorm2d: track_running_stats=True is not supported; "
                "BatchNorm2d has running statistics"
            )
        self.track_running_stats = False
        self.affine = as_flag(type(self).__name__, "affine", affine)
        self._fill((self.num_features,), eps, self.affine, self.affine, dtype)

    @property
    def arguments(self) -> dict[str, Any]:
        """``num_groups``, one for each channel, and ``eps``."""
        return {"num_groups": self.num_features, "eps": self.eps}

    def output_shape(self, input_shape: Shape) -> Shape:
        check_samples(input_shape, ("H", "W"), self.num_features)
        check_sets(self.arguments, tuple(input_shape))
        return tuple(input_shape)


def check_sets(arguments: Mapping[str, Any], shape: Shape) -> None:
    """Refuse normalisation over a single element, whose variance is always 0."""
    if sets_of("group_norm", arguments, shape).members == 1:
        raise ShapeError(
            f"statistics need more than one value; samples of shape {shape} have "
            f"{prod(shape)}, each on its own"
        )
