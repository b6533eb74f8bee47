"""Updates of optimisers that users wrote as formulas: see :mod:`fastcnn.kernel`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastcnn.operations.record import Number


@dataclass(frozen=True)
class Update:
    """An optimiser's update of one parameter.

    Attributes
    ----------
    name : str
    function : function
        ``function(parameter, gradient, *slots, lr, step, *numbers)`` returns the new parameter, or
        a tuple of it and the new slots.
    slots : tuple of str
    arguments : tuple of Number
    """

    name: str
    function: Callable[..., Any]
    slots: tuple[str, ...] = ()
    arguments: tuple[Number, ...] = ()


UPDATES: dict[str, Update] = {}
