"""Layers in which branches of a network meet."""

import math
from typing import ClassVar

from fastcnn.backends.geometry import concat_shape, product_shape
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import Layer
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.wiring import JOINS

__all__ = ["Add", "Concat", "Multiply", "Subtract"]


class _Join(Layer):
    """A layer that reads several others."""

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

    def flops(self, *input_shapes: Shape) -> int:
        """One per element."""
        return math.prod(max(input_shapes, key=math.prod))

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Refuse to be part of a chain.

        Raises
        ------
        ConfigurationError
        """
        kind = type(self).__name__
        raise ConfigurationError(
            f"layer {name!r}: {kind} joins branches, and has one input in a chain; connect it as "
            f"{kind}()(a, b), and make a Model of what comes out"
        )

    def connect_all(self, builder: GraphBuilder, name: str, *sources: int) -> tuple[int, ...]:
        """Add the node that reads all sources."""
        return (builder.add(name, self, sources),)


class Add(_Join):
    """Sum of two maps of one shape, where the branches of a network meet.

    In a graph ``Add()(a, b)`` or ``a + b``; :class:`Residual` is a block with one. See
    :class:`Model`.
    """

    operation: ClassVar[str] = "add"


class Subtract(_Join):
    """The first input minus the second, of one shape: ``Subtract()(a, b)`` or ``a - b``."""

    operation: ClassVar[str] = "subtract"


class Multiply(_Join):
    """Product of two inputs, element by element: ``Multiply()(a, b)`` or ``a * b``.

    They have one shape; or one is a map (C, H, W) and the other has a factor for each channel,
    (C, 1, 1), or for each pixel, (1, H, W).
    """

    operation: ClassVar[str] = "multiply"

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """The larger shape.

        Raises
        ------
        ShapeError
            If there are not two that go together.
        """
        if len(input_shapes) != 2:
            raise ShapeError(f"expects two inputs, got {len(input_shapes)}")
        return product_shape(*input_shapes)


class Concat(_Join):
    """Inputs put one after the other along their channels: ``Concat()(a, b, c)``.

    Maps of one height and width, or flat features. The engine lets the layers before it write
    straight into their channels of the result.

    Examples
    --------
    >>> from fastcnn.layers import Conv2d, Input, Model
    >>> x = Input((1, 8, 8))
    >>> y = Concat()(x, Conv2d(1, 4, 3, padding=1, seed=0)(x))
    >>> Model(x, y).output_shape((1, 8, 8))
    (5, 8, 8)
    """

    operation: ClassVar[str] = "concat"

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """All channels, in the inputs' height and width.

        Raises
        ------
        ShapeError
            If heights or widths differ.
        """
        return concat_shape(input_shapes)

    def flops(self, *input_shapes: Shape) -> int:
        """None: it computes nothing."""
        return 0


JOINS |= {"Add": Add, "Subtract": Subtract, "Multiply": Multiply}
