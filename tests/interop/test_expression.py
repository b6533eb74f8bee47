"""Formulas as text: every function that they may call is available in each language."""

import pytest

from fastcnn.codegen import Elementary, elementary
from fastcnn.interop.expression import JAVASCRIPT, NUMPY, C, Dialect, Expression

FUNCTIONS = [name for name, found in vars(elementary).items() if isinstance(found, Elementary)]


@pytest.mark.parametrize("dialect", [C, NUMPY, JAVASCRIPT], ids=["c", "numpy", "javascript"])
def test_every_function_has_a_text(dialect: Dialect) -> None:
    assert set(dialect.functions) == set(FUNCTIONS)


def test_an_expression_reads_like_the_formula() -> None:
    x = Expression("x", C)
    made = elementary.where(x <= 0.0, 0.5 * elementary.expm1(x), 1.0 - x / 3.0)
    assert made.text == "((x <= 0.0f) ? (0.5f * expm1f(x)) : (1.0f - (x / 3.0f)))"
