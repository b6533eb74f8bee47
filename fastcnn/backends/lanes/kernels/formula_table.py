"""Registers the kernels of element-wise operations, one for each formula in use."""

from collections.abc import Callable, Mapping
from itertools import count
from types import FunctionType
from typing import Any

from fastcnn import forks
from fastcnn.backends.lanes.kernels import formulas
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.average_pool import spread_cost, spread_reach
from fastcnn.backends.lanes.kernels.elements import elements_reach
from fastcnn.backends.lanes.kernels.losses import loss_reach
from fastcnn.backends.lanes.kernels.record import (
    KERNELS,
    Kernel,
    map_sizes,
    per_element,
    per_number,
)
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, parameters
from fastcnn.codegen import linked
from fastcnn.codegen.identity import function_digest, is_own
from fastcnn.codegen.simd import LANES
from fastcnn.operations import Elementwise, Formula, Number
from fastcnn.operations.losses import ElementwiseLoss

#: From a formula and the kind of its kernel to the kernel's number.
_numbers: dict[Any, int] = {}
_free = count(L.FIRST_FORMULA)
_MAKERS = {
    "value": formulas.value_kernel,
    "gradient": formulas.gradient_kernel,
    "averaged_gradient": formulas.averaged_gradient_kernel,
    "parameter": lambda gradient, _, count: formulas.parameter_gradient_kernel(gradient, count),
}
_COSTS = {
    "value": per_element(1, 1, 1),
    "gradient": per_element(1, 2, 1),
    "averaged_gradient": spread_cost(1),
    "parameter": per_element(2, 2, 0, 1),
}
_SHOWN = {
    "value": "",
    "gradient": " gradient",
    "averaged_gradient": " + average pool gradient",
    "parameter": " parameter gradient",
}
_lock = forks.lock()
#: The module through which another process gets a kernel's source.
TABLE = "fastcnn.backends.lanes.kernel_table"


def formula_kernel(record: Elementwise, arguments: Mapping[str, Any], what: str) -> int:
    """The number of a kernel that computes an element-wise operation.

    Parameters
    ----------
    record : Elementwise
    arguments : mapping
        Arguments of the operation; they may select the formula.
    what : {"value", "gradient", "averaged_gradient", "parameter"}
        The output, the input's gradient, the same from the gradient of the output's averages, or a
        block's share of the parameter's gradient.
    """
    formula, _ = record.formula_of(arguments)
    return _number_of((formula, what), lambda: _kernel(record, formula, arguments, what))


def element_loss_kernel(record: ElementwiseLoss) -> int:
    """The number of the kernel of an element-wise loss."""

    def make() -> Kernel:
        symbol, origin = f"loss_{record.name}", None
        if is_own(record.value):
            origin = (TABLE, "loss_source", [record.name])
        else:  # another loss may have the same name
            symbol += f"_{_digest(record.value, record.derivative)}"
        numbers, by_channel = len(record.arguments), bool(record.by_channel)
        return Kernel(
            formulas.loss_kernel(record.value, record.derivative, numbers, by_channel),
            record.name,
            per_number(4, 2),
            map_sizes,
            symbol=symbol,
            origin=origin,
            touches=loss_reach(1 + numbers, by_channel),
            of_run="targets",
        )

    return _number_of(record, make)


def _number_of(key: Any, make: Callable[[], Kernel]) -> int:
    with _lock:
        if key not in _numbers:
            # A signal handler may take numbers in between.
            kernel, number = make(), next(_free)
            KERNELS[number], _numbers[key] = kernel, number
    return _numbers[key]


def _digest(*functions: Any) -> str:
    return "_".join(function_digest(function)[:12] for function in functions)


def _kernel(
    record: Elementwise, formula: Formula, arguments: Mapping[str, Any], what: str
) -> Kernel:
    gradient = formula.gradient_from_output or formula.gradient
    function: Any = {
        "value": formula.value,
        "gradient": gradient,
        "averaged_gradient": gradient,
        "parameter": next(iter(formula.parameter_gradients), None),
    }[what]
    numbers = sum(isinstance(argument, Number) for argument in record.arguments)
    called = linked(function) if isinstance(function, FunctionType) else function
    variant = "".join(f"_{value}" for value in arguments.values() if isinstance(value, str))
    symbol, origin = f"{record.name}{variant}_{what}", None
    if is_own(formula.value):
        origin = (TABLE, "formula_source", [record.name, dict(arguments), what])
    else:  # another function may have the same name
        symbol += f"_{_digest(function)}"
    return Kernel(
        _MAKERS[what](called, bool(record.parameters), numbers),
        record.name + _SHOWN[what],
        _COSTS[what],
        map_sizes,
        symbol=symbol,
        origin=origin,
        touches=_reach(what, bool(record.parameters), numbers),
    )


def _learned(r: Reach) -> Touches:
    """A parameter for all channels, for each one, or for each lane."""
    mode = r.among(L.MODE, (L.FOR_ALL, L.FOR_CHANNELS, L.FOR_LANES))
    step = LANES if mode == L.FOR_LANES else mode
    each = r.along(r.count(L.CHANNELS), step)
    yield parameters("W", each + r[L.W], LANES if mode == L.FOR_LANES else 1)


def _reach(what: str, is_learned: bool, numbers: int) -> Callable[[Reach], Touches]:
    """Memory of a kernel with an optional parameter, and some floats at SCALE."""
    if what == "averaged_gradient":
        elements = spread_reach("X", "M", numbers=numbers)
    else:
        names = {"value": "XY", "gradient": "XYM", "parameter": "YM"}[what]
        elements = elements_reach(*names, numbers=numbers)

    def touches(r: Reach) -> Touches:
        yield from elements(r)
        if is_learned:
            yield from _learned(r)
        if what == "parameter":
            sums = r.along(r[L.CHANNELS] if r[L.MODE] else 1, 1)
            yield r.sums(sums)

    return touches
