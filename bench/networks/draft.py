"""Networks are written with a draft: it applies layers to values, and draws all weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    ReLU,
)

#: Of :class:`fastcnn.layers.wiring.Value`.
Value = Any


@dataclass
class Draft:
    """Layers by what comes out of them; what goes in follows from the value.

    Attributes
    ----------
    generator : Generator
        Source of the initial weights.
    """

    generator: np.random.Generator

    def conv(
        self, x: Value, channels: int, kernel_size: int | tuple[int, int] = 3, **arguments: Any
    ) -> Value:
        """A convolution of maps or of sequences; padded to the same size if nothing is said."""
        sizes = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * 2
        kind = Conv2d if len(x.shape) == 3 else Conv1d
        axes = len(x.shape) - 1
        padding = tuple(size // 2 for size in sizes[:axes])
        given = {"padding": padding} | arguments
        return kind(x.shape[0], channels, sizes[:axes], seed=self.generator, **given)(x)

    def up_conv(self, x: Value, channels: int, kernel_size: int, **arguments: Any) -> Value:
        """A transposed convolution."""
        made = ConvTranspose2d(x.shape[0], channels, kernel_size, seed=self.generator, **arguments)
        return made(x)

    def linear(self, x: Value, features: int, **arguments: Any) -> Value:
        """A linear layer."""
        return Linear(x.shape[0], features, seed=self.generator, **arguments)(x)

    def norm(self, x: Value, **arguments: Any) -> Value:
        """Batch normalisation of maps, sequences or features."""
        kind = BatchNorm2d if len(x.shape) == 3 else BatchNorm1d
        return kind(x.shape[0], **arguments)(x)

    def conv_norm(
        self,
        x: Value,
        channels: int,
        kernel_size: int | tuple[int, int] = 3,
        *,
        activation: type[Layer] | None = ReLU,
        **arguments: Any,
    ) -> Value:
        """A convolution without bias, batch normalisation, and perhaps an activation."""
        y = self.norm(self.conv(x, channels, kernel_size, bias=False, **arguments))
        return y if activation is None else activation()(y)

    def head(self, x: Value, classes: int) -> Value:
        """The mean over the map, and a linear layer."""
        return self.linear(Flatten()(GlobalAvgPool2d()(x)), classes)


def chain(x: Value, layers: Sequence[Layer]) -> Value:
    """Layers one after the other."""
    for layer in layers:
        x = layer(x)
    return x
