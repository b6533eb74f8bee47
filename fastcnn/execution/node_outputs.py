"""What every node of a network puts out, for those who look inside."""

from typing import Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.execution.passes import as_batch, is_lanes, run_forward
from fastcnn.layers import Model


def node_outputs(model: Model, x: Any, backend: str | None = None) -> list[np.ndarray]:
    """Output of every node of a model's graph outside training.

    The engine runs some nodes as one, such as a convolution, its ReLU and the pooling behind it:
    each of them then has the output of the last.

    Returns
    -------
    list of ndarray, the first axis of each that of the samples
    """
    x = as_batch(model, x)
    graph = model.graph(x.shape[1:])
    if is_lanes(backend):
        from fastcnn.backends.lanes.grouping import Unsupported
        from fastcnn.execution import lanes

        try:
            return lanes.network_values(model, x, graph)
        except Unsupported:
            backend = "im2col"
    return run_forward(graph, model.state_dict(), x, get_backend(backend), False, 0, 0)
