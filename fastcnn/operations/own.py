"""Losses and updates of optimisers that users wrote as formulas: see :mod:`fastcnn.kernel`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastcnn.operations.record import Number


@dataclass(frozen=True)
class ElementwiseLoss:
    """A loss that is the mean over elements of a function of prediction and target.

    Attributes
    ----------
    name : str
        Name of the backend function.
    value, derivative : function
        ``value(prediction, target, *numbers)``, and its derivative by the prediction.
    arguments : tuple of Number
    """

    name: str
    value: Callable[..., Any]
    derivative: Callable[..., Any]
    arguments: tuple[Number, ...] = ()

    def numbers(self, arguments: Mapping[str, Any]) -> tuple[float, ...]:
        """The numbers in the order of the formulas."""
        return tuple(float(arguments[argument.name]) for argument in self.arguments)


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


LOSSES: dict[str, ElementwiseLoss] = {}
UPDATES: dict[str, Update] = {}
