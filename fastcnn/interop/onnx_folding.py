"""Constant folding, by ONNX's reference implementation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_constants import MOST_DIMENSIONS
from fastcnn.interop.onnx_file import FileNode

#: Operators with results not larger than their broadcast inputs.
BROADCAST = {
    *("Abs", "Add", "And", "Cast", "Ceil", "Div", "Equal", "Exp", "Floor", "Greater", "Identity"),
    *("Less", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Sqrt"),
    *("Sub", "Where"),
}
#: Operators with results not larger than all inputs together.
REARRANGED = {
    *("Concat", "Flatten", "Reshape", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "Shape", "Size", "Slice", "Squeeze", "Transpose", "Unsqueeze"),
}
SIZED = {"ConstantOfShape", "DequantizeLinear", "Expand", "Gather", "Range", "Tile"}
#: The first operator set for which ONNX's reference implementation supports DequantizeLinear.
EVALUATED_SINCE = 19
#: All operators that are folded.
FOLDED = BROADCAST | REARRANGED | SIZED


def folded(node: FileNode) -> np.ndarray:
    """The result of a node whose inputs are constants."""
    constants = {name: node.file.constants[name] for name in node.inputs if name}
    return evaluated(node, [constants])[0]


def evaluated(node: FileNode, cases: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
    """The results of a node of :data:`FOLDED`, for several sets of inputs by name."""
    for arrays in cases:
        try:
            count = _count(node, [arrays[name] for name in node.inputs if name])
        except (ValueError, OverflowError) as error:
            raise ConfigurationError(f"its constants do not fit together ({error})") from None
        node.file.constants.claim(8 * count)
    evaluate = _evaluator(node)
    try:
        with np.errstate(all="ignore"):
            values = [np.asarray(evaluate.run(None, dict(arrays))[0]) for arrays in cases]
    except Exception as error:  # it raises numpy's errors and some of its own
        raise ConfigurationError(f"it cannot be computed ({str(error)[:200]})") from None
    if any(value.dtype.kind not in "fiub" or value.ndim > MOST_DIMENSIONS for value in values):
        raise ConfigurationError("its result is not numeric")
    return values


def _count(node: FileNode, given: Sequence[np.ndarray]) -> int:
    """Upper bound of the size of the result."""
    if node.kind in BROADCAST:
        return math.prod(np.broadcast_shapes(*(array.shape for array in given)))
    if node.kind == "ConstantOfShape":
        if np.any(given[0] < 0):
            raise ConfigurationError("it makes a shape with a negative size")
        return math.prod(int(n) for n in given[0].reshape(-1)[: MOST_DIMENSIONS + 1])
    if node.kind == "DequantizeLinear":
        return _dequantized(node, *given)
    if node.kind == "Range":
        first, end, step = (float(array.item()) for array in given)
        return max(math.ceil((end - first) / step), 0) if step else 0
    if node.kind == "Tile":
        if given[1].size != given[0].ndim or np.any(given[1] < 0):
            raise ConfigurationError(f"it repeats {given[0].ndim} dimensions {given[1].size} times")
        return given[0].size * math.prod(int(n) for n in given[1].reshape(-1))
    if node.kind == "Expand":
        sizes = tuple(int(n) for n in given[1].reshape(-1)[: MOST_DIMENSIONS + 1])
        return math.prod(
            max(a, b)
            for a, b in zip(
                (1,) * (len(sizes) - given[0].ndim) + given[0].shape,
                (1,) * (given[0].ndim - len(sizes)) + sizes,
                strict=True,
            )
        )
    if node.kind == "Gather":
        axis = int(node.given.get("axis", 0))
        if not -given[0].ndim <= axis < given[0].ndim:
            raise ConfigurationError(f"axis={axis} of {given[0].ndim} dimensions")
        return given[1].size * (given[0].size // max(given[0].shape[axis], 1))
    return sum(array.size for array in given) + MOST_DIMENSIONS


def _dequantized(node: FileNode, values: np.ndarray, *factors: np.ndarray) -> int:
    """Size of the result of a DequantizeLinear: its scales must not broadcast its values."""
    if block := int(node.given.get("block_size", 0)):
        return max(values.size, *(block * array.size for array in factors))
    axis = int(node.given.get("axis", 1))
    along = values.shape[axis] if -values.ndim <= axis < values.ndim else 1
    for array in factors:
        if array.size not in (1, along):
            raise ConfigurationError(
                f"factors of shape {array.shape} for values of {values.shape}, axis={axis}"
            )
    return values.size


def _evaluator(node: FileNode) -> Any:
    from onnx.reference import ReferenceEvaluator

    helper = node.file.onnx.helper
    blank = node.file.onnx.ValueInfoProto
    graph = helper.make_graph(
        [node.proto],
        "folded",
        [blank(name=name) for name in node.inputs if name],
        [blank(name=node.output)],
    )
    version = node.file.opset
    if node.kind == "DequantizeLinear":
        version = max(version, EVALUATED_SINCE)
    opset = [helper.make_opsetid("", version)]
    try:
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=opset))
    except Exception as error:  # as above
        raise ConfigurationError(f"it cannot be computed ({str(error)[:200]})") from None
