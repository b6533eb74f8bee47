"""Models from ONNX files, of the layers that fastcnn has."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError, DataError
from fastcnn.extras import require
from fastcnn.interop.onnx_patterns import Patterns
from fastcnn.layers import (
    ELU,
    GELU,
    Add,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    GlobalAvgPool2d,
    GraphBuilder,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Model,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)


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
        input_shape: tuple[int, ...],
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


class _Reader:
    def __init__(self, onnx: Any, graph: Any) -> None:
        self.helper = onnx.helper
        self.constants = {
            value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer
        }

    def attributes(self, node: Any) -> dict[str, Any]:
        return {a.name: self.helper.get_attribute_value(a) for a in node.attribute}

    def arrays(self, node: Any) -> list[np.ndarray]:
        """The node's inputs behind the first one, which must be constants."""
        missing = [name for name in node.input[1:] if name and name not in self.constants]
        if missing:
            raise ConfigurationError(f"ONNX node {node.name!r}: {missing[0]} is no constant")
        return [self.constants[name] for name in node.input[1:] if name]


def _fill(layer: Layer, **values: np.ndarray) -> Layer:
    for name, value in values.items():
        target = layer.parameters if name in layer.parameters else layer.buffers
        target[name][...] = value
    return layer


def _symmetric(a: Mapping[str, Any], node: Any) -> tuple[int, int]:
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or (top, left) != (bottom, right):
        raise ConfigurationError(f"ONNX node {node.name!r}: padding {a} is not symmetric")
    return top, left


def _conv(r: _Reader, node: Any) -> Layer:
    a, (weight, *bias) = r.attributes(node), r.arrays(node)
    groups = a.get("group", 1)
    reach = [d * (k - 1) for d, k in zip(a.get("dilations", (1, 1)), weight.shape[2:], strict=True)]
    same = [*(total // 2 for total in reach), *(total - total // 2 for total in reach)]
    is_same = a.get("pads") == same and tuple(a.get("strides", (1, 1))) == (1, 1)
    layer = Conv2d(
        weight.shape[1] * groups, weight.shape[0], weight.shape[2:],
        stride=tuple(a.get("strides", (1, 1))),
        padding="same" if is_same else _symmetric(a, node),
        dilation=tuple(a.get("dilations", (1, 1))), groups=groups, bias=bool(bias),
    )  # fmt: skip
    return _fill(layer, weight=weight, **({"bias": bias[0]} if bias else {}))


def _conv_transpose(r: _Reader, node: Any) -> Layer:
    a, (weight, *bias) = r.attributes(node), r.arrays(node)
    groups = a.get("group", 1)
    layer = ConvTranspose2d(
        weight.shape[0], weight.shape[1] * groups, weight.shape[2:],
        stride=tuple(a.get("strides", (1, 1))), padding=_symmetric(a, node),
        output_padding=tuple(a.get("output_padding", (0, 0))), groups=groups, bias=bool(bias),
        dilation=tuple(a.get("dilations", (1, 1))),
    )  # fmt: skip
    return _fill(layer, weight=weight, **({"bias": bias[0]} if bias else {}))


def _gemm(r: _Reader, node: Any) -> Layer:
    a, (weight, *bias) = r.attributes(node), r.arrays(node)
    if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0):
        raise ConfigurationError(f"ONNX node {node.name!r}: Gemm with {a}")
    weight = weight if a.get("transB", 0) else weight.T
    layer = Linear(weight.shape[1], weight.shape[0], bias=bool(bias))
    return _fill(layer, weight=weight, **({"bias": bias[0]} if bias else {}))


def _pool(kind: Callable[..., Layer]) -> Callable[[_Reader, Any], Layer]:
    def read(r: _Reader, node: Any) -> Layer:
        a = r.attributes(node)
        if a.get("ceil_mode", 0) or set(a.get("dilations", [1])) != {1}:
            raise ConfigurationError(f"ONNX node {node.name!r}: pooling with {a}")
        more: dict[str, Any] = {}
        if kind is AvgPool2d:
            more["count_include_pad"] = bool(a.get("count_include_pad", 0))
        return kind(tuple(a["kernel_shape"]), stride=tuple(a.get("strides", (1, 1))),
                    padding=_symmetric(a, node), **more)  # fmt: skip

    return read


def _batch_norm(r: _Reader, node: Any, dimensions: int) -> Layer:
    weight, bias, mean, variance = r.arrays(node)
    kind = BatchNorm2d if dimensions == 3 else BatchNorm1d
    layer = kind(len(weight), eps=r.attributes(node).get("epsilon", 1e-5))
    return _fill(layer, weight=weight, bias=bias, running_mean=mean, running_var=variance)


#: How each node is read. Add, BatchNormalization and SiLU's Mul are read apart.
READERS: dict[str, Callable[[_Reader, Any], Layer]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MaxPool": _pool(MaxPool2d),
    "AveragePool": _pool(AvgPool2d),
    "GlobalAveragePool": lambda r, node: GlobalAvgPool2d(),
    "Flatten": lambda r, node: Flatten(),
    "Relu": lambda r, node: ReLU(),
    "Sigmoid": lambda r, node: Sigmoid(),
    "Tanh": lambda r, node: Tanh(),
    "LeakyRelu": lambda r, node: LeakyReLU(r.attributes(node).get("alpha", 0.01)),
    "Elu": lambda r, node: ELU(r.attributes(node).get("alpha", 1.0)),
    "Softplus": lambda r, node: Softplus(),
    "Gelu": lambda r, node: GELU(r.attributes(node).get("approximate", b"none").decode()),
}
#: Nodes that do nothing in inference.
NOTHING = ("Identity", "Dropout")


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
    try:
        loaded = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
        onnx.checker.check_model(loaded)
    except Exception as error:  # protobuf's, onnx's and the system's errors have no common base
        raise DataError(f"{path}: not an ONNX file ({str(error)[:200]})") from None
    graph = loaded.graph
    reader = _Reader(onnx, graph)
    inputs = [value for value in graph.input if value.name not in reader.constants]
    if len(inputs) != 1:
        raise ConfigurationError(f"{path}: the model must have one input, it has {len(inputs)}")
    shape = tuple(d.dim_value for d in inputs[0].type.tensor_type.shape.dim)[1:]
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim) - 1
        for value in [*graph.value_info, *graph.input]
    }
    layer: Layer
    layers: dict[str, Layer] = {}
    wires: dict[str, tuple[str, ...]] = {}
    makers = {inputs[0].name: ""}
    sigmoids = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Sigmoid"}
    patterns = Patterns(graph, reader.constants)
    formulas = {o: found for n in graph.node for o in n.output if (found := patterns.find(o))}
    inner = set[str]().union(
        *(patterns.between(output, source) for output, (_, source) in formulas.items())
    )
    for index, node in enumerate(graph.node):
        if node.output[0] in inner:
            continue
        if node.op_type in NOTHING:
            makers[node.output[0]] = makers[node.input[0]]
            continue
        sources = node.input[:1]
        if node.output[0] in formulas:
            layer, source = formulas[node.output[0]]
            sources = [source]
        elif node.op_type == "Add" and all(name in makers for name in node.input):
            layer = Add()
            sources = node.input
        elif node.op_type == "BatchNormalization":
            layer = _batch_norm(reader, node, ranks.get(node.input[0], 3))
        elif node.op_type == "Mul" and sigmoids.get(node.input[1]) == node.input[0]:
            layer = SiLU()
        elif node.op_type in READERS:
            layer = READERS[node.op_type](reader, node)
        else:
            raise ConfigurationError(
                f"{path}: fastcnn has no layer for the ONNX node {node.name!r} ({node.op_type})"
            )
        name = node.name if node.name and node.name not in layers else f"{node.op_type}{index}"
        name = name.replace("/", "_").replace(".", "_").strip("_") or f"layer{index}"
        layers[name] = layer
        missing = [source for source in sources if source not in makers]
        if missing:
            raise ConfigurationError(f"{path}: ONNX node {node.name!r} reads {missing[0]!r}, which "
                                     "is a constant or a part of another layer")  # fmt: skip
        wires[name] = tuple(makers[source] for source in sources)
        makers[node.output[0]] = name
    _drop_unread(layers, wires, makers[graph.output[0].name])
    return ImportedModel(layers, wires, shape)


def _drop_unread(layers: dict[str, Layer], wires: dict[str, tuple[str, ...]], output: str) -> None:
    """Forget layers that the output does not depend on, such as the Sigmoid of a SiLU."""
    needed, waiting = set(), [output]
    while waiting:
        name = waiting.pop()
        if name and name not in needed:
            needed.add(name)
            waiting += wires[name]
    for name in [name for name in layers if name not in needed]:
        del layers[name], wires[name]
