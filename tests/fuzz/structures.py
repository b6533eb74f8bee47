"""Changes within a file's structure: it stays valid JSON, or an ONNX model, with another meaning.

Mutated bytes are mostly refused by a parser. Here the fuzzer's bytes seed changes of a valid file's
values, so that the code after the parser is tested.
"""

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np

#: Replacements of a value in JSON.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 0.5, -0.0, 1e308, float("nan"), float("inf"), 10**9, 2**31,
    2**53, 2**63, 2**64, 10**30, 10**400,
    "", "0", "x", "Conv2d", "\ud800", [], [1], [0, 0], [[]], ["x"],
    [10**9] * 3, {}, {"x": 1}, {"$array": "x"},
)  # fmt: skip
#: The content that represents the unchanged valid file.
UNCHANGED = b"unchanged"


def changed_json(good: Callable[[], bytes]) -> Callable[[bytes], bytes]:
    """Changes of one to three values of a JSON text."""

    def wrap(seed: bytes) -> bytes:
        content = good()
        if seed == UNCHANGED:
            return content
        generator = np.random.default_rng(list(seed) or [0])
        value = json.loads(content)
        for _ in range(int(generator.integers(1, 4))):
            value = _changed(value, generator)
        return json.dumps(value).encode()

    return wrap


def changed_lines(good: Callable[[], bytes]) -> Callable[[bytes], bytes]:
    """Changes of one line of a file with JSON on each line, or of the lines' order."""

    def wrap(seed: bytes) -> bytes:
        content = good()
        if seed == UNCHANGED:
            return content
        generator = np.random.default_rng(list(seed) or [0])
        lines = content.splitlines()
        for _ in range(int(generator.integers(1, 3))):
            place = int(generator.integers(len(lines)))
            if generator.random() < 0.2:
                lines[place : place + 2] = lines[place : place + 2][::-1]
            elif generator.random() < 0.2:
                lines[place:place] = [lines[int(generator.integers(len(lines)))]]
            else:
                lines[place] = json.dumps(_changed(json.loads(lines[place]), generator)).encode()
        return b"\n".join(lines) + b"\n"

    return wrap


def _changed(value: Any, generator: np.random.Generator) -> Any:
    """A copy in which one value is replaced, removed or duplicated."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (dict, list)):
            keys = list(part) if isinstance(part, dict) else list(range(len(part)))
            places += [(part, key) for key in keys]
            waiting += [part[key] for key in keys]
    if not places:
        return VALUES[int(generator.integers(len(VALUES)))]
    part, key = places[int(generator.integers(len(places)))]
    chance = generator.random()
    if chance < 0.1:
        del part[key]
    elif chance < 0.2 and isinstance(part, list):
        part.insert(0, copy.deepcopy(part[key]))
    elif chance < 0.3:
        other, name = places[int(generator.integers(len(places)))]
        part[key] = copy.deepcopy(other[name])
    else:
        part[key] = VALUES[int(generator.integers(len(VALUES)))]
    return value


NUMBERS = (-(2**63), -2, -1, 0, 1, 2, 3, 4, 7, 1000, 2**31, 2**40, 2**62, 2**63 - 1)
KINDS = (
    "Add", "Mul", "Relu", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "AveragePool",
    "GlobalAveragePool", "BatchNormalization", "Flatten", "Reshape", "Identity", "Dropout",
    "Concat", "Cast", "Squeeze", "Shape", "Gather",
    "Sigmoid", "Softplus", "Elu", "Div", "Where", "Transpose",
    "ReduceMean", "Clip", "PRelu", "HardSigmoid", "If", "Loop", "NoSuchOperator",
)  # fmt: skip


def changed_onnx(good: Callable[[], list[bytes]]) -> Callable[[bytes], bytes]:
    """Changes of nodes, attributes, constants and inputs of an ONNX model."""

    def wrap(seed: bytes) -> bytes:
        import onnx

        generator = np.random.default_rng(list(seed) or [0])
        contents = good()
        content = contents[int(generator.integers(len(contents)))]
        if seed == UNCHANGED:
            return content
        model = onnx.ModelProto.FromString(content)
        for _ in range(int(generator.integers(1, 4))):
            CHANGES[int(generator.integers(len(CHANGES)))](model, generator)
        return model.SerializeToString()

    return wrap


def _one(items: Any, generator: np.random.Generator) -> Any:
    return items[int(generator.integers(len(items)))] if len(items) else None


def _attribute(model: Any, generator: np.random.Generator) -> None:
    node = _one([node for node in model.graph.node if node.attribute], generator)
    if node is None:
        return
    attribute = _one(node.attribute, generator)
    chance = generator.random()
    if chance < 0.15:
        node.attribute.remove(attribute)
    elif chance < 0.25:
        attribute.name = str(
            _one(("pads", "axis", "x", "auto_pad", "group", "ceil_mode"), generator)
        )
    elif attribute.ints:
        if chance < 0.4:
            del attribute.ints[-1]
        else:
            place = int(generator.integers(len(attribute.ints)))
            attribute.ints[place] = _one(NUMBERS, generator)
    elif attribute.HasField("i"):
        attribute.i = _one(NUMBERS, generator)
    elif attribute.HasField("f"):
        attribute.f = float(_one((0.0, -1.0, 0.25, 1.0, 2.0, float("nan"), 1e30), generator))


def _kind(model: Any, generator: np.random.Generator) -> None:
    node = _one(model.graph.node, generator)
    if generator.random() < 0.1:
        node.domain = "com.example"
    else:
        node.op_type = str(_one(KINDS, generator))


def _wire(model: Any, generator: np.random.Generator) -> None:
    node = _one([node for node in model.graph.node if node.input], generator)
    if node is None:
        return
    names = [name for other in model.graph.node for name in (*other.input, *other.output)]
    place = int(generator.integers(len(node.input)))
    if generator.random() < 0.2:
        del node.input[place]
    elif generator.random() < 0.1:
        node.output.append(str(_one(names, generator)))
    else:
        node.input[place] = str(_one([*names, ""], generator))


def _constant(model: Any, generator: np.random.Generator) -> None:
    tensor = _one(model.graph.initializer, generator)
    if tensor is None:
        return
    chance = generator.random()
    if chance < 0.3 and tensor.dims:
        tensor.dims[int(generator.integers(len(tensor.dims)))] = _one(NUMBERS, generator)
    elif chance < 0.4:
        tensor.dims.append(1)
    elif chance < 0.5:
        tensor.data_type = int(generator.integers(-1, 30))
    elif chance < 0.6:
        tensor.raw_data = tensor.raw_data[:-1]
    elif chance < 0.7:
        tensor.dims[:] = tensor.dims[::-1]
    elif chance < 0.8:
        tensor.name = str(_one([other.name for other in model.graph.initializer], generator))
    else:
        values = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 4 * 4], np.float32).copy()
        if values.size:
            values[int(generator.integers(values.size))] = _one(
                (0.0, 1.0, np.nan, np.inf), generator
            )
            tensor.raw_data = values.tobytes()


def _nodes(model: Any, generator: np.random.Generator) -> None:
    nodes = list(model.graph.node)
    place = int(generator.integers(len(nodes)))
    chance = generator.random()
    if chance < 0.3:
        del nodes[place]
    elif chance < 0.6:
        nodes[place : place + 2] = nodes[place : place + 2][::-1]
    else:
        nodes.insert(place, nodes[int(generator.integers(len(nodes)))])
    kept = [copy.deepcopy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _outside(model: Any, generator: np.random.Generator) -> None:
    chance = generator.random()
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    if chance < 0.2:
        model.opset_import[0].version = int(_one((0, 1, 6, 9, 12, 13, 18, 22, 99), generator))
    elif chance < 0.6 and sizes:
        sizes[int(generator.integers(len(sizes)))].dim_value = _one(NUMBERS, generator)
    elif chance < 0.7 and sizes:
        del sizes[-1]
    elif chance < 0.8:
        model.graph.output[0].name = str(
            _one([node.output[0] for node in model.graph.node], generator)
        )
    elif chance < 0.9 and model.metadata_props:
        entry = _one(model.metadata_props, generator)
        entry.value = str(_one(("", "{}", "[]", '{"3": {}}', '{"3": {"type": "ReLU"}}'), generator))
    else:
        model.graph.input[0].type.tensor_type.elem_type = int(generator.integers(0, 20))


CHANGES = (_attribute, _attribute, _kind, _wire, _constant, _nodes, _outside)
