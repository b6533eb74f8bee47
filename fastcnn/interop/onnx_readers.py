"""Readers of ONNX nodes: one function per operator."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastcnn import layers
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop import onnx_norms
from fastcnn.interop.onnx_file import FileNode, shortest
from fastcnn.interop.onnx_map_readers import ADAPTIVE, MAP_READERS, given, is_adaptive
from fastcnn.interop.onnx_norms import filled


def linear(weight: np.ndarray, bias: np.ndarray | None) -> layers.Layer:
    """A linear layer with these weights, ``(out, in)``."""
    rows, columns = weight.shape
    if bias is None:
        return layers.Linear(columns, rows, bias=False, weight_init=given(weight))
    if bias.shape not in ((), (1,), (rows,), (1, 1), (1, rows)):
        raise ConfigurationError(f"a summand of shape {bias.shape} is not a bias of {rows} outputs")
    values = np.broadcast_to(bias.reshape(-1), rows)
    return layers.Linear(columns, rows, weight_init=given(weight), bias_init=given(values))


def _batch_norm(node: FileNode, shape: Shape) -> layers.Layer:
    if node.integer("training_mode", 0) or not node.integer("spatial", 1):
        raise ConfigurationError("statistics of the batch, or of each pixel, are not supported")
    if node.file.opset < 14 and any(node.outputs[1:]):
        # In earlier operator sets, the number of outputs indicated training mode.
        raise ConfigurationError("outputs of statistics, which are those of the batch")
    if len(shape) not in (1, 2, 3):
        raise ConfigurationError(f"batch normalisation of samples of {shape}")
    kind = layers.BatchNorm2d if len(shape) == 3 else layers.BatchNorm1d
    # Statistics, and since opset 15 also weights, may be of a different type than samples.
    arrays = [
        node.weight(place, of_any_type=node.file.opset >= (15 if place < 3 else 14))
        for place in range(1, 5)
    ]
    if any(array.shape != shape[:1] for array in arrays):
        raise ConfigurationError(f"its weights must have shape ({shape[0]},)")
    if negative := int(np.sum(arrays[3] < 0)):
        raise ConfigurationError(f"the variance of {negative} of {shape[0]} channels is negative")
    # ONNX's momentum is the weight of the old statistics.
    momentum = round(1.0 - node.number("momentum", 0.9), 9)
    layer = kind(shape[0], eps=node.number("epsilon", 1e-5), momentum=momentum)
    names = ("weight", "bias", "running_mean", "running_var")
    return filled(layer, **dict(zip(names, arrays, strict=True)))


def _dropout(node: FileNode, shape: Shape) -> layers.Layer:
    ratio = node.number("ratio", 0.5)
    if (given := node.constant(1)) is not None:
        if given.size != 1 or given.dtype.kind != "f":
            raise ConfigurationError("its ratio must be a number")
        ratio = shortest(given.item())
    training = node.constant(2)
    if training is not None and np.any(training):
        raise ConfigurationError("training_mode, which drops values in prediction too")
    node.integer("seed", 0)  # only for training, for which fastcnn draws its own masks
    return layers.Dropout(ratio)


#: Reader of each operator, called with the node and the shape of its input samples.
READERS: dict[str, Callable[[FileNode, Shape], layers.Layer | list[layers.Layer]]] = {
    **MAP_READERS,
    "Abs": lambda node, shape: layers.LeakyReLU(-1.0),
    "BatchNormalization": _batch_norm,
    "Dropout": _dropout,
    "Softplus": lambda node, shape: layers.Softplus(),
    "Gelu": lambda node, shape: layers.GELU(node.text("approximate", "none")),
    **onnx_norms.READERS,
}
#: Operators whose inputs after the first are a layer's parameters.
WEIGHTED = ("Conv", "ConvTranspose", "BatchNormalization", *onnx_norms.WEIGHTED)


def restored(layer: layers.Layer, described: Mapping[str, Any], shape: Shape) -> layers.Layer:
    """A layer with the properties in fastcnn's metadata that ONNX cannot express."""
    kind, values = str(described.get("type")), {k: v for k, v in described.items() if k != "type"}
    if kind == "Dropout2d" and type(layer) is layers.Dropout and not values:
        return layers.Dropout2d(layer.p)
    if kind in ADAPTIVE and set(values) == {"output_size"}:
        size = values["output_size"]
        made = getattr(layers, kind)(tuple(size) if isinstance(size, list) else size)
        if is_adaptive(layer, made, shape):
            return made
    if kind == type(layer).__name__ and isinstance(
        layer, (layers.LayerNorm, layers.LayerNorm2d, layers.InstanceNorm2d)
    ):
        return onnx_norms.restored_norm(layer, values)
    if kind == type(layer).__name__ and isinstance(layer, (layers.BatchNorm1d, layers.BatchNorm2d)):
        return _restored_norm(layer, values)
    raise ConfigurationError(f"its entry in the file's metadata does not match: {described!r}")


def _restored_norm(
    layer: layers.BatchNorm1d | layers.BatchNorm2d, values: Mapping[str, Any]
) -> layers.Layer:
    arguments: dict[str, Any] = {"eps": layer.eps, "momentum": layer.momentum}
    batches = values.get("num_batches_tracked", 0)
    is_count = isinstance(batches, int) and not isinstance(batches, bool)
    known = {"momentum", "missing", "num_batches_tracked"}
    if not set(values) <= known or not is_count or not 0 <= batches < 2**63:
        raise ConfigurationError(f"its entry in the file's metadata does not match: {values!r}")
    if "momentum" in values and values["momentum"] is None:
        arguments["momentum"] = None
    missing = onnx_norms.missing_parts(layer, values)
    arguments |= {"affine": False} if len(missing) == 2 else dict.fromkeys(missing, False)
    made = type(layer)(layer.num_features, **arguments)
    filled(made, **{name: layer.parameters[name] for name in made.parameters})
    return filled(made, **{**layer.buffers, "num_batches_tracked": np.array(batches)})
