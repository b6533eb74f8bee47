"""Formulas of element-wise operations as C expressions."""

from dataclasses import dataclass

import numpy as np

#: What formulas may call, as C functions of floats.
FUNCTIONS = {
    "sigmoid": """static inline float {name}_sigmoid(float x) {{
    const float e = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}}""",
    "normal_cdf": """static inline float {name}_normal_cdf(float x) {{
    return 0.5f * erfcf(-0.70710678f * x);
}}""",
}


def number(value: float) -> str:
    """A float32 as C writes it, with as many digits as tell it from all others."""
    single = np.float32(value)
    if np.isinf(single):
        return "INFINITY" if single > 0 else "-INFINITY"
    if np.isnan(single):
        return "NAN"
    text = str(single)
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


@dataclass(frozen=True)
class Condition:
    """A comparison in C, element by element."""

    text: str

    def where(self, x: "Expression | float", other: "Expression | float") -> "Expression":
        """``x`` where the comparison holds, else ``other``."""
        return Expression(f"({self.text} ? {_text(x)} : {_text(other)})")


@dataclass(frozen=True, eq=False)
class Expression:
    """A float expression in C, which a formula is evaluated with like with a number.

    ``PREFIX`` in the text is where the exported network's name goes.
    """

    text: str

    def __add__(self, other: "Expression | float") -> "Expression":
        return Expression(f"({self.text} + {_text(other)})")

    def __radd__(self, other: float) -> "Expression":
        return Expression(f"({_text(other)} + {self.text})")

    def __sub__(self, other: "Expression | float") -> "Expression":
        return Expression(f"({self.text} - {_text(other)})")

    def __rsub__(self, other: float) -> "Expression":
        return Expression(f"({_text(other)} - {self.text})")

    def __mul__(self, other: "Expression | float") -> "Expression":
        return Expression(f"({self.text} * {_text(other)})")

    def __rmul__(self, other: float) -> "Expression":
        return Expression(f"({_text(other)} * {self.text})")

    def __truediv__(self, other: "Expression | float") -> "Expression":
        return Expression(f"({self.text} / {_text(other)})")

    def __rtruediv__(self, other: float) -> "Expression":
        return Expression(f"({_text(other)} / {self.text})")

    def __neg__(self) -> "Expression":
        return Expression(f"(-{self.text})")

    def __le__(self, other: "Expression | float") -> Condition:
        return Condition(f"{self.text} <= {_text(other)}")

    def __lt__(self, other: "Expression | float") -> Condition:
        return Condition(f"{self.text} < {_text(other)}")

    def __ge__(self, other: "Expression | float") -> Condition:
        return Condition(f"{self.text} >= {_text(other)}")

    def __gt__(self, other: "Expression | float") -> Condition:
        return Condition(f"{self.text} > {_text(other)}")

    def exp(self) -> "Expression":
        """``e^x``."""
        return Expression(f"expf({self.text})")

    def expm1(self) -> "Expression":
        """``e^x - 1``."""
        return Expression(f"expm1f({self.text})")

    def log1p(self) -> "Expression":
        """``log(1 + x)``."""
        return Expression(f"log1pf({self.text})")

    def tanh(self) -> "Expression":
        """Hyperbolic tangent."""
        return Expression(f"tanhf({self.text})")

    def absolute(self) -> "Expression":
        """``|x|``."""
        return Expression(f"fabsf({self.text})")

    def sigmoid(self) -> "Expression":
        """``1 / (1 + e^-x)``."""
        return Expression(f"PREFIX_sigmoid({self.text})")

    def normal_cdf(self) -> "Expression":
        """Distribution function of the standard normal."""
        return Expression(f"PREFIX_normal_cdf({self.text})")

    def maximum(self, bound: float) -> "Expression":
        """The larger of this and a number; NaN stays NaN."""
        return Condition(f"{self.text} <= {number(bound)}").where(bound, self)

    def minimum(self, bound: float) -> "Expression":
        """The smaller of this and a number; NaN stays NaN."""
        return Condition(f"{self.text} >= {number(bound)}").where(bound, self)


def _text(value: Expression | float) -> str:
    return value.text if isinstance(value, Expression) else number(value)
