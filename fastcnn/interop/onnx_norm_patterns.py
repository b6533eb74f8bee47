"""Normalisations that are several nodes in an ONNX file."""

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import FileNode, shortest
from fastcnn.interop.onnx_norms import filled
from fastcnn.interop.onnx_shapes import reshaped
from fastcnn.interop.onnx_wiring import Wiring
from fastcnn.layers import GroupNorm, Layer, LayerNorm, LayerNorm2d, LocalResponseNorm, RMSNorm

Found = tuple[Layer, str]
Arrays = dict[str, np.ndarray]


def normalisation(w: Wiring, node: FileNode) -> Found | None:
    """The layer that ends in a node, and its input; None if it is not such a formula."""
    found = None
    if node.kind in ("Reshape", "Mul", "Add"):
        found = _of_groups(w, node)
    if node.kind in ("Add", "Mul", "Div"):
        found = found or _centred(w, node)
    if node.kind in ("Mul", "Div"):
        found = found or _mean_square(w, node)
    return found or (_local_response(w, node) if node.kind == "Div" else None)


def _constant_factor(w: Wiring, node: FileNode) -> tuple[str, np.ndarray] | None:
    """The value and the constant of a Mul or Add."""
    for value, other in (node.inputs, node.inputs[::-1]):
        if other in w.file.constants and value not in w.file.constants:
            return value, node.weight(node.inputs.index(other))
    return None


def _affine(w: Wiring, node: FileNode, kind: str) -> tuple[FileNode, Arrays] | None:
    """The node of a kind that a node is, or whose output it scales and shifts, with the arrays."""
    arrays: Arrays = {}
    here: FileNode | None = node
    for other, name in (("Add", "bias"), ("Mul", "weight")):
        if here is not None and here.kind == other:
            if (found := _constant_factor(w, here)) is None:
                return None
            value, arrays[name] = found
            here = w.made_by(value, "Mul", alone=True) or w.made_by(value, kind, alone=True)
    return None if here is None or here.kind != kind else (here, arrays)


def _factors(arrays: Arrays, sizes: Shape, shape: Shape) -> Arrays | None:
    """Weight and bias of ``shape``, both or neither; None if they do not have the ``sizes``."""
    if any(array.shape not in (sizes, (1, *sizes)) for array in arrays.values()):
        return None
    neutral = {"weight": np.ones(shape), "bias": np.zeros(shape)} if arrays else {}
    return {name: arrays.get(name, value).reshape(shape) for name, value in neutral.items()}


def _of_groups(w: Wiring, node: FileNode) -> Found | None:
    """InstanceNormalization of groups formed by a Reshape, followed by weights."""
    found = _affine(w, node, "Reshape")
    if found is None:
        return None
    joined, arrays = found
    norm = w.made_by(joined.inputs[0], "InstanceNormalization", alone=True)
    split = w.made_by(norm.inputs[0], "Reshape", alone=True) if norm else None
    if norm is None or split is None:
        return None
    source = split.inputs[0]
    shape, sizes = w.shape(source), _sizes(w, split)
    if shape is None or sizes is None or len(sizes) < 3 or sizes[1] < 1:
        return None
    if sizes[0] not in (0, w.file.batch) or sizes[2:] != (-1,) * (len(sizes) - 2):
        return None
    back, groups = _sizes(w, joined), sizes[1]
    asked = w.nodes.get(joined.inputs[1])
    if asked is not None and asked.kind == "Shape" and asked.inputs == (source,):
        is_whole = not asked.given.get("start", 0) and "end" not in asked.given
        back = (0, *shape) if is_whole else None
    same = back is not None and back[0] in (0, -1, w.file.batch) and back[1:] == shape
    if not same or shape[0] % groups:
        return None
    plain = [norm.weight(1), norm.weight(2)]
    if plain[0].shape != (groups,) or np.any(plain[0] != 1.0) or np.any(plain[1] != 0.0):
        return None
    neutral = {"weight": 1.0, "bias": 0.0}
    # A constant with more dimensions than the samples would add dimensions to the result.
    one = (1,) * (1 + len(shape))
    arrays = {k: v for k, v in arrays.items() if v.shape != one[: v.ndim] or v.item() != neutral[k]}
    factors = _factors(arrays, (shape[0], *one[2:]), shape[:1])
    if factors is None:
        return None
    eps = shortest(norm.given.get("epsilon", 1e-5))
    layer = GroupNorm(groups, shape[0], eps, affine=bool(factors))
    return filled(layer, **factors), source


def _sizes(w: Wiring, node: FileNode) -> tuple[int, ...] | None:
    """The target shape of a Reshape, if it is a constant."""
    if node.inputs[1] not in w.file.constants:
        return None
    array = w.file.constants[node.inputs[1]]
    if array.dtype.kind != "i" or array.ndim != 1:
        return None
    return tuple(int(size) for size in array)


def _mean_square(w: Wiring, node: FileNode) -> Found | None:
    """``x / sqrt(mean(x * x) + eps) * weight``, or ``x`` times the reciprocal of the root."""
    weight, value = None, node
    if node.kind == "Mul" and (found := _constant_factor(w, node)) is not None:
        inner = w.made_by(found[0], "Div", alone=True) or w.made_by(found[0], "Mul", alone=True)
        if inner is None:
            return None
        weight, value = found[1], inner
    for x, other in (value.inputs, value.inputs[::-1]):
        root = other if value.kind == "Div" and other == value.inputs[1] else ""
        turned = w.made_by(other, "Reciprocal", alone=True)
        if value.kind == "Mul" and turned is not None:
            root = turned.inputs[0]
        under = _root_of_mean(w, root, x) if root else None
        shape = w.shape(x)
        if under is None or shape is None:
            continue
        axes, eps = under
        wanted = tuple(range(-len(axes), 0))
        if tuple(sorted(a if a < 0 else a - len(shape) - 1 for a in axes)) != wanted:
            return None
        of_set = shape[len(shape) - len(axes) :]
        if weight is not None and weight.shape != of_set:
            return None
        layer = RMSNorm(of_set, eps, elementwise_affine=weight is not None)
        return filled(layer, **({} if weight is None else {"weight": weight})), x
    return None


def _centred(w: Wiring, node: FileNode) -> Found | None:
    """``(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)``, followed by weights."""
    found = _affine(w, node, "Div")
    if found is None:
        return None
    value, arrays = found
    difference = w.made_by(value.inputs[0], "Sub")
    under = _root_of_mean(w, value.inputs[1], value.inputs[0])
    if difference is None or under is None:
        return None
    x, centre = difference.inputs
    mean, shape = w.made_by(centre, "ReduceMean", alone=True), w.shape(x)
    if mean is None or mean.inputs[0] != x or shape is None:
        return None
    sides = [
        {axis if axis < 0 else axis - len(shape) - 1 for axis in axes}
        for axes in (under[0], _mean_axes(w, mean))
    ]
    axes, rank = sides[0], len(shape)
    first = min(axes)
    if not mean.given.get("keepdims", 1) or axes != sides[1] or first < -rank:
        return None
    order = w.order(w.samples[x]) or tuple(range(rank))
    of_channels = rank == 3 and axes == {first} and order[first] == 0
    if not of_channels and axes != set(range(first, 0)):
        return None
    of_set = shape[first:][:1] if of_channels else shape[first:]
    sizes = (*of_set, *(1,) * (-first - len(of_set)))
    factors = _factors(arrays, sizes, of_set)
    if factors is None:
        return None
    layer: Layer = LayerNorm(of_set, under[1], bool(factors))
    if of_channels:
        layer = LayerNorm2d(of_set[0], under[1], bool(factors))
    return filled(layer, **factors), x


def _mean_axes(w: Wiring, mean: FileNode) -> tuple[int, ...]:
    axes = tuple(mean.given.get("axes", ()))
    if mean.input(1) in w.file.constants:
        axes = tuple(int(a) for a in w.file.constants[mean.inputs[1]].reshape(-1))
    return axes


def _root_of_mean(w: Wiring, name: str, x: str) -> tuple[tuple[int, ...], float] | None:
    """Axes and eps of ``sqrt(mean(x * x) + eps)``."""
    root = w.made_by(name, "Sqrt", alone=True)
    total = None if root is None else w.made_by(root.inputs[0], "Add", alone=True)
    found = None if total is None else _constant_factor(w, total)
    mean = None if found is None else w.made_by(found[0], "ReduceMean", alone=True)
    if (
        found is None
        or mean is None
        or found[1].shape not in ((), (1,))
        or not mean.given.get("keepdims", 1)
    ):
        return None
    axes = _mean_axes(w, mean)
    eps = shortest(found[1].item())
    return (axes, eps) if axes and _is_square(w, mean.inputs[0], x) and eps > 0.0 else None


def _is_square(w: Wiring, name: str, x: str) -> bool:
    power = w.made_by(name, "Pow")
    if power is not None:
        return power.inputs[0] == x and w.number(power.inputs[1], of_data=False) == 2.0
    square = w.made_by(name, "Mul")
    return square is not None and square.inputs == (x, x)


# -- local response normalisation, as PyTorch exports it: means over a fifth dimension ----------


def _local_response(w: Wiring, node: FileNode) -> Found | None:
    """The layer of ``x / (k + alpha * mean(x * x)) ** beta``, and its input.

    The mean is over channels: an AveragePool of samples ``(1, C, H, W)``.
    """
    x = node.inputs[0]
    shape = w.shape(x)
    power = w.made_by(node.inputs[1], "Pow")
    if shape is None or len(shape) != 3 or power is None:
        return None
    total, beta = w.nodes.get(power.inputs[0]), w.number(power.inputs[1])
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
    if not _is_square(w, split.inputs[0], x):
        return None
    return LocalResponseNorm(int(size), alpha, beta, k), x


def _of_constant(w: Wiring, node: FileNode | None, kind: str) -> tuple[float | None, str]:
    """The number that a node adds or multiplies by, and the other value."""
    if node is not None and node.kind == kind:
        for value, other in (node.inputs, node.inputs[::-1]):
            if (number := w.number(other)) is not None:
                return number, value
    return None, ""


def _whole(w: Wiring, name: str, shape: Shape) -> FileNode | None:
    """The AveragePool whose only channel a value is, reshaped to a sample."""
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
    """The value that an If squeezes or passes on: the same elements in either branch."""
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
    numbers = w.numbers_of(node.input(1))
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
    """Whether a node pads the channels of samples ``(1, C, H, W)`` with zeros."""
    pads = tuple(node.given.get("pads", ()))
    if not pads and node.input(1) in w.file.constants:
        pads = tuple(w.file.constants[node.inputs[1]].reshape(-1).tolist())
    value = node.input(2)
    zeros = not value or (value in w.file.constants and not np.any(w.file.constants[value]))
    before, after = sides
    return (
        node.kind == "Pad"
        and not node.input(3)
        and zeros
        and bytes(node.given.get("mode", b"constant")) == b"constant"
        and not node.given.get("value", 0.0)
        and pads == (0, 0, before, 0, 0, 0, 0, after, 0, 0)
    )
