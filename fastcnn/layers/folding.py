"""Folding of batch normalisation into the preceding layer, for inference."""

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
    """Returns its input; adds no node to a graph."""

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """The output is the input."""
        return source


def fold_batch_norm(model: "Model", input_shape: Shape | None = None) -> "Model":
    """A copy of a model with batch normalisation folded into the preceding layers.

    Outside training ``weight * (x - running_mean) / sqrt(running_var + eps) + bias`` is a factor
    and a shift per channel. If ``x`` is the output of a convolution or linear layer and is not used
    elsewhere, they are merged into its weight and bias, and :class:`Identity` replaces the
    normalisation. All others are kept.

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
        If the shape of a sample is unknown or invalid.

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
    """Names of layers and of the foldable batch normalisations after them."""
    readers, uses = graph.consumers(), Counter(_keys(node) for node in graph.nodes)
    pairs = []
    for node in graph.nodes:
        source = node.inputs[0]
        if node.operation != "batch_norm" or not node.buffers or source < 0:
            continue
        before = graph.nodes[source].name
        layer = leaves.get(before)
        # A layer used twice in a model has two inputs and must not be changed.
        once = uses[_keys(graph.nodes[source])] == uses[_keys(node)] == 1
        if isinstance(layer, WeightedLayer) and len(readers[source]) == 1 and once:
            pairs.append((before, node.name))
    return pairs


def _keys(node: Node) -> tuple[str, ...]:
    """The state keys of a node: those of its layer."""
    return *node.parameters.values(), *node.buffers.values()


def _fold(layer: WeightedLayer, norm: Layer) -> None:
    """Merge the inference form of a normalisation into the layer before it."""
    values = {key: value.astype(np.float64) for key, value in norm.buffers.items()}
    values |= {key: value.astype(np.float64) for key, value in norm.parameters.items()}
    scale = values.get("weight", 1.0) / np.sqrt(values["running_var"] + norm.arguments["eps"])
    layer.scale_outputs(scale, values.get("bias", 0.0) - values["running_mean"] * scale)
    if layer.max_norm is not None:
        layer.max_norm = None  # it was that of the weights before
