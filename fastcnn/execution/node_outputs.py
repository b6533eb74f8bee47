"""What nodes of a network put out, for those who look inside."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.execution import lanes
from fastcnn.execution.checks import as_batch, as_input, check_statistics
from fastcnn.execution.fallback import run
from fastcnn.execution.parts import run_forward

if TYPE_CHECKING:
    from fastcnn.layers import Model

#: Samples whose outputs are in memory together.
CHUNK = 16


def node_outputs(
    model: "Model", x: Any, nodes: Sequence[int], backend: str | None = None
) -> Iterator[list[np.ndarray]]:
    """Outputs of some nodes of a model's graph outside training, a few samples at a time.

    The engine runs some nodes as one, such as a convolution, its ReLU and the pooling after it:
    each of them then has the output of the last.

    Parameters
    ----------
    nodes : sequence of int
        Their places in the graph.

    Returns
    -------
    iterator of lists of ndarray
        One array for each of ``nodes``; the first axis is that of the samples.
    """
    x = as_batch(model, x)
    graph = model.graph(x.shape[1:])
    check_statistics(graph, len(x), training=False)
    size = len(x) if graph.batch_statistics(training=False) else CHUNK

    def by_operations(name: str) -> Iterator[list[np.ndarray]]:
        operations, state = get_backend(name), model.state_dict()
        for start in range(0, len(x), size):
            part = as_input(model, x[start : start + size])
            outputs = run_forward(graph, state, part, operations)
            yield [outputs[index] for index in nodes]

    return run(backend, lambda: lanes.network_values(model, x, graph, nodes), by_operations)
