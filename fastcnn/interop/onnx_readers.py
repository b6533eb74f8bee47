"""What each kind of ONNX node becomes: one function an operator."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.backends.geometry import check_output_padding
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop import onnx_norms
from fastcnn.interop.onnx_file import FileNode, as_pairs
from fastcnn.layers import (
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    LayerNorm2d,
    Linear,
    MaxPool2d,
    Softplus,
)
from fastcnn.layers.init import Initializer

Pads = tuple[tuple[int, int], tuple[int, int]]


def _given(value: np.ndarray) -> Initializer:
    """An initialiser that takes a weight from the file."""

    def draw(shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        return value.reshape(tuple(shape))

    return draw


def _fill(layer: Layer, **values: np.ndarray) -> Layer:
    for name, value in values.items():
        target = layer.parameters if name in layer.parameters else layer.buffers
        target[name][...] = value
    return layer


def _maps(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        words = "dimension" if len(shape) == 2 else "dimensions"
        raise ConfigurationError(
            f"its samples have shape {shape}, {max(len(shape) - 1, 0)} {words} for each channel; "
            "fastcnn's layers have two"
        )
    return shape


def _pads(
    node: FileNode,
    shape: Shape,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Pads:
    """Padding as ``((top, bottom), (left, right))``, for a map of ``shape``."""
    has_pads = node.has("pads")
    top, left, bottom, right = node.integers("pads", (0, 0, 0, 0))
    auto = node.text("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return (top, bottom), (left, right)
    if has_pads or auto not in ("VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ConfigurationError(f"auto_pad={auto!r} is not supported{' with pads' * has_pads}")
    if auto == "VALID":
        return (0, 0), (0, 0)
    sides = []
    for size, extent, step, gap in zip(shape[1:], kernel, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + gap * (extent - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        sides.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return sides[0], sides[1]


def _kernel(node: FileNode, weight: np.ndarray) -> tuple[int, int]:
    if weight.ndim != 4:
        raise ConfigurationError(
            f"its weight has shape {weight.shape}; fastcnn's convolutions have two dimensions"
        )
    kernel = as_pairs(weight.shape[2:])
    if node.integers("kernel_shape", kernel) != kernel:
        raise ConfigurationError(f"kernel_shape is not that of the weight, {weight.shape}")
    return kernel


def _bias(node: FileNode, size: int) -> dict[str, Any]:
    """Arguments of a layer for the bias that is a node's third input, if there is one."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return {"bias": False}
    bias = node.weight(2)
    if bias.shape != (size,):
        raise ConfigurationError(f"its bias must have shape ({size},), got {bias.shape}")
    return {"bias": True, "bias_init": _given(bias)}


def _conv(node: FileNode, shape: Shape) -> Layer:
    channels, *_ = _maps(shape)
    weight = node.weight(1)
    kernel = _kernel(node, weight)
    stride = as_pairs(node.integers("strides", (1, 1), least=1))
    dilation = as_pairs(node.integers("dilations", (1, 1), least=1))
    pads = _pads(node, shape, kernel, stride, dilation)
    even = pads[0][0] == pads[0][1] and pads[1][0] == pads[1][1]
    padding: Any = (pads[0][0], pads[1][0]) if even else pads
    reach = [gap * (extent - 1) for gap, extent in zip(dilation, kernel, strict=True)]
    if not even and stride == (1, 1) and pads == tuple((n // 2, n - n // 2) for n in reach):
        padding = "same"
    groups = _groups(node, channels, weight.shape[1])
    return Conv2d(
        channels,
        weight.shape[0],
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        weight_init=_given(weight),
        **_bias(node, weight.shape[0]),
    )


def _groups(node: FileNode, channels: int, of_weight: int) -> int:
    groups = node.integer("group", 1)
    if groups < 1 or of_weight * groups != channels:
        raise ConfigurationError(
            f"its weight takes {of_weight} channels in {groups} groups, its samples have {channels}"
        )
    return groups


def _conv_transpose(node: FileNode, shape: Shape) -> Layer:
    channels, *_ = _maps(shape)
    weight = node.weight(1)
    kernel = _kernel(node, weight)
    if node.has("output_shape"):
        raise ConfigurationError("padding that follows from output_shape is not supported")
    if weight.shape[0] != channels:
        raise ConfigurationError(
            f"its weight takes {weight.shape[0]} channels, its samples have {channels}"
        )
    groups = node.integer("group", 1)
    stride = as_pairs(node.integers("strides", (1, 1), least=1))
    dilation = as_pairs(node.integers("dilations", (1, 1), least=1))
    if node.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise ConfigurationError("padding that follows from auto_pad is not supported")
    extra = node.integers("output_padding", (0, 0))
    top, left, bottom, right = node.integers("pads", (0, 0, 0, 0))
    # What is cut off less at the end than at the start is output padding.
    more = (top - bottom + extra[0], left - right + extra[1])
    if min(more) < 0:
        raise ConfigurationError(f"its padding {((top, bottom), (left, right))} is not symmetric")
    check_output_padding(more, stride, dilation)
    outputs = weight.shape[1] * groups
    return ConvTranspose2d(
        channels,
        outputs,
        kernel,
        stride=stride,
        padding=(top, left),
        output_padding=more,
        groups=groups,
        dilation=dilation,
        weight_init=_given(weight),
        **_bias(node, outputs),
    )


def _gemm(node: FileNode, shape: Shape) -> Layer:
    weight = node.weight(1)
    node.expect(alpha=1.0, beta=1.0, transA=0)
    if weight.ndim != 2:
        raise ConfigurationError(f"its matrix has shape {weight.shape}")
    bias = node.weight(2) if len(node.inputs) > 2 and node.inputs[2] else None
    return linear(weight if node.integer("transB", 0) else weight.T, bias)


def linear(weight: np.ndarray, bias: np.ndarray | None) -> Layer:
    """A layer of these weights, ``(out, in)``.

    Raises
    ------
    ConfigurationError
        If adding the bias to a row of each sample's outputs would mix samples.
    """
    rows, columns = weight.shape
    if bias is None:
        return Linear(columns, rows, bias=False, weight_init=_given(weight))
    if bias.shape not in ((), (1,), (rows,), (1, 1), (1, rows)):
        raise ConfigurationError(f"a summand of shape {bias.shape} is not a bias of {rows} outputs")
    values = np.broadcast_to(bias.reshape(-1), rows)
    return Linear(columns, rows, weight_init=_given(weight), bias_init=_given(values))


def _mat_mul(node: FileNode, shape: Shape) -> Layer:
    weight = node.weight(1)
    if weight.ndim != 2 or len(shape) != 1:
        raise ConfigurationError(f"a product of {('N', *shape)} and {weight.shape}")
    return linear(weight.T, None)


def _pool(kind: Callable[..., Layer]) -> Callable[[FileNode, Shape], Layer]:
    def read(node: FileNode, shape: Shape) -> Layer:
        _maps(shape)
        node.expect(dilations=[1, 1], storage_order=0)
        kernel = as_pairs(node.integers("kernel_shape", None, least=1))
        stride = as_pairs(node.integers("strides", (1, 1), least=1))
        (top, bottom), (left, right) = _pads(node, shape, kernel, stride, (1, 1))
        if (top, left) != (bottom, right):
            raise ConfigurationError(
                f"its padding {((top, bottom), (left, right))} is not symmetric"
            )
        over = [
            (size + 2 * pad - extent) % step
            for size, pad, extent, step in zip(shape[1:], (top, left), kernel, stride, strict=True)
        ]
        if node.integer("ceil_mode", 0) and any(over):
            raise ConfigurationError(f"ceil_mode, which counts for maps of {shape[1:]}")
        more: dict[str, Any] = {}
        if kind is AvgPool2d:
            more["count_include_pad"] = bool(node.integer("count_include_pad", 0))
        return kind(kernel, stride=stride, padding=(top, left), **more)

    return read


def _global_average_pool(node: FileNode, shape: Shape) -> Layer:
    _maps(shape)
    return GlobalAvgPool2d()


def _batch_norm(node: FileNode, shape: Shape) -> Layer:
    if node.integer("training_mode", 0) or not node.integer("spatial", 1):
        raise ConfigurationError("statistics of the batch, or of each pixel, are not supported")
    if len(shape) not in (1, 3):
        raise ConfigurationError(f"batch normalisation of samples of {shape}")
    kind = BatchNorm2d if len(shape) == 3 else BatchNorm1d
    arrays = [node.weight(place) for place in range(1, 5)]
    if any(array.shape != shape[:1] for array in arrays):
        raise ConfigurationError(f"its weights must have shape ({shape[0]},)")
    # ONNX's momentum is the share of the old statistics.
    momentum = round(1.0 - node.number("momentum", 0.9), 9)
    layer = kind(shape[0], eps=node.number("epsilon", 1e-5), momentum=momentum)
    names = ("weight", "bias", "running_mean", "running_var")
    return _fill(layer, **dict(zip(names, arrays, strict=True)))


def _dropout(node: FileNode, shape: Shape) -> Layer:
    ratio = node.number("ratio", 0.5)
    if len(node.inputs) > 1 and node.inputs[1]:
        given = node.constant(1)
        assert given is not None
        if given.size != 1 or given.dtype.kind != "f":
            raise ConfigurationError("its ratio must be a number")
        ratio = float(str(np.float32(given.item())))
    training = node.constant(2)
    if training is not None and np.any(training):
        raise ConfigurationError("training_mode, which drops values in prediction too")
    node.integer("seed", 0)  # of training alone, where fastcnn draws by its own rule
    return Dropout(ratio)


def _flatten(node: FileNode, shape: Shape) -> Layer:
    axis = node.integer("axis", 1)
    if axis not in (1, -len(shape)):
        raise ConfigurationError(f"a Flatten of axis {axis}")
    return Flatten()


def _reduce_mean(node: FileNode, shape: Shape) -> list[Layer]:
    axes = node.whole_numbers("axes", 1)
    keep = node.integer("keepdims", 1)
    node.expect(noop_with_empty_axes=0)
    if len(shape) != 3 or sorted(axes or ()) not in ([2, 3], [-2, -1], [-2, 3], [-1, 2]):
        raise ConfigurationError(f"a mean over axes {axes} of samples of {shape}")
    if keep not in (0, 1):
        raise ConfigurationError(f"keepdims={keep}")
    return [GlobalAvgPool2d()] if keep else [GlobalAvgPool2d(), Flatten()]


def _gelu(node: FileNode, shape: Shape) -> Layer:
    return GELU(node.text("approximate", "none"))


#: How each node is read, with the shape of the samples that enter it.
READERS: dict[str, Callable[[FileNode, Shape], Layer | list[Layer]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _mat_mul,
    "MaxPool": _pool(MaxPool2d),
    "AveragePool": _pool(AvgPool2d),
    "GlobalAveragePool": _global_average_pool,
    "BatchNormalization": _batch_norm,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "ReduceMean": _reduce_mean,
    "Softplus": lambda node, shape: Softplus(),
    "Gelu": _gelu,
    **onnx_norms.READERS,
}
#: Nodes whose inputs after the first one are a layer's parameters.
WEIGHTED = (
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    *onnx_norms.WEIGHTED,
)


def restored(layer: Layer, described: Mapping[str, Any], shape: Shape) -> Layer:
    """A layer with what fastcnn's export noted of it because ONNX has no words for it.

    Raises
    ------
    ConfigurationError
        If the note does not fit the layer.
    """
    kind, values = described.get("type"), {k: v for k, v in described.items() if k != "type"}
    if kind == "Dropout2d" and type(layer) is Dropout and not values:
        return Dropout2d(layer.p)
    if kind == "AdaptiveAvgPool2d" and set(values) == {"output_size"}:
        size = values["output_size"]
        made = AdaptiveAvgPool2d(tuple(size) if isinstance(size, list) else size)
        if _is_adaptive(layer, made, shape):
            return made
    if kind == type(layer).__name__ and isinstance(layer, (LayerNorm, LayerNorm2d, InstanceNorm2d)):
        return onnx_norms.restored_norm(layer, values)
    if kind == type(layer).__name__ and isinstance(layer, (BatchNorm1d, BatchNorm2d)):
        return _restored_norm(layer, values)
    raise ConfigurationError(f"what the file's metadata say of it does not fit: {described!r}")


def _is_adaptive(layer: Layer, made: AdaptiveAvgPool2d, shape: Shape) -> bool:
    """Whether a pooling of even windows is an adaptive one."""
    output = made.output_shape(shape)
    if isinstance(layer, AdaptiveAvgPool2d):
        return layer.output_shape(shape) == output
    even = not any(size % wanted for size, wanted in zip(shape[1:], output[1:], strict=True))
    windows = tuple(size // wanted for size, wanted in zip(shape[1:], output[1:], strict=True))
    return (
        even
        and isinstance(layer, AvgPool2d)
        and layer.kernel_size == layer.stride == windows
        and layer.padding == (0, 0)
    )


def _restored_norm(layer: BatchNorm1d | BatchNorm2d, values: Mapping[str, Any]) -> Layer:
    arguments: dict[str, Any] = {"eps": layer.eps, "momentum": layer.momentum}
    batches = values.get("num_batches_tracked", 0)
    is_count = isinstance(batches, int) and not isinstance(batches, bool)
    known = {"momentum", "affine", "weight", "bias", "num_batches_tracked"}
    if not set(values) <= known or not is_count or not 0 <= batches < 2**63:
        raise ConfigurationError(f"what the file's metadata say of it does not fit: {values!r}")
    if "momentum" in values and values["momentum"] is None:
        arguments["momentum"] = None
    if values.get("affine") is False:
        if np.any(layer.parameters["weight"] != 1.0) or np.any(layer.parameters["bias"]):
            raise ConfigurationError("it has weights, and the file's metadata say that it has none")
        arguments["affine"] = False
    for name, neutral in (("weight", 1.0), ("bias", 0.0)):
        if values.get(name) is False:
            if np.any(layer.parameters[name] != neutral):
                raise ConfigurationError(
                    f"it has a {name}, and the file's metadata say that it has none"
                )
            arguments[name] = False
    made = type(layer)(layer.num_features, **arguments)
    _fill(made, **{name: layer.parameters[name] for name in made.parameters})
    return _fill(made, **{**layer.buffers, "num_batches_tracked": np.array(batches)})
