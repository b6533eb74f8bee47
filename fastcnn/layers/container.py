"""Models: layers put together, with their parameters, shapes, state and predictions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import indent
from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph, Shape
from fastcnn.errors import CheckpointError, ConfigurationError, ShapeError
from fastcnn.layers.base import GraphBuilder, Layer
from fastcnn.layers.init import Initializer
from fastcnn.layers.meaning import Meaning
from fastcnn.notebook import html_table
from fastcnn.text_table import text_table

#: Columns of :meth:`Model.summary`.
SUMMARY = ("layer", "", "output shape", "parameters", "FLOPs")


@dataclass(frozen=True)
class SummaryRow:
    """One line of :meth:`Model.summary`."""

    name: str
    description: str
    output_shape: Shape
    parameters: int
    flops: int


class Model(Meaning, Layer):
    """A layer made of named layers; subclasses say how they are connected.

    Attributes
    ----------
    layers : dict of str to Layer
        The direct children by name; a name is the first part of its parameters' state keys.
    input_shape : tuple of int or None
        Shape of one sample, ``(C, H, W)`` for images; None until it is given or first seen.
    preprocessing : Preprocessing
        How samples become what the first layer reads. At first bytes are divided by 255 and other
        numbers stay as they are; ``fit`` sets it from its training data. Of a model inside
        another one it has no effect.
    predicts : {None, "classes", "values", "value"}
        What :meth:`predict` gives: classes, the outputs themselves, or the only output of each
        sample. ``fit`` sets it from the loss and its targets; None before that.
    """

    def __init__(self, layers: Mapping[str, Layer], input_shape: Shape | None = None) -> None:
        super().__init__()
        for name, layer in layers.items():
            if not isinstance(layer, Layer):
                raise ConfigurationError(f"layer {name!r} is {layer!r}, which is no layer")
            if not name or "." in name:
                raise ConfigurationError(f"layer name {name!r} must be non-empty, without dots")
        self.layers = dict(layers)
        self._graphs: dict[Shape, Graph] = {}
        self._vector: np.ndarray | None = None
        self._slots: list[tuple[Layer, str]] = []
        self.input_shape: Shape | None = None
        if input_shape is not None:
            self.input_shape = tuple(input_shape)
            self.graph(self.input_shape)

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes its own vector: views of one array become arrays of their own.
        return {**self.__dict__, "_graphs": {}, "_vector": None}

    # -- structure ---------------------------------------------------------------------------

    def named_leaves(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Every layer that is no model itself, with its path, in order of definition."""
        for name, layer in self.layers.items():
            if isinstance(layer, Model):
                yield from layer.named_leaves(f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", layer

    def graph(self, input_shape: Shape | None = None) -> Graph:
        """Nodes of this model for samples of ``input_shape`` (default: the model's own).

        Raises
        ------
        ShapeError
            If a layer cannot take what comes before it; the message names the layer.
        """
        shape = self._known_shape(input_shape)
        if shape not in self._graphs:
            builder = GraphBuilder(shape)
            self.connect(builder, "", -1)
            if not builder.nodes:
                raise ConfigurationError("the model computes nothing: all of it is the identity")
            self._graphs[shape] = builder.build()
        return self._graphs[shape]

    def _known_shape(self, input_shape: Shape | None) -> Shape:
        shape = self.input_shape if input_shape is None else tuple(input_shape)
        if shape is None:
            raise ShapeError("the model's input shape is not known yet: pass input_shape=(C, H, W)")
        return shape

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one sample at the model's output."""
        return self.graph(input_shape).output_shape

    def flops(self, input_shape: Shape) -> int:
        """Floating-point operations of one sample's forward pass."""
        return sum(row.flops for row in self._rows(input_shape))

    def _rows(self, input_shape: Shape | None) -> list[SummaryRow]:
        builder = GraphBuilder(self._known_shape(input_shape))
        self.connect(builder, "", -1)
        return [
            SummaryRow(
                node.name,
                repr(layer),
                node.output_shape,
                sum(value.size for value in layer.parameters.values()),
                layer.flops(node.input_shapes[0]),
            )
            for node, layer in zip(builder.nodes, builder.layers, strict=True)
        ]

    def _summary_cells(self, input_shape: Shape | None) -> list[tuple[str, ...]]:
        """The lines of a summary, the totals last."""
        rows = self._rows(input_shape)
        cells = [
            (row.name, row.description, str(row.output_shape),
             f"{row.parameters:,}", f"{row.flops:,}")
            for row in rows
        ]  # fmt: skip
        total = (
            "total", "", "",
            f"{sum(row.parameters for row in rows):,}", f"{sum(row.flops for row in rows):,}",
        )  # fmt: skip
        return [*cells, total]

    def summary(self, input_shape: Shape | None = None) -> str:
        """A table of layers: output shape, parameters and FLOPs of one sample's forward pass."""
        *rows, total = self._summary_cells(input_shape)
        return text_table(SUMMARY, rows, left=3, footer=total)

    def _repr_html_(self) -> str:
        """What Jupyter shows: the table of :meth:`summary`, or the layers without shapes."""
        if self.input_shape is None:
            leaves = [(name, repr(layer)) for name, layer in self.named_leaves()]
            return html_table(("layer", ""), leaves, caption=type(self).__name__, left=2)
        *rows, total = self._summary_cells(None)
        caption = f"{type(self).__name__} for samples of shape {self.input_shape}"
        return html_table(SUMMARY, rows, caption=caption, left=3, footer=total)

    def __repr__(self) -> str:
        lines = "\n".join(f"({name}): {layer!r}" for name, layer in self.layers.items())
        return f"{type(self).__name__}(\n{indent(lines, '  ')}\n)"

    # -- parameters --------------------------------------------------------------------------

    def named_parameters(self) -> dict[str, np.ndarray]:
        """All parameters by PyTorch's keys (``"0.weight"``, ``"fc1.bias"``), as live views."""
        self.parameter_vector  # noqa: B018  (makes the layers' arrays views of one vector)
        return {
            f"{name}.{key}": value
            for name, layer in self.named_leaves()
            for key, value in layer.parameters.items()
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """All parameters and buffers (running statistics) by PyTorch's keys, as live arrays."""
        self.parameter_vector  # noqa: B018  (makes the layers' arrays views of one vector)
        return {
            f"{name}.{key}": value
            for name, layer in self.named_leaves()
            for key, value in (layer.parameters | layer.buffers).items()
        }

    def copy_state(self) -> dict[str, np.ndarray]:
        """A copy of :meth:`state_dict`, which later training does not change."""
        return {key: value.copy() for key, value in self.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy parameters and buffers from ``state`` by key; unless all fits, nothing changes.

        Parameters
        ----------
        state : mapping of str to array_like
        strict : bool
            Whether missing and unexpected keys are errors.

        Raises
        ------
        CheckpointError
            If keys are missing or unexpected (``strict``), a shape differs, or values do not fit
            the type of the model's array.
        """
        own = self.state_dict()
        missing = [key for key in own if key not in state]
        unexpected = [key for key in state if key not in own]
        if strict and (missing or unexpected):
            raise CheckpointError(
                f"state does not fit the model: missing {missing}, unexpected {unexpected}"
            )
        values = {key: np.asarray(state[key]) for key in own if key in state}
        for key, value in values.items():
            if value.shape != own[key].shape:
                raise CheckpointError(
                    f"{key}: the model has shape {own[key].shape}, the state {value.shape}"
                )
            values[key] = _cast(key, value, own[key].dtype)
        for key, value in values.items():
            own[key][...] = value

    @property
    def parameter_vector(self) -> np.ndarray:
        """All parameters as one contiguous array, of which every layer's array is a view.

        Optimisers, checkpoints and the reduction between machines work on this one array.
        """
        vector = self._vector
        if vector is not None and all(
            layer.parameters[key].base is vector for layer, key in self._slots
        ):
            return vector
        self._slots = [(leaf, key) for _, leaf in self.named_leaves() for key in leaf.parameters]
        arrays = [layer.parameters[key] for layer, key in self._slots]
        dtype = np.result_type(*arrays) if arrays else np.float32
        vector = np.empty(sum(array.size for array in arrays), dtype)
        offset = 0
        for (layer, key), array in zip(self._slots, arrays, strict=True):
            part = vector[offset : offset + array.size].reshape(array.shape)
            part[...] = array
            layer.parameters[key] = part
            offset += array.size
        self._vector = vector
        return vector

    @property
    def num_parameters(self) -> int:
        """Number of learned values."""
        return self.parameter_vector.size

    @property
    def dtype(self) -> np.dtype:
        """Type of the parameters."""
        return self.parameter_vector.dtype

    def to(self, dtype: Any) -> "Model":
        """Convert parameters and statistics to float32 or float64 in place; returns the model."""
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ConfigurationError(f"parameters are float32 or float64, not {dtype}")
        for _, layer in self.named_leaves():
            layer.parameters = {key: value.astype(dtype) for key, value in layer.parameters.items()}
            for key, value in layer.buffers.items():
                if value.dtype.kind == "f":
                    layer.buffers[key] = value.astype(dtype)
        return self

    def initialize(
        self,
        weight: Initializer,
        bias: Initializer | None = None,
        seed: int | np.random.SeedSequence | np.random.Generator | None = None,
    ) -> "Model":
        """Draw all weights anew (and biases, where ``bias`` is given), and return the model.

        Batch normalisation, whose weight is a factor for each channel, is left as it is.
        """
        generator = np.random.default_rng(seed)
        self.parameter_vector  # noqa: B018  (makes the layers' arrays views of one vector)
        for _, layer in self.named_leaves():
            if "weight" not in layer.parameters or layer.parameters["weight"].ndim < 2:
                continue
            for key, value in layer.parameters.items():
                draw = bias if key == "bias" else weight
                if draw is not None:
                    value[...] = draw(value.shape, generator)
        return self

    def fold_batch_norm(self) -> "Model":
        """A copy for inference, with each batch normalisation folded into the layer before it.

        See :func:`fastcnn.layers.folding.fold_batch_norm`.
        """
        from fastcnn.layers.folding import fold_batch_norm

        return fold_batch_norm(self)

    # -- running -----------------------------------------------------------------------------

    def logits(self, x: Any, *, backend: str | None = None, batch_size: int = 256) -> np.ndarray:
        """Output of the last layer for samples ``x``, outside training.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            As in training, bytes or floating-point: :attr:`preprocessing` is applied to them. A
            single sample without the batch dimension is not taken.
        backend : str, optional
        batch_size : int
            Samples that are run at a time; bounds the memory, does not change the result.

        Returns
        -------
        ndarray, shape (N, ...)
        """
        from fastcnn.execution import predict_logits

        return predict_logits(self, x, backend=backend, batch_size=batch_size)

    def predict_proba(
        self, x: Any, *, backend: str | None = None, batch_size: int = 256
    ) -> np.ndarray:
        """Class probabilities, shape (N, classes): the softmax of :meth:`logits`.

        Raises
        ------
        ConfigurationError
            If the model was trained to predict values, or has one output.
        """
        logits = self.logits(x, backend=backend, batch_size=batch_size)
        self._check_classes("predict_proba", logits)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def predict(self, x: Any, *, backend: str | None = None, batch_size: int = 256) -> np.ndarray:
        """Most probable class of each sample, int64, shape (N,).

        A model that was trained on values, such as by a mean squared error, gives its outputs: of
        shape (N,) where it was trained on one number a sample, else that of :meth:`logits`.

        Raises
        ------
        ConfigurationError
            If the model has one output, and was not trained on values.
        """
        outputs = self.logits(x, backend=backend, batch_size=batch_size)
        if self.predicts == "values":
            return outputs
        if self.predicts == "value":
            return outputs[:, 0]
        self._check_classes("predict", outputs)
        return outputs.argmax(axis=1)


def _cast(key: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    try:
        with np.errstate(over="raise", invalid="raise"):
            return value.astype(dtype, casting="same_kind", copy=False)
    except (TypeError, FloatingPointError):
        raise CheckpointError(
            f"{key}: values of type {value.dtype} do not fit the model's {dtype}"
        ) from None


class Sequential(Model):
    """A chain of layers.

    Parameters
    ----------
    *layers : Layer, or one mapping of str to Layer
        In order; without names they are called "0", "1", ... as in PyTorch.
    input_shape : tuple of int, optional
        Shape of one sample, ``(C, H, W)``; when given, all shapes are checked at once.

    Examples
    --------
    >>> from fastcnn.layers import Conv2d, Flatten, Linear, ReLU
    >>> model = Sequential(Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(4 * 26 * 26, 10))
    >>> model.output_shape((1, 28, 28))
    (10,)
    """

    def __init__(
        self, *layers: Layer | Mapping[str, Layer], input_shape: Shape | None = None
    ) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named = dict(layers[0])
        else:
            named = {str(index): layer for index, layer in enumerate(layers)}  # type: ignore[misc]
        if not named:
            raise ConfigurationError("Sequential: a model needs at least one layer")
        super().__init__(named, input_shape)

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Connect the layers one after the other."""
        prefix = f"{name}." if name else ""
        for child, layer in self.layers.items():
            source = layer.connect(builder, f"{prefix}{child}", source)
        return source
