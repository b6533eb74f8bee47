"""The operations: one record each.

Executors, the engine's planner, the exporters and the tests get all information on an operation
from its record, defined next to its functional form. Element-wise operations are fully defined by
their records: a formula and its gradient, evaluated on numpy arrays, plain floats and the engine's
vectors alike.
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
from fastcnn.operations.record import Choice, Elementwise, Formula, Number, OnnxNode, Operation

__all__ = ["OPERATIONS", "Choice", "Elementwise", "Formula", "Number", "OnnxNode", "Operation"]

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
    """The record of a backend function's name, and whether it is the gradient function.

    Raises
    ------
    AttributeError
        If there is no such element-wise operation.
    """
    record = OPERATIONS.get(name.removesuffix("_backward"))
    if not isinstance(record, Elementwise):
        raise AttributeError(f"no backend function is called {name!r}")
    return record, name.endswith("_backward")
