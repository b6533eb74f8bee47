"""ONNX import of convolutions, pooling and pixel moves, for maps and sequences."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from fastcnn import layers
from fastcnn.backends.geometry import check_output_padding
from fastcnn.backends.graph import Shape
from fastcnn.backends.sampling import padded_sources
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.interop.onnx_file import FileNode, check_size
from fastcnn.layers import Layer
from fastcnn.layers.init import Initializer

#: Words for padding.
WORDS = ("VALID", "SAME_UPPER", "SAME_LOWER")
#: Padding before and after, for each axis.
Pads = tuple[tuple[int, int], ...]


def given(value: np.ndarray) -> Initializer:
    """An initialiser that returns a weight from the file."""

    def draw(shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        return value.reshape(tuple(shape))

    return draw


def maps(shape: Shape) -> Shape:
    """The shape of maps or sequences; others are refused."""
    if len(shape) not in (2, 3):
        raise ConfigurationError(
            f"its samples have shape {shape}, {max(len(shape) - 1, 0)} dimensions for each "
            "channel; fastcnn's layers have one or two"
        )
    return shape


def of_maps(name: str, shape: Shape) -> Any:
    """The layer class for maps or sequences: ``MaxPool`` is MaxPool2d or MaxPool1d."""
    return getattr(layers, f"{name}{len(maps(shape)) - 1}d")


def _pads(
    node: FileNode,
    shape: Shape,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Pads:
    """Padding before and after for each axis of a map of ``shape``."""
    has_pads, axes = node.has("pads"), len(shape) - 1
    pads = node.integers("pads", (0,) * (2 * axes))
    auto = node.text("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return tuple(zip(pads[:axes], pads[axes:], strict=True))
    if has_pads or auto not in WORDS:
        raise ConfigurationError(f"auto_pad={auto!r} is not supported{' with pads' * has_pads}")
    if auto == "VALID":
        return ((0, 0),) * axes
    if node.kind == "MaxPool" and any(min(pair) > 1 for pair in zip(dilation, kernel, strict=True)):
        raise ConfigurationError(
            f"auto_pad={auto!r} with dilations {dilation}: ONNX Runtime pads for a window without "
            "them, which is not what ONNX says"
        )
    sides = []
    for size, extent, step, gap in zip(shape[1:], kernel, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + gap * (extent - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        sides.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return tuple(sides)


def remainders(node: FileNode, shape: Shape) -> Shape:
    """What padding depends on besides the attributes.

    For ``auto_pad`` these are the maps' sizes modulo the strides, for ``output_shape`` the sizes.
    """
    if "output_shape" in node.given:
        return shape[1:]
    if not bytes(node.given.get("auto_pad", b"")).startswith(b"SAME"):
        return ()
    steps = node.given.get("strides", ())
    return tuple(size % max(step, 1) for size, step in zip(shape[1:], steps, strict=False))


def _kernel(node: FileNode, weight: np.ndarray, shape: Shape) -> tuple[int, ...]:
    if weight.ndim != len(shape) + 1:
        raise ConfigurationError(f"its weight has shape {weight.shape}, its samples have {shape}")
    kernel = tuple(weight.shape[2:])
    if node.integers("kernel_shape", kernel) != kernel:
        raise ConfigurationError(f"kernel_shape is not that of the weight, {weight.shape}")
    return kernel


def _steps(node: FileNode, name: str, shape: Shape) -> tuple[int, ...]:
    """An attribute with a number per axis, by default 1."""
    return node.integers(name, (1,) * (len(shape) - 1), least=1)


def _bias(node: FileNode, size: int) -> dict[str, Any]:
    """Arguments of a layer for the bias at a node's third input, if there is one."""
    if not node.input(2):
        return {"bias": False}
    bias = node.weight(2)
    if bias.shape != (size,):
        raise ConfigurationError(f"its bias must have shape ({size},), got {bias.shape}")
    return {"bias": True, "bias_init": given(bias)}


def _conv(node: FileNode, shape: Shape) -> Layer:
    channels, *_ = maps(shape)
    weight = node.weight(1)
    kernel = _kernel(node, weight, shape)
    stride, dilation = _steps(node, "strides", shape), _steps(node, "dilations", shape)
    pads = _pads(node, shape, kernel, stride, dilation)
    check_size((channels, *(size + sum(pair) for size, pair in zip(shape[1:], pads, strict=True))))
    even = all(before == after for before, after in pads)
    padding: Any = tuple(before for before, _ in pads) if even else pads
    reach = [gap * (extent - 1) for gap, extent in zip(dilation, kernel, strict=True)]
    is_same = pads == tuple((n // 2, n - n // 2) for n in reach)
    if not even and set(stride) == {1} and is_same:
        padding = "same"
    made: Layer = of_maps("Conv", shape)(
        channels,
        weight.shape[0],
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=_groups(node, channels, weight.shape[1]),
        weight_init=given(weight),
        **_bias(node, weight.shape[0]),
    )
    return made


def _groups(node: FileNode, channels: int, of_weight: int) -> int:
    groups = node.integer("group", 1)
    if groups < 1 or of_weight * groups != channels:
        raise ConfigurationError(
            f"its weight takes {of_weight} channels in {groups} groups, its samples have {channels}"
        )
    return groups


def _conv_transpose(node: FileNode, shape: Shape) -> list[Layer]:
    channels, *_ = maps(shape)
    weight = node.weight(1)
    kernel = _kernel(node, weight, shape)
    if weight.shape[0] != channels:
        raise ConfigurationError(
            f"its weight takes {weight.shape[0]} channels, its samples have {channels}"
        )
    groups = node.integer("group", 1)
    stride, dilation = _steps(node, "strides", shape), _steps(node, "dilations", shape)
    extra = node.integers("output_padding", (0,) * (len(shape) - 1))
    # Cropped values are computed too.
    whole = [
        (size - 1) * step + gap * (extent - 1) + 1
        for size, step, gap, extent in zip(shape[1:], stride, dilation, kernel, strict=True)
    ]
    outputs = weight.shape[1] * groups
    check_size((outputs, *whole))
    grown = [size + more for size, more in zip(whole, extra, strict=True)]
    sides = _cropped(node, grown, [n * step for n, step in zip(shape[1:], stride, strict=True)])
    # Less cropping at the end than at the start is output padding, if that is not too much; a
    # ZeroPad crops the rest.
    padding, output_padding, cut = list[int](), list[int](), list[int]()
    for (before, after), own, most in zip(sides, extra, map(max, stride, dilation), strict=True):
        end = after - own
        padding.append(before if before - end < most else max(end, 0))
        output_padding.append(max(padding[-1] - end, 0))
        cut[:0] = padding[-1] - before, padding[-1] - output_padding[-1] - end
    check_output_padding(tuple(output_padding), stride, dilation)
    made: Layer = of_maps("ConvTranspose", shape)(
        channels,
        outputs,
        kernel,
        stride=stride,
        padding=tuple(padding),
        output_padding=tuple(output_padding),
        groups=groups,
        dilation=dilation,
        weight_init=given(weight),
        **_bias(node, outputs),
    )
    return [made, of_maps("ZeroPad", shape)(tuple(cut))] if any(cut) else [made]


def _cropped(node: FileNode, whole: Sequence[int], same: Sequence[int]) -> Pads:
    """Cropping of a transposed convolution, before and after, for each axis.

    Parameters
    ----------
    whole : sequence of int
        Sizes of the uncropped result.
    same : sequence of int
        Sizes for ``auto_pad`` without ``output_shape``.
    """
    axes, auto, has_pads = len(whole), node.text("auto_pad", "NOTSET"), node.has("pads")
    pads = node.integers("pads", (0,) * (2 * axes))
    if auto != "NOTSET" and (has_pads or auto not in WORDS):
        raise ConfigurationError(f"auto_pad={auto!r} is not supported{' with pads' * has_pads}")
    wanted = same if auto.startswith("SAME") else None
    if node.has("output_shape"):
        wanted = node.integers("output_shape", None)[-axes:]
    if wanted is None:
        return tuple(zip(pads[:axes], pads[axes:], strict=True))
    if len(wanted) < axes or any(left > size for size, left in zip(whole, wanted, strict=False)):
        raise ConfigurationError(f"it makes {tuple(whole)} pixels, not {tuple(wanted)}")
    sides = []
    for size, left in zip(whole, wanted, strict=True):
        less, more = (size - left) // 2, -(-(size - left) // 2)
        sides.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return tuple(sides)


def _pool(name: str) -> Callable[[FileNode, Shape], Layer | list[Layer]]:
    def read(node: FileNode, shape: Shape) -> Layer | list[Layer]:
        axes, kind = len(shape) - 1, of_maps(f"{name}Pool", shape)
        node.expect(storage_order=0)
        kernel = node.integers("kernel_shape", None, least=1)
        if len(kernel) != axes:
            raise ConfigurationError(f"a window of {kernel} over samples of {shape}")
        stride, gaps = _steps(node, "strides", shape), _steps(node, "dilations", shape)
        pads = _pads(node, shape, kernel, stride, gaps)
        padding = tuple(before for before, _ in pads)
        more: dict[str, Any] = {}
        if name == "Avg":
            if set(gaps) != {1}:
                raise ConfigurationError("an average of pixels with gaps between them")
            more["count_include_pad"] = bool(node.integer("count_include_pad", 0))
        else:
            more["dilation"] = gaps
        is_ceil = ceil_mode = bool(node.integer("ceil_mode", 0))
        if any(before != after for before, after in pads):
            ceil_mode = True
            found = []
            for size, (before, after), extent, step, gap in zip(
                shape[1:], pads, kernel, stride, gaps, strict=True
            ):
                room = size + before + after - gap * (extent - 1) - 1
                steps = -(-room // step) if is_ceil else room // step
                found.append(steps + 1 - (is_ceil and steps * step >= size + before))
            counted = more.get("count_include_pad", False)
            if counted and not is_ceil:
                zeros = of_maps("ZeroPad", shape)(tuple(n for pair in reversed(pads) for n in pair))
                return [zeros, kind(kernel, stride=stride)]
            made: Layer = kind(kernel, stride=stride, padding=padding, ceil_mode=True, **more)
            if counted or list(made.output_shape(shape)[1:]) != found:
                raise ConfigurationError(f"its padding {pads} is not symmetric")
        if name == "Avg" and ceil_mode and not any(padding):
            # No zeros are counted either way; the export writes PyTorch's default like this.
            more["count_include_pad"] = True
        made = kind(kernel, stride=stride, padding=padding, ceil_mode=ceil_mode, **more)
        plain: Layer = kind(kernel, stride=stride, padding=padding, **more)
        with suppress(ShapeError):
            if ceil_mode and plain.output_shape(shape) == made.output_shape(shape):
                return plain
        return made

    return read


def _gather(node: FileNode, shape: Shape) -> Layer:
    """A Gather of rows or columns: nearest upsampling, or circular padding."""
    indices, axis = node.constant(1), node.integer("axis", 0)
    axis += 0 if axis >= 0 else len(shape) + 1
    is_list = indices is not None and indices.dtype.kind == "i" and indices.ndim == 1
    if indices is None or not is_list or not 2 <= axis <= len(maps(shape)):
        raise ConfigurationError(f"a Gather of samples of {shape} along axis {axis}")
    size, count = shape[axis - 1], len(indices)
    indices = np.where(indices < 0, indices + size, indices)
    if np.array_equal(indices, np.arange(count) * size // count):
        output = list(shape[1:])
        output[axis - 2] = count
        return upsample(shape, tuple(output), "nearest", None)
    before = int(-indices[0] % size)
    if before == 0 and count > 2 * size:
        before = size  # the whole map is repeated before itself
    after = count - size - before
    if (
        not 0 <= after <= size
        or (indices != padded_sources(size, (before, after), "circular")).any()
    ):
        raise ConfigurationError("a Gather whose indices neither stretch nor repeat the map")
    axes = len(shape) - 1
    sides = [(before, after) if each == axis - 2 else (0, 0) for each in range(axes)]
    made: Layer = of_maps("CircularPad", shape)(tuple(n for pair in reversed(sides) for n in pair))
    return made


def upsample(shape: Shape, output: Shape, mode: str, corners: bool | None) -> Layer:
    """An Upsample layer: by a factor if it is an integer, otherwise to a size."""
    if all(new % old == 0 for old, new in zip(shape[1:], output, strict=True)):
        factors = tuple(new // old for old, new in zip(shape[1:], output, strict=True))
        return layers.Upsample(scale_factor=factors, mode=mode, align_corners=corners)
    return layers.Upsample(size=output, mode=mode, align_corners=corners)


def _depth_to_space(node: FileNode, shape: Shape) -> Layer | list[Layer]:
    factor = node.integer("blocksize", 0)
    mode = node.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise ConfigurationError(f"a DepthToSpace with mode={mode!r}")
    shuffle = layers.PixelShuffle(factor)
    # DCR, TensorFlow's order, permutes the channels.
    return shuffle if mode == "CRD" else [layers.ChannelShuffle(factor**2), shuffle]


def _space_to_depth(node: FileNode, shape: Shape) -> list[Layer]:
    return [
        layers.PixelUnshuffle(node.integer("blocksize", 0)),
        layers.ChannelShuffle(maps(shape)[0]),
    ]


#: Pooling layers that the metadata may name.
ADAPTIVE = tuple(f"Adaptive{kind}Pool{axes}d" for kind in ("Avg", "Max") for axes in (1, 2))


def is_adaptive(layer: Layer, made: Layer, shape: Shape) -> bool:
    """Whether a pooling with equal windows is adaptive."""
    if len(shape) - 1 != len(made.axes):  # type: ignore[attr-defined]
        return False
    output = made.output_shape(shape)
    if isinstance(layer, type(made)):
        return layer.output_shape(shape) == output
    even = not any(size % wanted for size, wanted in zip(shape[1:], output[1:], strict=True))
    windows = tuple(size // wanted for size, wanted in zip(shape[1:], output[1:], strict=True))
    is_max = made.operation == "adaptive_max_pool2d"
    return (
        even
        and layer.operation == ("max_pool2d" if is_max else "avg_pool2d")
        and layer.kernel_size == layer.stride == windows  # type: ignore[attr-defined]
        and not any(layer.padding)  # type: ignore[attr-defined]
        and set(getattr(layer, "dilation", (1,))) == {1}
    )


#: Reader of each operator, called with the node and the shape of its input samples.
MAP_READERS: dict[str, Callable[[FileNode, Shape], Layer | list[Layer]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool("Max"),
    "AveragePool": _pool("Avg"),
    "GlobalAveragePool": lambda node, shape: of_maps("GlobalAvgPool", shape)(),
    "GlobalMaxPool": lambda node, shape: of_maps("GlobalMaxPool", shape)(),
    "Gather": _gather,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
