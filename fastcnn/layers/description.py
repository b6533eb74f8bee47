"""A model's definition: plain data from which :mod:`fastcnn.layers.definition` rebuilds it."""

import inspect
import json
from typing import TYPE_CHECKING, Any

from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError
from fastcnn.layers.base import OF_INITIAL_WEIGHTS, Layer
from fastcnn.layers.wiring import Wiring

if TYPE_CHECKING:
    from fastcnn.layers.container import Model

#: Metadata entry of a weights file with the definition.
METADATA = "fastcnn.definition"
#: Keys of a definition that describe the network's structure.
STRUCTURE = ("input_shape", "inputs", "calls", "outputs", "layers", "tied")


def to_definition(model: "Model") -> dict[str, Any]:
    """A model's definition, which ``from_definition`` reads and JSON can hold.

    Parameters
    ----------
    model : Model
        With any input shape, or none.

    Returns
    -------
    dict
        The layers by names and arguments, without values of parameters.

    Raises
    ------
    ConfigurationError
        If it is not a ``Sequential`` or ``Model`` of known layers.
    """
    if not (_is_ours(model, "Sequential") or _is_ours(model, "Model")):
        kind = type(model).__name__
        raise ConfigurationError(f"{kind} has no definition: only Sequential and Model have")
    places: dict[int, str] = {}
    definition: dict[str, Any] = {}
    if model.wiring is None:
        shape = [] if model.input_shape is None else list(model.input_shape)
        definition["input_shape"] = shape
    definition |= _wired(model) | {"layers": _chain(model, "", places)}
    tied = [
        [f"{path}.{name}", f"{places[id(first)]}.{theirs}"]
        for (first, theirs), *users in model.parameter_users()
        for layer, name in users
        if (path := places[id(layer)])
    ]
    if tied:
        definition["tied"] = tied
    if model.preprocessing != Preprocessing():
        definition["preprocessing"] = model.preprocessing.to_dict()
    if model.predicts is not None:
        definition["predicts"] = model.predicts
    return definition


def file_metadata(model: "Model") -> dict[str, str]:
    """What a file of a model's weights also holds: text by name; the definition, if it has one."""
    try:
        definition = to_definition(model)
    except ConfigurationError:
        return model.metadata()
    structure = {key: definition[key] for key in STRUCTURE if key in definition}
    return {**model.metadata(), METADATA: json.dumps(structure)}


def _is_ours(layer: Layer, kind: str) -> bool:
    # fastcnn.kernel makes users' activations, in the users' modules, and registers them by name.
    made = type(layer).__module__.startswith("fastcnn.layers.") or "_entry" in vars(type(layer))
    return made and type(layer).__name__ == kind


def _chain(model: Layer, prefix: str, places: dict[int, str]) -> list[dict[str, Any]]:
    children: dict[str, Layer] = model.layers  # type: ignore[attr-defined]
    return [
        _describe(layer, f"{prefix}{name}", places) | ({} if name == str(index) else {"name": name})
        for index, (name, layer) in enumerate(children.items())
    ]


def _wired(model: Layer) -> dict[str, Any]:
    """The connections of a model's layers, if they are not a chain."""
    wiring: Wiring | None = model.wiring  # type: ignore[attr-defined]
    return {} if wiring is None else wiring.to_dict()


def _describe(layer: Layer, path: str, places: dict[int, str]) -> dict[str, Any]:
    kind = type(layer).__name__
    if id(layer) in places:
        return {"type": "Shared", "layer": places[id(layer)]}
    if not _is_ours(layer, kind):
        raise ConfigurationError(f"{kind} has no definition")
    places[id(layer)] = path
    if kind in ("Sequential", "Model", "SqueezeExcite"):
        return {"type": kind, **_wired(layer), "layers": _chain(layer, f"{path}.", places)}
    if kind == "Residual":
        branches: dict[str, Any] = {}
        for name, branch in layer.layers.items():  # type: ignore[attr-defined]
            below = f"{path}.{name}"
            if _is_ours(branch, "Sequential") and id(branch) not in places:
                places[id(branch)] = below
                branches[name] = _chain(branch, f"{below}.", places)
            else:
                branches[name] = _describe(branch, below, places)
        return {"type": kind, **branches}
    described: dict[str, Any] = {"type": kind}
    for name, parameter in inspect.signature(type(layer).__init__).parameters.items():
        if name == "self" or name in OF_INITIAL_WEIGHTS:
            continue
        is_flag = name in ("weight", "bias")
        value = name in layer.parameters if is_flag else getattr(layer, name)
        if value != parameter.default:
            described[name] = _plain(value)
    if not layer.requires_grad:
        described["requires_grad"] = False
    return described


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
