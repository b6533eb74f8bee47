"""Layers that an ONNX file writes as several nodes."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.backends.geometry import adaptive_windows
from fastcnn.layers import GELU, AdaptiveAvgPool2d, Layer, Softplus

#: Relative error that a constant of a formula may have.
CLOSE = 1e-4


class Patterns:
    """Finds formulas in a graph.

    Parameters
    ----------
    makers : mapping of str to onnx.NodeProto
        The node that makes each value.
    constants : mapping of str to ndarray
        Constant values by name.
    """

    def __init__(self, makers: Mapping[str, Any], constants: Mapping[str, np.ndarray]) -> None:
        self._makers = {name: node for name, node in makers.items() if name not in constants}
        self._constants = constants
        nodes = {node.output[0]: node for node in makers.values()}
        self._readers = Counter(name for node in nodes.values() for name in set(node.input))
        self._numbers = {
            name: float(value.item()) for name, value in constants.items() if value.size == 1
        }

    def find(self, name: str) -> tuple[Layer, str] | None:
        """The layer whose output a value is, and its input; None if it is no known formula."""
        kind = self._makers[name].op_type if name in self._makers else ""
        if kind == "MatMul":
            return self._adaptive_mean(name)
        if kind == "Where":
            return self._bounded_softplus(name)
        factor, terms = self._product(name, inner=False)
        return self._gelu(factor, terms) if len(terms) == 2 else self._softplus(factor, terms)

    def between(self, name: str, source: str) -> set[str]:
        """Values that stand between a formula's input and its output."""
        inner: set[str] = set()
        waiting = [name]
        while waiting:
            inputs = self._makers[waiting.pop()].input
            new = {i for i in inputs if i != source and i in self._makers} - inner
            inner |= new
            waiting += new
        return inner

    def _scaled(self, name: str) -> tuple[float, str]:
        """A value as a number times another value, by one node: the other may be a formula too."""
        node: Any = self._makers.get(name)
        kind = node.op_type if node is not None else ""
        if kind == "Mul":
            for number, value in (node.input, node.input[::-1]):
                if number in self._numbers:
                    return self._numbers[number], value
        if kind == "Div" and self._numbers.get(node.input[1]):
            return 1.0 / self._numbers[node.input[1]], node.input[0]
        return 1.0, name

    def _product(self, name: str, inner: bool = True) -> tuple[float, list[str]]:
        """A value as a number times other values; ``inner`` ones end where others read them."""
        node: Any = self._makers.get(name)
        kind = node.op_type if node is not None else ""
        if inner and self._readers[name] > 1:
            kind = ""
        if kind == "Mul":
            a, b = (self._product(part) for part in node.input)
            return a[0] * b[0], a[1] + b[1]
        if kind == "Div" and self._numbers.get(node.input[1]):
            factor, terms = self._product(node.input[0])
            return factor / self._numbers[node.input[1]], terms
        return (self._numbers[name], []) if name in self._numbers else (1.0, [name])

    def _made_by(self, name: str, kind: str) -> Any:
        node = self._makers.get(name)
        return node if node is not None and node.op_type == kind else None

    def _sum(self, name: str) -> list[str]:
        node = self._made_by(name, "Add")
        return [] if node is None else list(node.input)

    def _behind_one(self, name: str) -> str | None:
        """``t`` of a value ``1 + t``."""
        parts = self._sum(name)
        rest = [part for part in parts if not _close(self._numbers.get(part), 1.0)]
        return rest[0] if len(parts) == 2 and len(rest) == 1 else None

    def _gelu(self, factor: float, terms: list[str]) -> tuple[Layer, str] | None:
        """``0.5 x (1 + erf(x / sqrt(2)))``, or with a tanh in the error function's place."""
        if not _close(factor, 0.5):
            return None
        for x, other in (terms, terms[::-1]):
            bent = self._behind_one(other)
            for kind in ("Erf", "Tanh"):
                node = None if bent is None else self._made_by(bent, kind)
                if node is None:
                    continue
                inner, parts = self._product(node.input[0])
                if kind == "Erf" and _close(inner, math.sqrt(0.5)) and parts == [x]:
                    return GELU(), x
                is_cubic = _close(inner, math.sqrt(2.0 / math.pi)) and self._cubic(parts, x)
                if kind == "Tanh" and is_cubic:
                    return GELU(approximate="tanh"), x
        return None

    def _cubic(self, terms: list[str], x: str) -> bool:
        """Whether a product is ``x (1 + 0.044715 x^2)`` or ``x + 0.044715 x^3``."""
        if len(terms) == 2 and x in terms:
            slope = self._behind_one(terms[1 - terms.index(x)])
            return slope is not None and self._is_power(slope, x, 2)
        parts = self._sum(terms[0]) if len(terms) == 1 else []
        return any(part == x for part in parts) and any(self._is_power(p, x, 3) for p in parts)

    def _is_power(self, name: str, x: str, exponent: int) -> bool:
        factor, terms = self._product(name)
        power = self._made_by(terms[0], "Pow") if len(terms) == 1 else None
        if power is not None and _close(self._numbers.get(power.input[1]), exponent):
            terms = [power.input[0]] * exponent
        return _close(factor, 0.044715) and terms == [x] * exponent

    def _softplus(self, factor: float, terms: list[str]) -> tuple[Layer, str] | None:
        """``softplus(b x) / b``."""
        node = self._made_by(terms[0], "Softplus") if len(terms) == 1 else None
        if node is None or factor == 1.0:
            return None
        beta, x = self._scaled(node.input[0])
        return (Softplus(beta=beta), x) if beta > 0.0 and _close(factor * beta, 1.0) else None

    def _bounded_softplus(self, name: str) -> tuple[Layer, str] | None:
        """``x`` where ``b x`` is above a threshold, else ``softplus(b x) / b``."""
        condition, x, bent = self._makers[name].input
        test = self._made_by(condition, "Greater")
        threshold = None if test is None else self._numbers.get(test.input[1])
        if test is None or threshold is None:
            return None
        beta, tested = self._scaled(test.input[0])
        plain = self._made_by(bent, "Softplus")
        if plain is not None:
            found: tuple[Layer, str] | None = (Softplus(), plain.input[0])
        else:
            found = self._softplus(*self._product(bent))
        if found is None or found[1] != x or tested != x:
            return None
        same = _close(beta, getattr(found[0], "beta", 1.0))
        return (Softplus(beta, threshold), x) if same else None

    def _adaptive_mean(self, name: str) -> tuple[Layer, str] | None:
        """``A (x B)``, where the rows of A and the columns of B take means."""
        rows, product = self._makers[name].input[:2]
        inner = self._made_by(product, "MatMul")
        if inner is None:
            return None
        left, right = self._constants.get(rows), self._constants.get(inner.input[1])
        if left is None or right is None or left.ndim != 2 or right.ndim != 2:
            return None
        size = (left.shape[0], right.shape[1])
        for found, matrix in ((left, mean_matrix(*left.shape[::-1])),
                              (right.T, mean_matrix(*right.shape))):  # fmt: skip
            if not np.allclose(found, matrix, rtol=CLOSE, atol=0.0):
                return None
        return AdaptiveAvgPool2d(size), inner.input[0]


def mean_matrix(size: int, output: int) -> np.ndarray:
    """What takes the means of an adaptive pooling along one axis, shape (output, size)."""
    matrix = np.zeros((output, size))
    for row, (first, end) in zip(matrix, adaptive_windows(size, output), strict=True):
        row[first:end] = 1.0 / (end - first)
    return matrix


def _close(value: float | None, expected: float) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=CLOSE)
