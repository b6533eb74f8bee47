"""Models from ONNX files, of the layers that fastcnn has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError, DataError, FastcnnError
from fastcnn.interop.onnx_assembly import Entry, assembled
from fastcnn.interop.onnx_elementwise import ElementwiseNodes, known_kinds
from fastcnn.interop.onnx_export import PREPROCESSING
from fastcnn.interop.onnx_file import DOMAINS, FileNode, OnnxFile
from fastcnn.interop.onnx_patterns import FORMULAS, Patterns
from fastcnn.interop.onnx_readers import READERS, WEIGHTED, linear, restored
from fastcnn.interop.onnx_shapes import ARITHMETIC, Numbers, reshaped, shape_of, squeezed
from fastcnn.layers import (
    Add,
    Concat,
    Flatten,
    Layer,
    Linear,
    Model,
    Multiply,
    Subtract,
    Unflatten,
)


def import_onnx(path: str | Path) -> Model:
    """Read a model from an ONNX file.

    Parameters
    ----------
    path : path
        A file with one input of shape (batch, C, H, W) and nodes for which fastcnn has layers, of
        operator sets 7 to 25; weights of any floating-point type become float32. Weights may be in
        files of their own in the same folder, as ``torch.onnx.export`` writes them.

    Returns
    -------
    Model
        A ``Sequential`` where the layers are a chain. What the file says of preprocessing, if
        fastcnn wrote it, is the model's.

    Raises
    ------
    DataError
        If the file is missing, cannot be read or is not an ONNX file.
    ConfigurationError
        If fastcnn has no layer for a node, or a node is not what its operator allows; the message
        names the node, its operator and the reason.
    MissingExtraError
        If the package onnx is not installed (extra ``onnx``).
    """
    try:
        file = OnnxFile(path)
        model = _Wiring(file).read()
        model.load_metadata(file.metadata)
    except (ConfigurationError, DataError) as error:
        raise type(error)(f"{path}: {error}") from None
    return model


@dataclass(frozen=True)
class _Samples:
    """A value of the graph: a layer's output, perhaps looked at under another shape.

    Attributes
    ----------
    layer : int
        Index of the layer; -1 is the model's first input, -2 the second.
    shape : tuple of int
        Shape of a sample.
    """

    layer: int
    shape: Shape


class _Wiring:
    """Layers, and what feeds each of them, while a file is read.

    A node that cannot be read spoils what it makes; it is an error only where the model's output
    depends on that.
    """

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.entries: list[Entry] = []
        self.samples = {
            name: _Samples(-1 - place, shape)
            for place, (name, shape) in enumerate(file.inputs.items())
        }
        self.numbers: dict[str, Numbers] = {}
        self.failures: dict[str, ConfigurationError] = {}
        #: The nodes that were checked, by their first outputs.
        self.nodes: dict[str, FileNode] = {}
        self.patterns = Patterns(file, self.nodes)
        self.elementwise = ElementwiseNodes(file, self.nodes)
        self.notes = file.notes()
        #: Layers by the constants that they hold: nodes of the same ones are one layer, used twice.
        self.shared: dict[object, Layer] = {}

    def read(self) -> Model:
        """The model that the file's nodes make."""
        for node in self.file.nodes[self._preprocessed() :]:
            try:
                self._take(node)
            except FastcnnError as error:
                for name in node.outputs:
                    self.failures[name] = node.error(error)
        for output in self.file.outputs:
            if output in self.failures:
                raise self.failures[output]
            if output not in self.samples:
                raise ConfigurationError(f"the output {output!r} does not depend on the input")
        outputs = {output: self._layer(output) for output in self.file.outputs}
        return assembled(self.entries, self.file.inputs, outputs)

    def _preprocessed(self) -> int:
        """The number of nodes that do the preprocessing of which the metadata tell.

        Raises
        ------
        ConfigurationError
            If the file's first nodes do something else.
        """
        told = Preprocessing.from_metadata(self.file.metadata)
        if told is None or told.is_identity:
            return 0
        value = self.file.input
        nodes = self.file.nodes[: len(PREPROCESSING)]
        for (kind, name), node in zip(PREPROCESSING, nodes, strict=False):
            wanted = np.asarray(getattr(told, name), np.float32)
            is_read = (node.kind, node.inputs[:1], self.file.readers[value]) == (kind, (value,), 1)
            constant = None
            if is_read and len(node.inputs) == 2 and node.inputs[1] in self.file.constants:
                constant = self.file.constants[node.inputs[1]]
            if (
                constant is None
                or constant.shape != (len(wanted), *(1,) * (len(self.file.sample) - 1))
                or not np.array_equal(constant.reshape(-1), wanted)
            ):
                raise node.error("the preprocessing of which the metadata tell is another one")
            node.check()
            value = node.output
        if len(nodes) < len(PREPROCESSING):
            raise ConfigurationError("the preprocessing of which the metadata tell is missing")
        del self.samples[self.file.input]
        self.samples[value] = _Samples(-1, self.file.sample)
        return len(nodes)

    def _take(self, node: FileNode) -> None:
        """Take a node in.

        Raises
        ------
        FastcnnError
            If there is no such layer.
        """
        if node.kind not in _KNOWN and node.proto.domain in DOMAINS:
            raise ConfigurationError("fastcnn has no layer for it")
        node.check()
        self.nodes[node.output] = node
        for output in node.outputs[1:]:
            self.failures[output] = node.error(f"fastcnn makes no second output, {output!r}")
        if all(name in self.file.constants for name in node.inputs) and self._fold(node):
            return
        source = node.inputs[0] if node.inputs else ""
        failed = [name for name in node.inputs if name in self.failures]
        # Nodes within a formula are nothing by themselves.
        if found := self._formula(node):
            layer, source = found
            self._append(node, self._described(node, layer, source), source)
            node.forget()
        elif failed:
            self.failures[node.output] = self.failures[failed[0]]
            return
        elif source in self.numbers or node.kind == "Shape":
            self._compute(node)
        elif node.kind in _TAKERS:
            _TAKERS[node.kind](self, node)
        elif node.kind in READERS:
            self._read(node, source)
        else:
            raise ConfigurationError("fastcnn has no layer for it")
        node.finish()

    def _formula(self, node: FileNode) -> tuple[Layer, str] | None:
        """The layer that this node is the last of, perhaps the only one, and its input."""
        found = self.patterns.find(node, self._shape)
        if found is None and (match := self.elementwise.find(node)):
            shape = self._shape(match.source)
            found = None if shape is None else (match.layer(shape), match.source)
        return found

    # -- constants and shapes ----------------------------------------------------------------

    def _fold(self, node: FileNode) -> bool:
        """Whether a node of constants made another one."""
        if node.kind == "Constant":
            value = node.tensor("value")
            for name in ("value_float", "value_int", "value_floats", "value_ints"):
                if node.has(name):
                    kind = np.float32 if "float" in name else np.int64
                    value = np.asarray(node.plain(name), kind)
        elif node.kind == "Identity":
            value = node.constant(0)
        elif node.kind == "Transpose":
            value = node.constant(0)
            if value is not None:
                order = node.integers("perm", range(value.ndim)[::-1])
                if sorted(order) != list(range(value.ndim)):
                    raise ConfigurationError(f"perm={order} for {value.ndim} dimensions")
                value = value.transpose(order)
        else:
            numbers = [self._numbers(name) for name in node.inputs]
            if node.kind in ARITHMETIC and node.kind != "Identity" and None not in numbers:
                self._compute(node)
                return True
            return False
        if value is None:
            raise ConfigurationError("it holds other values than numbers")
        node.finish()
        self.file.constants[node.output] = value
        return True

    def _numbers(self, name: str) -> Numbers | None:
        """A value as numbers of a shape; None if it is something else."""
        if name in self.numbers or name not in self.file.constants:
            return self.numbers.get(name)
        array = self.file.constants[name]
        if array.dtype.kind != "i" or array.ndim > 1:
            return None
        return Numbers(tuple(int(value) for value in array.reshape(-1)[:99]), array.ndim == 0)

    def _compute(self, node: FileNode) -> None:
        if node.kind == "Shape":
            shape = self._shape(node.inputs[0])
            if shape is None:
                raise ConfigurationError("a shape of something else than samples")
            self.numbers[node.output] = shape_of(node, shape)
            return
        given = [self._numbers(name) for name in node.inputs if name]
        known = [numbers for numbers in given if numbers is not None]
        if node.kind == "Reshape" and len(known) == 2 and known[1].values == (-1,):
            self.numbers[node.output] = Numbers(known[0].values)
        elif node.kind not in ARITHMETIC or len(known) != len(given):
            raise ConfigurationError("fastcnn does not compute with shapes in this way")
        else:
            self.numbers[node.output] = ARITHMETIC[node.kind](node, known)

    # -- layers ------------------------------------------------------------------------------

    def _shape(self, name: str) -> Shape | None:
        """Shape of a sample of a value; None if it holds no samples."""
        return self.samples[name].shape if name in self.samples else None

    def _read(self, node: FileNode, source: str) -> None:
        """The layers that a node is by itself."""
        shape = self._shape(source)
        if shape is None:
            raise ConfigurationError(f"its first input {source!r} must be samples")
        held = node.kind in WEIGHTED and (node.kind, node.inputs[1:], node.attributes_text())
        if held and held in self.shared:
            self._append(node, self.shared[held], source)
            node.forget()
            return
        made = READERS[node.kind](node, shape)
        layers = made if isinstance(made, list) else [made]
        layers[0] = self._described(node, layers[0], source)
        if held:
            self.shared[held] = layers[0]
        for layer in layers:
            self._append(node, layer, source)
            source = node.output

    def _described(self, node: FileNode, layer: Layer, source: str) -> Layer:
        """The layer with what the file's metadata say of it."""
        described, shape = self.notes.get(node.name), self._shape(source)
        if described is None or shape is None:
            return layer
        return restored(layer, described, shape)

    def _append(self, node: FileNode, layer: Layer, *sources: str) -> None:
        """Add a layer, which makes the node's output."""
        self._add_entry(node, layer, tuple(self._layer(source) for source in sources))

    def _add_entry(self, node: FileNode, layer: Layer, sources: tuple[int, ...]) -> int:
        shape = layer.output_shape(*map(self._output_shape, sources))
        self.entries.append(Entry(layer, sources, node, shape))
        self.samples[node.output] = _Samples(len(self.entries) - 1, shape)
        return len(self.entries) - 1

    def _output_shape(self, layer: int) -> Shape:
        inputs = tuple(self.file.inputs.values())
        return inputs[-1 - layer] if layer < 0 else self.entries[layer].shape

    def _layer(self, name: str) -> int:
        """The layer whose output a value is."""
        if name not in self.samples:
            raise ConfigurationError(f"its input {name!r} must be samples, not a constant")
        value = self.samples[name]
        shape = self._output_shape(value.layer)
        if value.shape != shape:
            raise ConfigurationError(
                f"it reads samples of {shape} that were reshaped to {value.shape}; fastcnn has "
                "Flatten only"
            )
        return value.layer

    def _view(self, node: FileNode, shape: Shape) -> None:
        """Look at a value under another shape: a vector needs a Flatten, others may pass."""
        value = self.samples[node.inputs[0]]
        own = self._output_shape(value.layer)
        if len(shape) == 1 and own != shape:
            self._add_entry(node, Flatten(), (value.layer,))
        elif len(own) == 1 and len(shape) in (2, 3):
            self._add_entry(node, Unflatten(1, shape), (value.layer,))
        else:
            self.samples[node.output] = _Samples(value.layer, shape)

    def _take_view(self, node: FileNode) -> None:
        shape = self._shape(node.inputs[0])
        if shape is None:
            raise ConfigurationError(f"its input {node.inputs[0]!r} must be samples")
        if node.kind == "Squeeze":
            self._view(node, squeezed(node, shape))
            return
        wanted = self._numbers(node.inputs[1])
        if wanted is None:
            raise ConfigurationError("its shape must be numbers that are known beforehand")
        self._view(node, reshaped(node, shape, wanted, self.file.batch))

    def _take_identity(self, node: FileNode) -> None:
        if node.inputs[0] not in self.samples:
            raise ConfigurationError(f"its input {node.inputs[0]!r} must be samples")
        self.samples[node.output] = self.samples[node.inputs[0]]

    def _take_cast(self, node: FileNode) -> None:
        if node.integer("to", 0) != self.file.element_type:
            raise ConfigurationError("a Cast of samples to another type is not supported")
        self._take_identity(node)

    def _take_sum(self, node: FileNode) -> None:
        constants = [name for name in node.inputs if name in self.file.constants]
        if not constants:
            self._append(node, Add(), *node.inputs)
            return
        # The bias of a product that is a node of its own.
        place = 1 - node.inputs.index(constants[0])
        product = node.inputs[place]
        value = self.samples.get(product)
        entry = self.entries[value.layer] if value is not None and value.layer >= 0 else None
        if (
            entry is None
            or entry.node.output != product
            or entry.node.kind != "MatMul"
            or not isinstance(entry.layer, Linear)
            or entry.layer.bias is not None
        ):
            raise ConfigurationError("fastcnn has no layer that adds a constant")
        if self.file.readers[product] > 1:
            raise ConfigurationError(
                f"it adds a bias to the product {product!r}, which other nodes read without it"
            )
        layer = linear(entry.layer.weight, node.weight(1 - place))
        self._add_entry(node, layer, entry.sources)

    def _take_join(self, node: FileNode) -> None:
        self._append(node, {"Mul": Multiply, "Sub": Subtract}[node.kind](), *node.inputs)

    def _take_concat(self, node: FileNode) -> None:
        """Samples put together along their channels, or shapes."""
        if node.inputs[0] in self.numbers or node.inputs[0] in self.file.constants:
            self._compute(node)
            return
        shape = self._shape(node.inputs[0])
        axis = node.integer("axis", 1)
        if shape is None or axis not in (1, -len(shape)):
            raise ConfigurationError(f"axis={axis}: samples are put together along axis 1")
        self._append(node, Concat(), *node.inputs)


#: Nodes that change what is known of a value, or are layers in some cases only.
_TAKERS: dict[str, Callable[[_Wiring, FileNode], None]] = {
    "Add": _Wiring._take_sum,
    "Cast": _Wiring._take_cast,
    "Concat": _Wiring._take_concat,
    "Identity": _Wiring._take_identity,
    "Mul": _Wiring._take_join,
    "Reshape": _Wiring._take_view,
    "Squeeze": _Wiring._take_view,
    "Sub": _Wiring._take_join,
}
_KNOWN = {*READERS, *ARITHMETIC, *_TAKERS, *FORMULAS, *known_kinds()}
_KNOWN |= {"Constant", "Shape", "Transpose"}
