"""Squeeze and excitation: channels weighed by what the whole map holds."""

import numpy as np

from fastcnn.arguments import as_count
from fastcnn.layers.activation import ReLU, Sigmoid
from fastcnn.layers.base import Layer
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.container import Model
from fastcnn.layers.conv import Conv2d
from fastcnn.layers.init import generator_of
from fastcnn.layers.join import Multiply
from fastcnn.layers.pool import GlobalAvgPool2d


class SqueezeExcite(Model):
    """A map times a factor for each channel, which two 1x1 convolutions make of its means.

    The state keys are those of ``torchvision.ops.SqueezeExcitation``: ``fc1`` and ``fc2``.

    Parameters
    ----------
    input_channels : int
    squeeze_channels : int
        Channels between the convolutions.
    activation : Layer, optional
        After the first one, by default ``ReLU()``.
    scale_activation : Layer, optional
        After the second one, by default ``Sigmoid()``; that of MobileNetV3 is the hard one.
    seed : int or SeedSequence or Generator, optional
        Source of the initial weights.

    References
    ----------
    Hu, Shen and Sun, "Squeeze-and-excitation networks", arXiv:1709.01507.

    Examples
    --------
    >>> SqueezeExcite(8, 2, seed=0).output_shape((8, 5, 5))
    (8, 5, 5)
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Layer | None = None,
        scale_activation: Layer | None = None,
        *,
        seed: int | np.random.SeedSequence | np.random.Generator | None = None,
    ) -> None:
        kind, generator = type(self).__name__, generator_of(seed)
        channels = as_count(kind, "input_channels", input_channels)
        squeezed = as_count(kind, "squeeze_channels", squeeze_channels)
        super().__init__(
            {
                "avgpool": GlobalAvgPool2d(),
                "fc1": Conv2d(channels, squeezed, 1, seed=generator),
                "activation": ReLU() if activation is None else activation,
                "fc2": Conv2d(squeezed, channels, 1, seed=generator),
                "scale_activation": Sigmoid() if scale_activation is None else scale_activation,
            }
        )

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Connect the layers one after the other, and multiply the source by what comes out."""
        prefix, factor = f"{name}." if name else "", source
        for child, layer in self.layers.items():
            factor = layer.connect(builder, f"{prefix}{child}", factor)
        return builder.add(f"{prefix}multiply", Multiply(), (source, factor))
