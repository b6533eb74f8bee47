"""Batch normalisation folded into the layer before it: nothing is left to do in inference."""

from collections import Counter
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.graph import Graph, Node, Shape
from fastcnn.layers.base import Layer, WeightedLayer
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.connections import as_model

if TYPE_CHECKING:
    from fastcnn.layers.container import Model


class Identity(Layer):
    """Does nothing; in a graph it leaves no node."""

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """The output is the input."""
        return source


def fold_batch_norm(model: "Model", input_shape: Shape | None = None) -> "Model":
    """A copy of a model whose batch normalisations are part of the layers before them.

    Outside training ``weight * (x - running_mean) / sqrt(running_var + eps) + bias`` is a factor
    and a summand for each channel. Where ``x`` comes from a convolution or a linear layer and
    goes nowhere else, its weight and bias take them up, and :class:`Identity` stands in the
    place of the normalisation. All others stay.

    Parameters
    ----------
    model : Model
        Not changed.
    input_shape : tuple of int, optional
        Shape of one sample; by default the model's own.

    Returns
    -------
    Model
        For inference: it computes the same logits, up to rounding. Train the original.

    Raises
    ------
    ShapeError
        If the shape of a sample is not known or does not fit.

    Examples
    --------
    >>> from fastcnn.layers import BatchNorm2d, Conv2d, Sequential
    >>> model = Sequential(Conv2d(1, 4, 3), BatchNorm2d(4), input_shape=(1, 8, 8))
    >>> model.fold_batch_norm()
    Sequential(
      (0): Conv2d(1, 4, kernel_size=(3, 3))
      (1): Identity()
    )
    """
    model = as_model(model)
    pairs = _pairs(model.graph(input_shape), dict(model.named_leaves()))
    folded = deepcopy(model)
    leaves = dict(folded.named_leaves())
    for before, norm in pairs:
        layer = leaves[before]
        assert isinstance(layer, WeightedLayer)
        _fold(layer, leaves[norm])
        folded.replace(norm, Identity())
    return folded


def _pairs(graph: Graph, leaves: dict[str, Layer]) -> list[tuple[str, str]]:
    """Names of layers and of the batch normalisations after them that can be folded."""
    readers, uses = graph.consumers(), Counter(_keys(node) for node in graph.nodes)
    pairs = []
    for node in graph.nodes:
        source = node.inputs[0]
        if node.operation != "batch_norm" or not node.buffers or source < 0:
            continue
        before = graph.nodes[source].name
        layer = leaves.get(before)
        # A layer that stands in a model twice is one layer with two inputs: not to be changed.
        once = uses[_keys(graph.nodes[source])] == uses[_keys(node)] == 1
        if isinstance(layer, WeightedLayer) and len(readers[source]) == 1 and once:
            pairs.append((before, node.name))
    return pairs


def _keys(node: Node) -> tuple[str, ...]:
    """The state keys of a node, which are those of its layer."""
    return *node.parameters.values(), *node.buffers.values()


def _fold(layer: WeightedLayer, norm: Layer) -> None:
    """Let a layer do what the normalisation after it does outside training."""
    values = {key: value.astype(np.float64) for key, value in norm.buffers.items()}
    values |= {key: value.astype(np.float64) for key, value in norm.parameters.items()}
    scale = values.get("weight", 1.0) / np.sqrt(values["running_var"] + norm.arguments["eps"])
    layer.scale_outputs(scale, values.get("bias", 0.0) - values["running_mean"] * scale)
