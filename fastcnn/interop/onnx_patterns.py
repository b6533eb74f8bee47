"""Layers that are several nodes in an ONNX file."""

import math
from collections.abc import Iterator

import numpy as np

from fastcnn.backends.geometry import adaptive_windows
from fastcnn.interop.onnx_file import FileNode
from fastcnn.interop.onnx_norm_patterns import normalisation
from fastcnn.interop.onnx_resampling import interpolated
from fastcnn.interop.onnx_wiring import Wiring
from fastcnn.layers import GELU, AdaptiveAvgPool2d, Layer, Softplus

#: Tolerated relative error of a formula's constant.
CLOSE = 1e-4
#: Most nodes of a product to examine: formulas have fewer, files may have any number.
MOST_FACTORS = 12
#: Operators that are only supported within a formula.
FORMULAS = (
    *("Add", "Div", "Erf", "GatherND", "Greater", "If", "Mul", "Pow", "Range", "Reciprocal"),
    *("Sqrt", "Tanh", "Transpose", "Where"),
)
Found = tuple[Layer, str]


def find(w: Wiring, node: FileNode) -> Found | None:
    """The layer that ends in a node, and its input; None if it is not a known formula."""
    if found := normalisation(w, node):
        return found
    if node.kind == "Add":
        return interpolated(w, node)
    if node.kind == "MatMul":
        return _adaptive_mean(w, node)
    if node.kind == "Where":
        return _bounded_softplus(w, node)
    if node.kind not in ("Mul", "Div"):
        return None
    factor, terms = _product(w, node.output, inner=False)
    return _gelu(w, factor, terms) if len(terms) == 2 else _softplus(w, factor, terms)


def _scaled(w: Wiring, name: str) -> tuple[float, str]:
    """A value as a number times another value, by one node: the other may also be a formula."""
    node = w.nodes.get(name)
    if node is not None and node.kind == "Mul":
        for number, value in (node.inputs, node.inputs[::-1]):
            factor = w.number(number)
            if factor is not None:
                return factor, value
    if node is not None and node.kind == "Div":
        divisor = w.number(node.inputs[1])
        if divisor:
            return 1.0 / divisor, node.inputs[0]
    return 1.0, name


def _product(w: Wiring, name: str, inner: bool = True) -> tuple[float, list[str]]:
    """A value as a number times other values; ``inner`` ones with other readers are not split."""
    factor, terms = 1.0, list[str]()
    waiting = [name]
    for _ in range(MOST_FACTORS):
        if not waiting:
            return factor, terms
        value = waiting.pop()
        node = w.nodes.get(value)
        kind = node.kind if node is not None else ""
        if w.file.readers[value] > 1 and (inner or value != name):
            kind = ""
        number = w.number(value)
        divisor = w.number(node.inputs[1]) if node is not None and kind == "Div" else None
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


def _sum(w: Wiring, name: str) -> list[str]:
    node = w.made_by(name, "Add")
    return [] if node is None else list(node.inputs)


def _after_one(w: Wiring, name: str) -> str | None:
    """``t`` of a value ``1 + t``."""
    parts = _sum(w, name)
    rest = [part for part in parts if not _close(w.number(part), 1.0)]
    return rest[0] if len(parts) == 2 and len(rest) == 1 else None


def _gelu(w: Wiring, factor: float, terms: list[str]) -> Found | None:
    """``0.5 x (1 + erf(x / sqrt(2)))``, or with tanh instead of the error function."""
    if not _close(factor, 0.5):
        return None
    for x, other in (terms, terms[::-1]):
        bent = _after_one(w, other)
        for kind in ("Erf", "Tanh"):
            node = None if bent is None else w.made_by(bent, kind)
            if node is None:
                continue
            inner, parts = _product(w, node.inputs[0])
            if kind == "Erf" and _close(inner, math.sqrt(0.5)) and parts == [x]:
                return GELU(), x
            is_cubic = _close(inner, math.sqrt(2.0 / math.pi)) and _cubic(w, parts, x)
            if kind == "Tanh" and is_cubic:
                return GELU(approximate="tanh"), x
    return None


def _cubic(w: Wiring, terms: list[str], x: str) -> bool:
    """Whether a product is ``x (1 + 0.044715 x^2)`` or ``x + 0.044715 x^3``."""
    if len(terms) == 2 and x in terms:
        slope = _after_one(w, terms[1 - terms.index(x)])
        return slope is not None and _is_power(w, slope, x, 2)
    parts = _sum(w, terms[0]) if len(terms) == 1 else []
    rest = [part for part in parts if part != x]
    return len(parts) == 2 and len(rest) == 1 and _is_power(w, rest[0], x, 3)


def _is_power(w: Wiring, name: str, x: str, exponent: int) -> bool:
    factor, terms = _product(w, name)
    power = w.made_by(terms[0], "Pow") if len(terms) == 1 else None
    if power is not None and _close(w.number(power.inputs[1], of_data=False), exponent):
        terms = [power.inputs[0]] * exponent
    return _close(factor, 0.044715) and terms == [x] * exponent


def _softplus(w: Wiring, factor: float, terms: list[str]) -> Found | None:
    """``softplus(b x) / b``."""
    node = w.made_by(terms[0], "Softplus") if len(terms) == 1 else None
    if node is None or factor == 1.0:
        return None
    beta, x = _scaled(w, node.inputs[0])
    return (Softplus(beta=beta), x) if beta > 0.0 and _close(factor * beta, 1.0) else None


def _bounded_softplus(w: Wiring, node: FileNode) -> Found | None:
    """``x`` where ``b x`` is above a threshold, else ``softplus(b x) / b``."""
    condition, x, bent = node.inputs
    test = w.made_by(condition, "Greater")
    threshold = None if test is None else w.number(test.inputs[1])
    if test is None or threshold is None:
        return None
    beta, tested = _scaled(w, test.inputs[0])
    plain = w.made_by(bent, "Softplus")
    if plain is not None:
        found: Found | None = (Softplus(), plain.inputs[0])
    else:
        found = _softplus(w, *_product(w, bent))
    if found is None or found[1] != x or tested != x:
        return None
    same = _close(beta, getattr(found[0], "beta", 1.0))
    return (Softplus(beta, threshold), x) if same else None


def _adaptive_mean(w: Wiring, node: FileNode) -> Found | None:
    """``A (x B)``, where the rows of A and the columns of B compute means."""
    rows, product = node.inputs
    inner = w.made_by(product, "MatMul")
    if inner is None or not _is_mean(w, rows, False):
        return None
    x, columns = inner.inputs
    if not _is_mean(w, columns, True):
        return None
    left, right = w.file.constants[rows], w.file.constants[columns]
    shape = w.shape(x)
    if shape is None or shape[1:] != (left.shape[1], right.shape[0]):
        return None
    return AdaptiveAvgPool2d((left.shape[0], right.shape[1])), x


def _is_mean(w: Wiring, name: str, turned: bool) -> bool:
    """Whether a constant is the matrix of an adaptive pooling."""
    if (name, turned) not in w.means:
        known = name in w.file.constants
        matrix = w.file.constants[name] if known else np.zeros(())
        matrix = matrix.T if turned else matrix
        w.means[name, turned] = (
            matrix.ndim == 2
            and matrix.dtype.kind == "f"
            and w.file.constants.type_of(name) == w.file.element_type
            and all(
                np.allclose(row, wanted, rtol=CLOSE, atol=0.0)
                for row, wanted in zip(matrix, _mean_rows(*matrix.shape[::-1]), strict=True)
            )
        )
    return w.means[name, turned]


def mean_matrix(size: int, output: int) -> np.ndarray:
    """The matrix of an adaptive average pooling along one axis, shape (output, size)."""
    return np.array(list(_mean_rows(size, output)))


def _mean_rows(size: int, output: int) -> Iterator[np.ndarray]:
    for first, end in adaptive_windows(size, output):
        row = np.zeros(size)
        row[first:end] = 1.0 / (end - first)
        yield row


def _close(value: float | None, expected: float) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=CLOSE)
