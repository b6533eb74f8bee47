"""Layers that take some of the channels: where branches of a network part."""

from typing import Any, ClassVar

from fastcnn.arguments import as_count
from fastcnn.backends.geometry import narrow_shape
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import Layer
from fastcnn.layers.builder import GraphBuilder

__all__ = ["Chunk", "Narrow", "Split"]


class Narrow(Layer):
    """Some channels that are next to each other, ``start`` to ``start + length``.

    Samples are maps, sequences or vectors. The engine reads the channels where they are.

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

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.start = as_count("Narrow", "start", start, least=0)
        self.length = as_count("Narrow", "length", length)

    @property
    def arguments(self) -> dict[str, Any]:
        """The first channel, and how many."""
        return {"start": self.start, "length": self.length}

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(length, ...)``."""
        return narrow_shape(tuple(input_shape), self.start, self.length)

    def flops(self, input_shape: Shape) -> int:
        """Zero: it computes nothing."""
        return 0


class _Parts(Layer):
    """A layer whose outputs are the channels of its input in parts."""

    operation: ClassVar[str] = "narrow"

    def sizes_of(self, channels: int) -> tuple[int, ...]:
        """Channels of each part."""
        raise NotImplementedError

    def output_shapes(self, *input_shapes: Shape) -> tuple[Shape, ...]:
        """Shapes of all parts.

        Raises
        ------
        ShapeError
            If the channels cannot be divided in this way.
        """
        (shape,) = input_shapes
        return tuple((size, *shape[1:]) for size in self.sizes_of(shape[0]))

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the first part."""
        return self.output_shapes(input_shape)[0]

    def flops(self, input_shape: Shape) -> int:
        """Zero: it computes nothing."""
        return 0

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Refuse to be a layer of a chain, unless there is one part only.

        Raises
        ------
        ConfigurationError
        """
        outputs = self.connect_all(builder, name, source)
        if len(outputs) > 1:
            raise ConfigurationError(
                f"layer {name!r}: {self!r} has {len(outputs)} outputs, and a chain takes layers "
                f"with one; connect it as a, b = {self!r}(x), and make a Model of what comes out"
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
    """The channels in parts of given sizes, one output each: PyTorch's ``split`` along channels.

    Samples are maps, sequences or vectors. The engine reads the parts where they are.

    Parameters
    ----------
    sizes : sequence of int
        Channels of each part; together they are the channels of the input.

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
        """Number of parts."""
        return len(self.sizes)

    def sizes_of(self, channels: int) -> tuple[int, ...]:
        """Channels of each part."""
        if sum(self.sizes) != channels:
            raise ShapeError(
                f"sizes {self.sizes} are {sum(self.sizes)} channels together, got {channels}"
            )
        return self.sizes


class Chunk(_Parts):
    """The channels in equal parts, one output each: PyTorch's ``chunk`` along channels.

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
        """Number of parts."""
        return self.chunks

    def sizes_of(self, channels: int) -> tuple[int, ...]:
        """Channels of each part."""
        if channels % self.chunks:
            raise ShapeError(
                f"chunks={self.chunks} must divide the channels, got {channels}; Split(sizes) "
                "makes parts of different sizes"
            )
        return (channels // self.chunks,) * self.chunks
