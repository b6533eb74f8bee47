"""Plans the program for few samples, with a channel in each lane; used by inference sessions."""

from collections.abc import Mapping

import numpy as np

from fastcnn.backends.graph import INPUT, Graph
from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.planning.channel_planner import ChannelPlanner
from fastcnn.backends.one_row import on_maps


def plan_channels(
    graph: Graph, batch: int, workers: int, state: Mapping[str, np.ndarray]
) -> Program:
    """Plan a forward pass of at most ``batch`` samples; its weights are packed copies.

    ``state`` has parameters and running statistics by state key. Raises Unsupported if an operation
    has no kernel with a channel in each lane.
    """
    graph = on_maps(graph)
    planner = ChannelPlanner(graph, batch, workers, state)
    forward = ChannelForward(planner)
    normalisation = forward.input_row()
    forward.add_groups()
    forward.output_row()
    planner.place_scratch()
    output = forward.values[len(graph.nodes) - 1]
    return Program.collected(
        planner,
        first_backward=len(planner.phases),
        forward_rows=len(planner.rows),
        input=forward.values[INPUT],
        output=output,
        values={},
        output_gradient=None,
        input_gradient=None,
        normalisation=normalisation,
        weights=planner.weights(),
    )
