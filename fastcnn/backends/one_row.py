"""Sequences as maps of one row, so that one set of functions and kernels handles both."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph, Node, Shape


def on_sequences(function: Callable[..., Any]) -> Callable[..., Any]:
    """Extend a function of maps to sequences: it gets one-row views, and its results are reshaped.

    If ``x``, the input (the first array argument, or in a backward function the output's gradient),
    has three dimensions, so have the weight and the results.
    """

    @wraps(function)
    def called(*arrays: Any, **arguments: Any) -> Any:
        if arrays[0].ndim != 3:
            return function(*arrays, **arguments)
        made = function(*map(_with_row, arrays), **arguments)
        if isinstance(made, tuple):
            return tuple(map(_without_row, made))
        return _without_row(made)

    return called


def _with_row(value: Any) -> Any:
    return value[:, :, None] if isinstance(value, np.ndarray) and value.ndim == 3 else value


def _without_row(value: Any) -> Any:
    return value[:, :, 0] if isinstance(value, np.ndarray) and value.ndim == 4 else value


def with_one_row(shape: Shape) -> Shape:
    """Shape of a sample, with one row if it is a sequence ``(C, L)``."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def on_maps(graph: Graph) -> Graph:
    """The same network with all sequences ``(C, L)`` as maps ``(C, 1, L)``."""
    nodes = tuple(
        replace(
            node,
            arguments=_of_maps(node),
            input_shapes=tuple(map(with_one_row, node.input_shapes)),
            output_shape=with_one_row(node.output_shape),
        )
        for node in graph.nodes
    )
    return replace(graph, input_shape=with_one_row(graph.input_shape), nodes=nodes)


def _of_maps(node: Node) -> dict[str, Any]:
    """A node's arguments, with those of a sequence converted to a map of one row."""
    made = dict(node.arguments)
    if len(node.input_shapes[0]) == 2:
        if "normalized_shape" in made:
            made["normalized_shape"] = with_one_row(tuple(made["normalized_shape"]))
        if "dim" in made:
            made["dim"] = {2: -1, -2: -3}.get(made["dim"], made["dim"])
    return made
