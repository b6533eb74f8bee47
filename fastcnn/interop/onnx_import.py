"""Models from ONNX files, of the layers that fastcnn has."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, DataError, FastcnnError
from fastcnn.extras import require
from fastcnn.files import expanded
from fastcnn.interop.onnx_elementwise import ElementwiseNodes
from fastcnn.interop.onnx_patterns import Patterns
from fastcnn.interop.onnx_readers import READERS, Reader, linear
from fastcnn.layers import Add, GraphBuilder, Layer, Linear, Model, Sequential


class ImportedModel(Model):
    """Layers connected as a file says.

    Parameters
    ----------
    layers : mapping of str to Layer
    wires : mapping of str to tuple of str
        The names of the layers that feed each one; ``""`` is the model's input.
    """

    def __init__(
        self,
        layers: Mapping[str, Layer],
        wires: Mapping[str, tuple[str, ...]],
        input_shape: Shape,
    ) -> None:
        self.wires = dict(wires)
        super().__init__(layers, input_shape)

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Connect the layers along the wires."""
        places = {"": source}
        last = source
        for child, layer in self.layers.items():
            path = f"{name}.{child}" if name else child
            inputs = tuple(places[wire] for wire in self.wires[child])
            last = (
                builder.add(path, layer, inputs)
                if len(inputs) > 1
                else layer.connect(builder, path, inputs[0])
            )
            places[child] = last
        return last


#: Nodes that do nothing in inference.
NOTHING = ("Identity", "Dropout")
#: Nodes that compute shapes: they are looked at where a shape is needed.
OF_SHAPES = ("Constant", "Shape", "Gather", "Slice", "Unsqueeze", "Squeeze", "Concat", "Cast")


def import_onnx(path: str | Path) -> Model:
    """Read a model from an ONNX file.

    Parameters
    ----------
    path : path
        With one input of shape (batch, C, H, W) and nodes of the kinds that fastcnn has layers for;
        weights of any floating-point type become float32.

    Returns
    -------
    Model
        A ``Sequential`` where the layers are a chain.

    Raises
    ------
    DataError
        If the file is missing or no ONNX file.
    ConfigurationError
        If there is a node that fastcnn has no layer for; the message names it.
    MissingExtraError
        If the package onnx is not installed (extra ``onnx``).
    """
    onnx = require("onnx", "onnx")
    path = expanded(path)
    try:
        loaded = onnx.load(str(path))
        onnx.checker.check_model(loaded)
    except Exception as error:  # protobuf's, onnx's and the system's errors have no common base
        raise DataError(f"{path}: not an ONNX file ({str(error)[:200]})") from None
    graph = loaded.graph
    opset = next(used.version for used in loaded.opset_import if used.domain in ("", "ai.onnx"))
    reader = Reader(onnx, graph, opset)
    inputs = [value for value in graph.input if value.name not in reader.constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ConfigurationError(
            f"{path}: the model must have one input and one output, it has {len(inputs)} and "
            f"{len(graph.output)}"
        )
    shape = tuple(d.dim_value for d in inputs[0].type.tensor_type.shape.dim)[1:]
    if not shape or min(shape) < 1:
        raise ConfigurationError(f"{path}: the file does not say what shape a sample has: {shape}")
    wiring = _Wiring(reader, graph, shape)
    for node in graph.node:
        try:
            wiring.add(node)
        except (FastcnnError, ValueError, TypeError, LookupError) as error:
            label = node.name or node.output[0]
            raise ConfigurationError(
                f"{path}: ONNX node {label!r} ({node.op_type}): {error}"
            ) from None
    if graph.output[0].name not in wiring.makers:
        raise ConfigurationError(f"{path}: the output {graph.output[0].name!r} is no layer's")
    return wiring.model(wiring.makers[graph.output[0].name])


class _Wiring:
    """Layers, and what feeds each of them, while a graph is read."""

    def __init__(self, reader: Reader, graph: Any, shape: Shape) -> None:
        self.reader = reader
        self.layers: dict[str, Layer] = {}
        self.wires: dict[str, tuple[str, ...]] = {}
        #: Shape of a sample at each layer's output; ``""`` is the input.
        self.shapes: dict[str, Shape] = {"": shape}
        given = [v.name for v in graph.input if v.name not in reader.constants]
        #: The layer that makes each value.
        self.makers = {given[0]: ""}
        self.readers = [name for node in graph.node for name in node.input]
        patterns = Patterns(reader.makers, reader.constants)
        self.formulas = {
            output: found for output in reader.makers if (found := patterns.find(output))
        }
        self.inner = set[str]().union(
            *(patterns.between(output, source) for output, (_, source) in self.formulas.items())
        )
        nodes = ElementwiseNodes(reader.makers, reader.attributes_or_defaults, reader.constants)
        self.elementwise = {
            output: match
            for output in reader.makers
            if output not in self.formulas and (match := nodes.find(output))
        }
        for output, match in self.elementwise.items():
            self.inner |= self._read_nowhere_else(graph, match.inner - {output}, match.inner)

    def add(self, node: Any) -> None:
        """Take a node in.

        Raises
        ------
        FastcnnError, ValueError, TypeError, LookupError
            If there is no such layer.
        """
        output, kind = node.output[0], node.op_type
        if output in self.inner or output in self.reader.constants:
            return
        if output in self.formulas:
            layer, source = self.formulas[output]
            self._append(node, layer, source)
        elif kind in NOTHING:
            self.makers[output] = self._maker(node.input[0])
        elif kind == "Add":
            self._add(node)
        elif output in self.elementwise:
            match = self.elementwise[output]
            shape = self.shapes[self._maker(match.source)]
            self._append(node, match.layer(shape), match.source)
        elif kind in READERS:
            shape = self.shapes[self._maker(node.input[0])]
            made = READERS[kind](self.reader, node, shape)
            source = node.input[0]
            for layer in made if isinstance(made, list) else [made]:
                self._append(node, layer, source)
                source = output
        elif kind not in OF_SHAPES:
            raise ConfigurationError("fastcnn has no layer for the ONNX node")

    def _maker(self, value: str) -> str:
        if value not in self.makers:
            raise ConfigurationError(f"it reads {value!r}, which is no layer's output")
        return self.makers[value]

    @staticmethod
    def _read_nowhere_else(graph: Any, values: Set[str], within: Set[str]) -> set[str]:
        """Those values that only nodes of an operation read."""
        outside = {
            name for node in graph.node if node.output[0] not in within for name in node.input
        }
        return set(values) - outside - {value.name for value in graph.output}

    def _add(self, node: Any) -> None:
        constants = [name for name in node.input if name in self.reader.constants]
        if not constants:
            self._append(node, Add(), *node.input)
            return
        # The bias of a product that stands as a node of its own.
        product = next(name for name in node.input if name not in constants)
        name, bias = self._maker(product), self.reader.constants[constants[0]]
        layer = self.layers.get(name)
        if not isinstance(layer, Linear) or layer.bias is not None or bias.ndim > 2:
            raise ConfigurationError("fastcnn has no layer that adds a constant")
        if self.readers.count(product) > 1:
            raise ConfigurationError("a bias for one of several readers of a product")
        self.layers[name] = linear(layer.weight, bias)
        self.makers[node.output[0]] = name

    def _append(self, node: Any, layer: Layer, *sources: str) -> None:
        name = self._name(node)
        wires = tuple(self._maker(source) for source in sources)
        self.shapes[name] = layer.output_shape(*(self.shapes[wire] for wire in wires))
        self.layers[name], self.wires[name] = layer, wires
        self.makers[node.output[0]] = name

    def _name(self, node: Any) -> str:
        """A layer's name: what its weight is called in PyTorch's way, else the node's."""
        name = node.name
        for value in node.input[1:2]:
            name = value.removesuffix(".weight") if value.endswith(".weight") else name
        name = name.replace("/", "_").replace(".", "_").strip("_")
        name = name or f"{node.op_type}{len(self.layers)}"
        same, number = name, 1
        while name in self.layers:
            name, number = f"{same}_{number}", number + 1
        return name

    def model(self, output: str) -> Model:
        """The layers that the output depends on."""
        needed, waiting = set[str](), [output]
        while waiting:
            name = waiting.pop()
            if name and name not in needed:
                needed.add(name)
                waiting += self.wires[name]
        # The output is the last one, whatever the file has behind it.
        layers = {name: layer for name, layer in self.layers.items() if name in needed}
        if not layers:
            raise ConfigurationError("the model computes nothing: all of it is the identity")
        chain = ["", *layers]
        if all(self.wires[name] == (chain[i],) for i, name in enumerate(layers)):
            return Sequential(layers, input_shape=self.shapes[""])
        wires = {name: self.wires[name] for name in layers}
        return ImportedModel(layers, wires, self.shapes[""])
