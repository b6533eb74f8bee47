"""Models: connected layers, with their parameters, shapes, state and predictions."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arguments import as_dtype, as_sample_shape
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, counted
from fastcnn.layers.base import Layer, check_child
from fastcnn.layers.changes import Watched
from fastcnn.layers.connections import Connections
from fastcnn.layers.description import file_metadata, to_definition
from fastcnn.layers.folding import fold_batch_norm
from fastcnn.layers.init import Initializer, check_initializer, generator_of
from fastcnn.layers.prediction import Prediction
from fastcnn.layers.state import LoadReport, NamedArrays, matched
from fastcnn.layers.structure import Structure
from fastcnn.layers.wiring import Wiring, trace
from fastcnn.weights import write_weights


class Model(Prediction, Connections, Layer):
    """A network: named layers and their connections.

    ``Model(inputs, outputs)`` follows a functional style: :func:`fastcnn.Input` returns a symbolic
    value, calling a layer on values returns new ones, and the model consists of the layers in
    between. A layer that is called twice is shared. :class:`Sequential` and :class:`Residual` are
    models with fixed connections; other subclasses call ``super().__init__(layers)`` and override
    :meth:`connect`.

    Layers can be replaced, added and removed at any time, through :attr:`layers` or
    :meth:`replace`; the model adapts. The parameters of a shared layer count once, and their
    gradient is the sum over all its uses. Two layers whose weight is the same array share that
    array.

    Parameters
    ----------
    inputs : Value, or sequence of Value, or mapping of str to Value
        Values returned by :func:`fastcnn.Input`. For subclasses a mapping of str to Layer.
    outputs : Value, or sequence of Value, or mapping of str to Value
        Values returned by the last layers.
    input_shape : tuple of int, optional
        For subclasses: the shape of one sample.

    Raises
    ------
    ConfigurationError
        If an output depends on an unlisted input, an input is not used, or names are invalid.

    Examples
    --------
    >>> from fastcnn.layers import Concat, Conv2d, Input
    >>> x = Input((1, 8, 8))
    >>> near = Conv2d(1, 4, 3, padding=1, seed=0)(x, name="near")
    >>> far = Conv2d(1, 2, 5, padding=2, seed=1)(x, name="far")
    >>> model = Model(x, Concat()(near, far))
    >>> model.output_shape((1, 8, 8))
    (6, 8, 8)
    >>> list(model.state_dict())
    ['near.weight', 'near.bias', 'far.weight', 'far.bias']

    Attributes
    ----------
    layers : mapping of str to Layer
        The direct children by name; a name is the prefix of its parameters' state keys.
    input_shape : tuple of int or None
        Shape of one sample, ``(C, H, W)`` for images; None until it is given or inferred.
    preprocessing : Preprocessing
        The conversion of samples to the first layer's input. Initially bytes are divided by 255 and
        other values are unchanged; ``fit`` sets it from its training data. It has no effect in a
        model nested in another one.
    predicts : {None, "classes", "values", "value", "labels", "label"}
        What :meth:`predict` returns: classes, the outputs themselves, or labels that are 0 or 1 by
        their sign; singular if each sample has a single output. ``fit`` sets it from the loss and
        its targets; None before that.
    """

    if TYPE_CHECKING:

        @property
        def layers(self) -> Watched[Layer]: ...

        @layers.setter
        def layers(self, layers: Mapping[str, Layer]) -> None: ...

    def __init__(
        self, inputs: Any, outputs: Any = None, *, input_shape: Shape | None = None
    ) -> None:
        super().__init__()
        self._structure = Structure()
        self._empty_dtype = np.dtype(np.float32)
        self._wiring: Wiring | None = None
        layers = inputs
        if isinstance(outputs, Wiring):
            self._wiring = outputs
        elif outputs is not None:
            layers, self._wiring = trace(inputs, outputs)
        elif not isinstance(inputs, Mapping):
            raise ConfigurationError(
                f"{type(self).__name__} is made from inputs and outputs: Model(x, y), where x = "
                "Input((1, 28, 28)) and y is the output of layers applied to it"
            )
        if self._wiring is not None and input_shape is None:
            shapes = list(self._wiring.inputs.values())
            input_shape = shapes[0] if len(shapes) == 1 else (sum(map(prod, shapes)),)
        self.layers = layers
        self.input_shape: Shape | None = None
        if input_shape is not None:
            self.input_shape = input_shape
            self.graph()

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes a new vector: copied views become separate arrays.
        return {**self.__dict__, "_structure": Structure()}

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "layers":
            children: Watched[Layer] = Watched(owner=type(self).__name__, check=check_child)
            children.update(value)
            value = children
        elif name == "input_shape" and value is not None:
            value = as_sample_shape(value)
        super().__setattr__(name, value)

    def _set_argument(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    # -- structure ---------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Number of the latest change of the model or of any layer in it."""
        children: Watched[Layer] = self.__dict__["layers"]
        own = max(super().version, children.version)
        return max((own, *(layer.version for layer in children.values())))

    def named_leaves(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Every layer that is not itself a model, with its path, in order of definition.

        A shared layer appears once for each use.

        Parameters
        ----------
        prefix : str
            Begins every path.
        """
        for name, layer in self.layers.items():
            if isinstance(layer, Model):
                yield from layer.named_leaves(f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", layer

    def _current(self) -> "Structure":
        """Information on the current structure, rebuilt if any layer has changed."""
        self._structure.refresh(self)
        return self._structure

    # -- layers ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers.values())

    def __contains__(self, item: object) -> bool:
        return item in self.layers or any(item is layer for layer in self)

    def __getitem__(self, name: str | int) -> Layer:
        """A layer by its name, its path (``"block1.main.conv1"``), or its index (``-1``)."""
        if isinstance(name, (int, np.integer)):
            try:
                return list(self)[name]
            except IndexError:
                raise IndexError(f"{name}: the model has {counted(len(self), 'layer')}") from None
        parent, child = self._parent(name)
        return parent.layers[child]

    def replace(self, name: str, layer: Layer) -> None:
        """Replace a layer by another one.

        Parameters
        ----------
        name : str
            Its name, or its path within nested models, such as ``"block1.main.conv1"``.
        layer : Layer

        Raises
        ------
        ConfigurationError
            If there is no layer with that name, or the new one is not a layer.
        """
        parent, child = self._parent(name)
        parent.layers[child] = layer

    def _parent(self, path: str) -> "tuple[Model, str]":
        """The model that contains the last layer of a path, and the layer's name in it."""
        parent: Layer | None = self
        *models, last = str(path).split(".")
        for name in models:
            parent = parent.layers.get(name) if isinstance(parent, Model) else None
        if not isinstance(parent, Model) or last not in parent.layers:
            known = ", ".join(name for name, _ in self.named_leaves())
            raise ConfigurationError(f"there is no layer {path!r}; there are {known}")
        return parent, last

    # -- parameters --------------------------------------------------------------------------

    @property  # type: ignore[misc]
    def parameters(self) -> NamedArrays:  # type: ignore[override]
        """All parameters by state key; ``parameters()`` returns them as a list."""
        return NamedArrays(self.named_parameters())

    @property  # type: ignore[misc]
    def buffers(self) -> NamedArrays:  # type: ignore[override]
        """All buffers, such as running statistics, by state key; ``buffers()`` returns a list."""
        state, learned = self.state_dict(), self._current().aliases
        return NamedArrays({key: value for key, value in state.items() if key not in learned})

    @property
    def requires_grad(self) -> bool:
        """Whether any layer's parameters are trained; set it to freeze or unfreeze all layers."""
        return any(layer.requires_grad for _, layer in self.named_leaves())

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        for _, layer in self.named_leaves():
            layer.requires_grad = value

    def named_parameters(self) -> dict[str, np.ndarray]:
        """All parameters by PyTorch's keys (``"0.weight"``, ``"fc1.bias"``), as live views.

        A shared layer has the keys of its first use.
        """
        self.parameter_vector  # noqa: B018  (makes the layers' arrays views of one vector)
        return {slot.key: slot.array for slot in self._current().slots}

    def state_dict(self) -> dict[str, np.ndarray]:
        """All parameters and buffers (running statistics) by PyTorch's keys, as live arrays.

        A shared layer has its arrays under each of its names.
        """
        self.parameter_vector  # noqa: B018  (makes the layers' arrays views of one vector)
        known = self._current()
        if known.state is None:
            known.state = {
                f"{name}.{key}": value
                for name, layer in self.named_leaves()
                for key, value in (*layer.parameters.items(), *layer.buffers.items())
            }
        return dict(known.state)

    def copy_state(self) -> dict[str, np.ndarray]:
        """A copy of :meth:`state_dict`, unaffected by later training."""
        return {key: value.copy() for key, value in self.state_dict().items()}

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True, skip: Sequence[str] = ()
    ) -> LoadReport:
        """Copy parameters and buffers from ``state`` by key; if it raises, nothing changes.

        Parameters
        ----------
        state : mapping of str to array_like
        strict : bool
            Whether missing or unexpected keys and mismatched shapes are errors. If False, matching
            arrays are loaded. As in PyTorch, batch normalisation's ``num_batches_tracked``, which
            files of old versions lack, may be missing, and is then kept.
        skip : sequence of str
            Patterns of keys to leave out: ``["fc.*"]`` keeps the model's own last layer.

        Returns
        -------
        LoadReport
            Keys that were loaded, and those that did not match.

        Raises
        ------
        CheckpointError
            If keys are missing or unexpected or a shape differs (``strict``), nothing matches, or
            values cannot be converted to the type of the model's array.
        ConfigurationError
            If a pattern matches no key of the model or the state.
        """
        own = self.state_dict()
        values, report = matched(own, state, self._current().aliases_of_state(), strict, skip)
        for first, value in values.items():
            own[first][...] = value
        return report

    @property
    def parameter_vector(self) -> np.ndarray:
        """All parameters as one contiguous array; the layers' arrays are views of it.

        Optimisers, checkpoints and the reduction between machines operate on this array.

        Raises
        ------
        ConfigurationError
            If parameters have different types, or share memory without being the same array.
        """
        known = self._current()
        if not known.in_vector:
            known.move_to_vector(self)
        return known.vector

    def parameter_layout(self) -> tuple[tuple[str, Shape, np.dtype, tuple[Layer, ...]], ...]:
        """Key, shape, type and layers of each parameter, in the order of the vector."""
        dtype = self.parameter_vector.dtype
        return tuple(
            (slot.key, slot.array.shape, dtype, tuple(layer for layer, _ in slot.users))
            for slot in self._current().slots
        )

    def parameter_users(self) -> list[list[tuple[Layer, str]]]:
        """For each parameter, in the order of the vector, its layers and its names in them."""
        return [slot.users for slot in self._current().slots]

    def trainable_ranges(self) -> list[tuple[int, int]]:
        """First and last + 1 of each range of elements of the vector that training changes.

        All but the parameters of layers with ``requires_grad = False``.

        Raises
        ------
        ConfigurationError
            If layers that share an array differ in ``requires_grad``.
        """
        self.parameter_vector  # noqa: B018  (numbers the slots)
        ranges: list[tuple[int, int]] = []
        for slot in self._current().slots:
            trained = {layer.requires_grad for layer, _ in slot.users}
            if len(trained) > 1:
                raise ConfigurationError(
                    f"{slot.key}: layers that share this array differ in requires_grad"
                )
            if trained == {True}:
                start = ranges.pop()[0] if ranges and ranges[-1][1] == slot.offset else slot.offset
                ranges.append((start, slot.offset + slot.array.size))
        return ranges

    @property
    def num_parameters(self) -> int:
        """Number of learned values."""
        return self.parameter_vector.size

    @property
    def dtype(self) -> np.dtype:
        """Type of the parameters; for a model without any, that of its samples."""
        vector = self.parameter_vector
        return vector.dtype if vector.size else self._empty_dtype

    def save(self, path: str | Path) -> None:
        """Write the model as a safetensors file, which :func:`fastcnn.load` reads.

        Parameters
        ----------
        path : path
            The file has the weights under PyTorch's keys; the model's definition, its preprocessing
            and what it predicts are in the metadata.

        Raises
        ------
        ConfigurationError
            If the model is not a ``Sequential`` or ``Model`` of fastcnn's layers, or the file's
            suffix is that of another format, such as ``.pt``.
        NonFiniteError
            If a weight or a running statistic is NaN or infinite.
        OSError
            If the file cannot be written.
        """
        to_definition(self)
        write_weights(path, self.state_dict(), file_metadata(self))

    def to(self, dtype: Any) -> "Model":
        """Convert parameters and statistics to float32 or float64 in place; returns the model.

        Parameters
        ----------
        dtype : dtype
        """
        dtype = as_dtype("to", dtype)
        # The old array is kept with the new one, so that its id is not reused.
        converted: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for _, layer in self.named_leaves():
            for arrays in (layer.parameters, layer.buffers):
                for key, value in arrays.items():
                    if value.dtype.kind != "f" or value.dtype == dtype:
                        continue
                    if id(value) not in converted:
                        converted[id(value)] = value, value.astype(dtype)
                    arrays.move(key, converted[id(value)][1])
        self._empty_dtype = dtype
        return self

    def initialize(
        self,
        weight: Initializer,
        bias: Initializer | None = None,
        seed: int | np.random.SeedSequence | np.random.Generator | None = None,
    ) -> "Model":
        """Redraw all weights (and biases, if ``bias`` is given), and return the model.

        Batch normalisation layers, whose weight is a factor per channel, are left unchanged.

        Parameters
        ----------
        weight : Initializer
        bias : Initializer, optional
        seed : int, SeedSequence or Generator, optional

        Raises
        ------
        ConfigurationError
            If ``weight`` or ``bias`` is not an initialiser, such as ``init.Normal(0.1)``.
        """
        check_initializer("weight", weight)
        if bias is not None:
            check_initializer("bias", bias)
        generator = generator_of(seed)
        self.parameter_vector  # noqa: B018  (makes the layers' arrays views of one vector)
        drawn: set[int] = set()
        for _, layer in self.named_leaves():
            if id(layer) in drawn or "weight" not in layer.parameters:
                continue
            if layer.parameters["weight"].ndim < 2:
                continue
            drawn.add(id(layer))
            for key, value in layer.parameters.items():
                draw = bias if key == "bias" else weight
                if draw is not None:
                    value[...] = draw(value.shape, generator)
        return self

    def fold_batch_norm(self) -> "Model":
        """A copy for inference, with each batch normalisation folded into the layer before it.

        See :func:`fastcnn.layers.folding.fold_batch_norm`.
        """
        return fold_batch_norm(self)
