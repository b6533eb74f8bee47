"""ONNX export of convolutions, pooling and pixel moves, for maps and sequences."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn.backends.geometry import adaptive_windows
from fastcnn.backends.graph import Node
from fastcnn.backends.sampling import interpolation_taps, padded_sources
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_patterns import mean_matrix
from fastcnn.interop.onnx_writer import OnnxWriter


def _axes(node: Node) -> int:
    """Dimensions of the node's maps: 2, or 1 for sequences."""
    return len(node.input_shapes[0]) - 1


def _own(node: Node, *names: str) -> list[Any]:
    """Arguments of the node for its own axes: for sequences without the row axis."""
    return [list(node.arguments[name])[-_axes(node) :] for name in names]


def _gaps(node: Node) -> list[int]:
    """Pixels from one of a pooling's window to the next, on each axis."""
    return list(node.arguments.get("dilation", (1, 1)))[-_axes(node) :]


def _pads(sides: list[Any]) -> list[int]:
    """All zeros before, then all after."""
    return [before for before, _ in sides] + [after for _, after in sides]


def _convolution(
    w: OnnxWriter, node: Node, x: list[str], kind: str, padding: list[Any], **more: Any
) -> str:
    strides, dilations = _own(node, "stride", "dilation")
    return w.add(
        kind,
        x + w.parameters(node, "weight", "bias"),
        node.name,
        strides=strides,
        pads=_pads(padding),
        dilations=dilations,
        group=node.arguments["groups"],
        **more,
    )


def _conv_transpose(w: OnnxWriter, node: Node, x: list[str]) -> str:
    strides, padding, extra = _own(node, "stride", "padding", "output_padding")
    if any(more >= step for more, step in zip(extra, strides, strict=True)):
        # ONNX Runtime accepts output padding only below the stride, PyTorch also below the
        # dilation. Cropping less at the end is equivalent, as far as there is cropping.
        padding = [
            (before, after - more) for (before, after), more in zip(padding, extra, strict=True)
        ]
        if min(after for _, after in padding) < 0:
            raise ConfigurationError(
                f"layer {node.name!r}: ONNX has no output_padding {tuple(extra)} that is neither "
                f"below the stride {tuple(strides)} nor at most the padding "
                f"{tuple(before for before, _ in padding)}"
            )
        extra = [0] * len(extra)
    return _convolution(w, node, x, "ConvTranspose", padding, output_padding=extra)


def _pool_pads(node: Node) -> tuple[list[int], bool]:
    """Padding of a pooling, and whether there is additional padding at the end for ``ceil_mode``.

    ONNX runtimes disagree on ``ceil_mode``.
    """
    kernel, strides, padding = _own(node, "kernel_size", "stride", "padding")
    sides, reaches = [], False
    for size, output, k, step, pad, gap in zip(
        node.input_shapes[0][1:],
        node.output_shape[1:],
        kernel,
        strides,
        padding,
        _gaps(node),
        strict=True,
    ):
        needed = (output - 1) * step + gap * (k - 1) + 1 - size - pad
        sides.append((pad, max(pad, needed)))
        reaches = reaches or needed > pad
    return _pads(sides), reaches


def _max_pool(w: OnnxWriter, node: Node, x: list[str]) -> str:
    kernel, strides, padding = _own(node, "kernel_size", "stride", "padding")
    pads, _ = _pool_pads(node)
    more: dict[str, Any] = {} if set(_gaps(node)) == {1} else {"dilations": _gaps(node)}
    if any(pad >= k for pad, k in zip(pads, 2 * kernel, strict=True)):
        # ONNX Runtime refuses as much padding as a window has pixels, which ceil_mode may add
        # where there are gaps between them.
        whole = [
            -(-(size + 2 * pad - gap * (k - 1) - 1) // step) + 1
            for size, k, step, pad, gap in zip(
                node.input_shapes[0][1:], kernel, strides, padding, _gaps(node), strict=True
            )
        ]
        if whole != list(node.output_shape[1:]):
            raise ConfigurationError(
                f"layer {node.name!r}: ONNX runtimes disagree on ceil_mode where a window would "
                "begin in the padding"
            )
        if any(pad >= k for pad, k in zip(padding, kernel, strict=True)):
            raise ConfigurationError(
                f"layer {node.name!r}: ONNX Runtime refuses padding of {tuple(padding)} pixels for "
                f"windows of {tuple(kernel)}"
            )
        pads, more["ceil_mode"] = padding * 2, 1
    return w.add("MaxPool", x, node.name, kernel_shape=kernel, strides=strides, pads=pads, **more)


def _avg_pool(w: OnnxWriter, node: Node, x: list[str]) -> str:
    kernel, strides, padding = _own(node, "kernel_size", "stride", "padding")
    pads, reaches = _pool_pads(node)
    arguments = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    divisor = node.arguments.get("divisor_override")
    if divisor is not None:
        # The mean over full windows, including zeros, times their size is the sum.
        mean = w.add("AveragePool", x, "", count_include_pad=1, **arguments)
        factor = w.constant(f"{node.name}/factor", np.prod(kernel) / divisor)
        return w.add("Mul", [mean, factor], node.name)
    counted = node.arguments["count_include_pad"]
    if reaches and counted:
        if any(padding):
            raise ConfigurationError(
                f"layer {node.name!r}: ONNX has no average that counts padding, but not what "
                "ceil_mode adds"
            )
        counted = False
    return w.add("AveragePool", x, node.name, count_include_pad=int(counted), **arguments)


def _adaptive_pool(w: OnnxWriter, node: Node, x: list[str]) -> str:
    axes = _axes(node)
    size, output = node.input_shapes[0][1:], node.output_shape[1:]
    kind = "Max" if node.operation == "adaptive_max_pool2d" else "Avg"
    long = "Max" if kind == "Max" else "Average"
    (wanted,) = _own(node, "output_size")
    if wanted != [1] * axes:
        w.note(node, f"Adaptive{kind}Pool{axes}d", output_size=wanted)
    if set(output) == {1}:
        return w.add(f"Global{long}Pool", x, node.name)
    if any(a % b for a, b in zip(size, output, strict=True)):
        if kind == "Max" or axes == 1:
            raise ConfigurationError(
                f"layer {node.name!r}: ONNX has no adaptive pooling of windows that differ, as "
                f"those of {tuple(output)} over {tuple(size)}"
            )
        # Means are matrix products.
        rows, columns = (mean_matrix(a, b) for a, b in zip(size, output, strict=True))
        across = w.add("MatMul", [*x, w.constant(f"{node.name}/columns", columns.T)], "")
        return w.add("MatMul", [w.constant(f"{node.name}/rows", rows), across], node.name)
    windows = [adaptive_windows(a, b)[0] for a, b in zip(size, output, strict=True)]
    window = [end - first for first, end in windows]
    return w.add(f"{long}Pool", x, node.name, kernel_shape=window, strides=window)


def _pad(w: OnnxWriter, node: Node, x: list[str]) -> str:
    (padding,) = _own(node, "padding")
    mode = node.arguments["mode"]
    pads = _pads([(0, 0), (0, 0), *padding])
    if mode == "circular" and any(map(any, padding)):
        sizes = node.input_shapes[0][1:]
        return _gather(w, node, x, list(map(padded_sources, sizes, padding, [mode] * len(sizes))))
    kind = {"replicate": "edge", "circular": "constant"}.get(mode, mode)
    return w.add("Pad", [*x, w.whole_numbers(f"{node.name}/pads", pads)], node.name, mode=kind)


def _gather(w: OnnxWriter, node: Node, x: list[str], sources: list[np.ndarray]) -> str:
    """Gather rows, then columns, where ONNX has no other exact form."""
    sizes = node.input_shapes[0][1:]
    moved = [
        axis
        for axis, (size, places) in enumerate(zip(sizes, sources, strict=True))
        if not np.array_equal(places, np.arange(size))
    ]
    made = x[0]
    for axis in moved:
        indices = w.whole_numbers(f"{node.name}/sources{axis}", sources[axis].tolist())
        name = node.name if axis == moved[-1] else ""
        made = w.add("Gather", [made, indices], name, axis=axis + 2)
    return made


def _interpolate(w: OnnxWriter, node: Node, x: list[str]) -> str:
    mode, corners = node.arguments["mode"], node.arguments["align_corners"]
    factors, sources, is_exact = [], [], True
    for size, output in zip(node.input_shapes[0][1:], node.output_shape[1:], strict=True):
        factor = np.float32(output / size)
        # Runtimes multiply in float32 or float64.
        while size * float(factor) < output:
            factor = np.nextafter(factor, np.float32(np.inf))
        nearest = np.floor(np.arange(output, dtype=np.float32) / factor).astype(int)
        exact, _, _ = interpolation_taps(size, output, "nearest", False)
        assert np.floor(np.float32(size) * factor) == output
        factors.append(float(factor))
        sources.append(exact)
        is_exact = is_exact and bool((nearest == exact).all())
    if mode == "nearest":
        if not is_exact:  # Resize would round to another pixel
            return _gather(w, node, x, sources)
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        place = "align_corners" if corners else "half_pixel"
        how = {"coordinate_transformation_mode": place}
    scales = w.constant(f"{node.name}/scales", [1.0, 1.0, *factors])
    kind = "nearest" if mode == "nearest" else "linear"
    return w.add("Resize", [*x, "", scales], node.name, mode=kind, **how)


def _shuffled(w: OnnxWriter, node: Node, x: list[str], split: list[int], order: list[int]) -> str:
    """Split the axes of a sample, permute them, and merge them."""
    first = w.add("Reshape", [*x, w.whole_numbers(f"{node.name}/split", [0, *split])], "")
    perm = [0, *(axis + 1 for axis in order)]
    moved = w.add("Transpose", [first], "", perm=perm)
    joined = w.whole_numbers(f"{node.name}/joined", [0, *node.output_shape])
    return w.add("Reshape", [moved, joined], node.name)


def _pixel_unshuffle(w: OnnxWriter, node: Node, x: list[str]) -> str:
    factor = node.arguments["downscale_factor"]
    channels, rows, columns = node.output_shape
    split = [channels // factor**2, rows, factor, columns, factor]
    return _shuffled(w, node, x, split, [0, 2, 4, 1, 3])


def _channel_shuffle(w: OnnxWriter, node: Node, x: list[str]) -> str:
    groups = node.arguments["groups"]
    channels, *size = node.input_shapes[0]
    order = [1, 0, *range(2, 2 + len(size))]
    return _shuffled(w, node, x, [groups, channels // groups, *size], order)


def _unflatten(w: OnnxWriter, node: Node, x: list[str]) -> str:
    shape = w.whole_numbers(f"{node.name}/shape", [0, *node.output_shape])
    return w.add("Reshape", [*x, shape], node.name)


#: Writer of each operation.
MAP_WRITERS: dict[str, Callable[[OnnxWriter, Node, list[str]], str]] = {
    "conv2d": lambda w, node, x: _convolution(w, node, x, "Conv", *_own(node, "padding")),
    "conv_transpose2d": _conv_transpose,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive_pool,
    "adaptive_max_pool2d": _adaptive_pool,
    "pad": _pad,
    "interpolate": _interpolate,
    "pixel_shuffle": lambda w, node, x: w.add(
        "DepthToSpace", x, node.name, blocksize=node.arguments["upscale_factor"], mode="CRD"
    ),
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "unflatten": _unflatten,
}
