"""Every language in which networks are written knows every function of formulas."""

import pytest

from fastcnn.codegen import elementary
from fastcnn.codegen.declarations import Elementary
from fastcnn.interop.expression import JAVASCRIPT, NUMPY, C, Dialect

FUNCTIONS = {name for name, value in vars(elementary).items() if isinstance(value, Elementary)}


@pytest.mark.parametrize("dialect", [C, JAVASCRIPT, NUMPY], ids=["C", "JavaScript", "numpy"])
def test_a_dialect_knows_every_function(dialect: Dialect) -> None:
    assert {"exp", "log1p_exp", "where"} <= FUNCTIONS
    assert set(dialect.functions) == FUNCTIONS
