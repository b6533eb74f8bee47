"""A helper for writing larger networks: layers are specified by their outputs."""

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
    init,
)
from fastcnn.layers.init import generator_of

#: Of :class:`fastcnn.layers.wiring.Value`.
Value = Any


@dataclass
class Draft:
    """Applies layers to symbolic values: input sizes follow from the value's shape.

    Attributes
    ----------
    generator : Generator
        Source of the initial weights.
    of_layers : bool
        Whether weights are drawn by the layers' defaults. Otherwise convolutions use He
        initialisation, linear layers Glorot initialisation, and biases are zero.
    """

    generator: np.random.Generator
    of_layers: bool = False

    def conv(
        self, x: Value, channels: int, kernel_size: int | tuple[int, int] = 3, **arguments: Any
    ) -> Value:
        """A convolution of maps or sequences; by default with same padding."""
        axes = len(x.shape) - 1
        sizes = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * axes
        kind = Conv2d if axes == 2 else Conv1d
        given = {"padding": tuple(size // 2 for size in sizes)} | self._weights() | arguments
        return kind(x.shape[0], channels, sizes, **given)(x)

    def up_conv(self, x: Value, channels: int, kernel_size: int, **arguments: Any) -> Value:
        """A transposed convolution."""
        given = self._weights() | arguments
        return ConvTranspose2d(x.shape[0], channels, kernel_size, **given)(x)

    def linear(self, x: Value, features: int, **arguments: Any) -> Value:
        """A linear layer."""
        given = self._weights(init.Xavier()) | arguments
        return Linear(x.shape[0], features, **given)(x)

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
        """A convolution without bias, batch normalisation, and optionally an activation."""
        y = self.norm(self.conv(x, channels, kernel_size, bias=False, **arguments))
        return y if activation is None else activation()(y)

    def separable(self, x: Value, channels: int, stride: int = 1) -> Value:
        """A depthwise 3x3 and a 1x1 convolution, each with batch normalisation and ReLU."""
        y = self.conv_norm(x, x.shape[0], 3, stride=stride, groups=x.shape[0])
        return self.conv_norm(y, channels, 1)

    def inverted_residual(
        self,
        x: Value,
        channels: int,
        hidden: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        activation: type[Layer] = ReLU,
        squeeze: Layer | None = None,
    ) -> Value:
        """A MobileNetV2 block: expansion, depthwise convolution, projection, and the shortcut."""
        y = x
        if hidden != x.shape[0]:
            y = self.conv_norm(y, hidden, 1, activation=activation)
        y = self.conv_norm(
            y, hidden, kernel_size, stride=stride, groups=hidden, activation=activation
        )
        y = y if squeeze is None else squeeze(y)
        y = self.conv_norm(y, channels, 1, activation=None)
        return y + x if y.shape == x.shape else y

    def mean_head(self, x: Value, classes: int) -> Value:
        """The mean over the map, and a linear layer."""
        return self.linear(Flatten()(GlobalAvgPool2d()(x)), classes)

    def _weights(self, weight_init: init.Initializer | None = None) -> dict[str, Any]:
        if self.of_layers:
            return {"seed": self.generator}
        return {
            "weight_init": weight_init or init.Kaiming(),
            "bias_init": init.Constant(0.0),
            "seed": self.generator,
        }


def draft(seed: int | None) -> Draft:
    """A draft whose weights are drawn with a seed."""
    return Draft(generator_of(seed))
