"""Users' formulas in the tables of operations, losses and updates: see :mod:`fastcnn.kernel`."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.operations import OPERATIONS
from fastcnn.operations.losses import LOSSES, ElementwiseLoss
from fastcnn.operations.record import OWN_UPDATES, Elementwise, Update

#: The tables of formulas, by the class of their records.
TABLES: dict[type, dict[str, Any]] = {
    Elementwise: OPERATIONS,
    ElementwiseLoss: LOSSES,
    Update: OWN_UPDATES,
}
#: Points at which formulas are evaluated: not round numbers, where kinks usually are.
POINTS = np.linspace(-5.0, 5.0, 97) + 0.0123


@dataclass(frozen=True)
class Entry:
    """An own class's formula, which is in its table wherever this object is.

    A class that joblib sends to another process by value takes it there. Raises ConfigurationError
    if that process has another formula of the name.
    """

    record: Elementwise | ElementwiseLoss | Update

    def __post_init__(self) -> None:
        record = self.record
        known = TABLES[type(record)].setdefault(record.name, record)
        if known is not record and not (
            known.arguments == record.arguments
            and getattr(known, "slots", ()) == getattr(record, "slots", ())
            and np.allclose(_values(known), _values(record), 1e-9, equal_nan=True)
        ):
            raise ConfigurationError(
                f"this process has another formula called {record.name}: rename one of the two"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.record,)


def _values(record: Any) -> np.ndarray:
    """A formula's values at some points."""
    # Not the numbers' defaults, which are often 0 or 1.
    numbers = [0.9 * number.default + 0.03 for number in record.arguments]
    kind = type(record)
    if kind is Elementwise:
        calls = [(record.formula.value, 1), (record.formula.gradient, 2)]
    elif kind is ElementwiseLoss:
        calls = [(record.value, 2), (record.derivative, 2)]
    else:
        calls, numbers = [(record.function, 2 + len(record.slots))], [0.3, 2.0, *numbers]
    found: list[Any] = []
    with np.errstate(all="ignore"):
        for formula, count in calls:
            given = [POINTS, POINTS[::-1], *[np.abs(POINTS)] * (count - 2)][:count]
            made = formula(*given, *numbers)
            found += made if isinstance(made, tuple) else [made]
    return np.array([np.broadcast_to(each, POINTS.shape) for each in found])
