"""Normalisations that an ONNX file writes as several nodes."""

from collections.abc import Callable, Mapping

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.interop.onnx_file import FileNode, OnnxFile
from fastcnn.interop.onnx_norms import filled
from fastcnn.layers import GroupNorm, Layer, LayerNorm2d, RMSNorm

Found = tuple[Layer, str]
Arrays = dict[str, np.ndarray]


class NormPatterns:
    """Finds normalisations that a file writes as several nodes.

    Parameters
    ----------
    file : OnnxFile
    nodes : mapping of str to FileNode
        The node that makes each value; they must have been checked.
    """

    def __init__(self, file: OnnxFile, nodes: Mapping[str, FileNode]) -> None:
        self._file, self._makers = file, nodes

    def find(self, node: FileNode, shape_of: Callable[[str], Shape | None]) -> Found | None:
        """The layer whose output a node makes, and its input; None if it is not such a formula."""
        if node.kind in ("Reshape", "Mul", "Add"):
            found = self._of_groups(node, shape_of)
            if found is not None:
                return found
        if node.kind in ("Mul", "Div") and (found := self._mean_square(node, shape_of)):
            return found
        return self._centred(node, shape_of) if node.kind in ("Add", "Mul", "Div") else None

    def _maker(self, name: str, kind: str) -> FileNode | None:
        """The node that makes a value which nothing else reads."""
        node = self._makers.get(name)
        alone = node is not None and node.kind == kind and self._file.readers[name] == 1
        return node if alone else None

    def _constant_factor(self, node: FileNode) -> tuple[str, np.ndarray] | None:
        """The value and the constant that a Mul or Add takes."""
        for value, other in (node.inputs, node.inputs[::-1]):
            if other in self._file.constants and value not in self._file.constants:
                return value, node.weight(node.inputs.index(other))
        return None

    def _of_groups(self, node: FileNode, shape_of: Callable[[str], Shape | None]) -> Found | None:
        """InstanceNormalization of groups, which a Reshape has made, with weights after it."""
        arrays: Arrays = {}
        value: str = node.output
        for kind, name in (("Add", "bias"), ("Mul", "weight")):
            taker = node if value == node.output else self._maker(value, kind)
            if taker is None or taker.kind != kind:
                continue
            found = self._constant_factor(taker)
            if found is None:
                return None
            value, arrays[name] = found
        joined = node if value == node.output else self._maker(value, "Reshape")
        norm = self._maker(joined.inputs[0], "InstanceNormalization") if joined else None
        split = self._maker(norm.inputs[0], "Reshape") if norm else None
        if joined is None or norm is None or split is None or joined.kind != "Reshape":
            return None
        source = split.inputs[0]
        shape, sizes = shape_of(source), self._sizes(split)
        if shape is None or sizes is None or len(sizes) < 3 or sizes[1] < 1:
            return None
        if sizes[0] not in (0, self._file.batch) or sizes[2:] != (-1,) * (len(sizes) - 2):
            return None
        back, groups = self._sizes(joined), sizes[1]
        asked = self._makers.get(joined.inputs[1])
        if asked is not None and asked.kind == "Shape" and asked.inputs == (source,):
            is_whole = not asked.given.get("start", 0) and "end" not in asked.given
            back = (0, *shape) if is_whole else None
        same = back is not None and back[0] in (0, -1, self._file.batch) and back[1:] == shape
        if not same or shape[0] % groups:
            return None
        plain = [norm.weight(1), norm.weight(2)]
        if plain[0].shape != (groups,) or np.any(plain[0] != 1.0) or np.any(plain[1] != 0.0):
            return None
        neutral = {"weight": 1.0, "bias": 0.0}
        arrays = {k: v for k, v in arrays.items() if v.size > 1 or v.item() != neutral[k]}
        by_channel = (shape[0], *(1,) * (len(shape) - 1))
        if any(array.shape not in (by_channel, (1, *by_channel)) for array in arrays.values()):
            return None
        if arrays and set(arrays) != {"weight", "bias"}:
            arrays = {"weight": np.ones(shape[0]), "bias": np.zeros(shape[0])} | arrays
        eps = float(str(np.float32(norm.given.get("epsilon", 1e-5))))
        layer = GroupNorm(groups, shape[0], eps, affine=bool(arrays))
        return filled(layer, **{k: v.reshape(-1) for k, v in arrays.items()}), source

    def _sizes(self, node: FileNode) -> tuple[int, ...] | None:
        """What a Reshape reshapes to, where that is a constant."""
        if node.inputs[1] not in self._file.constants:
            return None
        array = self._file.constants[node.inputs[1]]
        if array.dtype.kind != "i" or array.ndim != 1:
            return None
        return tuple(int(size) for size in array)

    def _mean_square(self, node: FileNode, shape_of: Callable[[str], Shape | None]) -> Found | None:
        """``x / sqrt(mean(x * x) + eps) * weight``, or ``x`` times the reciprocal of the root."""
        weight, value = None, node
        if node.kind == "Mul" and (found := self._constant_factor(node)) is not None:
            inner = self._maker(found[0], "Div") or self._maker(found[0], "Mul")
            if inner is None:
                return None
            weight, value = found[1], inner
        for x, other in (value.inputs, value.inputs[::-1]):
            root = other if value.kind == "Div" and other == value.inputs[1] else ""
            if value.kind == "Mul" and (turned := self._maker(other, "Reciprocal")) is not None:
                root = turned.inputs[0]
            under = self._root_of_mean(root, x) if root else None
            shape = shape_of(x)
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

    def _centred(self, node: FileNode, shape_of: Callable[[str], Shape | None]) -> Found | None:
        """``(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)``, with weights after it."""
        arrays: Arrays = {}
        value: FileNode | None = node
        for kind, name in (("Add", "bias"), ("Mul", "weight")):
            if value is not None and value.kind == kind:
                if (found := self._constant_factor(value)) is None:
                    return None
                arrays[name] = found[1]
                value = self._maker(found[0], "Mul") or self._maker(found[0], "Div")
        if value is None or value.kind != "Div":
            return None
        difference = self._makers.get(value.inputs[0])
        under = self._root_of_mean(value.inputs[1], value.inputs[0])
        if difference is None or difference.kind != "Sub" or under is None:
            return None
        x, centre = difference.inputs
        mean, shape = self._maker(centre, "ReduceMean"), shape_of(x)
        if mean is None or mean.inputs[0] != x or shape is None:
            return None
        sides = [
            {axis if axis < 0 else axis - len(shape) - 1 for axis in axes}
            for axes in (under[0], self._mean_axes(mean))
        ]
        if not mean.given.get("keepdims", 1) or sides[0] != sides[1] or len(shape) != 3:
            return None
        if sides[0] != {-3}:
            return None
        by_channel = (shape[0], 1, 1)
        if any(array.shape not in (by_channel, (1, *by_channel)) for array in arrays.values()):
            return None
        if arrays:
            arrays = {"weight": np.ones(shape[0]), "bias": np.zeros(shape[0])} | arrays
        layer = LayerNorm2d(shape[0], under[1], affine=bool(arrays))
        return filled(layer, **{k: v.reshape(-1) for k, v in arrays.items()}), x

    def _mean_axes(self, mean: FileNode) -> tuple[int, ...]:
        axes = tuple(mean.given.get("axes", ()))
        if len(mean.inputs) > 1 and mean.inputs[1] in self._file.constants:
            axes = tuple(int(a) for a in self._file.constants[mean.inputs[1]].reshape(-1))
        return axes

    def _root_of_mean(self, name: str, x: str) -> tuple[tuple[int, ...], float] | None:
        """Axes and eps of ``sqrt(mean(x * x) + eps)``."""
        root = self._maker(name, "Sqrt")
        total = None if root is None else self._maker(root.inputs[0], "Add")
        found = None if total is None else self._constant_factor(total)
        mean = None if found is None else self._maker(found[0], "ReduceMean")
        if found is None or mean is None or found[1].size != 1 or not mean.given.get("keepdims", 1):
            return None
        axes = self._mean_axes(mean)
        square = self._maker(mean.inputs[0], "Mul")
        is_square = square is not None and tuple(square.inputs) == (x, x)
        power = self._maker(mean.inputs[0], "Pow")
        if power is not None and power.inputs[1] in self._file.constants:
            exponent = self._file.constants[power.inputs[1]]
            is_square = power.inputs[0] == x and exponent.size == 1 and exponent.item() == 2
        eps = float(str(np.float32(found[1].item())))
        return (axes, eps) if axes and is_square and eps > 0.0 else None
