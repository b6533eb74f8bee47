"""Local response normalisation as PyTorch's exporters write it: means of a fifth dimension."""

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import FileNode
from fastcnn.interop.onnx_shapes import reshaped
from fastcnn.interop.onnx_wiring import Wiring
from fastcnn.layers import LocalResponseNorm


def local_response(w: Wiring, node: FileNode) -> tuple[LocalResponseNorm, str] | None:
    """The layer that ``x / (k + alpha * mean(x * x)) ** beta`` is, and its input.

    The mean is over channels: an AveragePool of samples ``(1, C, H, W)``.
    """
    x = node.inputs[0]
    shape = w.shape(x)
    power = w.nodes.get(node.inputs[1])
    if shape is None or len(shape) != 3 or power is None or power.kind != "Pow":
        return None
    total, beta = w.nodes.get(power.inputs[0]), _number(w, power.inputs[1])
    k, scaled = _of_constant(w, total, "Add")
    alpha, means = _of_constant(w, w.nodes.get(scaled), "Mul")
    pool = _whole(w, means, shape)
    window = tuple(pool.given.get("kernel_shape", ())) if pool is not None else ()
    if pool is None or beta is None or k is None or alpha is None or window[1:] != (1, 1):
        return None
    size = window[0]
    plain = {*pool.given.get("strides", ()), *pool.given.get("dilations", ())} <= {1}
    plain &= bytes(pool.given.get("auto_pad", b"NOTSET")) in (b"NOTSET", b"VALID")
    before = size // 2
    pad = w.nodes.get(pool.inputs[0])
    if pad is None or not plain or any(pool.given.get("pads", ())):
        return None
    if not _is_padding(w, pad, (before, size - 1 - before)):
        return None
    split = w.nodes.get(pad.inputs[0])
    if split is None or not _is_reshape(w, split, shape, (1, *shape)):
        return None
    square = w.nodes.get(split.inputs[0])
    if square is None or not _is_square(w, square, x):
        return None
    return LocalResponseNorm(int(size), alpha, beta, k), x


def _number(w: Wiring, name: str) -> float | None:
    """A constant of one number, in the model's type."""
    constants = w.file.constants
    if name not in constants or constants.type_of(name) != w.file.element_type:
        return None
    array = constants[name]
    return float(str(np.float32(array.item()))) if array.shape in ((), (1,)) else None


def _of_constant(w: Wiring, node: FileNode | None, kind: str) -> tuple[float | None, str]:
    """The number that a node adds or multiplies, and the other value."""
    if node is not None and node.kind == kind:
        for value, other in (node.inputs, node.inputs[::-1]):
            if (number := _number(w, other)) is not None:
                return number, value
    return None, ""


def _whole(w: Wiring, name: str, shape: Shape) -> FileNode | None:
    """The AveragePool of which a value is the only channel, in the shape of a sample."""
    node = w.nodes.get(name)
    is_whole = node is not None and _is_reshape(w, node, shape, shape)
    if node is not None and is_whole:
        name = node.inputs[0]
        node = w.nodes.get(name)
    if node is not None and node.kind == "If" and is_whole and len(node.given) == 2:
        name = _squeezed_if_one(node)
    elif node is not None and node.kind == "Squeeze" and _axes(w, node) in ((1,), (-4,)):
        name, is_whole = node.inputs[0], True
    node = w.nodes.get(name)
    return node if node is not None and node.kind == "AveragePool" and is_whole else None


def _squeezed_if_one(node: FileNode) -> str:
    """The value that an If squeezes or passes on: the same numbers in either branch."""
    sources = set()
    for name, last in (("then_branch", "Squeeze"), ("else_branch", "Identity")):
        graph = node.given[name]
        if [inner.op_type for inner in graph.node] not in ([last], ["Constant", last]):
            return ""
        if [value.name for value in graph.output] != list(graph.node[-1].output):
            return ""
        sources.add(graph.node[-1].input[0])
    return sources.pop() if len(sources) == 1 else ""


def _axes(w: Wiring, node: FileNode) -> tuple[int | None, ...]:
    if "axes" in node.given:
        return tuple(node.given["axes"])
    numbers = w.numbers_of(node.inputs[1]) if len(node.inputs) > 1 else None
    return () if numbers is None else numbers.values


def _is_reshape(w: Wiring, node: FileNode, sample: Shape, shape: Shape) -> bool:
    wanted = w.numbers_of(node.inputs[1]) if node.kind == "Reshape" else None
    if wanted is None or 0 in wanted.values[1:]:
        return False
    try:
        return reshaped(node, sample, wanted, w.file.batch) == shape
    except ConfigurationError:
        return False


def _is_padding(w: Wiring, node: FileNode, sides: tuple[int, int]) -> bool:
    """Whether a node puts zeros before and after the channels of samples ``(1, C, H, W)``."""
    pads = tuple(node.given.get("pads", ()))
    if not pads and len(node.inputs) > 1 and node.inputs[1] in w.file.constants:
        pads = tuple(w.file.constants[node.inputs[1]].reshape(-1).tolist())
    if len(node.inputs) > 3 and node.inputs[3]:
        return False
    given = [name for name in node.inputs[2:] if name]
    zeros = all(name in w.file.constants and not np.any(w.file.constants[name]) for name in given)
    before, after = sides
    return (
        node.kind == "Pad"
        and zeros
        and bytes(node.given.get("mode", b"constant")) == b"constant"
        and not node.given.get("value", 0.0)
        and pads == (0, 0, before, 0, 0, 0, 0, after, 0, 0)
    )


def _is_square(w: Wiring, node: FileNode, x: str) -> bool:
    if node.kind == "Pow" and node.inputs[1] in w.file.constants:
        exponent = w.file.constants[node.inputs[1]]
        is_two = exponent.shape in ((), (1,)) and exponent.item() == 2
        return is_two and node.inputs[0] == x
    return node.kind == "Mul" and tuple(node.inputs) == (x, x)
