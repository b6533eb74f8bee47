"""Export and import of normalisation within samples and of softmax."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastcnn import layers
from fastcnn.backends.graph import Node, Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import FileNode
from fastcnn.interop.onnx_writer import OnnxWriter

#: Channels last, and back.
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


# -- writing -----------------------------------------------------------------------------------


def factors(w: OnnxWriter, node: Node, kind: str, shape: Shape, **others: Any) -> list[str]:
    """Weight and bias; neutral ones if the layer has none, which the metadata record."""
    made = []
    for name, value in (("weight", np.ones(shape)), ("bias", np.zeros(shape))):
        if name in node.parameters:
            made += w.parameters(node, name)
        else:
            made.append(w.constant(f"{node.name}.{name}", value))
            others.setdefault("missing", []).append(name)
    if others:
        w.note(node, kind, **others)
    return made


def write_layer_norm(w: OnnxWriter, node: Node, x: list[str]) -> str:
    """LayerNormalization over the last axes."""
    shape = node.arguments["normalized_shape"]
    inputs = x + factors(w, node, "LayerNorm", shape)
    eps = node.arguments["eps"]
    return w.add("LayerNormalization", inputs, node.name, axis=-len(shape), epsilon=eps)


def write_layer_norm2d(w: OnnxWriter, node: Node, x: list[str]) -> str:
    """LayerNormalization with the channels last."""
    last = w.add("Transpose", x, "", perm=list(LAST))
    inputs = [last, *factors(w, node, "LayerNorm2d", node.input_shapes[0][:1])]
    made = w.add("LayerNormalization", inputs, node.name, axis=-1, epsilon=node.arguments["eps"])
    return w.add("Transpose", [made], "", perm=list(FIRST))


def write_group_norm(w: OnnxWriter, node: Node, x: list[str]) -> str:
    """InstanceNormalization of the groups: ONNX has GroupNormalization only since opset 18."""
    shape, groups = node.input_shapes[0], node.arguments["num_groups"]
    eps, channels = node.arguments["eps"], shape[0]
    if groups == channels and len(shape) == 3:
        inputs = x + factors(w, node, "InstanceNorm2d", (channels,))
        return w.add("InstanceNormalization", inputs, node.name, epsilon=eps)
    split = w.whole_numbers(f"{node.name}/groups", [0, groups, -1])
    plain = [
        w.constant(f"{node.name}/one", np.ones(groups)),
        w.constant(f"{node.name}/zero", np.zeros(groups)),
    ]
    parts = w.add("Reshape", [*x, split], "")
    made = w.add("InstanceNormalization", [parts, *plain], "", epsilon=eps)
    whole = w.whole_numbers(f"{node.name}/shape", [0, *shape])
    names = [name for name in ("weight", "bias") if name in node.parameters]
    value = w.add("Reshape", [made, whole], "" if names else node.name)
    for name, kind in (("weight", "Mul"), ("bias", "Add")):
        if name in names:
            key = node.parameters[name]
            by_channel = w.state[key].reshape(-1, *(1,) * (len(shape) - 1))
            last = node.name if name == names[-1] else ""
            value = w.add(kind, [value, w.constant(key, by_channel)], last)
    return value


def write_rms_norm(w: OnnxWriter, node: Node, x: list[str]) -> str:
    """RMS normalisation in operators of opset 17: ``x / sqrt(mean(x * x) + eps) * weight``."""
    axes = [-1 - place for place in range(len(node.arguments["normalized_shape"]))][::-1]
    square = w.add("Mul", x + x, "")
    mean = w.add("ReduceMean", [square], "", axes=axes, keepdims=1)
    eps = w.constant(f"{node.name}/eps", node.arguments["eps"])
    root = w.add("Sqrt", [w.add("Add", [mean, eps], "")], "")
    weight = w.parameters(node, "weight")
    made = w.add("Div", [*x, root], "" if weight else node.name)
    return w.add("Mul", [made, *weight], node.name) if weight else made


def write_local_response(w: OnnxWriter, node: Node, x: list[str]) -> str:
    """LRN, whose windows of even size extend to the other side than PyTorch's."""
    a = node.arguments
    if a["size"] % 2 == 0:
        raise ConfigurationError(
            f"layer {node.name!r}: ONNX has no local response normalisation of even size "
            f"{a['size']} whose window begins before the channel"
        )
    return w.add("LRN", x, node.name, size=a["size"], alpha=a["alpha"], beta=a["beta"], bias=a["k"])


def write_softmax(w: OnnxWriter, node: Node, x: list[str]) -> str:
    """Softmax or LogSoftmax along an axis."""
    kind = "LogSoftmax" if node.operation == "log_softmax" else "Softmax"
    return w.add(kind, x, node.name, axis=node.arguments["dim"])


WRITERS: dict[str, Callable[[OnnxWriter, Node, list[str]], str]] = {
    "layer_norm": write_layer_norm,
    "layer_norm2d": write_layer_norm2d,
    "group_norm": write_group_norm,
    "rms_norm": write_rms_norm,
    "local_response_norm": write_local_response,
    "softmax": write_softmax,
    "log_softmax": write_softmax,
}


# -- nodes that are layers ---------------------------------------------------------------------


def filled(layer: layers.Layer, **arrays: np.ndarray) -> layers.Layer:
    """Set a layer's parameters and buffers, and return it."""
    for name, value in arrays.items():
        target = layer.parameters if name in layer.parameters else layer.buffers
        target[name][...] = value
    return layer


def _spread(node: FileNode, index: int, shape: Shape) -> np.ndarray:
    """A constant, broadcast to a shape."""
    array = node.weight(index)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ConfigurationError(
            f"its constant of shape {array.shape} does not fit {shape}"
        ) from None


def _trailing(node: FileNode, shape: Shape) -> Shape:
    """The dimensions of a sample from the attribute ``axis`` on."""
    axis = node.integer("axis", -1)
    first = axis - 1 if axis > 0 else axis + len(shape)
    if axis == 0 or not 0 <= first < len(shape):
        raise ConfigurationError(f"axis={axis} for samples of shape {shape}")
    node.expect(stash_type=1)
    return shape[first:]


def _layer_norm(node: FileNode, shape: Shape) -> layers.Layer:
    of_set = _trailing(node, shape)
    arrays = {"weight": _spread(node, 1, of_set)}
    if node.input(2):
        arrays["bias"] = _spread(node, 2, of_set)
    layer = layers.LayerNorm(of_set, node.number("epsilon", 1e-5), bias="bias" in arrays)
    return filled(layer, **arrays)


def last_norm(node: FileNode, own: Shape) -> layers.Layer:
    """LayerNormalization of maps ``own`` over their channels, which are last in the file."""
    node.expect(stash_type=1)
    arrays = {"weight": _spread(node, 1, own[:1]), "bias": np.zeros(own[0], np.float32)}
    if node.input(2):
        arrays["bias"] = _spread(node, 2, own[:1])
    return filled(layers.LayerNorm2d(own[0], node.number("epsilon", 1e-5)), **arrays)


def _rms_norm(node: FileNode, shape: Shape) -> layers.Layer:
    of_set = _trailing(node, shape)
    layer = layers.RMSNorm(of_set, node.number("epsilon", 1e-5))
    return filled(layer, weight=_spread(node, 1, of_set))


def _group_norm(node: FileNode, shape: Shape) -> layers.Layer:
    groups = node.integer("num_groups", 0)
    node.expect(stash_type=1)
    layer = layers.GroupNorm(groups, shape[0], node.number("epsilon", 1e-5))
    # Up to opset 20, weights are per group.
    size = shape[0] if node.file.opset >= 21 else groups
    arrays = {name: _spread(node, place, (size,)) for place, name in ((1, "weight"), (2, "bias"))}
    return filled(layer, **{k: np.repeat(v, shape[0] // size) for k, v in arrays.items()})


def _instance_norm(node: FileNode, shape: Shape) -> layers.Layer:
    if len(shape) not in (2, 3):
        raise ConfigurationError(f"instance normalisation of samples of shape {shape}")
    eps = node.number("epsilon", 1e-5)
    layer: layers.Layer = layers.InstanceNorm2d(shape[0], eps, affine=True)
    if len(shape) == 2:
        layer = layers.GroupNorm(shape[0], shape[0], eps)
    arrays = {name: _spread(node, place, shape[:1]) for place, name in ((1, "weight"), (2, "bias"))}
    return filled(layer, **arrays)


def _local_response(node: FileNode, shape: Shape) -> layers.Layer:
    size = node.integer("size", 0)
    if size % 2 == 0 or len(shape) != 3:
        raise ConfigurationError(
            f"a local response normalisation of even size {size}, or of samples of {shape}"
        )
    numbers = node.number("alpha", 1e-4), node.number("beta", 0.75), node.number("bias", 1.0)
    return layers.LocalResponseNorm(size, *numbers)


def softmax_axis(node: FileNode) -> int:
    """The axis of a softmax: the last by default, and before opset 13 the first after the batch."""
    return node.integer("axis", -1 if node.file.opset >= 13 else 1)


def _softmax(kind: type[layers.Softmax]) -> Callable[[FileNode, Shape], layers.Layer]:
    def read(node: FileNode, shape: Shape) -> layers.Layer:
        axis = softmax_axis(node)
        layer = kind(axis)
        layer.output_shape(shape)
        # Before opset 13, softmax is over all axes from this one on together.
        if node.file.opset < 13 and axis not in (-1, len(shape)):
            raise ConfigurationError(
                f"a softmax over all axes from {axis} on of samples of {shape}"
            )
        return layer

    return read


READERS: dict[str, Callable[[FileNode, Shape], layers.Layer | list[layers.Layer]]] = {
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "Softmax": _softmax(layers.Softmax),
    "LogSoftmax": _softmax(layers.LogSoftmax),
}
#: Operators whose inputs after the first are a layer's parameters.
WEIGHTED = ("LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization")


def missing_parts(layer: layers.Layer, values: Mapping[str, Any]) -> list[str]:
    """Which of weight and bias a normalisation lacks according to the file's metadata."""
    missing: Any = values.get("missing", [])
    neutral = {"weight": 1.0, "bias": 0.0}
    if missing not in ([], ["weight"], ["bias"], ["weight", "bias"]):
        raise ConfigurationError(f"its entry in the file's metadata does not match: {values!r}")
    for name in missing:
        if np.any(layer.parameters.get(name, neutral[name]) != neutral[name]):
            raise ConfigurationError(
                f"it has a {name}, and the file's metadata say that it has none"
            )
    return list(missing)


def restored_norm(layer: layers.Layer, values: Mapping[str, Any]) -> layers.Layer:
    """A normalisation without the weight or bias that it lacks."""
    missing = missing_parts(layer, values)
    if set(values) != {"missing"} or missing == ["weight"]:
        raise ConfigurationError(f"its entry in the file's metadata does not match: {values!r}")
    kept = {name: value for name, value in layer.parameters.items() if name not in missing}
    if isinstance(layer, layers.LayerNorm):
        return filled(
            layers.LayerNorm(layer.normalized_shape, layer.eps, bool(kept), False), **kept
        )
    if kept:
        raise ConfigurationError("it must have both weight and bias, or neither")
    if isinstance(layer, layers.LayerNorm2d):
        return layers.LayerNorm2d(layer.num_channels, layer.eps, affine=False)
    assert isinstance(layer, layers.InstanceNorm2d)
    return layers.InstanceNorm2d(layer.num_features, layer.eps)
