"""Models with fixed connections: a chain, a residual block, squeeze-and-excitation."""

from collections.abc import Mapping

import numpy as np

from fastcnn.arguments import as_count
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.layers.activation import ReLU, Sigmoid
from fastcnn.layers.base import Layer
from fastcnn.layers.branches import Add, Multiply
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.container import Model
from fastcnn.layers.conv import Conv2d
from fastcnn.layers.init import generator_of
from fastcnn.layers.pool import GlobalAvgPool2d


class Sequential(Model):
    """A chain of layers.

    Parameters
    ----------
    *layers : Layer, or one mapping of str to Layer
        In order; unnamed layers are called "0", "1", ... as in PyTorch.
    input_shape : tuple of int, optional
        Shape of one sample, ``(C, H, W)``; if given, all shapes are checked immediately.

    Examples
    --------
    >>> from fastcnn.layers import Conv2d, Flatten, Linear, ReLU
    >>> model = Sequential(Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(4 * 26 * 26, 10))
    >>> model.output_shape((1, 28, 28))
    (10,)
    """

    def __init__(
        self, *layers: Layer | Mapping[str, Layer], input_shape: Shape | None = None
    ) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named = dict(layers[0])
        else:
            named = {str(index): layer for index, layer in enumerate(layers)}  # type: ignore[misc]
        if not named:
            raise ConfigurationError("Sequential: a model needs at least one layer")
        super().__init__(named, input_shape=input_shape)

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Connect the layers in sequence."""
        prefix = f"{name}." if name else ""
        for child, layer in self.layers.items():
            source = layer.connect(builder, f"{prefix}{child}", source)
        return source

    def append(self, layer: Layer, name: str | None = None) -> "Sequential":
        """Add a layer at the end; returns the model.

        Parameters
        ----------
        layer : Layer
        name : str, optional
            By default its index, as in PyTorch.

        Raises
        ------
        ConfigurationError
            If the name is taken.
        """
        name = str(len(self)) if name is None else name
        if isinstance(name, str) and name in self.layers:
            raise ConfigurationError(f"there already is a layer {name!r}")
        self.layers[name] = layer
        return self


class Residual(Model):
    """``main(x) + shortcut(x)``; without a shortcut ``main(x) + x``.

    The state keys are those of a PyTorch module with the children ``main`` and ``shortcut``.

    Parameters
    ----------
    main : Layer
        The residual branch, usually a :class:`Sequential`.
    shortcut : Layer, optional
        Converts the input to the shape of the branch's output, such as a strided 1x1 convolution.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", arXiv:1512.03385,
    section 3.2.

    Examples
    --------
    >>> from fastcnn.layers import Conv2d, ReLU, Sequential
    >>> block = Residual(Sequential(Conv2d(4, 4, 3, padding=1), ReLU(), Conv2d(4, 4, 1)))
    >>> block.output_shape((4, 8, 8))
    (4, 8, 8)
    >>> list(block.state_dict())
    ['main.0.weight', 'main.0.bias', 'main.2.weight', 'main.2.bias']
    """

    def __init__(self, main: Layer, shortcut: Layer | None = None) -> None:
        super().__init__({"main": main} | ({} if shortcut is None else {"shortcut": shortcut}))

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Connect both branches to ``source``, and add their outputs."""
        prefix = f"{name}." if name else ""
        outputs = [
            layer.connect(builder, f"{prefix}{child}", source)
            for child, layer in self.layers.items()
        ]
        left, right = (*outputs, source)[:2]
        return builder.add(f"{prefix}add", Add(), (left, right))


class SqueezeExcite(Model):
    """A map scaled per channel by factors that two 1x1 convolutions compute from its means.

    The state keys are those of ``torchvision.ops.SqueezeExcitation``: ``fc1`` and ``fc2``.

    Parameters
    ----------
    input_channels : int
    squeeze_channels : int
        Channels between the convolutions.
    activation : Layer, optional
        After the first convolution, by default ``ReLU()``.
    scale_activation : Layer, optional
        After the second, by default ``Sigmoid()``; MobileNetV3 uses its hard form.
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
        """Connect the layers in sequence, and multiply the source by their output."""
        prefix, factor = f"{name}." if name else "", source
        for child, layer in self.layers.items():
            factor = layer.connect(builder, f"{prefix}{child}", factor)
        return builder.add(f"{prefix}multiply", Multiply(), (source, factor))
