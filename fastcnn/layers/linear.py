"""Fully connected and flatten layers."""

import math
from typing import Any, ClassVar

import numpy as np

from fastcnn.arguments import as_count
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import Layer, WeightedLayer
from fastcnn.layers.init import Initializer, draw_weight_and_bias

__all__ = ["Flatten", "Linear"]


class Flatten(Layer):
    """Reshape each sample to a vector, channels first: ``(C, H, W)`` to ``(C * H * W,)``.

    Parameters
    ----------
    start_dim, end_dim : int
        PyTorch's defaults, 1 and -1: all dimensions of a sample. Other values are not supported.

    Raises
    ------
    ConfigurationError
        If they have other values.
    """

    operation: ClassVar[str] = "flatten"
    flops_each: ClassVar[int] = 0

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        for name, value, only in (("start_dim", start_dim, 1), ("end_dim", end_dim, -1)):
            if isinstance(value, bool) or not np.isscalar(value) or value != only:
                raise ConfigurationError(
                    f"Flatten: {name} must be {only}, because all dimensions of a sample are "
                    f"flattened, got {value!r}"
                )
        self.start_dim, self.end_dim = 1, -1

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C * H * W,)``."""
        return (math.prod(input_shape),)


class Linear(WeightedLayer):
    """Fully connected layer, ``y = x W^T + b``.

    Parameters
    ----------
    in_features, out_features : int
        Size of each input and output sample.
    bias : bool
        Whether to add a learned bias of shape ``(out_features,)``.
    max_norm, seed, dtype
        As for :class:`Conv2d`.
    weight_init, bias_init : Initializer, optional
        By default PyTorch's: uniform with bound ``1 / sqrt(in_features)``.

    Attributes
    ----------
    weight : ndarray, shape (out_features, in_features)
    bias : ndarray, shape (out_features,), or None
    """

    operation: ClassVar[str] = "linear"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        max_norm: float | None = None,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        seed: int | np.random.SeedSequence | np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.in_features = as_count("Linear", "in_features", in_features)
        self.out_features = as_count("Linear", "out_features", out_features)
        self.parameters = draw_weight_and_bias(
            (self.out_features, self.in_features), bias, weight_init, bias_init, seed, dtype
        )
        self._set_max_norm(max_norm)

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(out_features,)``."""
        if tuple(input_shape) != (self.in_features,):
            hint = "; put a Flatten before it" if len(input_shape) != 1 else ""
            raise ShapeError(
                f"expects samples of shape ({self.in_features},), got {tuple(input_shape)}{hint}"
            )
        return (self.out_features,)

    def flops(self, *input_shapes: Shape) -> int:
        """Two per weight, one per bias."""
        return 2 * self.weight.size + (self.out_features if self.bias is not None else 0)
