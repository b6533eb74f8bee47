"""ONNX files: their content, checked before it is used.

Files are untrusted: nothing in them is relied upon, neither the number of bytes of a constant nor
the type or number of a node's attributes. Whatever is unknown is refused by name, here and in all
modules that read a file, with a ConfigurationError that states the reason.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, DataError, counted
from fastcnn.extras import require
from fastcnn.files import expanded, read_bytes
from fastcnn.interop.onnx_constants import MOST_DIMENSIONS, Constants, type_name

#: Operator set versions tested against ONNX Runtime.
OPSETS = (7, 25)
DOMAINS = ("", "ai.onnx")
MOST_NODES = 20_000
#: The largest sample: its size along a dimension, and in total.
MOST_ALONG, MOST_NUMBERS = 2**20, 2**28
FLOATING = (1, 10, 11, 16)
#: Fields of an attribute by type number.
ATTRIBUTES = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints"}


class OnnxFile:
    """A model with batches of samples as inputs.

    Attributes
    ----------
    nodes : list of FileNode
        In topological order.
    inputs : dict of str to tuple of int
        Names and sample shapes.
    input : str
        The first input.
    batch : int or None
        The batch size, if fixed by the file.
    sample : tuple of int
        Shape of a sample of the first input.
    element_type : int
        ONNX's type number of the input and all weights.

    Raises
    ------
    DataError
        If the file is missing, cannot be read or is not an ONNX file.
    ConfigurationError
        If the model is of another kind.
    """

    def __init__(self, path: str | Path) -> None:
        self.onnx = require("onnx", "onnx")
        self.path = expanded(path)
        model = self._load()
        self.opset = self._opset(model)
        graph = model.graph
        if model.functions or graph.sparse_initializer or model.training_info:
            raise ConfigurationError("functions, sparse constants and training graphs are unknown")
        self.outputs = tuple(value.name for value in graph.output)
        if not self.outputs:
            raise ConfigurationError("the model has no output")
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        self.constants = Constants(graph.initializer, self.path.parent, self._size)
        given = [value for value in graph.input if value.name not in self.constants]
        if not given:
            raise ConfigurationError("the model has no input")
        self.input = given[0].name
        self.element_type, self.batch, self.sample = self._sample(given[0])
        self.inputs: dict[str, Shape] = {}
        for value in given:
            kind, batch, self.inputs[value.name] = self._sample(value)
            if (kind, batch) != (self.element_type, self.batch):
                raise ConfigurationError(
                    f"the inputs {self.input!r} and {value.name!r} differ in type or batch size"
                )
        if len(graph.node) > MOST_NODES:
            raise ConfigurationError(f"it has {len(graph.node)} nodes, more than {MOST_NODES}")
        self.nodes = [FileNode(self, proto) for proto in graph.node]
        #: Number of readers of each value; the model's output counts as one.
        self.readers = Counter(name for node in self.nodes for name in set(node.inputs))
        self.readers.update(self.outputs)
        self._check_order()

    def _load(self) -> Any:
        try:
            content = read_bytes(self.path)
        except FileNotFoundError:
            raise DataError("no such file") from None
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from None
        self._size = len(content)
        try:
            model = self.onnx.ModelProto.FromString(content)
        except Exception as error:  # protobuf's errors have no common base across its versions
            raise DataError(f"not an ONNX file ({str(error)[:200]})") from None
        if not model.HasField("graph"):
            raise DataError("not an ONNX file (it holds no graph)")
        return model

    def _opset(self, model: Any) -> int:
        versions = {entry.version for entry in model.opset_import if entry.domain in DOMAINS}
        newest = min(OPSETS[1], self.onnx.defs.onnx_opset_version())
        if len(versions) != 1 or not OPSETS[0] <= min(versions) <= newest:
            found = ", ".join(map(str, sorted(versions))) or "none"
            raise ConfigurationError(f"operator set {found} is not one of {OPSETS[0]} to {newest}")
        return int(versions.pop())

    def _sample(self, value: Any) -> tuple[int, int | None, Shape]:
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or kind.elem_type not in FLOATING:
            raise ConfigurationError(
                f"the input {value.name!r} must hold floating-point numbers, it holds "
                f"{type_name(kind.elem_type)}"
            )
        sizes = [size.dim_value for size in kind.shape.dim]
        if not 2 <= len(sizes) <= MOST_DIMENSIONS or min(sizes[1:]) < 1:
            words = [size.dim_param or size.dim_value or "?" for size in kind.shape.dim]
            raise ConfigurationError(
                "the shape of a sample is not fixed in the file: the input "
                f"{value.name!r} has shape ({', '.join(map(str, words))})"
            )
        return kind.elem_type, sizes[0] if sizes[0] > 0 else None, tuple(sizes[1:])

    def _check_order(self) -> None:
        """Each value must be produced exactly once, before it is read."""
        known = {*self.inputs, "", *self.constants.names()}
        for node in self.nodes:
            missing = [name for name in node.inputs if name not in known]
            if missing:
                raise node.error(f"it reads {missing[0]!r}, which no earlier node produces")
            twice = [name for name in node.outputs if name and name in known]
            if twice or not node.outputs:
                raise node.error(f"its outputs must be new values, got {twice or 'none'}")
            known.update(node.outputs)
        for name in self.outputs:
            if name not in known:
                raise ConfigurationError(f"no node produces the output {name!r}")

    def notes(self) -> dict[str, dict[str, Any]]:
        """Metadata of fastcnn's export on layers that ONNX cannot express, by node name."""
        text = self.metadata.get(LAYERS)
        if text is None:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
            raise ConfigurationError(f"the metadata {LAYERS} are damaged")
        return found


def shortest(number: float) -> float:
    """The shortest decimal of a float32: the intended number, such as 0.01."""
    return float(str(np.float32(number)))


def check_size(sample: Shape) -> None:
    """Raise ConfigurationError for samples of an implausible size."""
    if max(sample) > MOST_ALONG or math.prod(sample) > MOST_NUMBERS:
        raise ConfigurationError(f"samples of {sample} are larger than fastcnn imports")


#: Metadata key of what ONNX's operators cannot express.
LAYERS = "fastcnn.layers"


class FileNode:
    """A node of a file, with its attributes and constants.

    Attributes
    ----------
    kind : str
        Its operator.
    inputs, outputs : tuple of str
        Names of values; omitted optional ones are ``""``.
    """

    def __init__(self, file: OnnxFile, proto: Any) -> None:
        self.file = file
        self.proto = proto
        self.kind: str = proto.op_type
        self.name: str = proto.name
        self.inputs: tuple[str, ...] = tuple(proto.input)
        self.outputs: tuple[str, ...] = tuple(proto.output)
        #: The node's attributes, by name.
        self.given: dict[str, Any] = {}
        self._attributes: dict[str, Any] = {}
        self._known: Any = {}

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    def error(self, reason: object) -> ConfigurationError:
        """A ConfigurationError that refuses this node."""
        label = self.name or (self.outputs[0] if self.outputs else "")
        domain = self.proto.domain
        kind = self.kind if domain in DOMAINS else f"{domain}.{self.kind}"
        return ConfigurationError(f"ONNX node {label[:80]!r} ({kind[:80]}): {reason}")

    def check(self) -> None:
        """Check the node against its operator's definition, and read its attributes."""
        if self.proto.domain not in DOMAINS:
            raise ConfigurationError(f"operators of the domain {self.proto.domain!r} are unknown")
        defs = self.file.onnx.defs
        try:
            schema = defs.get_schema(self.kind, self.file.opset, "")
        except (defs.SchemaError, UnicodeError):
            raise ConfigurationError("ONNX has no such operator") from None
        if not schema.min_input <= len(self.inputs) <= schema.max_input:
            raise ConfigurationError(f"it has {counted(len(self.inputs), 'input')}")
        if not 1 <= len(self.outputs) <= schema.max_output or not self.outputs[0]:
            raise ConfigurationError(f"it has {counted(len(self.outputs), 'output')}")
        self._known = schema.attributes
        for attribute in self.proto.attribute:
            name = attribute.name
            known = self._known.get(name)
            if known is None or name in self.given or attribute.ref_attr_name:
                raise ConfigurationError(f"the attribute {name!r} is unknown")
            if attribute.type not in ATTRIBUTES or attribute.type != int(known.type):
                raise ConfigurationError(f"the attribute {name!r} has another type")
            self.given[name] = getattr(attribute, ATTRIBUTES[attribute.type])
        self._attributes = dict(self.given)

    def given_or_default(self, name: str) -> Any:
        """An attribute, or ONNX's default for it; None if there is neither."""
        if name in self.given or name not in self._known:
            return self.given.get(name)
        default = self._known[name].default_value
        return getattr(default, ATTRIBUTES[default.type]) if default.name else None

    # -- attributes: each one read is marked as used -----------------------------------------

    def _take(self, name: str, default: Any) -> Any:
        return self._attributes.pop(name, default)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self._take(name, default))

    def integers(self, name: str, default: Sequence[int] | None, least: int = 0) -> tuple[int, ...]:
        """An attribute of integers of at least ``least``, as many as in its default."""
        found = self._take(name, None)
        if found is None:
            if default is None:
                raise ConfigurationError(f"the attribute {name!r} is missing")
            return tuple(default)
        count = len(found)
        if (default is not None and count != len(default)) or count > MOST_DIMENSIONS:
            raise ConfigurationError(
                f"{name} has {counted(count, 'number')}; fastcnn's layers have two dimensions"
            )
        if any(value < least for value in found):
            raise ConfigurationError(f"{name} must be at least {least}, got {tuple(found)}")
        return tuple(int(value) for value in found)

    def number(self, name: str, default: float) -> float:
        """A floating-point attribute: the shortest decimal of the float32."""
        found = self._take(name, None)
        return default if found is None else shortest(found)

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        found = self._take(name, None)
        return default if found is None else bytes(found).decode("utf-8", "replace")

    def tensor(self, name: str) -> np.ndarray | None:
        """An attribute that is an array."""
        found = self._take(name, None)
        return None if found is None else self.file.constants.decode(found)

    def expect(self, **values: Any) -> None:
        """Refuse attributes with other values than these, which are the only supported ones."""
        for name, expected in values.items():
            found = self._take(name, None)
            if found is not None and found != expected:
                raise ConfigurationError(f"{name}={found!r} is not supported, only {expected!r}")

    def finish(self) -> None:
        """Refuse attributes that were not used."""
        if self._attributes:
            raise ConfigurationError(f"the attribute {next(iter(self._attributes))!r} is unknown")

    def plain(self, name: str) -> Any:
        """A numeric attribute, of any type."""
        return self._take(name, None)

    def attributes_text(self) -> str:
        """All attributes as text, for comparison with those of another node."""
        return repr(sorted(self._attributes.items()))

    def forget(self) -> None:
        """Mark all attributes as used, since another node with the same ones was read."""
        self._attributes.clear()

    def has(self, name: str) -> bool:
        """Whether an attribute exists and is still unused."""
        return name in self._attributes

    # -- inputs ------------------------------------------------------------------------------

    def input(self, index: int) -> str:
        """The name of an input; ``""`` if the node omits it."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def constant(self, index: int) -> np.ndarray | None:
        """The constant at an input; None if the node omits it."""
        name = self.input(index)
        return self.file.constants[name] if name else None

    def weight(self, index: int, of_any_type: bool = False) -> np.ndarray:
        """A constant of the model's type, or of any floating-point type, as float32."""
        name = self.input(index)
        array = self.file.constants[name]
        kind, own = self.file.constants.type_of(name), self.file.element_type
        if kind != own and not (of_any_type and kind in FLOATING):
            raise ConfigurationError(
                f"constant {name!r} holds {type_name(kind)}, the model's input {type_name(own)}"
            )
        self.file.constants.claim(4 * array.size)
        try:
            with np.errstate(over="raise"):
                return array.astype(np.float32)
        except FloatingPointError:
            raise ConfigurationError(f"constant {name!r} does not fit float32") from None

    def whole_numbers(self, name: str, index: int) -> tuple[int, ...] | None:
        """Integers that are an attribute in some operator sets and a constant in others."""
        if name in self._attributes:
            return self.integers(name, None, least=-(2**63))
        array = self.constant(index)
        if array is None:
            return None
        if array.dtype.kind != "i" or array.ndim > 1 or array.size > MOST_DIMENSIONS:
            raise ConfigurationError(f"{name} must be a few whole numbers, got {array.shape}")
        return tuple(int(value) for value in array.reshape(-1))
