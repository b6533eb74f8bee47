"""Models as plain data, so that a TOML or JSON file can describe one and a run can rebuild it.

A definition has ``input_shape`` and ``layers``, a list of tables such as ``{"type": "Conv2d",
"in_channels": 1, ...}``: layers by their class names with their constructors' arguments, and
optionally a ``name`` and ``requires_grad``. ``Residual`` has ``main`` and ``shortcut``, each a
table or a list of them, ``Sequential`` and ``SqueezeExcite`` have ``layers``; ``{"type": "Shared",
"layer": PATH}`` refers to an earlier layer, such as ``"block1.main.conv1"``.

A ``Model``, which may also be the whole of a definition, is not a chain: ``inputs`` is a table of
shapes, ``calls`` a list such as ``["concat", "conv1", "conv2"]``, each the name of a layer and the
names of its inputs (inputs of the model or layers), and ``outputs`` a table of names.

``tied`` has pairs of keys of parameters that are one array. A trained model's definition also has
its ``preprocessing``, a table with ``mean`` and ``std`` and what else
:class:`fastcnn.data.Preprocessing` has, and what it ``predicts``.
:func:`~fastcnn.layers.description.to_definition` is the way back.
"""

import inspect
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastcnn import layers as every_layer
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError, FastcnnError, cause
from fastcnn.files import expanded, read_bytes
from fastcnn.layers.allocation import at_most
from fastcnn.layers.base import OF_INITIAL_WEIGHTS, Layer
from fastcnn.layers.blocks import Residual, Sequential, SqueezeExcite
from fastcnn.layers.container import Model
from fastcnn.layers.description import STRUCTURE
from fastcnn.layers.init import generator_of
from fastcnn.layers.wiring import Wiring

#: Limits of a model described by a file: values, layers of a chain, and nested branches.
MOST_VALUES, MOST_LAYERS, MOST_BRANCHES = 2**28, 2_000, 20
#: Keys that describe the connections of a ``Model``.
WIRED = ("inputs", "calls", "outputs")
#: Layers allowed in a definition: those that compute something, and the identity.
TYPES: dict[str, type[Layer]] = {
    name: kind
    for name, kind in vars(every_layer).items()
    if inspect.isclass(kind)
    and issubclass(kind, Layer)
    and (kind.operation or kind is every_layer.Identity)
}


def from_definition(definition: Mapping[str, Any], seed: int | None = None) -> Model:
    """Build the model that a definition describes.

    Parameters
    ----------
    definition : mapping
        As ``to_definition`` returns, or read from a TOML or JSON file.
    seed : int, optional
        Source of the initial weights.

    Returns
    -------
    Model

    Raises
    ------
    ConfigurationError
        If something is missing, unknown or invalid; the message names the layer.
    """
    if not isinstance(definition, Mapping):
        raise ConfigurationError(f"a model's definition must be a table, got {definition!r}")
    unknown = set(definition) - {*STRUCTURE, "preprocessing", "predicts"}
    if unknown:
        raise ConfigurationError(f"a model's definition has no {', '.join(sorted(unknown))}")
    wired = "calls" in definition
    shape = definition.get("input_shape", [] if wired else None)
    if not isinstance(shape, (list, tuple)) or not all(isinstance(size, int) for size in shape):
        raise ConfigurationError(f"input_shape must be a list of integers, got {shape!r}")
    if any(isinstance(size, bool) or size < 1 for size in shape):
        raise ConfigurationError(f"input_shape must be of positive integers, got {shape!r}")
    try:
        with at_most(MOST_VALUES):
            builder = _Builder(seed)
            layers = builder.chain(definition.get("layers"), "layers", "")
        builder.tie(definition.get("tied", []))
        model = _model(layers, definition, tuple(shape) or None)
    except MemoryError:
        raise ConfigurationError("there is not enough memory for the model's layers") from None
    model.preprocessing = Preprocessing.from_dict(definition.get("preprocessing", {}))
    model.predicts = definition.get("predicts")
    return model


def read_definition(path: str | Path) -> dict[str, Any]:
    """A definition from a ``.toml`` or ``.json`` file.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or is neither.
    """
    path = expanded(path)
    try:
        text = read_bytes(path).decode("utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except RecursionError:
        raise ConfigurationError(f"{path}: lists are nested too deeply") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read as a model ({cause(error)})") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: expected a table with input_shape and layers")
    return found


def model_of_file(path: str | Path, seed: int | None = None) -> Model:
    """Build the model that a file describes; see :func:`read_definition` and its errors."""
    definition = read_definition(path)
    try:
        return from_definition(definition, seed)
    except FastcnnError as error:
        raise type(error)(f"{path}: {error}") from None


def _model(
    layers: dict[str, Layer], entry: Mapping[str, Any], input_shape: tuple[int, ...] | None
) -> Model:
    """A chain, or layers connected as the entry specifies."""
    if "calls" in entry:
        return Model(layers, Wiring.from_dict(entry, layers), input_shape=input_shape)
    extra = {"inputs", "outputs"} & set(entry)
    if extra:
        raise ConfigurationError(f"a chain of layers has no {', '.join(sorted(extra))}: add calls")
    return Sequential(layers, input_shape=input_shape)


def _excited(layers: dict[str, Layer], where: str) -> SqueezeExcite:
    made = SqueezeExcite(1, 1)
    if list(layers) != list(made.layers):
        raise ConfigurationError(f"{where}: layers must be {', '.join(made.layers)}")
    made.layers = layers
    return made


class _Builder:
    """Makes the layers of a definition, and keeps them by their paths in the model."""

    def __init__(self, seed: int | None) -> None:
        self.generator = generator_of(seed)
        self.known: dict[str, Layer] = {}

    def chain(self, entries: Any, place: str, prefix: str) -> dict[str, Layer]:
        """The layers of a list of tables."""
        if not isinstance(entries, (list, tuple)) or not entries:
            raise ConfigurationError(f"{place} must be a non-empty list of layers")
        if len(entries) > MOST_LAYERS or place.count("[") > MOST_BRANCHES:
            raise ConfigurationError(
                f"{place:.60}: at most {MOST_LAYERS} layers, and branches {MOST_BRANCHES} deep"
            )
        layers: dict[str, Layer] = {}
        for index, entry in enumerate(entries):
            where = f"{place}[{index}]"
            name = entry.get("name", str(index)) if isinstance(entry, Mapping) else str(index)
            if not isinstance(name, str) or name in layers:
                raise ConfigurationError(f"{where}: the name {name!r} is not text, or used twice")
            layers[name] = self.layer(entry, where, f"{prefix}{name}")
        return layers

    def layer(self, entry: Any, where: str, path: str) -> Layer:
        """The layer of a table."""
        if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
            raise ConfigurationError(f'{where}: expected a table with a type, such as "Conv2d"')
        kind = entry["type"]
        arguments = {key: value for key, value in entry.items() if key not in ("type", "name")}
        trained = arguments.pop("requires_grad", True)
        if kind == "Shared":
            made = self._shared(arguments, where)
        elif kind in ("Sequential", "Model", "SqueezeExcite"):
            needed = {"layers", *WIRED} if kind == "Model" else {"layers"}
            if set(arguments) != needed:
                raise ConfigurationError(
                    f"{where}: {kind} has {', '.join(sorted(needed))}, and nothing else"
                )
            layers = self.chain(arguments["layers"], f"{where}.layers", f"{path}.")
            made = (
                _excited(layers, where)
                if kind == "SqueezeExcite"
                else (_model(layers, arguments, None))
            )
        elif kind == "Residual":
            branches = {
                key: self._branch(value, f"{where}.{key}", f"{path}.{key}")
                for key, value in arguments.items()
            }
            made = _called(Residual, branches, where)
        elif kind in TYPES:
            made = self._simple(kind, arguments, where)
        else:
            known = ", ".join(
                sorted([*TYPES, "Model", "Residual", "Sequential", "Shared", "SqueezeExcite"])
            )
            raise ConfigurationError(f"{where}: there is no layer {kind!r}; there are {known}")
        if not isinstance(trained, bool):
            raise ConfigurationError(f"{where}: requires_grad must be true or false")
        if not trained:
            made.requires_grad = False
        self.known[path] = made
        return made

    def _simple(self, kind: str, arguments: dict[str, Any], where: str) -> Layer:
        foreign = set(arguments) & set(OF_INITIAL_WEIGHTS)
        if foreign:
            raise ConfigurationError(
                f"{where}: a definition cannot contain {', '.join(sorted(foreign))}"
            )
        arguments = {key: _pair(value) for key, value in arguments.items()}
        if "seed" in inspect.signature(TYPES[kind].__init__).parameters:
            arguments["seed"] = self.generator
        return _called(TYPES[kind], arguments, where)

    def _branch(self, value: Any, where: str, path: str) -> Layer:
        """A branch: a list is a Sequential, a table one layer."""
        if isinstance(value, Mapping):
            return self.layer(value, where, path)
        made = Sequential(self.chain(value, where, f"{path}."))
        self.known[path] = made
        return made

    def _shared(self, arguments: Mapping[str, Any], where: str) -> Layer:
        path = arguments.get("layer")
        if set(arguments) != {"layer"} or not isinstance(path, str) or path not in self.known:
            raise ConfigurationError(
                f"{where}: Shared needs the path of an earlier layer, got {dict(arguments)!r}"
            )
        return self.known[path]

    def tie(self, pairs: Any) -> None:
        """Tie parameters: the first key of each pair shares the array of the second."""
        if not isinstance(pairs, (list, tuple)):
            raise ConfigurationError(f"tied must be a list of pairs of keys, got {pairs!r}")
        for pair in pairs:
            try:
                (layer, name), (other, theirs) = (
                    (self.known[key.rpartition(".")[0]], key.rpartition(".")[2]) for key in pair
                )
                layer.parameters[name] = other.parameters[theirs]
            except (AttributeError, KeyError, TypeError, ValueError, ConfigurationError):
                raise ConfigurationError(
                    f"tied: expected the keys of two parameters of the same shape, got {pair!r}"
                ) from None


def _called(kind: type[Layer], arguments: dict[str, Any], where: str) -> Layer:
    try:
        made: Layer = kind(**arguments)
    except TypeError as error:
        message = f"{kind.__name__}: {str(error).rpartition('__init__() ')[2]}"
        raise ConfigurationError(f"{where}: {message}") from None
    except FastcnnError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return made


def _pair(value: Any, depth: int = 2) -> Any:
    """Lists as tuples, to the nesting depth of layers' arguments."""
    if not isinstance(value, list) or not depth:
        return value
    return tuple(_pair(part, depth - 1) for part in value)
