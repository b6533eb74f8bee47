"""What can be computed: one record an operation.

A model runner, a program builder, the exporter and the tests read what they need to know of an
operation from its record, which stands in the file of its functional form. Element-wise operations
are their records: a formula and its gradient, which numpy arrays, plain floats and the engine's
vectors evaluate alike.
"""

from fastcnn.operations import (
    dropouts,
    joins,
    norms,
    piecewise,
    pooling,
    products,
    sample_norms,
    sampling,
    smooth,
    softmaxes,
    transposed,
)
from fastcnn.operations.record import Choice, Elementwise, Formula, Number, Operation

__all__ = ["OPERATIONS", "Choice", "Elementwise", "Formula", "Number", "Operation"]

_FILES = (
    products,
    transposed,
    pooling,
    sampling,
    joins,
    dropouts,
    norms,
    sample_norms,
    softmaxes,
    piecewise,
    smooth,
)
OPERATIONS: dict[str, Operation] = {row.name: row for file in _FILES for row in file.RECORDS}


def elementwise_operations() -> list[Elementwise]:
    """The records of all element-wise operations."""
    return [row for row in OPERATIONS.values() if isinstance(row, Elementwise)]


def elementwise_function(name: str) -> tuple[Elementwise, bool]:
    """The record that a backend function's name belongs to, and whether it is the gradient.

    Raises
    ------
    AttributeError
        If there is no such element-wise operation.
    """
    record = OPERATIONS.get(name.removesuffix("_backward"))
    if not isinstance(record, Elementwise):
        raise AttributeError(f"no backend function is called {name!r}")
    return record, name.endswith("_backward")
