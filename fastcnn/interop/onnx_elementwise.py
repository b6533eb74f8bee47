"""Export and import of element-wise operations, by their records."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from fastcnn.backends.graph import Node, Shape
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import FileNode, shortest
from fastcnn.interop.onnx_wiring import Wiring
from fastcnn.interop.onnx_writer import OnnxWriter
from fastcnn.layers.activation import LAYERS, Activation
from fastcnn.operations import Elementwise, elementwise_operations
from fastcnn.operations.record import OnnxNode

#: Tolerated relative error of a formula's constant.
CLOSE = 1e-4
#: Operators whose inputs may be swapped.
COMMUTATIVE = ("Add", "Mul")


def write(w: OnnxWriter, node: Node, x: list[str], form: OnnxNode) -> str:
    """Add the nodes of an operation to an exporter; returns the name of the output."""
    made: list[str] = []

    def value(part: OnnxNode | str | float, name: str = "") -> str:
        if isinstance(part, OnnxNode):
            inputs = [value(inner) for inner in part.inputs]
            attributes = {key: float(number(given)) for key, given in part.attributes.items()}
            return w.add(part.kind, inputs, name, **attributes)
        if part == "x":
            return x[0]
        if part in node.parameters:
            key = node.parameters[str(part)]
            # Reshaped, since ONNX would align one value per channel with the last axis.
            slopes = w.state[key].reshape(-1, *(1,) * (len(node.input_shapes[0]) - 1))
            return w.constant(key, slopes)
        made.append(w.constant(f"{node.name}/constant{len(made)}", number(part)))
        return made[-1]

    def number(given: str | float) -> float:
        return node.arguments[given] if isinstance(given, str) else given

    return value(form, node.name)


@dataclass(frozen=True)
class Match:
    """A match of nodes with a form of an operation, possibly partial.

    Attributes
    ----------
    source : str
        The value that the operation reads.
    arguments, parameters : dict
        By the names of the record.
    """

    record: Elementwise
    source: str = ""
    arguments: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)

    def layer(self, shape: Shape) -> Activation:
        """The layer, for samples of a shape."""
        for name, value in self.parameters.items():
            sizes = (1,) * (1 + len(shape) - value.ndim) + value.shape
            is_one = value.size == 1 and len(sizes) == 1 + len(shape)
            if not is_one and sizes != (1, shape[0], *(1,) * (len(shape) - 1)):
                raise ConfigurationError(
                    f"{name} of shape {value.shape} for samples of shape {shape}: one value per "
                    "channel is supported"
                )
        return LAYERS[self.record.name].made_of(self.arguments, self.parameters)


def find(w: Wiring, node: FileNode) -> Match | None:
    """The operation that ends in a node; None if there is none."""
    for record, form in _forms():
        if form.kind == node.kind:
            found = _match(w, form, node.output, Match(record))
            if found is not None:
                return found
    return None


def _match(w: Wiring, form: OnnxNode | str | float, name: str, found: Match) -> Match | None:
    if form == "x":
        if found.source in ("", name) and name and name not in w.file.constants:
            return replace(found, source=name)
        return None
    if not isinstance(form, OnnxNode):
        return _bound(form, _constant(w, name), found)
    node = w.nodes.get(name)
    if node is None or node.kind != form.kind or len(node.inputs) != len(form.inputs):
        return None
    if not set(node.given) <= set(form.attributes):
        return None
    start: Match | None = found
    for key, wanted in form.attributes.items():
        value = node.given_or_default(key)
        start = start and _bound(wanted, None if value is None else np.asarray(value), start)
    orders = [list(node.inputs)]
    if form.kind in COMMUTATIVE:
        orders.append(orders[0][::-1])
    for order in orders:
        matched = start
        for part, value in zip(form.inputs, order, strict=True):
            matched = matched and _match(w, part, value, matched)
        if matched is not None:
            return matched
    return None


def _constant(w: Wiring, name: str) -> np.ndarray | None:
    """A constant of the model's type."""
    if not name or name not in w.file.constants:
        return None
    value = w.file.constants[name]
    return value if w.file.constants.type_of(name) == w.file.element_type else None


def _bound(wanted: str | float, value: np.ndarray | None, found: Match) -> Match | None:
    """A constant as a number of the form, or as an argument or parameter of the operation."""
    if value is None or value.dtype.kind not in "fiu":
        return None
    if wanted in found.record.parameters:
        return replace(found, parameters={**found.parameters, str(wanted): value})
    if value.shape not in ((), (1,)):  # further dimensions would be added to the result
        return None
    number = float(value.item())
    expected = found.arguments.get(wanted, number) if isinstance(wanted, str) else wanted
    if not math.isclose(number, expected, rel_tol=CLOSE):
        return None
    if isinstance(wanted, str):
        if np.float32(number) == number:  # the intended number, such as 0.01
            number = shortest(number)
        return replace(found, arguments={**found.arguments, wanted: number})
    return found


@cache
def known_kinds() -> frozenset[str]:
    """ONNX's names of all operators in the forms."""
    kinds, waiting = set[str](), [form for _, form in _forms()]
    while waiting:
        form = waiting.pop()
        kinds.add(form.kind)
        waiting += [part for part in form.inputs if isinstance(part, OnnxNode)]
    return frozenset(kinds)


@cache
def _forms() -> list[tuple[Elementwise, OnnxNode]]:
    """All forms, those with fixed numbers before those with arguments."""
    forms = [(record, form) for record in elementwise_operations() for form in record.onnx]
    return sorted(forms, key=lambda pair: len(pair[1].bound()))
