"""What every layer is: a description that owns parameters and does no arithmetic."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fastcnn.backends.graph import Graph, Node, Shape
from fastcnn.errors import ConfigurationError, ShapeError


class Layer:
    """Base of all layers.

    A layer knows its geometry and owns its parameters; a backend runs the operation that it names.

    Attributes
    ----------
    operation : str
        The layer's row in :data:`fastcnn.operations.OPERATIONS`.
    parameters : dict of str to ndarray
        The layer's own parameters by PyTorch's names, ``weight`` and ``bias``.
    buffers : dict of str to ndarray
        State that is no parameter: optimisers leave it alone, checkpoints hold it.
    """

    operation: ClassVar[str] = ""

    def __init__(self) -> None:
        self.parameters: dict[str, np.ndarray] = {}
        self.buffers: dict[str, np.ndarray] = {}

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the backend function."""
        return {}

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output for one sample of ``input_shape`` (no batch dimension).

        Raises
        ------
        ShapeError
            If a sample of that shape cannot enter the layer.
        """
        return tuple(input_shape)

    def flops(self, input_shape: Shape) -> int:
        """Floating-point operations of the forward pass for one sample (a multiply-add is two)."""
        return int(np.prod(self.output_shape(input_shape)))

    def connect(self, builder: "GraphBuilder", name: str, source: int) -> int:
        """Add this layer to a graph, reading node ``source``; return the index of its output.

        A layer of several operations overrides this: branches and joins are written here.
        """
        return builder.add(name, self, (source,))

    def extra_repr(self) -> str:
        """The arguments shown between the parentheses of ``repr``."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class WeightedLayer(Layer):
    """A layer with a ``weight`` and, unless it was made with ``bias=False``, a ``bias``."""

    @property
    def weight(self) -> np.ndarray:
        """The layer's weight; write into it with ``layer.weight[...] = value``."""
        return self.parameters["weight"]

    @property
    def bias(self) -> np.ndarray | None:
        """The layer's bias, or None."""
        return self.parameters.get("bias")

    def scale_outputs(self, scale: np.ndarray, shift: np.ndarray) -> None:
        """Multiply each output channel by a factor, then add a summand, for good."""
        by_row = scale.reshape(-1, *(1,) * (self.weight.ndim - 1))
        self._set_outputs(self.weight * by_row, scale, shift)

    def _set_outputs(self, weight: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> None:
        dtype = self.weight.dtype
        bias = 0.0 if self.bias is None else self.bias
        self.parameters = {
            "weight": weight.astype(dtype), "bias": (bias * scale + shift).astype(dtype),
        }  # fmt: skip


class GraphBuilder:
    """Collects the nodes of a model while its layers connect themselves."""

    def __init__(self, input_shape: Shape) -> None:
        self.input_shape = tuple(int(size) for size in input_shape)
        self.nodes: list[Node] = []
        self.layers: list[Layer] = []

    def shape(self, index: int) -> Shape:
        """Shape of one sample at a node's output; -1 is the model's input."""
        return self.input_shape if index < 0 else self.nodes[index].output_shape

    def add(self, name: str, layer: Layer, inputs: tuple[int, ...]) -> int:
        """Append one operation and return its index.

        Raises
        ------
        ShapeError
            If the layer cannot take that input; the message names the layer and both shapes.
        """
        input_shapes = tuple(self.shape(index) for index in inputs)
        try:
            output_shape = layer.output_shape(*input_shapes)
        except ShapeError as error:
            raise ShapeError(f"layer {name!r}, {layer!r}: {error}") from None
        self.layers.append(layer)
        self.nodes.append(
            Node(
                name=name,
                operation=layer.operation,
                inputs=inputs,
                arguments=layer.arguments,
                parameters={key: f"{name}.{key}" for key in layer.parameters},
                input_shapes=input_shapes,
                output_shape=output_shape,
                buffers={key: f"{name}.{key}" for key in layer.buffers},
            )
        )
        return len(self.nodes) - 1

    def build(self) -> Graph:
        """The finished graph."""
        return Graph(self.input_shape, tuple(self.nodes))


def positive(value: Any, owner: str, argument: str) -> int:
    """Return ``value`` as an int of at least 1, or raise a ConfigurationError that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ConfigurationError(f"{owner}: {argument} must be a positive integer, got {value!r}")
    return int(value)


def shown(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Format those keyword arguments that differ from their defaults, for ``repr``."""
    missing = object()
    return "".join(
        f", {key}={value!r}"
        for key, value in arguments.items()
        if value != defaults.get(key, missing)
    )
