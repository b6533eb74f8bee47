"""ONNX models made of nodes, for tests of reading them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.interop import import_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
FLOAT = onnx.TensorProto.FLOAT
N = onnx.helper.make_node


def tensor(name: str, value: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(value), name)


def model_of(
    nodes: Sequence[Any],
    constants: Mapping[str, Any] | None = None,
    shape: Sequence[Any] = ("n", 1, 8, 8),
    opset: int = 17,
    kind: int = FLOAT,
    *,
    output: str = "y",
    output_shape: Sequence[Any] | None = None,
) -> Any:
    """A model from ``x``, of a shape, to ``y``; it is not validated."""
    helper = onnx.helper
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info(output, kind, output_shape)]
    kept = [
        value if isinstance(value, onnx.TensorProto) else tensor(name, value)
        for name, value in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, kept)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def read(made: Any, folder: Path) -> Any:
    """The network of a model, by its file ``m.onnx``."""
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return import_onnx(folder / "m.onnx")
