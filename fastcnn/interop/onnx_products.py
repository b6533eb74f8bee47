"""Import of MatMul and Gemm, and of constants to add or multiply by."""

import math
from collections.abc import Sequence

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import FileNode
from fastcnn.interop.onnx_map_readers import given, of_maps
from fastcnn.interop.onnx_readers import linear
from fastcnn.interop.onnx_views import View
from fastcnn.interop.onnx_wiring import Wiring
from fastcnn.layers import Conv1d, Conv2d, Flatten, Layer, Linear, Scale, Unflatten


def by_channel(constant: np.ndarray, order: Sequence[int], own: Shape) -> np.ndarray:
    """A constant as one number, or one per channel.

    Parameters
    ----------
    constant : ndarray
        Constant that is broadcast to samples with permuted dimensions.
    order : sequence of int
        The dimension of the layer's output for each dimension of the samples.
    own : tuple of int
        Shape of the layer's output.
    """
    missing = 1 + len(own) - constant.ndim
    sizes = (1,) * missing + constant.shape
    back = [sizes[1 + order.index(axis)] for axis in range(len(own))] if missing >= 0 else []
    if missing < 0 or sizes[0] != 1 or back[0] not in (1, own[0]) or set(back[1:]) - {1}:
        raise ConfigurationError(
            f"a constant of shape {constant.shape} for samples of {own}: one number, or one per "
            "channel, is supported"
        )
    return constant.reshape(-1)


def scaled(factors: np.ndarray) -> list[Layer]:
    """A layer that multiplies channels by factors."""
    layer = Scale(len(factors))
    layer.parameters["weight"][...] = factors
    return [layer]


def shifted(factor: float, summands: np.ndarray, own: Shape) -> list[Layer]:
    """Channels times one factor, plus a shift per channel: a depthwise 1x1 convolution."""
    channels = own[0]
    weight, bias = np.full(channels, factor), np.broadcast_to(summands, channels)
    made = {"weight_init": given(weight), "bias_init": given(bias), "groups": channels}
    layer = of_maps("Conv", own if len(own) > 1 else (channels, 1))(channels, channels, 1, **made)
    return [Unflatten(1, (channels, 1)), layer, Flatten()] if len(own) == 1 else [layer]


def take_bias(w: Wiring, node: FileNode, product: str, constant: np.ndarray) -> bool:
    """Add a constant as the bias of a MatMul's layer; returns whether it was possible."""
    value = w.samples.get(product)
    entry = w.entries[value.layer] if value is not None and value.layer >= 0 else None
    if (
        value is None
        or entry is None
        or entry.node.output != product
        or entry.node.kind != "MatMul"
        or w.file.readers[product] > 1
        or entry.layer.parameters.get("bias") is not None
    ):
        return False
    layer = entry.layer
    if isinstance(layer, Linear):
        made: Layer = linear(layer.weight, constant)
    elif isinstance(layer, (Conv1d, Conv2d)):
        order = w.order(value)
        if order is None:
            return False
        bias = np.broadcast_to(by_channel(constant, order, entry.shape), entry.shape[:1])
        made = type(layer)(
            layer.in_channels,
            layer.out_channels,
            1,
            weight_init=given(layer.weight),
            bias_init=given(bias),
        )
    else:
        return False
    key = (id(layer), *(name for name in node.inputs if name != product))
    w.add(node, [_shared(w, key, made)], entry.sources, value.view)
    return True


def take_mat_mul(w: Wiring, node: FileNode) -> None:
    """Read samples times a matrix."""
    if node.inputs[0] in w.file.constants:
        raise ConfigurationError("a constant times samples, from the left")
    value = w.value(node.inputs[0])
    weight = node.weight(1)
    if weight.ndim != 2 or not value.shape or value.shape[-1] != weight.shape[0]:
        raise ConfigurationError(f"a product of {('N', *value.shape)} and {weight.shape}")
    if len(value.shape) == 1:
        _linear(w, node, weight.T, None, _key(w, node))
        return
    index, order = w.ordered(node, node.inputs[0])
    own = w.own_shape(index)
    if order[-1] != 0 or len(own) not in (2, 3):
        raise ConfigurationError(
            f"a product over the last dimension of {own}, which is not that of the channels"
        )
    kind = of_maps("Conv", own)
    layer = kind(own[0], weight.shape[1], 1, bias=False, weight_init=given(weight.T))
    layer = _shared(w, (_key(w, node), kind), layer)
    w.add(node, [layer], (index,), View.of((weight.shape[1], *own[1:])).transposed(order))


def take_gemm(w: Wiring, node: FileNode) -> None:
    """Read samples times a matrix, plus a bias."""
    key = _key(w, node)
    weight = node.weight(1) * np.float32(node.number("alpha", 1.0))
    node.expect(transA=0)
    if weight.ndim != 2:
        raise ConfigurationError(f"its matrix has shape {weight.shape}")
    beta, bias = np.float32(node.number("beta", 1.0)), None
    if node.input(2) and beta:
        bias = node.weight(2) * beta
    _linear(w, node, weight if node.integer("transB", 0) else weight.T, bias, key)


def _key(w: Wiring, node: FileNode) -> object:
    """A key that nodes of a shared layer have in common."""
    if not w.are_of_one_layer(node.inputs[1:]):
        return object()
    return node.kind, node.inputs[1:], node.attributes_text()


def _linear(
    w: Wiring, node: FileNode, weight: np.ndarray, bias: np.ndarray | None, key: object
) -> None:
    """Add a linear layer with weights ``(out, in)``; they absorb a permutation of the samples."""
    value = w.value(node.inputs[0])
    own = w.own_shape(value.layer)
    size = math.prod(own)
    turned = (
        len(value.shape) == 1
        and not value.view.is_expanded
        and size == value.shape[0] == weight.shape[1]
        and value.view != View.of(own).reshaped((size,))
    )
    if turned:
        places = np.zeros(1, np.int64)
        for step, count in value.view.dims[0]:
            places = (places[:, None] + step * np.arange(count)).reshape(-1)
        back = np.empty_like(weight)
        back[:, places] = weight
        layer = _shared(w, (key, value.view), linear(back, bias))
        w.add(node, [Flatten(), layer], (value.layer,))
        return
    w.append(node, _shared(w, key, linear(weight, bias)), node.inputs[0])


def _shared(w: Wiring, key: object, layer: Layer) -> Layer:
    """The existing layer with the same constants, or this one."""
    return w.shared.setdefault(key, [layer])[0]
