"""The layers of an ONNX file put together as a model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import FileNode
from fastcnn.layers import Layer, Model, Sequential
from fastcnn.layers.wiring import Call, Wiring


@dataclass(frozen=True)
class Entry:
    """A layer, what feeds it, its node and the shape of its output.

    Sources are indices of entries; -1 is the model's first input, -2 the second.
    """

    layer: Layer
    sources: tuple[int, ...]
    node: FileNode
    shape: Shape


def assembled(
    entries: Sequence[Entry], inputs: Mapping[str, Shape], outputs: Mapping[str, int]
) -> Model:
    """The model of those layers that the outputs depend on.

    Parameters
    ----------
    entries : sequence of Entry
        All layers of a file.
    inputs : mapping of str to tuple of int
        Names and shapes.
    outputs : mapping of str to int
        By name the layer that makes each.

    Raises
    ------
    ConfigurationError
        If the outputs depend on no layer, or not on all inputs.
    """
    needed, waiting = set[int](), list(outputs.values())
    while waiting:
        index = waiting.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            waiting += entries[index].sources
    if not needed:
        raise ConfigurationError("the model computes nothing: all of it is the identity")
    names, uses = dict[int, str](), Counter[str]()
    for place, index in enumerate(sorted(needed)):
        node = entries[index].node
        name = same = _name(node) or f"{node.kind}{place}"
        while name in uses:
            name = f"{same}_{uses[same]}"
            uses[same] += 1
        uses[name] += 1
        names[index] = name
    layers = {names[index]: entries[index].layer for index in sorted(needed)}
    given = [-1 - place for place in range(len(inputs))]
    places = {index: place for place, index in enumerate([*given, *sorted(needed)])}
    calls = [
        Call(names[index], tuple(places[source] for source in entries[index].sources))
        for index in sorted(needed)
    ]
    read = {source for index in needed for source in entries[index].sources}
    named = dict(zip(given, inputs, strict=True))
    unread = [name for place, name in named.items() if place not in read]
    if unread:
        raise ConfigurationError(f"no output depends on the input {unread[0]!r}")
    one = len(inputs) == len(outputs) == 1
    if one and all(call.inputs == (place,) for place, call in enumerate(calls)):
        return Sequential(layers, input_shape=next(iter(inputs.values())))
    results = {name: places[index] for name, index in outputs.items()}
    shapes = {name: tuple(shape) for name, shape in inputs.items()}
    return Model(layers, Wiring(shapes, tuple(calls), results))


def _name(node: FileNode) -> str:
    """A layer's name: what its weight is called in PyTorch's way, else the node's."""
    name = node.name
    for value in node.inputs[1:2]:
        name = value.removesuffix(".weight") if value.endswith(".weight") else name
    return name.replace("/", "_").replace(".", "_").strip("_")
