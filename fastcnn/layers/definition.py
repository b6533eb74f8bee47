"""Models as plain data, so that a TOML or JSON file can describe one and a run can rebuild it.

A definition has ``input_shape`` and ``layers``, a list of tables such as ``{"type": "Conv2d",
"in_channels": 1, ...}``: layers by their class names with their constructors' arguments, and
optionally a ``name``. ``Residual`` has ``main`` and ``shortcut``, each a list of layers. A trained
model's definition also has its ``preprocessing``, a table with ``mean`` and ``std`` and what else
:class:`fastcnn.data.Preprocessing` has, and what it ``predicts``.
"""

import inspect
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError, FastcnnError
from fastcnn.files import expanded, read_bytes
from fastcnn.layers import activation, conv, conv_transpose, dropout, linear, norm, pool
from fastcnn.layers.allocation import at_most
from fastcnn.layers.base import Layer
from fastcnn.layers.container import Model
from fastcnn.layers.residual import Residual
from fastcnn.layers.sequential import Sequential

#: Arguments that belong to the weights, not to the network.
NOT_DEFINED = ("self", "seed", "dtype", "weight_init", "bias_init")
#: Of a model that a file describes: values, layers of a chain, and branches within branches.
MOST_VALUES, MOST_LAYERS, MOST_BRANCHES = 2**28, 2_000, 20
TYPES: dict[str, type[Layer]] = {
    name: kind
    for module in (activation, conv, conv_transpose, dropout, linear, norm, pool)
    for name, kind in vars(module).items()
    if inspect.isclass(kind)
    and issubclass(kind, Layer)
    and kind.__module__ == module.__name__
    and kind.operation
    and not name.startswith("_")
}


def to_definition(model: Model) -> dict[str, Any]:
    """A model's definition.

    Raises
    ------
    ConfigurationError
        If it is no ``Sequential`` of known layers.
    """
    if type(model) is not Sequential:
        raise ConfigurationError(f"{type(model).__name__} has no definition: only Sequential has")
    shape = [] if model.input_shape is None else list(model.input_shape)
    definition = {"input_shape": shape, "layers": _describe_all(model)}
    if model.preprocessing != Preprocessing():
        definition["preprocessing"] = model.preprocessing.to_dict()
    if model.predicts is not None:
        definition["predicts"] = model.predicts
    return definition


def from_definition(definition: Mapping[str, Any], seed: int | None = None) -> Sequential:
    """Build the model that a definition describes.

    Parameters
    ----------
    definition : mapping
    seed : int, optional
        Of the initial weights.

    Raises
    ------
    ConfigurationError
        If something is missing, unknown or does not fit; the message names the layer.
    """
    unknown = set(definition) - {"input_shape", "layers", "preprocessing", "predicts"}
    if unknown:
        raise ConfigurationError(f"a model's definition has no {', '.join(sorted(unknown))}")
    shape = definition.get("input_shape")
    if not isinstance(shape, (list, tuple)) or not all(isinstance(size, int) for size in shape):
        raise ConfigurationError(f"input_shape must be a list of integers, got {shape!r}")
    if any(isinstance(size, bool) or size < 1 for size in shape):
        raise ConfigurationError(f"input_shape must be of positive integers, got {shape!r}")
    try:
        with at_most(MOST_VALUES):
            layers = _build_all(definition.get("layers"), "layers", np.random.default_rng(seed))
        model = Sequential(layers, input_shape=tuple(shape) or None)
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
        raise ConfigurationError(f"{path}: lists within lists, without an end") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: no model can be read ({error})") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: expected a table with input_shape and layers")
    return found


def _describe_all(model: Model) -> list[dict[str, Any]]:
    return [
        _describe(layer) | ({} if name == str(index) else {"name": name})
        for index, (name, layer) in enumerate(model.layers.items())
    ]


def _describe(layer: Layer) -> dict[str, Any]:
    kind = type(layer).__name__
    if isinstance(layer, Residual):
        branches = {
            name: _describe_all(branch) if isinstance(branch, Sequential) else [_describe(branch)]
            for name, branch in layer.layers.items()
        }
        return {"type": kind, **branches}
    if TYPES.get(kind) is not type(layer):
        raise ConfigurationError(f"{kind} has no definition")
    described: dict[str, Any] = {"type": kind}
    for name, parameter in inspect.signature(type(layer).__init__).parameters.items():
        if name in NOT_DEFINED:
            continue
        value = ("bias" in layer.parameters) if name == "bias" else getattr(layer, name)
        if value != parameter.default:
            described[name] = _plain(value)
    return described


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _build_all(entries: Any, place: str, generator: np.random.Generator) -> dict[str, Layer]:
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{place} must be a list of layers that is not empty")
    if len(entries) > MOST_LAYERS or place.count("[") > MOST_BRANCHES:
        raise ConfigurationError(
            f"{place:.60}: at most {MOST_LAYERS} layers, in branches of {MOST_BRANCHES} branches"
        )
    layers: dict[str, Layer] = {}
    for index, entry in enumerate(entries):
        where = f"{place}[{index}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
            raise ConfigurationError(f'{where}: expected a table with a type, such as "Conv2d"')
        name = entry.get("name", str(index))
        if not isinstance(name, str) or name in layers:
            raise ConfigurationError(f"{where}: the name {name!r} is no text, or used twice")
        layers[name] = _build(entry, where, generator)
    return layers


def _build(entry: Mapping[str, Any], where: str, generator: np.random.Generator) -> Layer:
    kind = entry["type"]
    arguments = {key: _pair(value) for key, value in entry.items() if key not in ("type", "name")}
    foreign = set(arguments) & set(NOT_DEFINED)
    if foreign:
        raise ConfigurationError(f"{where}: a definition cannot say {', '.join(sorted(foreign))}")
    if kind == "Residual":
        branches = {}
        for key in arguments:
            built = _build_all(entry[key], f"{where}.{key}", generator)
            # A branch of one unnamed layer stands for itself, as it was described.
            alone = len(built) == 1 and key == "shortcut"
            branches[key] = next(iter(built.values())) if alone else Sequential(built)
        arguments = branches
    elif kind not in TYPES:
        raise ConfigurationError(
            f"{where}: there is no layer {kind!r}; there are {', '.join(sorted(TYPES))}, Residual"
        )
    elif "seed" in inspect.signature(TYPES[kind].__init__).parameters:
        arguments["seed"] = generator
    try:
        return Residual(**arguments) if kind == "Residual" else TYPES[kind](**arguments)
    except TypeError as error:
        message = str(error).replace("__init__()", "").replace("  ", " ")
        raise ConfigurationError(f"{where}: {message}") from None
    except FastcnnError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _pair(value: Any, depth: int = 2) -> Any:
    """Lists as tuples, as far as layers' arguments have lists within lists."""
    if not isinstance(value, list) or not depth:
        return value
    return tuple(_pair(part, depth - 1) for part in value)
