"""The nodes and constants of an ONNX file under construction."""

from collections.abc import Collection
from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph, Node
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError
from fastcnn.extras import require
from fastcnn.layers import Model

#: The nodes of a preprocessing, and their constants.
PREPROCESSING = (("Sub", "mean"), ("Div", "std"))
#: The input's name, if the model has only one.
INPUT = "images"


class OnnxWriter:
    """Collects ONNX nodes and constants."""

    def __init__(self, model: Model, ports: Collection[str] = ()) -> None:
        self.model = model
        #: Names of values: inputs, outputs, constants, and outputs of nodes.
        self.taken = set(ports)
        self.layers = {path for path, _ in model.named_leaves()}
        self.onnx = require("onnx", "onnx")
        self.state = model.state_dict()
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        #: Properties that ONNX cannot express, by node name.
        self.notes: dict[str, dict[str, Any]] = {}
        #: Outputs of the Split nodes written so far, by layer name.
        self.parts: dict[str, str] = {}

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        output = self.free(f"{name}/out" if name else f"v{len(self.nodes)}")
        self.nodes.append(
            self.onnx.helper.make_node(kind, inputs, [output], name=name, **attributes)
        )
        return output

    def free(self, name: str) -> str:
        """A unique name for a value, the given one if it is free."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def constant(self, name: str, value: Any) -> str:
        """An initialiser in float32: runtimes have no double-precision convolution."""
        return self._initialiser(name, np.asarray(value, np.float32))

    def whole_numbers(self, name: str, values: list[int]) -> str:
        """An integer initialiser, such as a shape."""
        return self._initialiser(name, np.asarray(values, np.int64))

    def _initialiser(self, name: str, array: np.ndarray) -> str:
        """A constant; those of a shared layer, with the same name and values, are written once."""
        made = self.onnx.numpy_helper.from_array(
            np.ascontiguousarray(array).reshape(array.shape), name
        )
        if self.constants.get(name) != made:
            made.name = name = self.free(name)
            self.constants[name] = made
        return name

    def note(self, node: Node, kind: str, **arguments: Any) -> None:
        """Record in the file's metadata what the node cannot express about a layer."""
        self.notes[node.name] = {"type": kind, **arguments}

    def preprocessed(self, value: str, preprocessing: Preprocessing, ndim: int, of: str) -> str:
        """An input minus the mean, divided by the deviation, per channel."""
        if not preprocessing.is_identity:
            for kind, name in PREPROCESSING:
                numbers = np.reshape(getattr(preprocessing, name), (-1, *(1,) * (ndim - 1)))
                constant = self.constant(f"preprocessing{of}/{name}", numbers)
                label = f"preprocessing{of}/{kind}"
                # Node names must be unique, and layers keep theirs.
                label = "" if label in self.layers else label
                value = self.add(kind, [value, constant], label)
        return value

    def inputs(self, graph: Graph) -> dict[str, str]:
        """The preprocessed value of each input, by name."""
        whole = self.model.preprocessing
        if not graph.inputs:
            return {INPUT: self.preprocessed(INPUT, whole, len(graph.input_shape), "")}
        if not whole.is_identity and not whole.pixels:
            raise ConfigurationError(
                "ONNX export: the preprocessing of several inputs must have numbers for their "
                "channels, as model.normalise sets them"
            )
        made, first = {}, 0
        for port in graph.inputs:
            own = whole.of_channels(first, port.shape[0])
            made[port.name] = self.preprocessed(port.name, own, len(port.shape), f"/{port.name}")
            first += port.shape[0]
        return made

    def parameters(self, node: Node, *names: str) -> list[str]:
        """Initialisers of the node's existing parameters."""
        keys = [node.parameters[name] for name in names if name in node.parameters]
        return [self.constant(key, self.state[key]) for key in keys]
