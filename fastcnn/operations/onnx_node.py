"""How an operation is written in ONNX, as data: export walks it, import looks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True)
class OnnxNode:
    """A node whose inputs may be nodes in turn.

    Attributes
    ----------
    kind : str
        ONNX's name of the operator.
    inputs : tuple of (OnnxNode, str or float)
        ``"x"`` is the input of the operation, another text one of its parameters or arguments, a
        number a constant.
    attributes : mapping of str to (str or float)
        The name of an argument, or a number.
    """

    kind: str
    inputs: tuple[Union["OnnxNode", str, float], ...] = ("x",)
    attributes: Mapping[str, str | float] = field(default_factory=dict)

    def bound(self) -> set[str]:
        """Arguments and parameters that it names."""
        names = {value for value in self.attributes.values() if isinstance(value, str)}
        for part in self.inputs:
            if isinstance(part, OnnxNode):
                names |= part.bound()
            elif isinstance(part, str) and part != "x":
                names.add(part)
        return names
