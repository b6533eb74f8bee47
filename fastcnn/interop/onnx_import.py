"""Import of models from ONNX files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError, DataError, FastcnnError
from fastcnn.interop import onnx_elementwise, onnx_patterns
from fastcnn.interop.onnx_constants import type_name
from fastcnn.interop.onnx_file import DOMAINS, FileNode, OnnxFile
from fastcnn.interop.onnx_folding import FOLDED, folded
from fastcnn.interop.onnx_map_readers import remainders
from fastcnn.interop.onnx_readers import READERS, WEIGHTED
from fastcnn.interop.onnx_shapes import ARITHMETIC
from fastcnn.interop.onnx_strided import take_strided
from fastcnn.interop.onnx_takers import LAST_TAKERS, TAKERS
from fastcnn.interop.onnx_views import View
from fastcnn.interop.onnx_wiring import Entry, Wiring, log
from fastcnn.interop.onnx_writer import PREPROCESSING
from fastcnn.layers import Dropout, Layer, LayerNorm2d, Model, Sequential
from fastcnn.layers import wiring as layer_wiring
from fastcnn.layers.activation import Activation
from fastcnn.weights import check_values


def import_onnx(path: str | Path) -> Model:
    """Read a model from an ONNX file.

    Parameters
    ----------
    path : path
        A file with inputs of shape (batch, ...) and nodes supported by fastcnn's layers, of
        operator sets 7 to 25; weights of any floating-point type are converted to float32, which is
        logged. Weights may be in separate files in the same folder, as written by
        ``torch.onnx.export``. A channels-last input, ``(batch, H, W, C)``, which the file's first
        node transposes, is ``(C, H, W)`` in the model, which is logged.

    Returns
    -------
    Model
        A ``Sequential`` if the layers form a chain. The preprocessing in the metadata of a file
        written by fastcnn is restored.

    Raises
    ------
    DataError
        If the file is missing, cannot be read or is not an ONNX file.
    ConfigurationError
        If fastcnn has no layer for a node, or a node is invalid; the message names the node, its
        operator and the reason.
    NonFiniteError
        If a weight is NaN or infinite, or overflows float32.
    MissingExtraError
        If the package onnx is not installed (extra ``onnx``).
    """
    try:
        file = OnnxFile(path)
        model = _Reading(file).read()
        model.load_metadata(file.metadata)
    except (ConfigurationError, DataError) as error:
        raise type(error)(f"{path}: {error}") from None
    check_values(str(path), model.state_dict())
    return model


class _Reading(Wiring):
    """Reads the nodes of a file, one after the other.

    A node that cannot be read invalidates its outputs; this is an error only if the model's output
    depends on them.
    """

    def read(self) -> Model:
        """The model of the file's nodes."""
        for node in self.file.nodes[self._preprocessed() :]:
            try:
                self._take(node)
            except FastcnnError as error:
                for name in node.outputs:
                    self.samples.pop(name, None)
                    self.failures[name] = node.error(error)
        for output in self.file.outputs:
            if output in self.failures:
                raise self.failures[output]
            if output not in self.samples:
                raise ConfigurationError(f"the output {output!r} does not depend on the input")
        outputs = {output: self._output(output) for output in self.file.outputs}
        model = _assembled(self.entries, self.inputs, outputs)
        if self.file.element_type != 1:
            words = type_name(self.file.element_type)
            log.info("%s: its weights are of type %s, the model's are float32",
                     self.file.path, words)  # fmt: skip
        return model

    def _output(self, name: str) -> int:
        try:
            return self.layer(name)
        except FastcnnError as error:
            if name in self.nodes:
                raise self.nodes[name].error(error) from None
            raise

    def _preprocessed(self) -> int:
        """The number of nodes of the preprocessing that is described in the metadata."""
        told = Preprocessing.from_metadata(self.file.metadata)
        if told is None or told.is_identity:
            return 0
        count, first = 0, 0
        for name, shape in self.inputs.items():
            own = told.of_channels(first, shape[0]) if told.pixels else told
            first += shape[0]
            if not own.is_identity:
                self._preprocessing_of(name, shape, own, count)
                count += len(PREPROCESSING)
        return count

    def _preprocessing_of(self, name: str, shape: Shape, told: Preprocessing, begin: int) -> None:
        """Read the preprocessing nodes of one input."""
        value = name
        nodes = self.file.nodes[begin : begin + len(PREPROCESSING)]
        for (kind, part), node in zip(PREPROCESSING, nodes, strict=False):
            wanted = np.asarray(getattr(told, part), np.float32)
            is_read = (node.kind, node.inputs[:1], self.file.readers[value]) == (kind, (value,), 1)
            constant = None
            if is_read and len(node.inputs) == 2 and node.inputs[1] in self.file.constants:
                constant = self.file.constants[node.inputs[1]]
            if (
                constant is None
                or constant.shape != (len(wanted), *(1,) * (len(shape) - 1))
                or not np.array_equal(constant.reshape(-1), wanted)
            ):
                raise node.error("it does not match the preprocessing in the metadata")
            node.check()
            value = node.output
        if len(nodes) < len(PREPROCESSING):
            raise ConfigurationError("the preprocessing in the metadata is missing from the nodes")
        self.samples[value] = self.samples.pop(name)

    def _take(self, node: FileNode) -> None:
        """Read a node.

        Raises
        ------
        FastcnnError
            If there is no such layer.
        """
        if node.kind not in OPERATORS and node.proto.domain in DOMAINS:
            raise ConfigurationError("fastcnn has no layer for it")
        node.check()
        for output in node.outputs:
            self.nodes[output] = node
        if node.kind not in SEVERAL:
            for output in node.outputs[1:]:
                self.failures[output] = node.error(f"fastcnn makes no second output, {output!r}")
        if all(name in self.file.constants for name in node.inputs if name) and self._fold(node):
            return
        source = node.inputs[0] if node.inputs else ""
        failed = [name for name in node.inputs if name in self.failures]
        if (node.kind == "Shape" and not failed) or self._is_arithmetic(node):
            self.compute(node)
        # Nodes within a formula are not layers by themselves.
        elif found := self._formula(node):
            self._append_formula(node, *found)
            node.forget()
        elif node.kind == "Gather" and take_strided(self, node):
            pass
        elif failed:
            for name in node.outputs:
                self.failures[name] = self.failures[failed[0]]
            return
        elif node.kind in LAST_TAKERS and LAST_TAKERS[node.kind](self, node):
            pass
        elif node.kind in TAKERS:
            TAKERS[node.kind](self, node)
        elif node.kind in READERS:
            self._read(node, source)
        else:
            raise ConfigurationError("fastcnn has no layer for it")
        node.finish()

    def _formula(self, node: FileNode) -> tuple[Layer, str] | None:
        """The layer of which this node is the last, or only, one, and its input."""
        if node.kind in BOUNDED:
            return None
        found = onnx_patterns.find(self, node)
        if found is None and (match := onnx_elementwise.find(self, node)):
            value = self.samples.get(match.source)
            shape = None if value is None else value.shape
            several = any(array.size > 1 for array in match.parameters.values())
            if value is not None and several:
                # Channels may be last.
                shape = shape if value.view == View.of(self.own_shape(value.layer)) else None
            found = None if shape is None else (match.layer(shape), match.source)
        return found

    def _append_formula(self, node: FileNode, layer: Layer, source: str) -> None:
        value = self.value(source)
        one = all(array.size == 1 for array in layer.parameters.values())
        layer = self.described(node, layer, value.shape)
        in_place = isinstance(layer, Activation) and one and not value.view.is_expanded
        if in_place or (isinstance(layer, LayerNorm2d) and self.order(value) is not None):
            self.add(node, [layer], (value.layer,), value.view)
        else:
            self.append(node, layer, source)

    def _is_arithmetic(self, node: FileNode) -> bool:
        """Whether a node computes with shapes."""
        some = any(name in self.numbers for name in node.inputs)
        return some and all(self.numbers_of(name) is not None for name in node.inputs if name)

    # -- constants ---------------------------------------------------------------------------

    def _fold(self, node: FileNode) -> bool:
        """Whether a node of constants was folded to a constant."""
        if node.kind == "Constant":
            value = node.tensor("value")
            for name in ("value_float", "value_int", "value_floats", "value_ints"):
                if node.has(name):
                    kind = np.float32 if "float" in name else np.int64
                    value = np.asarray(node.plain(name), kind)
            if value is None:
                raise ConfigurationError("it holds other values than numbers")
            node.finish()
        elif node.kind in FOLDED and node.inputs:
            value = folded(node)
        else:
            return False
        self.file.constants[node.output] = value
        return True

    # -- layers ------------------------------------------------------------------------------

    def _read(self, node: FileNode, source: str) -> None:
        """Read a node that is one or more layers by itself."""
        shape = self.shape(source)
        if shape is None:
            raise ConfigurationError(f"its first input {source!r} must be samples")
        held: tuple[object, ...] = ()
        if node.kind in WEIGHTED and self.are_of_one_layer(node.inputs[1:]):
            held = (node.kind, node.inputs[1:], node.attributes_text(), remainders(node, shape))
        if held and held in self.shared:
            self.add(node, self.shared[held], (self.layer(source),))
            node.forget()
            return
        self._know_numbers(node)
        made = READERS[node.kind](node, shape)
        layers = made if isinstance(made, list) else [made]
        layers[0] = self.described(node, layers[0], shape)
        if held:
            self.shared[held] = layers
        value = self.samples[source]
        if all(isinstance(layer, (Activation, Dropout)) for layer in layers):
            self.add(node, layers, (value.layer,), value.view)
        else:
            self.add(node, layers, (self.layer(source),))

    def _know_numbers(self, node: FileNode) -> None:
        """Convert shapes that a node reads to constants; the batch size becomes -1."""
        for name in node.inputs[1:]:
            if name in self.numbers:
                values = [-1 if n is None else n for n in self.numbers[name].values]
                self.file.constants[name] = np.array(values, np.int64)


def _assembled(
    entries: Sequence[Entry], inputs: Mapping[str, Shape], outputs: Mapping[str, int]
) -> Model:
    """The model of the layers on which the outputs depend.

    Parameters
    ----------
    entries : sequence of Entry
        All layers of a file.
    inputs : mapping of str to tuple of int
        Names and shapes.
    outputs : mapping of str to int
        The producing layer of each, by name.
    """
    needed, waiting = set[int](), list(outputs.values())
    while waiting:
        index = waiting.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            waiting += entries[index].sources
    if not needed:
        if len(inputs) + len(outputs) > 2:
            raise ConfigurationError("the model computes nothing: all of it is the identity")
        # A model needs a layer, and this one changes nothing.
        return Sequential(Dropout(0.0), input_shape=next(iter(inputs.values())))
    names, uses = dict[int, str](), Counter[str]()
    for place, index in enumerate(sorted(needed)):
        node = entries[index].node
        name = same = _name(node) or f"{node.kind}{place}"
        while name in uses:
            name = f"{same}_{uses[same]}"
            uses[same] += 1
        uses[name] += 1
        names[index] = name
    layers = {names[index]: entries[index].layer for index in sorted(needed)}
    given = [-1 - place for place in range(len(inputs))]
    places = {index: place for place, index in enumerate([*given, *sorted(needed)])}
    calls = [
        layer_wiring.Call(names[index], tuple(places[source] for source in entries[index].sources))
        for index in sorted(needed)
    ]
    read = {source for index in needed for source in entries[index].sources}
    named = dict(zip(given, inputs, strict=True))
    unread = [name for place, name in named.items() if place not in read]
    if unread:
        raise ConfigurationError(f"no output depends on the input {unread[0]!r}")
    one = len(inputs) == len(outputs) == 1
    if one and all(call.inputs == (place,) for place, call in enumerate(calls)):
        return Sequential(layers, input_shape=next(iter(inputs.values())))
    results = {name: places[index] for name, index in outputs.items()}
    shapes = {name: tuple(shape) for name, shape in inputs.items()}
    return Model(layers, layer_wiring.Wiring(shapes, tuple(calls), results))


def _name(node: FileNode) -> str:
    """A layer's name: from its weight's name in PyTorch style, or else the node's."""
    name = node.name
    for value in node.inputs[1:2]:
        name = value.removesuffix(".weight") if value.endswith(".weight") else name
    return name.replace("/", "_").replace(".", "_").strip("_")


#: Operators that are bounds of samples, read before formulas.
BOUNDED = ("Clip", "Max", "Min")
#: Operators with several outputs.
SEVERAL = ("Split",)
#: All supported operators.
OPERATORS = {
    *READERS,
    *ARITHMETIC,
    *TAKERS,
    *onnx_patterns.FORMULAS,
    *onnx_elementwise.known_kinds(),
    *FOLDED,
    "Constant",
    "Shape",
}
