"""Layers that an ONNX file writes as several nodes."""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from fastcnn.backends.geometry import adaptive_windows
from fastcnn.backends.graph import Shape
from fastcnn.interop.onnx_file import FileNode, OnnxFile
from fastcnn.interop.onnx_norm_patterns import NormPatterns
from fastcnn.layers import GELU, AdaptiveAvgPool2d, Layer, Softplus

#: Relative error that a constant of a formula may have.
CLOSE = 1e-4
#: Nodes of a product that are looked at: formulas have fewer, files may have any number.
MOST_FACTORS = 12
#: Operators that only mean something within a formula.
FORMULAS = (
    *("Add", "Div", "Erf", "Greater", "If", "Mul", "Pow", "Range", "Reciprocal", "Sqrt", "Tanh"),
    *("Transpose", "Where"),
)
Found = tuple[Layer, str]


class Patterns:
    """Finds formulas in a file.

    Parameters
    ----------
    file : OnnxFile
    nodes : mapping of str to FileNode
        The node that makes each value; they must have been checked.
    """

    def __init__(self, file: OnnxFile, nodes: Mapping[str, FileNode]) -> None:
        self._file, self._makers = file, nodes
        self._norms = NormPatterns(file, nodes)
        self._means: dict[tuple[str, bool], bool] = {}

    def find(self, node: FileNode, shape_of: Callable[[str], Shape | None]) -> Found | None:
        """The layer whose output a node makes, and its input; None if it is not a known formula.

        Parameters
        ----------
        node : FileNode
        shape_of : function of str
            Shape of a sample of a value, or None.
        """
        if found := self._norms.find(node, shape_of):
            return found
        if node.kind == "MatMul":
            return self._adaptive_mean(node, shape_of)
        if node.kind == "Where":
            return self._bounded_softplus(node)
        if node.kind not in ("Mul", "Div"):
            return None
        factor, terms = self._product(node.output, inner=False)
        return self._gelu(factor, terms) if len(terms) == 2 else self._softplus(factor, terms)

    def _number(self, name: str, of_data: bool = True) -> float | None:
        """A constant that is one number; ``of_data`` if it is computed with samples."""
        if not name or name not in self._file.constants:
            return None
        array = self._file.constants[name]
        # More dimensions than samples have would be passed on to the result.
        if array.shape not in ((), (1,)) or array.dtype.kind not in "if":
            return None
        if of_data and self._file.constants.type_of(name) != self._file.element_type:
            return None
        return float(array.item())

    def _scaled(self, name: str) -> tuple[float, str]:
        """A value as a number times another value, by one node: the other may be a formula too."""
        node = self._makers.get(name)
        if node is not None and node.kind == "Mul":
            for number, value in (node.inputs, node.inputs[::-1]):
                factor = self._number(number)
                if factor is not None:
                    return factor, value
        if node is not None and node.kind == "Div":
            divisor = self._number(node.inputs[1])
            if divisor:
                return 1.0 / divisor, node.inputs[0]
        return 1.0, name

    def _product(self, name: str, inner: bool = True) -> tuple[float, list[str]]:
        """A value as a number times other values; ``inner`` ones end where others read them."""
        factor, terms = 1.0, list[str]()
        waiting = [name]
        for _ in range(MOST_FACTORS):
            if not waiting:
                return factor, terms
            value = waiting.pop()
            node = self._makers.get(value)
            kind = node.kind if node is not None else ""
            if self._file.readers[value] > 1 and (inner or value != name):
                kind = ""
            number = self._number(value)
            divisor = self._number(node.inputs[1]) if node is not None and kind == "Div" else None
            if number is not None:
                factor *= number
            elif node is not None and kind == "Mul":
                waiting += node.inputs[::-1]
            elif node is not None and divisor:
                factor /= divisor
                waiting.append(node.inputs[0])
            else:
                terms.append(value)
        return 1.0, [name]

    def _made_by(self, name: str, kind: str) -> FileNode | None:
        node = self._makers.get(name)
        return node if node is not None and node.kind == kind else None

    def _sum(self, name: str) -> list[str]:
        node = self._made_by(name, "Add")
        return [] if node is None else list(node.inputs)

    def _after_one(self, name: str) -> str | None:
        """``t`` of a value ``1 + t``."""
        parts = self._sum(name)
        rest = [part for part in parts if not _close(self._number(part), 1.0)]
        return rest[0] if len(parts) == 2 and len(rest) == 1 else None

    def _gelu(self, factor: float, terms: list[str]) -> Found | None:
        """``0.5 x (1 + erf(x / sqrt(2)))``, or with a tanh in the error function's place."""
        if not _close(factor, 0.5):
            return None
        for x, other in (terms, terms[::-1]):
            bent = self._after_one(other)
            for kind in ("Erf", "Tanh"):
                node = None if bent is None else self._made_by(bent, kind)
                if node is None:
                    continue
                inner, parts = self._product(node.inputs[0])
                if kind == "Erf" and _close(inner, math.sqrt(0.5)) and parts == [x]:
                    return GELU(), x
                is_cubic = _close(inner, math.sqrt(2.0 / math.pi)) and self._cubic(parts, x)
                if kind == "Tanh" and is_cubic:
                    return GELU(approximate="tanh"), x
        return None

    def _cubic(self, terms: list[str], x: str) -> bool:
        """Whether a product is ``x (1 + 0.044715 x^2)`` or ``x + 0.044715 x^3``."""
        if len(terms) == 2 and x in terms:
            slope = self._after_one(terms[1 - terms.index(x)])
            return slope is not None and self._is_power(slope, x, 2)
        parts = self._sum(terms[0]) if len(terms) == 1 else []
        rest = [part for part in parts if part != x]
        return len(parts) == 2 and len(rest) == 1 and self._is_power(rest[0], x, 3)

    def _is_power(self, name: str, x: str, exponent: int) -> bool:
        factor, terms = self._product(name)
        power = self._made_by(terms[0], "Pow") if len(terms) == 1 else None
        if power is not None and _close(self._number(power.inputs[1], of_data=False), exponent):
            terms = [power.inputs[0]] * exponent
        return _close(factor, 0.044715) and terms == [x] * exponent

    def _softplus(self, factor: float, terms: list[str]) -> Found | None:
        """``softplus(b x) / b``."""
        node = self._made_by(terms[0], "Softplus") if len(terms) == 1 else None
        if node is None or factor == 1.0:
            return None
        beta, x = self._scaled(node.inputs[0])
        return (Softplus(beta=beta), x) if beta > 0.0 and _close(factor * beta, 1.0) else None

    def _bounded_softplus(self, node: FileNode) -> Found | None:
        """``x`` where ``b x`` is above a threshold, else ``softplus(b x) / b``."""
        condition, x, bent = node.inputs
        test = self._made_by(condition, "Greater")
        threshold = None if test is None else self._number(test.inputs[1])
        if test is None or threshold is None:
            return None
        beta, tested = self._scaled(test.inputs[0])
        plain = self._made_by(bent, "Softplus")
        if plain is not None:
            found: Found | None = (Softplus(), plain.inputs[0])
        else:
            found = self._softplus(*self._product(bent))
        if found is None or found[1] != x or tested != x:
            return None
        same = _close(beta, getattr(found[0], "beta", 1.0))
        return (Softplus(beta, threshold), x) if same else None

    def _adaptive_mean(
        self, node: FileNode, shape_of: Callable[[str], Shape | None]
    ) -> Found | None:
        """``A (x B)``, where the rows of A and the columns of B take means."""
        rows, product = node.inputs
        inner = self._made_by(product, "MatMul")
        if inner is None or not self._is_mean(rows, False):
            return None
        x, columns = inner.inputs
        if not self._is_mean(columns, True):
            return None
        left, right = self._file.constants[rows], self._file.constants[columns]
        shape = shape_of(x)
        if shape is None or shape[1:] != (left.shape[1], right.shape[0]):
            return None
        return AdaptiveAvgPool2d((left.shape[0], right.shape[1])), x

    def _is_mean(self, name: str, turned: bool) -> bool:
        """Whether a constant takes the means of an adaptive pooling."""
        if (name, turned) not in self._means:
            known = name in self._file.constants
            matrix = self._file.constants[name] if known else np.zeros(())
            matrix = matrix.T if turned else matrix
            self._means[name, turned] = (
                matrix.ndim == 2
                and matrix.dtype.kind == "f"
                and self._file.constants.type_of(name) == self._file.element_type
                and all(
                    np.allclose(row, wanted, rtol=CLOSE, atol=0.0)
                    for row, wanted in zip(matrix, _mean_rows(*matrix.shape[::-1]), strict=True)
                )
            )
        return self._means[name, turned]


def mean_matrix(size: int, output: int) -> np.ndarray:
    """What takes the means of an adaptive pooling along one axis, shape (output, size)."""
    return np.array(list(_mean_rows(size, output)))


def _mean_rows(size: int, output: int) -> Iterator[np.ndarray]:
    for first, end in adaptive_windows(size, output):
        row = np.zeros(size)
        row[first:end] = 1.0 / (end - first)
        yield row


def _close(value: float | None, expected: float) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=CLOSE)
