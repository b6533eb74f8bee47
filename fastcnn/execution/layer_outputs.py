"""Outputs of layers, by name, and of single nodes of the graph."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arguments import words_of
from fastcnn.backends import get_backend
from fastcnn.backends.graph import Graph
from fastcnn.errors import ConfigurationError
from fastcnn.execution import lanes
from fastcnn.execution.backend_choice import run
from fastcnn.execution.checks import as_batch, as_input, check_statistics, no_outputs
from fastcnn.execution.engine_arguments import input_factors, stored_samples
from fastcnn.execution.engines import make_engine, room_for
from fastcnn.execution.parts import run_forward
from fastcnn.layers.connections import needed_nodes

if TYPE_CHECKING:
    from fastcnn.layers import Model

#: Samples that are run at a time, without and with the outputs of nodes kept in memory.
CHUNK, NODES_CHUNK = 256, 16


def layer_outputs(
    model: "Model",
    x: Any,
    layers: str | Sequence[str],
    backend: str | None = None,
    threads: int | None = None,
) -> Any:
    """See :meth:`fastcnn.layers.Model.features`; ``threads`` are those of an engine."""
    x = as_batch(model, x, empty=True)
    graph = model.graph(x.shape[1:])
    names = (layers,) if isinstance(layers, str) else words_of(layers)
    if names is None:
        raise ConfigurationError(f"layers must be a name or a list of names, got {layers!r}")
    places = [layer_place(graph, name) for name in names]
    found = {}
    for name, place in zip(names, places, strict=True):
        _, nodes = needed_nodes(graph.nodes, place)
        part = Graph(graph.input_shape, nodes, graph.inputs)
        found[name] = _output(model, x, part, backend, threads)
    return found[names[0]] if isinstance(layers, str) else found


def layer_place(graph: Graph, name: str) -> int:
    """The index of the last node of a layer, or of a nested model.

    Raises
    ------
    ConfigurationError
        If there is no layer of that name.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"a layer's name must be text, got {name!r}")
    places = [
        place
        for place, node in enumerate(graph.nodes)
        if node.name == name or node.name.startswith(f"{name}.")
    ]
    if not places:
        known = ", ".join(dict.fromkeys(node.name for node in graph.nodes))
        raise ConfigurationError(f"the network has no layer {name!r}; there are {known}")
    return places[-1]


def _output(
    model: "Model", x: np.ndarray, graph: Graph, backend: str | None, threads: int | None
) -> np.ndarray:
    """The output of a part of a network outside training."""
    if not len(x):
        return no_outputs(model, graph)
    check_statistics(graph, len(x), training=False)
    size = len(x) if graph.batch_statistics(training=False) else min(len(x), CHUNK)
    starts = range(0, len(x), size)

    def on_engine() -> np.ndarray:
        from fastcnn.backends.lanes import Batches, default_threads

        chosen = default_threads() if threads is None else threads
        engine = make_engine(model, graph, room_for(size), chosen, outputs=True)
        outputs = np.empty((len(x), *graph.output_shape), np.float32)
        images = stored_samples(model.preprocessing, x)
        engine.normalise(*input_factors(model.preprocessing, x))
        for start in starts:
            end = min(start + size, len(x))
            rows = outputs[start:end].reshape(-1)
            engine.run(Batches(images, np.arange(start, end), outputs=rows))
        return outputs

    def by_operations(name: str) -> np.ndarray:
        operations, state = get_backend(name), model.state_dict()
        parts = (as_input(model, x[start : start + size]) for start in starts)
        return np.concatenate([run_forward(graph, state, p, operations)[-1] for p in parts])

    return run(backend, on_engine, by_operations)


def node_outputs(
    model: "Model", x: Any, nodes: Sequence[int], backend: str | None = None
) -> Iterator[list[np.ndarray]]:
    """Outputs of some nodes of a model's graph outside training, a few samples at a time.

    The engine fuses some nodes, such as a convolution, its ReLU and the pooling after it: each of
    them then has the output of the last.

    Parameters
    ----------
    nodes : sequence of int
        Their indices in the graph.

    Returns
    -------
    iterator of lists of ndarray
        One array for each of ``nodes``; the first axis is the batch.
    """
    x = as_batch(model, x)
    graph = model.graph(x.shape[1:])
    check_statistics(graph, len(x), training=False)
    size = len(x) if graph.batch_statistics(training=False) else NODES_CHUNK

    def by_operations(name: str) -> Iterator[list[np.ndarray]]:
        operations, state = get_backend(name), model.state_dict()
        for start in range(0, len(x), size):
            part = as_input(model, x[start : start + size])
            outputs = run_forward(graph, state, part, operations)
            yield [outputs[index] for index in nodes]

    return run(backend, lambda: lanes.network_values(model, x, graph, nodes), by_operations)
