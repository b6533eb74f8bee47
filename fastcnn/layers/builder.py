"""Construction of a model's graph from its layers."""

import inspect
from collections.abc import Iterable, Mapping

from fastcnn.arguments import as_sample_shape
from fastcnn.backends.graph import Graph, Node, Port, Shape
from fastcnn.errors import ConfigurationError, ShapeError, counted
from fastcnn.layers.base import Layer
from fastcnn.operations import OPERATIONS
from fastcnn.scalars import is_integer


class GraphBuilder:
    """Collects the nodes of a model as its layers connect themselves.

    Parameters
    ----------
    input_shape : tuple of int
        The shape of one sample.
    keys : mapping of (int, str) to str, optional
        The state key of each parameter and buffer, by its layer's ``id`` and its own name. Nodes of
        a layer that is used twice share keys.
    """

    def __init__(
        self, input_shape: Shape, keys: Mapping[tuple[int, str], str] | None = None
    ) -> None:
        self.input_shape = as_sample_shape(input_shape)
        self.nodes: list[Node] = []
        self.layers: list[Layer] = []
        #: For a model with several outputs.
        self.inputs: tuple[Port, ...] = ()
        self.outputs: tuple[Port, ...] = ()
        self._keys = keys
        self._names: set[str] = set()

    def shape(self, index: int) -> Shape:
        """Shape of one sample at a node's output; -1 is the model's input.

        Parameters
        ----------
        index : int

        Raises
        ------
        ConfigurationError
            If there is no node with that index.
        """
        if not is_integer(index) or not -1 <= index < len(self.nodes):
            raise ConfigurationError(
                f"index must be a node's, below {len(self.nodes)}, or -1, got {index!r}"
            )
        return self.input_shape if index < 0 else self.nodes[index].output_shape

    def add(self, name: str, layer: Layer, inputs: tuple[int, ...]) -> int:
        """Append one operation and return its index.

        Parameters
        ----------
        name : str
            The node's name, such as the layer's in the model.
        layer : Layer
        inputs : tuple of int
            The nodes it reads; -1 is the model's input.

        Raises
        ------
        ShapeError
            If the layer does not accept that input; the message names the layer and both shapes.
        ConfigurationError
            If the layer has parameters but is not one of the model's layers, or an argument is
            invalid.
        """
        if not isinstance(name, str):
            raise ConfigurationError(f"name must be text, got {name!r}")
        if not isinstance(layer, Layer):
            raise ConfigurationError(f"layer must be a Layer, got {layer!r}")
        if not isinstance(inputs, (tuple, list)):
            raise ConfigurationError(f"inputs must be a tuple of nodes, got {inputs!r}")
        if layer.operation not in OPERATIONS:
            raise ConfigurationError(
                f"layer {name!r}: {type(layer).__name__} names no operation of fastcnn "
                f"({layer.operation!r}): derive it from a layer that has one, or from Model with a "
                "method connect; fastcnn.kernel.activation makes a layer of a formula"
            )
        inputs = tuple(inputs)
        input_shapes = tuple(self.shape(index) for index in inputs)
        try:
            output_shape = layer.output_shape(*input_shapes)
        except ShapeError as error:
            refusal = ShapeError(f"layer {name!r}, {layer!r}: {error}")
            refusal.accepted = len(self.nodes)
            raise refusal from None
        except TypeError:
            _check_number_of_inputs(layer, input_shapes)
            raise
        self.layers.append(layer)
        self.nodes.append(
            Node(
                name=self._unique(name),
                operation=layer.operation,
                inputs=inputs,
                arguments=layer.arguments_for(*input_shapes),
                parameters=self._state_keys(name, layer, layer.parameters),
                input_shapes=input_shapes,
                output_shape=output_shape,
                buffers=self._state_keys(name, layer, layer.buffers),
            )
        )
        return len(self.nodes) - 1

    def _state_keys(self, name: str, layer: Layer, names: Iterable[str]) -> dict[str, str]:
        if self._keys is None:
            return {key: f"{name}.{key}" for key in names}
        try:
            return {key: self._keys[id(layer), key] for key in names}
        except KeyError:
            raise ConfigurationError(
                f"layer {name!r}, {layer!r}, is connected but is not one of the model's layers: "
                "its parameters would not be trained or saved"
            ) from None

    def _unique(self, name: str) -> str:
        """The name, numbered if it is already used: a layer may be connected twice."""
        found, number = name, 2
        while found in self._names:
            found, number = f"{name}#{number}", number + 1
        self._names.add(found)
        return found

    def build(self) -> Graph:
        """The finished graph."""
        return Graph(self.input_shape, tuple(self.nodes), self.inputs, self.outputs)


def _check_number_of_inputs(layer: Layer, input_shapes: tuple[Shape, ...]) -> None:
    try:
        inspect.signature(layer.output_shape).bind(*input_shapes)
    except TypeError:
        raise ConfigurationError(
            f"{layer!r} does not take {counted(len(input_shapes), 'input')}"
        ) from None
