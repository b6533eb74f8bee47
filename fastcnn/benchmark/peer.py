"""The interface of other libraries as contestants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastcnn.backends.graph import Graph, Node
from fastcnn.benchmark.environment import can_run
from fastcnn.benchmark.layer_cases import Arrays, LayerCase, LayerRun
from fastcnn.benchmark.work import Trainer, Work


@dataclass(frozen=True)
class Peer:
    """A contestant from another library.

    Attributes
    ----------
    name : str
        Starts with the library's name.
    train : function of Work, int
        Trains a network on some threads.
    layer : function of LayerCase, Arrays, bool, int, optional
        The run of a single layer, forward or backward, on some threads.
    takes_network : function of Work
        Whether it can train a network.
    takes_layer : function of LayerCase, bool
        Whether it can run a layer, forward or backward.
    on_each : bool
        Whether it is measured on each number of threads; otherwise only on all, which it always
        uses.
    """

    name: str
    train: Callable[[Work, int], Trainer]
    layer: Callable[[LayerCase, Arrays, bool, int], LayerRun] | None = None
    takes_network: Callable[[Work], bool] = lambda work: True
    takes_layer: Callable[[LayerCase, bool], bool] = lambda case, backward: True
    on_each: bool = False

    @property
    def can_run(self) -> bool:
        """Whether its library works on this machine."""
        return can_run(self.name)


def run_graph(graph: Graph, x: Any, apply: Callable[[Node, list[Any]], Any]) -> Any:
    """The output of a graph's last node; ``apply`` computes one node from its inputs."""
    outputs: list[Any] = []
    for node in graph.nodes:
        inputs = [x if source < 0 else outputs[source] for source in node.inputs]
        outputs.append(apply(node, inputs))
    return outputs[-1]
