"""Formulas of element-wise operations as text, in C, in JavaScript or for numpy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


def c_number(value: float) -> str:
    """A float32 as C writes it, with as many digits as tell it from all others."""
    single = np.float32(value)
    if np.isinf(single):
        return "INFINITY" if single > 0 else "-INFINITY"
    if np.isnan(single):
        return "NAN"
    text = str(single)
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def javascript_number(value: float) -> str:
    """A float64 as JavaScript writes it."""
    if np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return "NaN" if np.isnan(value) else repr(value)


@dataclass(frozen=True)
class Dialect:
    """How a language writes what formulas are made of.

    Attributes
    ----------
    number : function
        A number's text.
    functions : dict of str to str
        The functions of :mod:`fastcnn.codegen.elementary` by name, with ``{0}``, ``{1}`` and
        ``{2}`` for their arguments.
    """

    number: Callable[[float], str]
    functions: Mapping[str, str]


#: ``PREFIX`` is where the name of an exported network goes.
C = Dialect(
    c_number,
    {
        "where": "({0} ? {1} : {2})",
        "maximum": "({0} > {1} || {0} != {0} ? {0} : {1})",
        "minimum": "({0} < {1} || {0} != {0} ? {0} : {1})",
        "exp": "expf({0})",
        "expm1": "expm1f({0})",
        "log": "logf({0})",
        "log1p": "log1pf({0})",
        "log1p_exp": "PREFIX_log1p_exp({0})",
        "sqrt": "sqrtf({0})",
        "tanh": "tanhf({0})",
        "erf": "erff({0})",
        "absolute": "fabsf({0})",
        "sigmoid": "PREFIX_sigmoid({0})",
        "normal_cdf": "PREFIX_normal_cdf({0})",
    },
)
NUMPY = Dialect(
    repr,
    {
        "where": "np.where({0}, {1}, {2})",
        "maximum": "np.maximum({0}, {1})",
        "minimum": "np.minimum({0}, {1})",
        "exp": "np.exp({0})",
        "expm1": "np.expm1({0})",
        "log": "np.log({0})",
        "log1p": "np.log1p({0})",
        "log1p_exp": "np.logaddexp(0.0, {0})",
        "sqrt": "np.sqrt({0})",
        "tanh": "np.tanh({0})",
        "erf": "(2.0 * normal_cdf(1.4142135623730951 * {0}) - 1.0)",
        "absolute": "np.abs({0})",
        "sigmoid": "sigmoid({0})",
        "normal_cdf": "normal_cdf({0})",
    },
)


JAVASCRIPT = Dialect(
    javascript_number,
    {
        "where": "({0} ? {1} : {2})",
        "maximum": "Math.max({0}, {1})",
        "minimum": "Math.min({0}, {1})",
        "exp": "Math.exp({0})",
        "expm1": "Math.expm1({0})",
        "log": "Math.log({0})",
        "log1p": "Math.log1p({0})",
        "log1p_exp": "log1p_exp({0})",
        "sqrt": "Math.sqrt({0})",
        "tanh": "Math.tanh({0})",
        "erf": "(2 * normal_cdf(1.4142135623730951 * {0}) - 1)",
        "absolute": "Math.abs({0})",
        "sigmoid": "sigmoid({0})",
        "normal_cdf": "normal_cdf({0})",
    },
)


@dataclass(frozen=True, eq=False)
class Expression:
    """An expression, or a comparison, that a formula is evaluated with like with a number."""

    text: str
    dialect: Dialect

    #: numpy's numbers leave operators to this class.
    __array_ufunc__ = None

    def __add__(self, other: "Expression | float") -> "Expression":
        return self._with(f"({self.text} + {self._of(other)})")

    def __radd__(self, other: float) -> "Expression":
        return self._with(f"({self._of(other)} + {self.text})")

    def __sub__(self, other: "Expression | float") -> "Expression":
        return self._with(f"({self.text} - {self._of(other)})")

    def __rsub__(self, other: float) -> "Expression":
        return self._with(f"({self._of(other)} - {self.text})")

    def __mul__(self, other: "Expression | float") -> "Expression":
        return self._with(f"({self.text} * {self._of(other)})")

    def __rmul__(self, other: float) -> "Expression":
        return self._with(f"({self._of(other)} * {self.text})")

    def __truediv__(self, other: "Expression | float") -> "Expression":
        return self._with(f"({self.text} / {self._of(other)})")

    def __rtruediv__(self, other: float) -> "Expression":
        return self._with(f"({self._of(other)} / {self.text})")

    def __neg__(self) -> "Expression":
        return self._with(f"(-{self.text})")

    def __le__(self, other: "Expression | float") -> "Expression":
        return self._with(f"{self.text} <= {self._of(other)}")

    def __lt__(self, other: "Expression | float") -> "Expression":
        return self._with(f"{self.text} < {self._of(other)}")

    def __ge__(self, other: "Expression | float") -> "Expression":
        return self._with(f"{self.text} >= {self._of(other)}")

    def __gt__(self, other: "Expression | float") -> "Expression":
        return self._with(f"{self.text} > {self._of(other)}")

    def elementary(self, name: str, arguments: Sequence["Expression | float"]) -> "Expression":
        """A function of :mod:`fastcnn.codegen.elementary`, of which this is an argument."""
        return self._with(self.dialect.functions[name].format(*map(self._of, arguments)))

    def _with(self, text: str) -> "Expression":
        return Expression(text, self.dialect)

    def _of(self, value: "Expression | float") -> str:
        if isinstance(value, Expression):
            return value.text
        return self.dialect.number(float(value))
