"""Nodes that compute shapes: ``x.view(x.size(0), -1)`` is five of them in a file."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_constants import MOST_DIMENSIONS
from fastcnn.interop.onnx_file import FileNode

#: Numbers of a shape beyond which it is of no tensor.
LARGEST = 2**40


@dataclass(frozen=True)
class Numbers:
    """Whole numbers that depend on shapes alone; None is the number of samples.

    Attributes
    ----------
    values : tuple of int or None
    is_scalar : bool
        Whether it is one number without a dimension.
    """

    values: tuple[int | None, ...]
    is_scalar: bool = False

    def __post_init__(self) -> None:
        known = [abs(value) for value in self.values if value is not None]
        if len(self.values) > MOST_DIMENSIONS or max(known, default=0) > LARGEST:
            raise ConfigurationError("it makes a shape that no tensor has")


def shape_of(node: FileNode, sample: Shape) -> Numbers:
    """``Shape`` of a batch of samples."""
    whole = (None, *sample)
    end = node.integer("end", len(whole))
    return Numbers(whole[node.integer("start", 0) : end])


def _gather(node: FileNode, given: Sequence[Numbers]) -> Numbers:
    numbers, index = given
    node.expect(axis=0)
    places = [_known(value) for value in index.values]
    if not all(-len(numbers.values) <= place < len(numbers.values) for place in places):
        raise ConfigurationError(f"it takes {places} of {len(numbers.values)} numbers")
    return Numbers(tuple(numbers.values[place] for place in places), index.is_scalar)


def _slice(node: FileNode, given: Sequence[Numbers]) -> Numbers:
    names = ("starts", "ends", "axes", "steps")
    parts = [[_known(value) for value in numbers.values] for numbers in given[1:]]
    parts += [list(node.integers(name, (0,), least=-(2**63))) for name in names if node.has(name)]
    starts, ends, axes, steps = [*parts, *([0], [1])[len(parts) - 2 :]] if len(parts) > 1 else []
    if not len(starts) == len(ends) == len(axes) == len(steps) == 1 or axes != [0] or steps[0] < 1:
        raise ConfigurationError("it slices in a way that shapes do not need")
    return Numbers(given[0].values[starts[0] : ends[0] : steps[0]])


def _unsqueeze(node: FileNode, given: Sequence[Numbers]) -> Numbers:
    if not given[0].is_scalar or _axes(node, given) not in ((0,), (-1,)):
        raise ConfigurationError("it makes a shape with two dimensions")
    return Numbers(given[0].values)


def _squeeze(node: FileNode, given: Sequence[Numbers]) -> Numbers:
    if len(given[0].values) != 1 or _axes(node, given) not in ((0,), (-1,), ()):
        raise ConfigurationError("it removes a dimension that a shape has not")
    return Numbers(given[0].values, is_scalar=True)


def _axes(node: FileNode, given: Sequence[Numbers]) -> tuple[int, ...]:
    if node.has("axes"):
        return node.integers("axes", (0,), least=-1)
    return tuple(_known(value) for value in given[1].values) if len(given) > 1 else ()


def _concat(node: FileNode, given: Sequence[Numbers]) -> Numbers:
    node.expect(axis=0)
    return Numbers(tuple(value for numbers in given for value in numbers.values))


def _cast(node: FileNode, given: Sequence[Numbers]) -> Numbers:
    if node.integer("to", 0) not in (6, 7):
        raise ConfigurationError("it turns a shape into other numbers than whole ones")
    return given[0]


def _identity(node: FileNode, given: Sequence[Numbers]) -> Numbers:
    return given[0]


def _product(node: FileNode, given: Sequence[Numbers]) -> Numbers:
    a, b = given
    if len(a.values) != 1 or len(b.values) != 1:
        raise ConfigurationError("it multiplies more than two numbers of a shape")
    values = [part.values[0] for part in given]
    # The number of samples times 1 is still that.
    value = None if None in values and 1 in values else math.prod(map(_known, values))
    return Numbers((value,), a.is_scalar and b.is_scalar)


def _known(value: int | None) -> int:
    if value is None:
        raise ConfigurationError("it computes with the number of samples")
    return value


#: How each node computes with numbers of shapes.
ARITHMETIC: dict[str, Callable[[FileNode, Sequence[Numbers]], Numbers]] = {
    "Gather": _gather,
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Cast": _cast,
    "Identity": _identity,
    "Mul": _product,
}


def reshaped(node: FileNode, sample: Shape, wanted: Numbers, batch: int | None) -> Shape:
    """Shape of a sample after a ``Reshape``.

    Parameters
    ----------
    batch : int or None
        The number of samples, where the file says it.

    Raises
    ------
    ConfigurationError
        If samples are mixed, or the numbers do not fit.
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
        raise ConfigurationError(f"{words} is for batches of {first} alone")
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
