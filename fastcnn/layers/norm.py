"""Batch normalisation, and local response normalisation."""

from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import MOST_WINDOW, as_count, as_dtype, as_flag, as_number
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.allocation import claim
from fastcnn.layers.base import Layer, check_samples

__all__ = ["BatchNorm1d", "BatchNorm2d", "LocalResponseNorm"]


class Normalisation(Layer):
    """A layer with ``eps``, and optionally a weight and a bias."""

    eps: float

    def _fill(self, shape: Shape, eps: float, weight: bool, bias: bool, dtype: Any) -> None:
        self.eps = as_number(type(self).__name__, "eps", eps, above=0.0)
        claim(shape)
        dtype = as_dtype(type(self).__name__, dtype)
        arrays = {"weight": np.ones(shape, dtype), "bias": np.zeros(shape, dtype)}
        wanted = {"weight": weight, "bias": bias}
        self._set_arrays("parameters", {k: v for k, v in arrays.items() if wanted[k]})

    @property
    def weight(self) -> np.ndarray | None:
        """Learned factors, or None."""
        return self.parameters.get("weight")

    @property
    def bias(self) -> np.ndarray | None:
        """Learned shifts, or None."""
        return self.parameters.get("bias")


class _BatchNorm(Normalisation):
    operation: ClassVar[str] = "batch_norm"
    passed: ClassVar[tuple[str, ...]] = ("eps", "momentum", "track_running_stats")
    flops_each: ClassVar[int] = 2  # as in inference
    #: The axes after the channels in the shape of a sample.
    pixels: ClassVar[tuple[str, ...]] = ()
    #: Allowed numbers of dimensions after the channels.
    ranks: ClassVar[tuple[int, ...]] = (2,)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        weight: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.num_features = as_count(owner, "num_features", num_features)
        self.affine = as_flag(owner, "affine", affine)
        has_weight = as_flag(owner, "weight", weight) and self.affine
        has_bias = as_flag(owner, "bias", bias) and self.affine
        self._fill((self.num_features,), eps, has_weight, has_bias, dtype)
        self.momentum = momentum
        if momentum is not None:
            self.momentum = as_number(owner, "momentum", momentum)
            if not 0.0 <= self.momentum <= 1.0:
                raise ConfigurationError(f"{owner}: momentum must lie in 0..1, got {momentum!r}")
        self.track_running_stats = as_flag(owner, "track_running_stats", track_running_stats)
        if self.track_running_stats:
            statistics = {
                "running_mean": np.zeros(self.num_features, dtype),
                "running_var": np.ones(self.num_features, dtype),
                "num_batches_tracked": np.zeros((), np.int64),
            }
            self._set_arrays("buffers", statistics)

    @property
    def running_mean(self) -> np.ndarray | None:
        """Moving average of the batch means, or None."""
        return self.buffers.get("running_mean")

    @property
    def running_var(self) -> np.ndarray | None:
        """Moving average of the unbiased batch variances, or None."""
        return self.buffers.get("running_var")

    def output_shape(self, input_shape: Shape) -> Shape:
        is_fitting = len(input_shape) - 1 in self.ranks
        if not is_fitting or input_shape[0] != self.num_features:
            wanted = ", ".join((str(self.num_features), *self.pixels))
            comma = "" if self.pixels else ","
            raise ShapeError(f"expects samples of shape ({wanted}{comma}), got {input_shape}")
        return tuple(input_shape)

    def _is_default(self, name: str, value: Any, default: Any) -> bool:
        without = name in ("weight", "bias") and not self.affine
        return without or super()._is_default(name, value, default)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of each channel of a map: zero mean, unit variance, scale, shift.

    In training, mean and biased variance are those of the batch, over samples and pixels, and the
    running statistics move towards them (with the unbiased variance). Outside training the running
    statistics are used instead.

    Parameters
    ----------
    num_features : int
        Number of channels.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of a new batch in the running statistics; None for the plain mean over all batches.
    affine : bool
        Whether to learn ``weight`` (initially 1) and ``bias`` (initially 0).
    track_running_stats : bool
        If False, the statistics of the batch are used outside training too.
    weight, bias : bool
        Which of the two to have, if ``affine``.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight, bias : ndarray, shape (num_features,), or None
    running_mean, running_var : ndarray, shape (num_features,), or None
        Buffers, not parameters; with ``num_batches_tracked`` they are part of the state.

    References
    ----------
    Ioffe and Szegedy, arXiv:1502.03167.

    Examples
    --------
    >>> list(BatchNorm2d(4).buffers)
    ['running_mean', 'running_var', 'num_batches_tracked']
    """

    pixels: ClassVar[tuple[str, ...]] = ("H", "W")


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of each feature of a vector, or each channel of a sequence ``(C, L)``.

    Statistics are over samples, and over the elements of sequences; attributes are those of
    :class:`BatchNorm2d`.

    Parameters
    ----------
    num_features : int
        Features, or channels.
    eps, momentum, affine, track_running_stats, weight, bias, dtype
        As for :class:`BatchNorm2d`.
    """

    ranks: ClassVar[tuple[int, ...]] = (0, 1)


class LocalResponseNorm(Layer):
    """Local response normalisation: each pixel is divided by a norm of neighbouring channels.

    ``y_c = x_c / (k + alpha / size * sum of x_j^2)^beta``, with the sum over ``size`` channels
    around c, and 0 for those out of range: PyTorch's definition. AlexNet's has no division by
    ``size``.

    Parameters
    ----------
    size : int
        Number of channels in a window.
    alpha, beta, k : float

    References
    ----------
    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
    networks", NIPS 2012, section 3.3.
    """

    operation: ClassVar[str] = "local_response_norm"
    passed: ClassVar[tuple[str, ...]] = ("size", "alpha", "beta", "k")

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = as_count("LocalResponseNorm", "size", size, most=MOST_WINDOW)
        self.alpha = as_number("LocalResponseNorm", "alpha", alpha)
        self.beta = as_number("LocalResponseNorm", "beta", beta)
        self.k = as_number("LocalResponseNorm", "k", k)

    def output_shape(self, input_shape: Shape) -> Shape:
        check_samples(input_shape, ("H", "W"))
        return tuple(input_shape)

    def flops(self, *input_shapes: Shape) -> int:
        """Two per element of a window, four for the rest."""
        return (2 * self.size + 4) * super().flops(*input_shapes)
