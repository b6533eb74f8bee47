"""Symbolic construction of a network: values, calls of layers on them, and their record.

``Input`` returns a symbolic value, calling a layer on values returns new ones, and a model is made
from the first and the last. Nothing is computed; shapes are checked immediately.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from fastcnn.arguments import as_sample_shape, check_layer_name, is_unicode
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.operations import OPERATIONS

if TYPE_CHECKING:
    from fastcnn.layers.base import Layer
    from fastcnn.layers.builder import GraphBuilder

_serial = count()
#: Layers made by the operators of :class:`Value`, by name; registered by join.py.
JOINS: "dict[str, Callable[[], Layer]]" = {}


@dataclass(frozen=True)
class Call:
    """One use of a layer.

    Attributes
    ----------
    layer : str
        Its name in the model.
    inputs : tuple of int
        Indices of its input values: the model's inputs come first, then the outputs of each call.
    outputs : int
        Number of its outputs.
    """

    layer: str
    inputs: tuple[int, ...]
    outputs: int = 1


@dataclass(frozen=True)
class Wiring:
    """How the layers of a model are connected.

    Attributes
    ----------
    inputs : mapping of str to tuple of int
        Name and sample shape of each input.
    calls : tuple of Call
        In topological order.
    outputs : mapping of str to int
        Name and value index of each output.
    """

    inputs: Mapping[str, Shape]
    calls: tuple[Call, ...]
    outputs: Mapping[str, int]

    def connect(
        self,
        layers: "Mapping[str, Layer]",
        builder: "GraphBuilder",
        name: str,
        sources: tuple[int, ...],
    ) -> tuple[int, ...]:
        """Add the layers to a graph, reading nodes ``sources``; returns the nodes of the outputs.

        Raises
        ------
        ConfigurationError
            If a layer has been removed, or the number of nodes differs from that of the inputs.
        """
        if len(sources) != len(self.inputs):
            raise ConfigurationError(
                f"{f'layer {name!r}' if name else 'the model'} has the inputs "
                f"{', '.join(self.inputs)}, but is connected to {len(sources)}"
            )
        prefix, values = f"{name}." if name else "", list(sources)
        for call in self.calls:
            if call.layer not in layers:
                raise ConfigurationError(
                    f"layer {call.layer!r} was removed, but other layers read it: "
                    "replace it instead, such as by Identity()"
                )
            reads = (values[place] for place in call.inputs)
            values += layers[call.layer].connect_all(builder, f"{prefix}{call.layer}", *reads)
        return tuple(values[place] for place in self.outputs.values())

    def lines(self, layers: "Mapping[str, Layer]") -> list[str]:
        """Each call of a layer as text."""
        names, used, lines = self.value_names(), set[str](), []
        for call in self.calls:
            layer = "" if call.layer in used else f": {layers.get(call.layer)!r}"
            used.add(call.layer)
            reads = ", ".join(names[place] for place in call.inputs)
            lines.append(f"({call.layer}){layer}({reads})")
        if len(self.outputs) > 1:
            given = (f"{name}={names[place]}" for name, place in self.outputs.items())
            lines.append(f"outputs: {', '.join(given)}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain data, from which :meth:`from_dict` restores it."""
        names = self.value_names()
        return {
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "calls": [
                [call.layer, *(names[place] for place in call.inputs)] for call in self.calls
            ],
            "outputs": {name: names[place] for name, place in self.outputs.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], layers: "Mapping[str, Layer]") -> "Wiring":
        """Read plain data.

        Raises
        ------
        ConfigurationError
            If something is missing or invalid.
        """
        inputs, calls, outputs = (data.get(key) for key in ("inputs", "calls", "outputs"))
        if not isinstance(inputs, Mapping) or not inputs:
            raise ConfigurationError(f"inputs must be a table of shapes, got {inputs!r}")
        wiring = cls({str(name): as_sample_shape(shape) for name, shape in inputs.items()}, (), {})
        if not isinstance(calls, (list, tuple)) or not calls:
            raise ConfigurationError(f"calls must be a list of lists of names, got {calls!r}")
        places = {name: place for place, name in enumerate(wiring.inputs)}
        for index, entry in enumerate(calls):
            texts = isinstance(entry, (list, tuple)) and all(isinstance(n, str) for n in entry)
            if not texts or len(entry) < 2 or entry[0] not in layers:
                raise ConfigurationError(
                    f"calls[{index}]: expected a layer and its inputs, got {entry!r}"
                )
            unknown = [name for name in entry[1:] if name not in places]
            if unknown:
                raise ConfigurationError(f"calls[{index}]: no earlier entry gives {unknown[0]!r}")
            name, *reads = entry
            made = Call(name, tuple(places[read] for read in reads), layers[name].gives)
            wiring = cls(wiring.inputs, (*wiring.calls, made), {})
            places = {name: place for place, name in enumerate(wiring.value_names())}
        if not isinstance(outputs, Mapping) or not outputs:
            raise ConfigurationError(f"outputs must be a table of names, got {outputs!r}")
        for name, value in outputs.items():
            if value not in places:
                raise ConfigurationError(f"output {name!r}: no entry gives {value!r}")
        results = {str(name): places[value] for name, value in outputs.items()}
        return cls(wiring.inputs, wiring.calls, results)

    def value_names(self) -> list[str]:
        """A name for each value: the input's, or the layer's, numbered for its later calls."""
        names, used = list(self.inputs), Counter(self.inputs.keys())
        for call in self.calls:
            used[call.layer] += 1
            number = "" if used[call.layer] == 1 else f"#{used[call.layer]}"
            several = call.outputs > 1
            names += [
                f"{call.layer}{number}{f':{index}' if several else ''}"
                for index in range(call.outputs)
            ]
        return names


@dataclass(frozen=True, eq=False)
class Value:
    """A symbolic value of a network under construction: an input, or a layer's output.

    ``a + b``, ``a - b`` and ``a * b`` are :class:`~fastcnn.layers.Add`,
    :class:`~fastcnn.layers.Subtract` and :class:`~fastcnn.layers.Multiply`.

    Attributes
    ----------
    shape : tuple of int
        The shape of one sample.
    name : str or None
        The given name, if any.
    """

    shape: Shape
    name: str | None
    _made: "_Made | None"
    _index: int
    _serial: int

    def __add__(self, other: "Value") -> "Value":
        return _joined("Add", self, other)

    def __sub__(self, other: "Value") -> "Value":
        return _joined("Subtract", self, other)

    def __mul__(self, other: "Value") -> "Value":
        return _joined("Multiply", self, other)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self!r} is one value: it cannot be unpacked")

    def __repr__(self) -> str:
        source = "Input" if self._made is None else type(self._made.layer).__name__
        return f"<Value of {source}{'' if self.name is None else f' {self.name!r}'}, {self.shape}>"


@dataclass(frozen=True, eq=False)
class _Made:
    """The origin of a value: a layer, and its inputs."""

    layer: "Layer"
    inputs: tuple[Value, ...]
    outputs: int


def Input(shape: Shape, name: str | None = None) -> Value:
    """An input of a network: see :class:`fastcnn.Model`.

    Parameters
    ----------
    shape : tuple of int
        The shape of one sample, ``(C, H, W)`` for images, ``(features,)`` for vectors.
    name : str, optional
        Name of the input, for models with several inputs and in ONNX files.

    Raises
    ------
    ConfigurationError
        If the shape is not of positive integers, or the name is not Unicode.
    """
    if isinstance(name, str) and not is_unicode(name):
        raise ConfigurationError(f"Input: name {name!r} is not Unicode: it has a lone surrogate")
    return Value(as_sample_shape(shape), name, None, 0, next(_serial))


def apply(layer: "Layer", inputs: tuple[Any, ...], name: str | None) -> Any:
    """Record a call of a layer on values; returns its output, or a tuple of several."""
    kind = type(layer).__name__
    for value in inputs:
        if not isinstance(value, Value):
            raise ConfigurationError(
                f"{kind} was called with {type(value).__name__}: a layer by itself takes values of "
                "a graph, such as Input((1, 28, 28)); to compute with arrays, use a model or "
                "fastcnn.functional"
            )
    takes = getattr(layer, "takes", None)
    if takes is None:
        record = OPERATIONS.get(layer.operation)
        takes = 1 if record is None else record.inputs
    if not inputs or (takes is not None and len(inputs) != takes):
        wanted = "one or more" if takes is None else takes
        raise ConfigurationError(f"{kind} takes {wanted} input(s), got {len(inputs)}")
    if name is not None:
        check_layer_name(name)
    try:
        shapes = layer.output_shapes(*(value.shape for value in inputs))
    except ShapeError as error:
        raise ShapeError(
            f"{'' if name is None else f'layer {name!r}, '}{layer!r}: {error}"
        ) from None
    made = _Made(layer, inputs, len(shapes))
    serial = next(_serial)
    values = tuple(Value(shape, name, made, index, serial) for index, shape in enumerate(shapes))
    return values[0] if len(values) == 1 else values


def _joined(kind: str, left: Value, right: Any) -> Value:
    if not isinstance(right, Value):
        raise ConfigurationError(f"{kind} of a value and {right!r}: both must be values of a graph")
    joined: Value = apply(JOINS[kind](), (left, right), None)
    return joined


def trace(inputs: Any, outputs: Any) -> "tuple[dict[str, Layer], Wiring]":
    """The layers between inputs and outputs, and their connections.

    Parameters
    ----------
    inputs, outputs : Value, or sequence of Value, or mapping of str to Value

    Raises
    ------
    ConfigurationError
        If an output depends on another input, an input is not used, or names do not fit.
    """
    first, last = _named(inputs, "input"), _named(outputs, "output")
    for name, value in first.items():
        if value._made is not None:
            raise ConfigurationError(f"input {name!r} is the output of a layer: {value!r}")
    if len({id(value) for value in first.values()}) < len(first):
        raise ConfigurationError("an input is given twice")
    known = {id(value): name for name, value in first.items()}
    read = _all_values(last.values())
    for key, value in read.items():
        if value._made is None and key not in known:
            raise ConfigurationError(f"the output depends on {value!r}, which is not an input")
    for key, name in known.items():
        if key not in read:
            raise ConfigurationError(f"no output depends on the input {name!r}")
    steps = {value._serial: value._made for value in read.values() if value._made is not None}
    given = {value._serial: value.name for value in read.values()}
    names = _layer_names([(steps[serial], given[serial]) for serial in sorted(steps)])
    places = {(value._serial, 0): index for index, value in enumerate(first.values())}
    calls: list[Call] = []
    for serial in sorted(steps):
        made = steps[serial]
        reads = tuple(places[value._serial, value._index] for value in made.inputs)
        for index in range(made.outputs):
            places[serial, index] = len(places)
        calls.append(Call(names[id(made.layer)], reads, made.outputs))
    layers = {names[id(steps[serial].layer)]: steps[serial].layer for serial in sorted(steps)}
    if not last or not calls:
        raise ConfigurationError("the model computes nothing: an output is an input")
    results = {name: places[value._serial, value._index] for name, value in last.items()}
    return layers, Wiring(
        {name: value.shape for name, value in first.items()}, tuple(calls), results
    )


def _all_values(values: Any) -> dict[int, Value]:
    """The given values and all that they depend on, by ``id``."""
    found: dict[int, Value] = {}
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if id(value) not in found:
            found[id(value)] = value
            waiting += value._made.inputs if value._made is not None else ()
    return found


def _named(values: Any, what: str) -> dict[str, Value]:
    """Inputs or outputs by name: as given, or numbered."""
    if isinstance(values, Mapping):
        named = dict(values)
    else:
        several = list(values) if isinstance(values, (list, tuple)) else [values]
        named = {}
        for index, value in enumerate(several):
            own = getattr(value, "name", None)
            fallback = what if len(several) == 1 else f"{what}{index + 1}"
            if own in named:
                raise ConfigurationError(f"two {what}s are called {own!r}")
            named[own or fallback] = value
    if not named:
        raise ConfigurationError(f"a model has at least one {what}")
    for name, value in named.items():
        if not isinstance(value, Value):
            raise ConfigurationError(
                f"{what} {name!r} must be a value, such as Input((1, 28, 28)) or the output of a "
                f"layer called on it; got {value!r}"
            )
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"the name of an {what} must be text, got {name!r}")
    return named


def _layer_names(steps: "list[tuple[_Made, str | None]]") -> dict[int, str]:
    """A name for each layer, by ``id``: as given, otherwise its kind and a number."""
    names: dict[int, str] = {}
    for made, name in steps:
        if name is not None and names.setdefault(id(made.layer), name) != name:
            raise ConfigurationError(
                f"one layer cannot be called {names[id(made.layer)]!r} and {name!r}"
            )
    taken = Counter(names.values())
    twice = [name for name, uses in taken.items() if uses > 1]
    if twice:
        raise ConfigurationError(f"two layers are called {twice[0]!r}")
    numbers: Counter[str] = Counter()
    for made, _ in steps:
        kind = type(made.layer).__name__.lower()
        while id(made.layer) not in names:
            numbers[kind] += 1
            name = f"{kind}_{numbers[kind]}"
            if name not in taken:
                names[id(made.layer)] = name
    return names
