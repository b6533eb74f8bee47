"""Residual blocks: a branch whose output is added to what entered it."""

import math
from typing import ClassVar

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import GraphBuilder, Layer
from fastcnn.layers.container import Model


class Add(Layer):
    """Sum of two maps of one shape: the joint of a graph whose branches meet.

    A model that connects its own layers (see :meth:`Layer.connect`) writes
    ``builder.add(name, Add(), (left, right))``; :class:`Residual` does so.
    """

    operation: ClassVar[str] = "add"

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """The shape of both inputs.

        Raises
        ------
        ShapeError
            If there are not two of one shape.
        """
        if len(input_shapes) != 2 or input_shapes[0] != input_shapes[1]:
            shapes = " and ".join(str(tuple(shape)) for shape in input_shapes)
            raise ShapeError(f"expects two inputs of one shape, got {shapes}")
        return tuple(input_shapes[0])

    def flops(self, input_shape: Shape) -> int:
        """One per element."""
        return math.prod(input_shape)

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Refuse to be part of a chain.

        Raises
        ------
        ConfigurationError
        """
        raise ConfigurationError(f"layer {name!r}: Add joins two branches; use Residual in a chain")


class Residual(Model):
    """``main(x) + shortcut(x)``; without a shortcut ``main(x) + x``.

    The state keys are those of a PyTorch module with the children ``main`` and ``shortcut``.

    Parameters
    ----------
    main : Layer
        The branch with the work, usually a :class:`Sequential`.
    shortcut : Layer, optional
        What brings the input to the shape of the branch's output, such as a 1x1 convolution with
        a stride.

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
        """Connect both branches to ``source``, and add what comes out of them."""
        prefix = f"{name}." if name else ""
        outputs = [
            layer.connect(builder, f"{prefix}{child}", source)
            for child, layer in self.layers.items()
        ]
        left, right = (*outputs, source)[:2]
        return builder.add(f"{prefix}add", Add(), (left, right))
