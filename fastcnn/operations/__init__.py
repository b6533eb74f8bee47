"""What can be computed: one record an operation.

A model runner, a program builder, the exporter and the tests read what they need to know of an
operation from its record. Element-wise operations are their records: a formula and its gradient,
which numpy arrays, plain floats and the engine's vectors evaluate alike.
"""

from fastcnn.operations import piecewise, smooth
from fastcnn.operations.record import Choice, Elementwise, Formula, Number, Operation

__all__ = ["LOSSES", "OPERATIONS", "Choice", "Elementwise", "Formula", "Number", "Operation"]

OPERATIONS: dict[str, Operation] = {
    row.name: row
    for row in (
        Operation("conv2d", ("weight", "bias"), ("weight",)),
        Operation("conv_transpose2d", ("weight", "bias"), ("weight",)),
        Operation("linear", ("weight", "bias"), ("weight",)),
        Operation("max_pool2d"),
        Operation("avg_pool2d"),
        Operation("adaptive_avg_pool2d"),
        Operation("flatten"),
        Operation("add", inputs=2),
        Operation("dropout", random=True),
        Operation("dropout2d", random=True),
        Operation("batch_norm", ("weight", "bias"), ("weight",), normalises=True),
        *piecewise.RECORDS,
        *smooth.RECORDS,
    )
}

LOSSES: tuple[str, ...] = ("cross_entropy", "mse")


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
