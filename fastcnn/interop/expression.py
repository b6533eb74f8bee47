"""Formulas of element-wise operations as text, in C, in JavaScript or for numpy."""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.errors import ConfigurationError
from fastcnn.operations import Elementwise


def c_number(value: float) -> str:
    """A float32 in C syntax, with enough digits to identify it."""
    single = np.float32(value)
    if np.isinf(single):
        return "INFINITY" if single > 0 else "-INFINITY"
    if np.isnan(single):
        return "NAN"
    text = str(single)
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


@dataclass(frozen=True)
class Dialect:
    """The syntax of formulas in a language.

    Attributes
    ----------
    number : function
        Formats a number.
    functions : dict of str to str
        The functions of :mod:`fastcnn.codegen.elementary` by name, with ``{0}``, ``{1}`` and
        ``{2}`` for their arguments.
    """

    number: Callable[[float], str]
    functions: Mapping[str, str]


def _dialect(number: Callable[[float], str], alike: str, **others: str) -> Dialect:
    """A language in which most functions have the same names, in a common form."""
    names = ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "erf")
    return Dialect(number, {name: f"{alike.format(name)}({{0}})" for name in names} | others)


#: ``PREFIX`` is replaced by the name of an exported network.
C = _dialect(
    c_number,
    "{}f",
    where="({0} ? {1} : {2})",
    maximum="({0} > {1} || {0} != {0} ? {0} : {1})",
    minimum="({0} < {1} || {0} != {0} ? {0} : {1})",
    absolute="fabsf({0})",
    log1p_exp="PREFIX_log1p_exp({0})",
    sigmoid="PREFIX_sigmoid({0})",
    normal_cdf="PREFIX_normal_cdf({0})",
)
NUMPY = _dialect(
    repr,
    "np.{}",
    where="np.where({0}, {1}, {2})",
    maximum="np.maximum({0}, {1})",
    minimum="np.minimum({0}, {1})",
    absolute="np.abs({0})",
    log1p_exp="np.logaddexp(0.0, {0})",
    sigmoid="sigmoid({0})",
    normal_cdf="normal_cdf({0})",
    erf="(2.0 * normal_cdf(1.4142135623730951 * {0}) - 1.0)",
)
JAVASCRIPT = _dialect(
    json.dumps,  # also of infinities and NaN, which JSON does not have
    "Math.{}",
    where="({0} ? {1} : {2})",
    maximum="Math.max({0}, {1})",
    minimum="Math.min({0}, {1})",
    absolute="Math.abs({0})",
    log1p_exp="log1p_exp({0})",
    sigmoid="sigmoid({0})",
    normal_cdf="normal_cdf({0})",
    erf="(2 * normal_cdf(1.4142135623730951 * {0}) - 1)",
)


def _operator(form: str) -> Callable[["Expression", "Expression | float"], "Expression"]:
    """An operator between an expression, ``{0}``, and something else, ``{1}``."""

    def write(self: "Expression", other: "Expression | float") -> "Expression":
        return self._with(form.format(self.text, self._of(other)))

    return write


@dataclass(frozen=True, eq=False)
class Expression:
    """An expression or comparison, with which a formula is evaluated as with a number."""

    text: str
    dialect: Dialect

    __add__, __radd__ = _operator("({0} + {1})"), _operator("({1} + {0})")
    __sub__, __rsub__ = _operator("({0} - {1})"), _operator("({1} - {0})")
    __mul__, __rmul__ = _operator("({0} * {1})"), _operator("({1} * {0})")
    __truediv__, __rtruediv__ = _operator("({0} / {1})"), _operator("({1} / {0})")
    __le__, __lt__ = _operator("({0} <= {1})"), _operator("({0} < {1})")
    __ge__, __gt__ = _operator("({0} >= {1})"), _operator("({0} > {1})")
    __eq__, __ne__ = _operator("({0} == {1})"), _operator("({0} != {1})")  # type: ignore[assignment]
    __and__, __or__, __xor__ = map(_operator, ("({0} & {1})", "({0} | {1})", "({0} ^ {1})"))

    def __neg__(self) -> "Expression":
        return self._with(f"(-{self.text})")

    def __invert__(self) -> "Expression":
        return self._with(f"({self.text} == 0)")

    def __bool__(self) -> bool:
        raise TypeError("a formula for export must use where, minimum or maximum for each element")

    def __abs__(self) -> "Expression":
        return self.elementary("absolute", [self])

    def __pow__(self, power: int) -> "Expression":
        factors = [self.text] * operator.index(abs(power)) or [self.dialect.number(1.0)]
        product = self._with(f"({' * '.join(factors)})")
        return 1.0 / product if power < 0 else product

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any) -> "Expression":
        return self.__array_function__(function, (), inputs, {})

    def __array_function__(
        self, function: Any, types: Any, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> "Expression":
        """numpy's functions of formulas, and operators between its numbers and expressions."""
        # Numbers of Python leave operators to expressions.
        values = [each if isinstance(each, Expression) else float(each) for each in inputs]
        name = function.__name__
        if not options and function is getattr(np, name, None):
            if name in self.dialect.functions:
                return self.elementary(name, values)
            if function in OF_NUMPY:
                made: Expression = OF_NUMPY[function](*values)
                return made
        raise TypeError(f"files for export have no {name} of numpy")

    def elementary(self, name: str, arguments: Sequence["Expression | float"]) -> "Expression":
        """A function of :mod:`fastcnn.codegen.elementary`, of which this is an argument."""
        return self._with(self.dialect.functions[name].format(*map(self._of, arguments)))

    def _with(self, text: str) -> "Expression":
        return Expression(text, self.dialect)

    def _of(self, value: "Expression | float") -> str:
        if isinstance(value, Expression):
            return value.text
        return self.dialect.number(float(value))


def text_of(record: Elementwise, node: Node, values: Sequence[Expression]) -> str:
    """The formula of a node of element-wise operations, with its input and parameters."""
    formula, numbers = record.formula_of(node.arguments)
    try:
        text: str = formula.value(*values, *numbers).text
    except TypeError as error:  # a user's formula may do more than an Expression can
        raise ConfigurationError(f"layer {node.name!r} cannot be exported: {error}") from None
    return text


#: numpy's functions of formulas that are not elementary, and those of its operators.
OF_NUMPY: dict[Any, Callable[..., Any]] = {
    np.square: lambda x: x * x,
    np.sign: lambda x: np.where(x > 0.0, 1.0, np.where(x < 0.0, -1.0, x)),
    np.clip: lambda x, low, high: np.minimum(np.maximum(x, low), high),
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.divide: operator.truediv,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
}
