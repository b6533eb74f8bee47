"""What each kind of ONNX node becomes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Softplus,
)


class Reader:
    """A graph's constants and its nodes' attributes."""

    def __init__(self, onnx: Any, graph: Any, opset: int) -> None:
        self.helper = onnx.helper
        self._schema = lambda kind: onnx.defs.get_schema(kind, opset)
        self.makers = {output: node for node in graph.node for output in node.output}
        self.constants: dict[str, np.ndarray] = {
            value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer
        }
        for node in graph.node:
            if node.op_type == "Constant":
                for name, value in self.attributes(node).items():
                    known = name in ("value_float", "value_floats", "value_int", "value_ints")
                    if name == "value" or known:
                        array = np.asarray(value) if known else onnx.numpy_helper.to_array(value)
                        self.constants[node.output[0]] = array
            elif node.op_type == "Identity" and node.input[0] in self.constants:
                self.constants[node.output[0]] = self.constants[node.input[0]]

    def attributes(self, node: Any) -> dict[str, Any]:
        """Attributes by name; text as ``str``."""
        values = {a.name: self.helper.get_attribute_value(a) for a in node.attribute}
        return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}

    def attributes_or_defaults(self, node: Any) -> dict[str, Any]:
        """All attributes of a node, those that it leaves out with ONNX's defaults."""
        known = self._schema(node.op_type).attributes
        defaults = {
            name: self.helper.get_attribute_value(attribute.default_value)
            for name, attribute in known.items()
            if attribute.default_value.name
        }
        return defaults | self.attributes(node)

    def arrays(self, node: Any) -> list[np.ndarray]:
        """The node's inputs behind the first one, which must be constants."""
        missing = [name for name in node.input[1:] if name and name not in self.constants]
        if missing:
            raise ConfigurationError(f"{missing[0]} is no constant")
        return [self.constants[name] for name in node.input[1:] if name]

    def is_batch_size(self, name: str) -> bool:
        """Whether a value is the first number of some value's shape."""
        node = self.makers.get(name)
        if node is None:
            return False
        if node.op_type in ("Unsqueeze", "Squeeze", "Cast", "Identity", "Reshape"):
            return self.is_batch_size(node.input[0])
        source = self.makers.get(node.input[0]) if node.input else None
        if node.op_type == "Shape":
            a = self.attributes(node)
            return (a.get("start", 0), a.get("end")) == (0, 1)
        if source is None or source.op_type != "Shape" or node.op_type not in ("Gather", "Slice"):
            return False
        bounds = [value.reshape(-1).tolist() for value in self.arrays(node)]
        return bounds[:1] == [[0]] and (node.op_type == "Gather" or bounds[1] == [1])

    def numbers(self, name: str) -> list[int] | None:
        """A shape in a file: the batch as 0, None where it cannot be known beforehand."""
        if name in self.constants:
            return [int(size) for size in self.constants[name].reshape(-1)]
        node = self.makers.get(name)
        if node is not None and node.op_type == "Concat":
            parts = [self.numbers(part) for part in node.input]
            return None if None in parts else [size for part in parts for size in part or ()]
        return [0] if self.is_batch_size(name) else None


def _fill(layer: Layer, **values: np.ndarray) -> Layer:
    for name, value in values.items():
        target = layer.parameters if name in layer.parameters else layer.buffers
        target[name][...] = value.reshape(target[name].shape)
    return layer


Pads = tuple[tuple[int, int], tuple[int, int]]


def _pads(a: Mapping[str, Any], shape: Shape, kernel: tuple[int, ...]) -> Pads:
    """Padding as ``((top, bottom), (left, right))``, for a map of ``shape``."""
    auto = a.get("auto_pad", "NOTSET")
    if auto == "VALID":
        return (0, 0), (0, 0)
    if auto == "NOTSET":
        top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
        return (top, bottom), (left, right)
    sides = []
    for size, extent, step, gap in zip(
        shape[1:], kernel, a.get("strides", (1, 1)), a.get("dilations", (1, 1)), strict=True
    ):
        total = max((-(-size // step) - 1) * step + gap * (extent - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        sides.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return sides[0], sides[1]


def _symmetric(a: Mapping[str, Any], shape: Shape, kernel: tuple[int, ...]) -> tuple[int, int]:
    (top, bottom), (left, right) = _pads(a, shape, kernel)
    if (top, left) != (bottom, right):
        raise ConfigurationError(f"its padding {(top, bottom), (left, right)} is not symmetric")
    return top, left


def _weights(r: Reader, node: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The weight, and the values by name of weight and bias."""
    weight, *bias = r.arrays(node)
    return weight, {"weight": weight} | ({"bias": bias[0]} if bias else {})


def _conv(r: Reader, node: Any, shape: Shape) -> Layer:
    a, (weight, values) = r.attributes(node), _weights(r, node)
    groups, kernel = a.get("group", 1), weight.shape[2:]
    stride, dilation = tuple(a.get("strides", (1, 1))), tuple(a.get("dilations", (1, 1)))
    pads = _pads(a, shape, kernel)
    reach = [gap * (extent - 1) for gap, extent in zip(dilation, kernel, strict=True)]
    same = tuple((total // 2, total - total // 2) for total in reach)
    even = pads[0][0] == pads[0][1] and pads[1][0] == pads[1][1]
    padding: Any = (pads[0][0], pads[1][0]) if even else pads
    layer = Conv2d(
        weight.shape[1] * groups, weight.shape[0], kernel, stride=stride,
        padding="same" if pads == same and stride == (1, 1) else padding,
        dilation=dilation, groups=groups, bias="bias" in values,
    )  # fmt: skip
    return _fill(layer, **values)


def _conv_transpose(r: Reader, node: Any, shape: Shape) -> Layer:
    a, (weight, values) = r.attributes(node), _weights(r, node)
    if "output_shape" in a or a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise ConfigurationError("its padding follows from its output's shape")
    groups = a.get("group", 1)
    layer = ConvTranspose2d(
        weight.shape[0], weight.shape[1] * groups, weight.shape[2:],
        stride=tuple(a.get("strides", (1, 1))), padding=_symmetric(a, shape, weight.shape[2:]),
        output_padding=tuple(a.get("output_padding", (0, 0))), groups=groups, bias="bias" in values,
        dilation=tuple(a.get("dilations", (1, 1))),
    )  # fmt: skip
    return _fill(layer, **values)


def _gemm(r: Reader, node: Any, shape: Shape) -> Layer:
    a, (weight, values) = r.attributes(node), _weights(r, node)
    if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0):
        raise ConfigurationError(f"a Gemm with {a}")
    return linear(weight if a.get("transB", 0) else weight.T, values.get("bias"))


def linear(weight: np.ndarray, bias: np.ndarray | None) -> Layer:
    """A layer of these weights, ``(out, in)``."""
    rows, columns = weight.shape
    values = {"weight": weight} | ({} if bias is None else {"bias": bias})
    if bias is not None:
        values["bias"] = np.broadcast_to(bias.reshape(-1), rows)
    return _fill(Linear(columns, rows, bias=bias is not None), **values)


def _mat_mul(r: Reader, node: Any, shape: Shape) -> Layer:
    (weight,) = r.arrays(node)
    if weight.ndim != 2 or len(shape) != 1:
        raise ConfigurationError(f"a product of {('N', *shape)} and {weight.shape}")
    return linear(weight.T, None)


def _pool(kind: Callable[..., Layer]) -> Callable[[Reader, Any, Shape], Layer]:
    def read(r: Reader, node: Any, shape: Shape) -> Layer:
        a = r.attributes(node)
        if set(a.get("dilations", [1])) != {1}:
            raise ConfigurationError(f"a pooling with dilations {a['dilations']}")
        kernel, stride = tuple(a["kernel_shape"]), tuple(a.get("strides", (1, 1)))
        padding = _symmetric(a, shape, kernel)
        over = [
            (size + 2 * pad - extent) % step
            for size, pad, extent, step in zip(shape[1:], padding, kernel, stride, strict=True)
        ]
        if a.get("ceil_mode", 0) and any(over):
            raise ConfigurationError(f"ceil_mode, which counts for a map of {shape[1:]}")
        more: dict[str, Any] = {}
        if kind is AvgPool2d:
            more["count_include_pad"] = bool(a.get("count_include_pad", 0))
        return kind(kernel, stride=stride, padding=padding, **more)

    return read


def _batch_norm(r: Reader, node: Any, shape: Shape) -> Layer:
    a, (weight, bias, mean, variance) = r.attributes(node), r.arrays(node)
    if a.get("training_mode", 0) or not a.get("spatial", 1):
        raise ConfigurationError("statistics of the batch, or of each pixel")
    kind = BatchNorm2d if len(shape) == 3 else BatchNorm1d
    layer = kind(len(weight), eps=a.get("epsilon", 1e-5))
    return _fill(layer, weight=weight, bias=bias, running_mean=mean, running_var=variance)


def _flatten(r: Reader, node: Any, shape: Shape) -> Layer:
    axis = r.attributes(node).get("axis", 1)
    if axis not in (1, -len(shape)):
        raise ConfigurationError(f"a Flatten of axis {axis}")
    return Flatten()


def _reshape(r: Reader, node: Any, shape: Shape) -> Layer:
    wanted = r.numbers(node.input[1])
    size = math.prod(shape)
    # Without a batch of its own, the first number may be anything but a part of the samples.
    if wanted is None or len(wanted) != 2 or wanted[1] not in (-1, size):
        raise ConfigurationError(f"a Reshape of samples of {shape} to {wanted}")
    if wanted[0] == -1 and wanted[1] != size:
        raise ConfigurationError(f"a Reshape of samples of {shape} to {wanted}")
    return Flatten()


def _reduce_mean(r: Reader, node: Any, shape: Shape) -> list[Layer]:
    a = r.attributes(node)
    axes = a["axes"] if "axes" in a else [int(axis) for value in r.arrays(node) for axis in value]
    if len(shape) != 3 or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise ConfigurationError(f"a mean over axes {axes}")
    return [GlobalAvgPool2d()] if a.get("keepdims", 1) else [GlobalAvgPool2d(), Flatten()]


#: How each node is read, with the shape of the samples that enter it.
READERS: dict[str, Callable[[Reader, Any, Shape], Layer | list[Layer]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _mat_mul,
    "MaxPool": _pool(MaxPool2d),
    "AveragePool": _pool(AvgPool2d),
    "GlobalAveragePool": lambda r, node, shape: GlobalAvgPool2d(),
    "BatchNormalization": _batch_norm,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "ReduceMean": _reduce_mean,
    "Softplus": lambda r, node, shape: Softplus(),
    "Gelu": lambda r, node, shape: GELU(r.attributes(node).get("approximate", "none")),
}
