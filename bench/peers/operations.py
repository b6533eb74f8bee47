"""Other libraries' functions for fastcnn's operations, and their runs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.benchmark.layer_cases import LayerRun
from fastcnn.operations import OPERATIONS, Elementwise
from fastcnn.timing import repeated


def run_of(step: Callable[[], Any], read: Callable[[Any], tuple[np.ndarray, ...]]) -> LayerRun:
    """A run of single steps; ``read`` converts a step's result to fastcnn's arrays."""
    return LayerRun(repeated(step), lambda: read(step()))


def function_of(library: Any, node: Node) -> Callable[..., Any] | None:
    """The library's function of the same name, ignoring underscores; None if it has none.

    Arguments with PyTorch's default values are omitted: some functions do not have them.
    """
    record = OPERATIONS[node.operation]
    names = {name.replace("_", ""): name for name in dir(library) if not name.startswith("_")}
    name = names.get(node.operation.replace("_", ""))
    if name is None or not isinstance(record, Elementwise) or record.parameters:
        return None
    defaults = {argument.name: argument.default for argument in record.arguments}
    given = {key: value for key, value in node.arguments.items() if value != defaults[key]}
    return partial(getattr(library, name), **given)


def even_windows(node: Node) -> tuple[int, int] | None:
    """The windows of an adaptive pooling, if they are equal and do not overlap."""
    (height, width), (rows, columns) = node.input_shapes[0][1:], node.output_shape[1:]
    even = height % rows == width % columns == 0
    return (height // rows, width // columns) if even else None
