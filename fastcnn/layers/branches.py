"""Layers that join or split branches of a network."""

from typing import ClassVar

from fastcnn.arguments import as_count
from fastcnn.backends.geometry import concat_shape, narrow_shape, product_shape
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError, counted
from fastcnn.layers.base import Layer
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.wiring import JOINS

__all__ = ["Add", "Chunk", "Concat", "Multiply", "Narrow", "Split", "Subtract"]


class _Join(Layer):
    """A layer with several inputs."""

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """The shape of both inputs.

        Raises
        ------
        ShapeError
            If there are not two inputs of equal shape.
        """
        if len(input_shapes) != 2 or input_shapes[0] != input_shapes[1]:
            shapes = " and ".join(str(tuple(shape)) for shape in input_shapes)
            raise ShapeError(f"expects two inputs of equal shape, got {shapes}")
        return tuple(input_shapes[0])

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Refuse to be used in a chain."""
        kind = type(self).__name__
        raise ConfigurationError(
            f"layer {name!r}: {kind} joins branches, but has one input in a chain; connect it as "
            f"{kind}()(a, b), and make a Model of the result"
        )

    def connect_all(self, builder: GraphBuilder, name: str, *sources: int) -> tuple[int, ...]:
        """Add the node that reads all sources."""
        return (builder.add(name, self, sources),)


class Add(_Join):
    """Sum of two inputs of equal shape, such as the branches of a residual block.

    In a graph ``Add()(a, b)`` or ``a + b``; :class:`Residual` is a block with one. See
    :class:`Model`.
    """

    operation: ClassVar[str] = "add"


class Subtract(_Join):
    """The first input minus the second, of the same shape: ``Subtract()(a, b)`` or ``a - b``."""

    operation: ClassVar[str] = "subtract"


class Multiply(_Join):
    """Element-wise product of two inputs: ``Multiply()(a, b)`` or ``a * b``.

    They have the same shape; or one is a map (C, H, W) and the other has a factor per channel,
    (C, 1, 1), or per pixel, (1, H, W).
    """

    operation: ClassVar[str] = "multiply"

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """The larger shape.

        Raises
        ------
        ShapeError
            If there are not two compatible inputs.
        """
        if len(input_shapes) != 2:
            raise ShapeError(f"expects two inputs, got {len(input_shapes)}")
        return product_shape(*input_shapes)


class Concat(_Join):
    """Inputs concatenated along their channels: ``Concat()(a, b, c)``.

    Maps of the same height and width, or flat features. In the engine, the layers before it write
    directly into their channels of the result.

    Examples
    --------
    >>> from fastcnn.layers import Conv2d, Input, Model
    >>> x = Input((1, 8, 8))
    >>> y = Concat()(x, Conv2d(1, 4, 3, padding=1, seed=0)(x))
    >>> Model(x, y).output_shape((1, 8, 8))
    (5, 8, 8)
    """

    operation: ClassVar[str] = "concat"
    flops_each: ClassVar[int] = 0

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """All channels, in the inputs' height and width.

        Raises
        ------
        ShapeError
            If heights or widths differ.
        """
        return concat_shape(input_shapes)


JOINS |= {"Add": Add, "Subtract": Subtract, "Multiply": Multiply}


class Narrow(Layer):
    """A range of channels, ``start`` to ``start + length``.

    Samples are maps, sequences or vectors. The engine reads the channels in place.

    Parameters
    ----------
    start : int
        The first channel.
    length : int
        Number of channels.

    Examples
    --------
    >>> Narrow(2, 3).output_shape((8, 5, 5))
    (3, 5, 5)
    """

    operation: ClassVar[str] = "narrow"
    passed: ClassVar[tuple[str, ...]] = ("start", "length")
    flops_each: ClassVar[int] = 0

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.start = as_count("Narrow", "start", start, least=0)
        self.length = as_count("Narrow", "length", length)

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(length, ...)``."""
        return narrow_shape(tuple(input_shape), self.start, self.length)


class _Parts(Layer):
    """A layer whose outputs are parts of the channels of its input."""

    operation: ClassVar[str] = "narrow"
    flops_each: ClassVar[int] = 0

    def sizes_of(self, channels: int) -> tuple[int, ...]:
        """Channels of each part."""
        raise NotImplementedError

    def output_shapes(self, *input_shapes: Shape) -> tuple[Shape, ...]:
        """Shapes of all parts.

        Raises
        ------
        ShapeError
            If the channels cannot be divided this way.
        """
        (shape,) = input_shapes
        return tuple((size, *shape[1:]) for size in self.sizes_of(shape[0]))

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the first part."""
        return self.output_shapes(input_shape)[0]

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Refuse to be used in a chain, unless there is only one part."""
        outputs = self.connect_all(builder, name, source)
        if len(outputs) > 1:
            raise ConfigurationError(
                f"layer {name!r}: {self!r} has {len(outputs)} outputs, and a chain takes layers "
                f"with one; connect it as a, b = {self!r}(x), and make a Model of the result"
            )
        return outputs[0]

    def connect_all(self, builder: GraphBuilder, name: str, *sources: int) -> tuple[int, ...]:
        """Add a node for each part."""
        (source,) = sources
        try:
            sizes = self.sizes_of(builder.shape(source)[0])
        except ShapeError as error:
            raise ShapeError(f"layer {name!r}, {self!r}: {error}") from None
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        return tuple(
            builder.add(f"{name}.{place}", Narrow(start, size), (source,))
            for place, (start, size) in enumerate(zip(starts, sizes, strict=True))
        )


class Split(_Parts):
    """Split the channels into parts of given sizes, one output each: PyTorch's ``split``.

    Samples are maps, sequences or vectors. The engine reads the parts in place.

    Parameters
    ----------
    sizes : sequence of int
        Channels of each part; they must add up to the channels of the input.

    Examples
    --------
    >>> from fastcnn.layers import Concat, Conv2d, Input, Model
    >>> x = Input((8, 5, 5))
    >>> kept, rest = Split((6, 2))(x)
    >>> Model(x, Concat()(kept, Conv2d(2, 4, 1, seed=0)(rest))).output_shape((8, 5, 5))
    (10, 5, 5)
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        if not isinstance(sizes, (tuple, list)) or not sizes:
            raise ConfigurationError(
                "Split: sizes must be a tuple with the channels of each part, such as (24, 8), got "
                f"{sizes!r}; Chunk(n) makes n equal parts"
            )
        self.sizes = tuple(as_count("Split", "each of sizes", size) for size in sizes)

    @property
    def gives(self) -> int:
        return len(self.sizes)

    def sizes_of(self, channels: int) -> tuple[int, ...]:
        if sum(self.sizes) != channels:
            total = counted(sum(self.sizes), "channel")
            raise ShapeError(f"sizes {self.sizes} add up to {total}, got {channels}")
        return self.sizes


class Chunk(_Parts):
    """Split the channels into equal parts, one output each: PyTorch's ``chunk``.

    Parameters
    ----------
    chunks : int
        Number of parts; it must divide the channels.

    Examples
    --------
    >>> from fastcnn.layers import Input
    >>> left, right = Chunk(2)(Input((8, 5, 5)))
    >>> left.shape
    (4, 5, 5)
    """

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.chunks = as_count("Chunk", "chunks", chunks)

    @property
    def gives(self) -> int:
        return self.chunks

    def sizes_of(self, channels: int) -> tuple[int, ...]:
        if channels % self.chunks:
            raise ShapeError(
                f"chunks={self.chunks} must divide the channels, got {channels}; Split(sizes) "
                "makes parts of different sizes"
            )
        return (channels // self.chunks,) * self.chunks
