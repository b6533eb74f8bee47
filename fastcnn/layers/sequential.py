"""A chain of layers."""

from collections.abc import Mapping

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.layers.base import Layer
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.container import Model


class Sequential(Model):
    """A chain of layers.

    Parameters
    ----------
    *layers : Layer, or one mapping of str to Layer
        In order; without names they are called "0", "1", ... as in PyTorch.
    input_shape : tuple of int, optional
        Shape of one sample, ``(C, H, W)``; when given, all shapes are checked at once.

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
        """Connect the layers one after the other."""
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
            By default its place, as in PyTorch.

        Raises
        ------
        ConfigurationError
            If the name is taken.
        """
        name = str(len(self)) if name is None else name
        if isinstance(name, str) and name in self.layers:
            raise ConfigurationError(f"there is a layer {name!r} already")
        self.layers[name] = layer
        return self
