"""Layers and their connections while an ONNX file is read."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import FileNode, OnnxFile, check_size, shortest
from fastcnn.interop.onnx_map_readers import upsample
from fastcnn.interop.onnx_readers import restored
from fastcnn.interop.onnx_shapes import ARITHMETIC, LARGEST, Numbers, computed, shape_of
from fastcnn.interop.onnx_views import View, arranged
from fastcnn.layers import Concat, Layer

log = logging.getLogger("fastcnn.interop")
#: Permutation from channels last to channels first.
FIRST = (0, 3, 1, 2)
#: Operators allowed before that transpose: they treat all of a sample, or a channel, alike.
BEFORE_TRANSPOSE = ("Add", "Cast", "Clip", "Div", "Identity", "Mul", "Pad", "Sub")


#: Most channels that an Expand or Tile may make from one, and most maps joined along an axis.
MOST_REPEATED = 64


@dataclass(frozen=True)
class Entry:
    """A layer, its sources, its node and the shape of its output.

    Sources are indices of entries; -1 is the model's first input, -2 the second.
    """

    layer: Layer
    sources: tuple[int, ...]
    node: FileNode
    shape: Shape


@dataclass(frozen=True)
class Samples:
    """A value of the graph: a layer's output, possibly permuted or reshaped.

    Attributes
    ----------
    layer : int
        Index of the layer; -1 is the model's first input, -2 the second.
    view : View
        The value as a view of the layer's output.
    """

    layer: int
    view: View

    @property
    def shape(self) -> Shape:
        return self.view.shape


def broadcast(values: Sequence[Samples]) -> Shape:
    """The shape that samples of several values have in common after broadcasting."""
    shapes = [value.shape for value in values]
    largest = tuple(map(max, zip(*shapes, strict=False)))
    fit = all(
        size in (1, most) for shape in shapes for size, most in zip(shape, largest, strict=False)
    )
    if len(set(map(len, shapes))) > 1 or not fit:
        raise ConfigurationError(f"it takes samples of {' and '.join(map(str, shapes))}")
    return largest


class Bounds(NamedTuple):
    """The lower and upper bound that nodes apply to the value ``source``."""

    source: str
    low: float
    high: float


class Wiring:
    """The layers and values found in the nodes of a file.

    Attributes
    ----------
    entries : list of Entry
        The layers so far.
    samples : dict of str to Samples
        The values that hold a batch of samples.
    numbers : dict of str to Numbers
        The values that hold integers of a shape.
    failures : dict of str to ConfigurationError
        The reasons why values cannot be read.
    """

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.entries: list[Entry] = []
        self.inputs: dict[str, Shape] = {}
        self.samples: dict[str, Samples] = {}
        put_first = self._put_first()
        for place, (name, shape) in enumerate(file.inputs.items()):
            view = View.of(shape)
            if len(shape) == 3 and name in put_first:
                shape = (shape[2], *shape[:2])
                view = View.of(shape).transposed((1, 2, 0))
                log.info(
                    "%s: the input %r has its channels last, the model expects %s",
                    file.path,
                    name,
                    shape,
                )
            self.inputs[name] = shape
            self.samples[name] = Samples(-1 - place, view)
        self.numbers: dict[str, Numbers] = {}
        self.failures: dict[str, ConfigurationError] = {}
        #: Values with only one bound so far; another node may add the second.
        self.one_sided: dict[str, Bounds] = {}
        #: The nodes that were checked, by their first outputs.
        self.nodes: dict[str, FileNode] = {}
        #: Whether constants are matrices of an adaptive pooling, from the left or the right.
        self.means: dict[tuple[str, bool], bool] = {}
        self.notes = file.notes()
        #: Layers by their constants: nodes with the same constants share a layer.
        self.shared: dict[object, list[Layer]] = {}
        #: Layers of values that were already rearranged.
        self._arranged: dict[Samples, int] = {}

    def _put_first(self) -> set[str]:
        """Values whose readers all move the channels first, directly or after scaling.

        A single pass over the nodes, from last to first, however many inputs there are.
        """
        put_first, read_otherwise, results = set[str](), set[str](), set(self.file.outputs)
        for node in reversed(self.file.nodes):
            perm = [tuple(a.ints) for a in node.proto.attribute if a.name == "perm"]
            if node.kind == "Transpose" and perm == [FIRST]:
                put_first.update(node.inputs)
            elif node.kind in BEFORE_TRANSPOSE and results.isdisjoint(node.outputs):
                for found in (put_first, read_otherwise):
                    if node.output in found:
                        found.update(node.inputs)
            else:
                read_otherwise.update(node.inputs)
        return put_first - read_otherwise

    # -- formulas ----------------------------------------------------------------------------

    def made_by(self, name: str, kind: str, alone: bool = False) -> FileNode | None:
        """The node of a kind that produces a value; with ``alone``, only if it has one reader."""
        node = self.nodes.get(name)
        found = node is not None and node.kind == kind
        return node if found and not (alone and self.file.readers[name] > 1) else None

    def number(self, name: str, of_data: bool = True) -> float | None:
        """A constant that is one number; ``of_data`` if it is computed with samples."""
        if not name or name not in self.file.constants:
            return None
        array = self.file.constants[name]
        # More dimensions than samples have would be passed on to the result.
        if array.shape not in ((), (1,)) or array.dtype.kind not in "if":
            return None
        if of_data and self.file.constants.type_of(name) != self.file.element_type:
            return None
        return shortest(array.item())

    def are_of_one_layer(self, names: Sequence[str]) -> bool:
        """Whether nodes with these constants in common have them from one layer.

        PyTorch's exporter stores equal constants once: those of several layers before training,
        such as zeros and ones.
        """
        arrays = [self.file.constants[name] for name in names if name in self.file.constants]
        return any(array.size and bool((array != array.flat[0]).any()) for array in arrays)

    # -- numbers -----------------------------------------------------------------------------

    def numbers_of(self, name: str) -> Numbers | None:
        """A value as numbers of a shape; None if it is something else."""
        if name in self.numbers or name not in self.file.constants:
            return self.numbers.get(name)
        array = self.file.constants[name]
        if array.dtype.kind != "i" or array.ndim > 1:
            return None
        values = [min(max(int(value), -LARGEST), LARGEST) for value in array.reshape(-1)[:99]]
        return Numbers(tuple(values), array.ndim == 0)

    def compute(self, node: FileNode) -> None:
        """Take in a node that computes with shapes."""
        if node.kind == "Shape":
            shape = self.shape(node.inputs[0])
            if shape is None:
                raise ConfigurationError("a shape of something else than samples")
            made = shape_of(node, shape)
        else:
            given = {name: self.numbers_of(name) for name in node.inputs if name}
            known = {name: numbers for name, numbers in given.items() if numbers is not None}
            if node.kind not in ARITHMETIC or len(known) != len(given):
                raise ConfigurationError("fastcnn does not compute with shapes in this way")
            made = computed(node, known)
            node.forget()
        if None in made.values:
            self.numbers[node.output] = made
        else:
            self.file.constants[node.output] = made.array(0)

    # -- layers ------------------------------------------------------------------------------

    def shape(self, name: str) -> Shape | None:
        """Shape of a sample of a value; None if it holds no samples."""
        return self.samples[name].shape if name in self.samples else None

    def value(self, name: str) -> Samples:
        """A value that must be samples."""
        if name not in self.samples:
            if name in self.failures:
                raise self.failures[name]
            raise ConfigurationError(f"its input {name!r} must be samples, not a constant")
        return self.samples[name]

    def own_shape(self, layer: int) -> Shape:
        """Shape of a layer's output; -1 is the model's first input."""
        inputs = tuple(self.inputs.values())
        return inputs[-1 - layer] if layer < 0 else self.entries[layer].shape

    def layer(self, name: str) -> int:
        """The layer whose output is a value; layers that rearrange it are added if necessary."""
        value = self.value(name)
        node = self.nodes.get(name)
        if value not in self._arranged:
            while node is not None and node.kind == "Identity" and node.inputs[0] in self.nodes:
                node = self.nodes[node.inputs[0]]
        return self.arranged(value, node)

    def arranged(self, value: Samples, node: FileNode | None) -> int:
        """The layer that produces a value; layers that rearrange it belong to ``node``."""
        if value not in self._arranged:
            index = value.layer
            for layer in arranged(self.own_shape(index), value.view.unexpanded()):
                assert node is not None
                index = self._entry(node, layer, (index,))
            if value.view.is_expanded:
                assert node is not None
                index = self._repeated(node, index, value.shape)
            self._arranged[value] = index
        return self._arranged[value]

    def _repeated(self, node: FileNode, index: int, shape: Shape) -> int:
        """The layer that repeats an output's only channel, row or column up to a shape."""
        own = self.own_shape(index)
        if shape[1:] != own[1:]:
            index = self._entry(node, upsample(own, shape[1:], "nearest", None), (index,))
        if shape[0] > MOST_REPEATED * own[0]:
            raise ConfigurationError(f"it repeats a channel {shape[0]} times")
        if shape[0] != own[0]:
            index = self._entry(node, Concat(), (index,) * shape[0])
        return index

    def described(self, node: FileNode, layer: Layer, shape: Shape) -> Layer:
        """The layer with its properties from the file's metadata."""
        described = self.notes.get(node.name)
        return layer if described is None else restored(layer, described, shape)

    def append(self, node: FileNode, layer: Layer, *sources: str) -> None:
        """Add a layer that produces the node's output."""
        self.add(node, [layer], tuple(self.layer(source) for source in sources))

    def add(
        self,
        node: FileNode,
        layers: Sequence[Layer],
        sources: tuple[int, ...],
        view: View | None = None,
        output: str = "",
    ) -> None:
        """Add a chain of layers that reads ``sources`` and produces an output of the node.

        Parameters
        ----------
        view : View, optional
            View of the last layer's output; by default its output itself.
        """
        for layer in layers:
            index = self._entry(node, layer, sources)
            sources = (index,)
        self.samples[output or node.output] = Samples(
            sources[0], view or View.of(self.own_shape(sources[0]))
        )

    def _entry(self, node: FileNode, layer: Layer, sources: tuple[int, ...]) -> int:
        given = [self.own_shape(source) for source in sources]
        shape = layer.output_shape(*given)
        for each in (*given, shape):
            check_size(each)
        self.entries.append(Entry(layer, sources, node, shape))
        return len(self.entries) - 1

    def order(self, *values: Samples) -> tuple[int, ...] | None:
        """The order of dimensions that values have in common; None if there is none."""
        found = [set(value.view.orders(self.own_shape(value.layer))) for value in values]
        common = set.intersection(*found)
        return min(common) if common else None

    def ordered(self, node: FileNode, name: str) -> tuple[int, tuple[int, ...]]:
        """The layer of a value, and the order in which its dimensions are read."""
        value = self.value(name)
        order = self.order(value)
        if order is None:
            index = self.layer(name)
            return index, tuple(range(len(self.own_shape(index))))
        return value.layer, order
