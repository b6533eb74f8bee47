"""The base of all layers: descriptions that own parameters and do no arithmetic."""

import inspect
import math
from abc import ABCMeta
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastcnn.arguments import as_number, check_constructor, check_layer_name
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.changes import Watched, check_array, next_change
from fastcnn.layers.wiring import apply

if TYPE_CHECKING:
    from fastcnn.layers.builder import GraphBuilder


class _LayerType(ABCMeta):
    """Seals a layer after construction: from then on, changes are checked and tracked."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            layer = super().__call__(*args, **kwargs)
        except TypeError:
            check_constructor(cls, args, kwargs)
            raise
        layer.__dict__["_sealed"] = True
        return layer

    @property
    def __signature__(cls) -> inspect.Signature:
        """The constructor's signature, for ``help`` and editors."""
        own = inspect.signature(cls.__init__)  # type: ignore[misc]
        return own.replace(parameters=list(own.parameters.values())[1:])


class Layer(metaclass=_LayerType):
    """Base of all layers.

    A layer knows its geometry and owns its parameters; a backend runs the operation that it names.
    After construction its arguments can be set (``dropout.p = 0.2``): they are checked as in the
    constructor, and take effect in every model that contains the layer.

    Attributes
    ----------
    operation : str
        The layer's row in :data:`fastcnn.operations.OPERATIONS`.
    parameters : mapping of str to ndarray
        The layer's own parameters by PyTorch's names, ``weight`` and ``bias``; an array can be
        replaced by one of the same shape. ``parameters()`` returns them as a list.
    buffers : mapping of str to ndarray
        State that is not learned: saved in checkpoints, but not updated by optimisers.
    requires_grad : bool
        False freezes the parameters: training does not change them.

    Raises
    ------
    ConfigurationError
        If an attribute is set that does not exist, or to a value that the constructor refuses.
    """

    operation: ClassVar[str] = ""
    #: Attributes passed to the backend functions as arguments.
    passed: ClassVar[tuple[str, ...]] = ()
    #: Floating-point operations per element of the output.
    flops_each: ClassVar[int] = 1
    #: Arguments that ``repr`` always shows, with their names.
    always_shown: ClassVar[tuple[str, ...]] = ()
    requires_grad: bool
    _sealed: bool = False
    _changed: int = 0

    if TYPE_CHECKING:

        @property
        def parameters(self) -> Watched[np.ndarray]: ...

        @parameters.setter
        def parameters(self, arrays: Mapping[str, np.ndarray]) -> None: ...

        @property
        def buffers(self) -> Watched[np.ndarray]: ...

        @buffers.setter
        def buffers(self, arrays: Mapping[str, np.ndarray]) -> None: ...

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "forward"):
            raise ConfigurationError(
                f"{cls.__name__}: forward would never be called: layers describe a network and do "
                "not compute. Connect layers by calling them with an Input, or in a method "
                "connect(builder, name, source); fastcnn.kernel.activation makes a layer of a "
                "formula"
            )

    def __init__(self) -> None:
        self._set_arrays("parameters", {})
        self._set_arrays("buffers", {})
        self.__dict__["requires_grad"] = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__["_changed"] = next_change(self._changed)

    def _set_arrays(self, name: str, values: Mapping[str, np.ndarray]) -> None:
        """Replace all parameters or buffers, of any shapes."""
        self.__dict__[name] = Watched(values, type(self).__name__, check_array)

    @property
    def version(self) -> int:
        """Number of the layer's latest change; it grows with every change."""
        own = self.__dict__
        return max(self._changed, own["parameters"].version, own["buffers"].version)

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if name in ("parameters", "buffers") and isinstance(own.get(name), Watched):
            if self._sealed:
                self._replace_arrays(name, value)
            else:
                self._set_arrays(name, value)
        elif isinstance(prop := getattr(type(self), name, None), property) and prop.fset:
            object.__setattr__(self, name, value)
        elif not self._sealed:
            own[name] = value
        elif name in own["parameters"] or name in own["buffers"]:
            own["parameters" if name in own["parameters"] else "buffers"][name] = value
        elif name == "requires_grad":
            if not isinstance(value, (bool, np.bool_)):
                raise ConfigurationError(
                    f"{type(self).__name__}: requires_grad must be True or False, got {value!r}"
                )
            own[name] = bool(value)
        elif name.startswith("_") and hasattr(type(self), name):
            own[name] = value  # read by a property of the class
        elif name not in own:
            raise ConfigurationError(
                f"{type(self).__name__} has nothing called {name!r} to set; "
                f"it has {', '.join(self._settable())}"
            )
        else:
            self._set_argument(name, value)
        own["_changed"] = next_change()

    def __delattr__(self, name: str) -> None:
        raise ConfigurationError(f"{type(self).__name__}: {name!r} cannot be deleted")

    def _settable(self) -> list[str]:
        """Names that can be set after construction."""
        made = {name for name in self.__dict__ if not name.startswith("_")}
        properties = {
            name
            for kind in type(self).__mro__
            for name, value in vars(kind).items()
            if isinstance(value, property) and value.fset
        }
        arrays = {*self.__dict__["parameters"], *self.__dict__["buffers"]}
        return sorted(made | properties | arrays)

    def _replace_arrays(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace all parameters or buffers by others of the same names and shapes."""
        own: Watched[np.ndarray] = self.__dict__[name]
        if set(values) != set(own):
            raise ConfigurationError(
                f"{type(self).__name__}: {name} are {', '.join(own) or 'none'}, "
                f"got {', '.join(values) or 'none'}. "
                "To change which arrays a layer has, replace it by a new layer"
            )
        checked = {key: check_array(own.owner, own, key, values[key]) for key in own}
        for key, value in checked.items():
            own.move(key, value)

    def _set_argument(self, name: str, value: Any) -> None:
        """Set one of the constructor's arguments, checked by a constructor.

        Derived values, such as a resolved padding, are updated; parameters and buffers are kept,
        and an argument that would change their shapes is refused.
        """
        kind = self._constructor_of(name)
        if kind is None:
            self.__dict__[name] = value
            return
        arguments = arguments_of(self, kind)
        assert arguments is not None
        # A subclass may have another constructor, and override what the constructor calls.
        made = type(self).__new__(type(self))
        kind.__init__(made, **(arguments | {name: value}))
        for arrays in ("parameters", "buffers"):
            here, there = (_shapes(layer.__dict__[arrays]) for layer in (self, made))
            if here != there:
                raise ConfigurationError(
                    f"{type(self).__name__}: {name}={value!r} needs {arrays} {there}, "
                    f"the layer has {here}. Make a new layer to replace this one"
                )
        skipped = {"parameters", "buffers", "requires_grad", "_sealed", "_changed"}
        self.__dict__.update({k: v for k, v in made.__dict__.items() if k not in skipped})

    def _constructor_of(self, name: str) -> "type[Layer] | None":
        """The class whose constructor takes an argument, if all its arguments are attributes."""
        for kind in type(self).__mro__:
            if issubclass(kind, Layer) and "__init__" in vars(kind):
                arguments = arguments_of(self, kind)
                if arguments is not None and name in arguments:
                    return kind
        return None

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the backend function."""
        return {name: getattr(self, name) for name in self.passed}

    def arguments_for(self, *input_shapes: Shape) -> dict[str, Any]:
        """Keyword arguments of the backend function for samples of given shapes.

        Arguments of sequences ``(C, L)`` are those of maps of one row.

        Parameters
        ----------
        *input_shapes : tuple of int
            Shape of a sample of each input.
        """
        return self.arguments

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output for one sample of ``input_shape`` (no batch dimension).

        Parameters
        ----------
        input_shape : tuple of int

        Raises
        ------
        ShapeError
            If the layer does not accept samples of that shape.
        """
        return tuple(input_shape)

    def output_shapes(self, *input_shapes: Shape) -> tuple[Shape, ...]:
        """Shapes of all outputs, for a sample of each input.

        Parameters
        ----------
        *input_shapes : tuple of int
        """
        return (self.output_shape(*input_shapes),)

    def flops(self, *input_shapes: Shape) -> int:
        """Floating-point operations of the forward pass for one sample (a multiply-add is two).

        Parameters
        ----------
        *input_shapes : tuple of int
            Shape of a sample of each input.
        """
        return self.flops_each * math.prod(self.output_shape(*input_shapes))

    def connect(self, builder: "GraphBuilder", name: str, source: int) -> int:
        """Add this layer to a graph, reading node ``source``; return the index of its output.

        Layers of several operations, with branches and joins, override this.

        Parameters
        ----------
        builder : GraphBuilder
        name : str
            The layer's name in the model.
        source : int
            -1 for the model's input.
        """
        return builder.add(name, self, (source,))

    @property
    def gives(self) -> int:
        """Number of outputs."""
        return 1

    def connect_all(self, builder: "GraphBuilder", name: str, *sources: int) -> tuple[int, ...]:
        """Like :meth:`connect`, for several inputs or outputs; return the outputs' indices.

        Parameters
        ----------
        builder, name
            As for :meth:`connect`.
        *sources : int
            The node of each input.
        """
        if len(sources) == 1:
            return (self.connect(builder, name, sources[0]),)
        return (builder.add(name, self, sources),)

    def __call__(self, *inputs: Any, name: str | None = None) -> Any:
        """Apply the layer to symbolic values of a graph: see :class:`fastcnn.Model`.

        Parameters
        ----------
        *inputs : Value
            Outputs of :func:`fastcnn.Input` or other layers; several for layers that join branches.
        name : str, optional
            The layer's name in the model, the prefix of its parameters' state keys.

        Returns
        -------
        Value
            Or a tuple, for several outputs.

        Raises
        ------
        ShapeError
            If the layer does not accept that input.
        ConfigurationError
            If the number of inputs is wrong, or they are not values of a graph.
        """
        return apply(self, inputs, name)

    def extra_repr(self) -> str:
        """The arguments between the parentheses of ``repr``: those that differ from defaults."""
        written = []
        parameters = inspect.signature(type(self)).parameters
        for name, value in (arguments_of(self, type(self)) or {}).items():
            default = parameters[name].default
            if default is inspect.Parameter.empty and name not in self.always_shown:
                written.append(f"{value}")
            elif name in self.always_shown or not self._is_default(name, value, default):
                written.append(f"{name}={value!r}")
        return ", ".join(written)

    def _is_default(self, name: str, value: Any, default: Any) -> bool:
        """Whether an argument is its default, perhaps repeated for each axis."""
        if isinstance(value, tuple) and not isinstance(default, tuple):
            return all(each == default for each in value)
        return bool(np.all(value == default))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, Shape]:
    return {key: value.shape for key, value in arrays.items()}


#: Constructor arguments that control the drawing of weights, not what the layer computes.
OF_INITIAL_WEIGHTS = ("seed", "dtype", "weight_init", "bias_init")


def arguments_of(layer: Layer, kind: type[Layer]) -> dict[str, Any] | None:
    """A layer's current constructor arguments; None if it does not keep them all.

    Those that only control the drawing of weights are left out.
    """
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name == "self" or name in OF_INITIAL_WEIGHTS:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return None
        if name in ("weight", "bias"):
            found[name] = name in layer.parameters
        elif name in layer.__dict__ or isinstance(getattr(type(layer), name, None), property):
            found[name] = getattr(layer, name)
        else:
            return None
    return found


class WeightedLayer(Layer):
    """A layer with a ``weight`` and, unless ``bias=False``, a ``bias``."""

    #: The largest norm of the weights of one output, enforced in training.
    max_norm: float | None = None

    @property
    def weight(self) -> np.ndarray:
        """The layer's weight; write into it, or assign another array of the same shape."""
        return self.parameters["weight"]

    @weight.setter
    def weight(self, array: np.ndarray) -> None:
        self.parameters["weight"] = array

    @property
    def bias(self) -> np.ndarray | None:
        """The layer's bias, or None."""
        return self.parameters.get("bias")

    @bias.setter
    def bias(self, array: np.ndarray) -> None:
        self.parameters["bias"] = array

    def _set_max_norm(self, value: Any) -> None:
        self.max_norm = None
        if value is not None:
            self.max_norm = as_number(type(self).__name__, "max_norm", value, above=0.0)
            limit_norms(self.weight, self.max_norm)

    def scale_outputs(self, scale: np.ndarray, shift: np.ndarray) -> None:
        """Fold a factor and a shift of each output channel into the weight and bias."""
        by_row = scale.reshape(-1, *(1,) * (self.weight.ndim - 1))
        self._set_outputs(self.weight * by_row, scale, shift)

    def _set_outputs(self, weight: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> None:
        dtype = self.weight.dtype
        bias = 0.0 if self.bias is None else self.bias
        made = {"weight": weight.astype(dtype), "bias": (bias * scale + shift).astype(dtype)}
        self._set_arrays("parameters", made)


def limit_norms(weight: np.ndarray, bound: float) -> None:
    """Scale the weights of each output down to a norm of at most ``bound``, in place."""
    rows = weight.reshape(len(weight), -1)
    norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
    # Not again for rounding errors.
    above = norms > bound * 1.000001
    if above.any():
        factors = np.where(above, bound / np.where(above, norms, 1.0), 1.0)
        weight[...] = (rows * factors[:, None]).reshape(weight.shape)


def check_samples(input_shape: Shape, axes: tuple[str, ...], channels: int | None = None) -> None:
    """Raise ShapeError unless samples have channels and the given axes."""
    if len(input_shape) != 1 + len(axes) or channels not in (None, input_shape[0]):
        wanted = ", ".join((str(channels or "C"), *axes))
        raise ShapeError(f"expects samples of shape ({wanted}), got {tuple(input_shape)}")


def check_child(owner: str, layers: Mapping[str, Layer], name: str, layer: Any) -> Layer:
    """Check that a child is a layer, and return it."""
    if not isinstance(layer, Layer):
        raise ConfigurationError(f"{owner}: layer {name!r} must be a Layer, got {layer!r}")
    check_layer_name(name)
    return layer
