"""Checks of samples, targets and losses before a pass over a network."""

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arguments import plain_array
from fastcnn.backends.graph import Graph, Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.connections import as_model
from fastcnn.layers.packing import pack_inputs
from fastcnn.losses import CrossEntropyLoss, JointLoss, Loss, as_loss

if TYPE_CHECKING:
    from fastcnn.layers import Model


def as_batch(model: "Model", x: Any, *, empty: bool = False) -> np.ndarray:
    """Check samples against the model, which remembers their shape.

    They are returned unchanged: :func:`as_input` or the engine converts them.

    Parameters
    ----------
    empty : bool
        Whether there may be none.

    Raises
    ------
    ShapeError
        If there are none, or their shape is not the model's.
    DataError
        If the model's preprocessing does not accept them.
    """
    if as_model(model).takes > 1:
        x = pack_inputs(model.graph().inputs, x)
    x = plain_array("samples", x)
    expected = model.input_shape
    if x.ndim < 2 or (expected is not None and x.shape[1:] != expected):
        wanted = "(N, C, H, W)" if expected is None else f"(N, {', '.join(map(str, expected))})"
        hint = shape_hint(x.shape, expected)
        raise ShapeError(f"the model takes samples of shape {wanted}, got {x.shape}{hint}")
    if len(x) == 0 and not empty:
        raise ShapeError(f"a batch needs at least one sample, got shape {x.shape}")
    model.preprocessing.check(x)
    if expected is None:
        model.graph(x.shape[1:])
        model.input_shape = x.shape[1:]
    return x


def no_outputs(model: "Model", graph: Graph) -> np.ndarray:
    """The output for no samples."""
    return np.empty((0, *graph.output_shape), model.dtype)


def shape_hint(shape: Shape, expected: Shape | None) -> str:
    """How to give an array of samples the expected shape of each; empty if that is not clear."""
    if shape == expected:
        return "; a single sample needs a batch dimension: x[None]"
    if shape and (1, *shape[1:]) == expected:  # or a single sample of several channels
        return f"; if these are {shape[0]} samples, add the channel dimension: x[:, None]"
    if (*shape[3:], *shape[1:3]) == expected:
        return "; the channels must come first: x.transpose(0, 3, 1, 2)"
    return ""


def as_input(model: "Model", x: np.ndarray) -> np.ndarray:
    """The first layer's input for checked samples, in the dtype of the model's parameters."""
    return model.preprocessing.apply(x, model.dtype)


def bound_loss(model: "Model", loss: Any) -> Loss:
    """The loss for a model; with several outputs there must be one for each.

    Parameters
    ----------
    loss : str, Loss or callable, or sequence or mapping of them
        As for :func:`fastcnn.losses.as_loss`; by default cross-entropy.
    """
    loss = CrossEntropyLoss() if loss is None else as_loss(loss)
    outputs = model.graph().outputs if as_model(model).gives > 1 else ()
    if isinstance(loss, JointLoss):
        return loss.bound(outputs)
    if outputs:
        names = ", ".join(port.name for port in outputs)
        raise ConfigurationError(
            f"the model has the outputs {names}: give a loss for each, as a list or by name, not "
            f"{loss!r}"
        )
    return loss


def as_target(loss: Loss, y: Any, count: int, graph: Graph, dtype: Any) -> np.ndarray:
    """Check targets against the loss, and convert them to the form that backends read."""
    y = loss.pack(y, dtype) if isinstance(loss, JointLoss) else plain_array("targets", y)
    if y.ndim == 0 or len(y) != count:
        raise ShapeError(f"expected a target for each sample, {count} in all, got shape {y.shape}")
    return loss.as_target(y, graph.output_shape, dtype)


def check_layout(before: tuple[Any, ...], model: "Model") -> None:
    """Refuse a model whose set of parameters has changed since the start."""
    now = model.parameter_layout()
    if now == before:
        return
    old, new = ({entry[0]: entry[1:] for entry in layout} for layout in (before, now))
    changes = [
        _change(key, old.get(key), new.get(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]
    raise ConfigurationError(
        "the model's parameters were replaced during training: "
        + "; ".join(changes or ["their order has changed"])
        + ". Start another training run with the changed model"
    )


def _change(key: str, old: Any, new: Any) -> str:
    if old is None or new is None:
        return f"{key} was {'added' if old is None else 'removed'}"
    if old[:2] == new[:2]:
        return f"{key} belongs to another layer"
    return f"{key} had shape {old[0]} and type {old[1]}, now {new[0]} and {new[1]}"


def check_statistics(graph: Graph, count: int, training: bool = True) -> None:
    """Refuse a batch with one value per channel if its variance is needed."""
    for node in graph.batch_statistics(training):
        if count * prod(node.output_shape[1:]) == 1:
            where = "in training" if training else "without running statistics"
            raise ShapeError(
                f"layer {node.name!r}: batch normalisation {where} needs more than one value "
                f"per channel, got a batch of one sample of shape {node.output_shape}"
            )
