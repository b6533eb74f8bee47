"""What a pass over a network wants of its samples and targets, checked before it begins."""

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arguments import are_probabilities, plain_array
from fastcnn.backends.graph import Graph
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.layers.packing import pack_inputs
from fastcnn.losses import Loss

if TYPE_CHECKING:
    from fastcnn.layers import Model


def as_batch(model: "Model", x: Any) -> np.ndarray:
    """Check samples against the model; remember their shape.

    They are returned as they are: :func:`as_input` converts them, or the engine does.

    Raises
    ------
    ShapeError
        If there are none, or their shape is not the model's.
    DataError
        If the model's preprocessing does not take them.
    """
    if model.takes > 1:
        x = pack_inputs(model.graph().inputs, x)
    x = plain_array("samples", x)
    expected = model.input_shape
    if x.ndim < 2 or (expected is not None and x.shape[1:] != expected):
        wanted = "(N, C, H, W)" if expected is None else f"(N, {', '.join(map(str, expected))})"
        hint = ""
        if expected is not None and x.shape == expected:
            hint = "; a single sample needs a batch dimension: x[None]"
        raise ShapeError(f"the model takes samples of shape {wanted}, got {x.shape}{hint}")
    if len(x) == 0:
        raise ShapeError(f"a batch needs at least one sample, got shape {x.shape}")
    model.preprocessing.check(x)
    if expected is None:
        model.graph(x.shape[1:])
        model.input_shape = x.shape[1:]
    return x


def as_batch_size(value: Any, name: str = "batch_size") -> int:
    """A positive integer, or a ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ConfigurationError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def as_input(model: "Model", x: np.ndarray) -> np.ndarray:
    """What the model's first layer reads for checked samples, in the type of its parameters."""
    return model.preprocessing.apply(x, model.dtype)


def as_target(loss: Loss, y: Any, count: int, graph: Graph, dtype: Any) -> np.ndarray:
    """Check targets against the loss.

    For cross-entropy int64 classes, or rows of probabilities; for MSE an array like the output.
    """
    y = plain_array("targets", y)
    output_shape = graph.output_shape
    if len(y) != count if y.ndim else True:
        raise ShapeError(f"{count} samples need as many targets, got targets of shape {y.shape}")
    if loss.operation == "cross_entropy":
        if y.ndim == 2 and y.dtype.kind == "f":
            return _as_probabilities(y, output_shape, dtype)
        return _as_classes(y, output_shape)
    if y.ndim == 1 and y.dtype.kind in "iu" and len(output_shape) == 1 and output_shape[0] > 1:
        return np.eye(output_shape[0], dtype=dtype)[_as_classes(y, output_shape)]
    if y.ndim == 1 and output_shape == (1,):
        y = y[:, None]
    if y.shape[1:] != output_shape:
        raise ShapeError(f"targets have shape {y.shape}, the output {(count, *output_shape)}")
    return np.require(y, dtype, ["C", "A"])


def predicted(loss: Loss, y: np.ndarray, output_shape: tuple[int, ...]) -> str:
    """What a model predicts that is trained with a loss on these targets.

    Returns
    -------
    {"classes", "values", "value"}
        As ``Model.predicts`` has it.
    """
    integers = y.ndim == 1 and y.dtype.kind in "iu"
    if loss.operation == "cross_entropy" or (integers and output_shape != (1,)):
        return "classes"
    return "value" if y.ndim == 1 else "values"


def _as_probabilities(y: np.ndarray, output_shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if y.shape[1:] != output_shape:
        raise ShapeError(f"probabilities have shape {y.shape}, the output {output_shape} a sample")
    if not are_probabilities(y):
        raise DataError("rows of probabilities must not be negative, and sum to 1")
    return np.require(y, dtype, ["C", "A"])


def _as_classes(y: np.ndarray, output_shape: tuple[int, ...]) -> np.ndarray:
    if len(output_shape) != 1:
        raise ShapeError(f"cross-entropy needs logits of shape (N, classes), got {output_shape}")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(
            f"classes must be a 1-D array of integers, got {y.dtype} of shape {y.shape}"
        )
    if y.min() < 0 or y.max() >= output_shape[0]:
        raise DataError(f"classes must lie in 0..{output_shape[0] - 1}, got {y.min()}..{y.max()}")
    return y.astype(np.int64, copy=False)


def check_layout(before: tuple[Any, ...], model: "Model") -> None:
    """Refuse another set of parameters than that of the start.

    Raises
    ------
    ConfigurationError
    """
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
    """Refuse a batch that has one value a channel where its variance is asked for.

    Raises
    ------
    ShapeError
    """
    for node in graph.batch_statistics(training):
        if count * prod(node.output_shape[1:]) == 1:
            where = "in training" if training else "without running statistics"
            raise ShapeError(
                f"layer {node.name!r}: batch normalisation {where} needs more than one value "
                f"a channel, got a batch of one sample of shape {node.output_shape}"
            )
