"""ONNX nodes that compute shapes: ``x.view(x.size(0), -1)`` becomes five of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_constants import MOST_DIMENSIONS
from fastcnn.interop.onnx_file import FileNode
from fastcnn.interop.onnx_folding import evaluated

#: Largest plausible size in a shape.
LARGEST = 2**40


@dataclass(frozen=True)
class Numbers:
    """Integers that depend only on shapes; None is the batch size.

    Attributes
    ----------
    is_scalar : bool
        Whether it is a scalar rather than an array of one element.
    """

    values: tuple[int | None, ...]
    is_scalar: bool = False

    def __post_init__(self) -> None:
        known = [abs(value) for value in self.values if value is not None]
        if len(self.values) > MOST_DIMENSIONS or max(known, default=0) > LARGEST:
            raise ConfigurationError("it makes a shape that no tensor has")

    def array(self, batch: int) -> np.ndarray:
        """The integers for a batch size."""
        values = np.array([batch if n is None else n for n in self.values], np.int64)
        return values.reshape(()) if self.is_scalar else values


def shape_of(node: FileNode, sample: Shape) -> Numbers:
    """``Shape`` of a batch of samples."""
    whole = (None, *sample)
    end = node.integer("end", len(whole))
    return Numbers(whole[node.integer("start", 0) : end])


#: Operators that compute with shapes.
ARITHMETIC = (
    *("Cast", "Concat", "Gather", "Identity", "Mul", "Reshape", "Slice", "Squeeze"),
    "Unsqueeze",
)
#: Batch sizes for which they are evaluated.
BATCHES = (1, 1_000_003)


def computed(node: FileNode, given: Mapping[str, Numbers]) -> Numbers:
    """The result of a node for integers given by name.

    It is evaluated for two batch sizes: a value that differs must be the batch size itself.
    """
    first, second = evaluated(
        node,
        [{name: numbers.array(batch) for name, numbers in given.items()} for batch in BATCHES],
    )
    if first.dtype.kind != "i" or first.ndim > 1:
        raise ConfigurationError(
            f"a shape is a list of integers, this is {first.dtype} of shape {first.shape}"
        )
    if first.shape != second.shape:
        raise ConfigurationError("it computes with the number of samples")
    values: list[int | None] = []
    for pair in zip(first.reshape(-1).tolist(), second.reshape(-1).tolist(), strict=True):
        if pair[0] != pair[1] and pair != BATCHES:
            raise ConfigurationError("it computes with the number of samples")
        values.append(None if pair == BATCHES else pair[0])
    return Numbers(tuple(values), first.ndim == 0)


def reshaped(node: FileNode, sample: Shape, wanted: Numbers, batch: int | None) -> Shape:
    """Shape of a sample after a ``Reshape``.

    Parameters
    ----------
    batch : int or None
        The batch size, if fixed by the file.
    """
    first, *rest = wanted.values or (1,)
    if node.integer("allowzero", 0) and 0 in wanted.values:
        raise ConfigurationError("allowzero=1 is not supported")
    whole, size = (None, *sample), math.prod(sample)
    sizes = [
        whole[place] if value == 0 and place < len(whole) else value
        for place, value in enumerate(rest, start=1)
    ]
    words = f"a Reshape of samples of {sample} to {_words(wanted)}"
    if any(value is None or value < -1 or value == 0 for value in sizes) or not sizes:
        raise ConfigurationError(f"{words} is not supported")
    known = math.prod(value for value in sizes if value is not None and value != -1)
    if sizes.count(-1) == 1 and first != -1 and size % known == 0:
        sizes[sizes.index(-1)] = size // known
    if -1 in sizes or math.prod(value or 0 for value in sizes) != size:
        raise ConfigurationError(f"{words} mixes samples")
    if first not in (None, 0, -1, batch):
        raise ConfigurationError(f"{words} is only for batches of {first}")
    return tuple(value for value in sizes if value is not None)


def _words(numbers: Numbers) -> str:
    return f"({', '.join('N' if value is None else str(value) for value in numbers.values)})"


def squeezed(node: FileNode, sample: Shape) -> Shape:
    """Shape of a sample after a ``Squeeze`` of some of its dimensions."""
    axes = node.whole_numbers("axes", 1)
    rank = len(sample) + 1
    if axes is None:
        raise ConfigurationError(
            "a Squeeze without axes removes the samples' dimension from a batch of one"
        )
    places = {axis % rank for axis in axes or () if -rank <= axis < rank}
    if not axes or len(places) != len(axes) or any(not place for place in places):
        raise ConfigurationError(f"a Squeeze of axes {axes} of {('N', *sample)}")
    if any(sample[place - 1] != 1 for place in places) or len(places) == len(sample):
        raise ConfigurationError(f"a Squeeze of axes {axes} of {('N', *sample)}")
    return tuple(size for place, size in enumerate(sample, start=1) if place not in places)


def unsqueezed(node: FileNode, sample: Shape) -> Shape:
    """Shape of a sample after an ``Unsqueeze`` adds dimensions of size 1."""
    axes = node.whole_numbers("axes", 1) or ()
    rank = len(sample) + 1 + len(axes)
    places = {axis % rank for axis in axes if -rank <= axis < rank}
    if not axes or len(places) != len(axes) or 0 in places or rank > MOST_DIMENSIONS:
        raise ConfigurationError(f"an Unsqueeze by axes {axes} of {('N', *sample)}")
    sizes = iter(sample)
    return tuple(1 if place in places else next(sizes) for place in range(1, rank))
