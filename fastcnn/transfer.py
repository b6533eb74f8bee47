"""Reuse a trained network for other classes: replace its last layer, keep the rest."""

from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph, Node, Shape
from fastcnn.errors import ConfigurationError, FastcnnError
from fastcnn.layers import Model
from fastcnn.layers.base import Layer, arguments_of
from fastcnn.layers.connections import as_model
from fastcnn.scalars import is_integer

__all__ = ["replace_head"]

#: Operations of layers that can be a head, and the argument with the number of outputs.
HEADS = {"linear": "out_features", "conv2d": "out_channels"}


def replace_head(
    model: Model,
    num_classes: int,
    *,
    seed: int | np.random.SeedSequence | np.random.Generator | None = None,
    input_shape: Shape | None = None,
) -> str:
    """Replace the last layer by a new one with an output for each class.

    The last layer with weights is the head: a ``Linear``, or a ``Conv2d`` in networks that end in a
    mean over its maps. The new layer has the same arguments and newly initialised weights; all
    other weights are kept. :attr:`~fastcnn.Model.predicts` is unknown until the next training.

    Parameters
    ----------
    model : Model
        Changed in place.
    num_classes : int
        Outputs of the new head, at least 1.
    seed : int, SeedSequence or Generator, optional
        Source of its initial weights.
    input_shape : tuple of int, optional
        Shape of one sample, if the model has none.

    Returns
    -------
    str
        The head's name, such as ``"fc3"``: its parameters are ``"fc3.*"``.

    Raises
    ------
    ConfigurationError
        If the network has several outputs, its last layer with weights is of another kind, or the
        head is used at several places.
    ShapeError
        If layers after it do not accept that many values.

    Examples
    --------
    >>> import fastcnn
    >>> model = fastcnn.models.lenet5(seed=0)
    >>> fastcnn.transfer.replace_head(model, 5, seed=1)
    'fc3'
    >>> model.output_shape((1, 28, 28))
    (5,)
    """
    if not is_integer(num_classes):
        raise ConfigurationError(f"num_classes must be an integer, got {num_classes!r}")
    graph = as_model(model).graph(input_shape)
    if graph.outputs:
        raise ConfigurationError(
            f"the model has the outputs {', '.join(port.name for port in graph.outputs)}: replace "
            "the last layer of each with model.replace"
        )
    node = _head(graph)
    layer = dict(model.named_leaves()).get(node.name)
    if layer is None:
        raise ConfigurationError(f"{node.name!r} is a part of a layer: use model.replace")
    made = _resized(layer, HEADS[node.operation], int(num_classes), seed)
    model.replace(node.name, made)
    try:
        model.graph(input_shape)
    except FastcnnError:
        model.replace(node.name, layer)
        raise
    model.predicts = None
    return node.name


def _head(graph: Graph) -> Node:
    """The last node with parameters; raises ConfigurationError if it cannot be replaced."""
    weighted = [node for node in graph.nodes if node.parameters]
    if not weighted:
        raise ConfigurationError("the model has no layer with weights that could be its head")
    head, name = weighted[-1], weighted[-1].name
    if head.operation not in HEADS:
        raise ConfigurationError(
            f"the last layer with weights, {name!r}, is a {head.operation}: only Linear and Conv2d "
            "can be replaced; use model.replace"
        )
    if head.arguments.get("groups", 1) != 1:
        raise ConfigurationError(f"the last layer, {name!r}, has groups: use model.replace")
    shared = [
        node.name
        for node in weighted[:-1]
        if set(node.parameters.values()) & set(head.parameters.values())
    ]
    if shared:
        raise ConfigurationError(
            f"the last layer, {name!r}, shares its weights with {', '.join(shared)}: use "
            "model.replace"
        )
    return head


def _resized(layer: Layer, name: str, outputs: int, seed: Any) -> Layer:
    """A new layer with another number of outputs and otherwise the same arguments."""
    arguments = arguments_of(layer, type(layer))
    if arguments is None:
        raise ConfigurationError(
            f"a {type(layer).__name__} does not keep its arguments: use model.replace"
        )
    dtype = layer.parameters["weight"].dtype
    return type(layer)(**arguments | {name: outputs, "seed": seed, "dtype": dtype})
