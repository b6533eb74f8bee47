"""Custom kernels: an activation, a loss or an optimiser from a formula in your own script.

A formula is a plain function of ``+ - * /``, whole powers, comparisons with ``& | ~``, and the
functions of this module, or numpy's of the same names (``np.exp``, ``np.where``): numpy evaluates
it on arrays, and the engine compiles it to vector code and runs it inside its programs, at the
speed of its own kernels. If numba cannot compile it, im2col computes it, which is logged.

>>> from fastcnn import kernel
>>> def value(x, beta=1.0):
...     return x * kernel.sigmoid(beta * x)
>>> def derivative(x, beta=1.0):
...     s = kernel.sigmoid(beta * x)
...     return s + beta * x * s * (1.0 - s)
>>> Swish = kernel.activation("Swish", value, derivative)
>>> Swish(beta=1.5)
Swish(beta=1.5)

Branches are written with :func:`where`, which evaluates both, never with ``if``. A function of the
same script that a formula calls must be decorated with :func:`linked`.
"""

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field as dataclass_field
from dataclasses import make_dataclass
from itertools import count
from pkgutil import iter_modules
from typing import Any

import numpy as np

from fastcnn.backends import BACKENDS, get_backend
from fastcnn.codegen.declarations import Linked
from fastcnn.codegen.elementary import (
    absolute,
    erf,
    exp,
    expm1,
    log,
    log1p,
    log1p_exp,
    maximum,
    minimum,
    normal_cdf,
    sigmoid,
    sqrt,
    tanh,
    where,
)
from fastcnn.codegen.plain_function import plain
from fastcnn.errors import ConfigurationError, GradientError, counted
from fastcnn.layers.activation import LAYERS, Activation
from fastcnn.layers.definition import TYPES
from fastcnn.losses import LOSSES, ElementLoss
from fastcnn.operations import OPERATIONS, Elementwise, Formula, Number
from fastcnn.operations.losses import LOSSES as ELEMENTWISE
from fastcnn.operations.losses import ElementwiseLoss
from fastcnn.operations.own import POINTS, Entry
from fastcnn.operations.record import OWN_UPDATES, Update
from fastcnn.optim import OPTIMIZERS

__all__ = [
    "absolute",
    "activation",
    "erf",
    "exp",
    "expm1",
    "linked",
    "log",
    "log1p",
    "log1p_exp",
    "loss",
    "maximum",
    "minimum",
    "normal_cdf",
    "optimizer",
    "sigmoid",
    "sqrt",
    "tanh",
    "where",
]

#: The package's operations; others are users', also of classes that another process has sent.
BUILT_IN = frozenset(OPERATIONS)
#: Most hyperparameters of a formula: as many as a row of the engine holds.
MOST_NUMBERS, MOST_UPDATE_NUMBERS, MOST_SLOTS = 3, 5, 3
#: Of finite differences.
STEP, TOLERANCE = 1e-6, 1e-5
#: Points whose results must be the same without the other points, and in another order.
SOME = slice(29, None, -1)


def linked(function: Callable[..., Any]) -> Linked:
    """Let formulas call a function; its globals keep the values that they have now.

    Parameters
    ----------
    function : function
        As a formula; it may call functions that are linked themselves.

    Raises
    ------
    ConfigurationError
        If it is not a function.
    """
    return Linked(plain(function))


def activation(
    name: str, value: Callable[..., Any], derivative: Callable[..., Any]
) -> type[Activation]:
    """Make a layer class that applies a formula to each element.

    Parameters
    ----------
    name : str
        Name of the class, such as ``"Swish"``. If a name is used again, objects
        that exist keep their formula.
    value, derivative : function
        ``value(x, **numbers)`` and its derivative with respect to ``x``; both take the same
        numbers, whose defaults are the layer's. The derivative is checked against finite
        differences.

    Returns
    -------
    type
        The layer's class. Its arguments are the numbers.

    Raises
    ------
    ConfigurationError
        If the name is taken, or the functions take other arguments or do not accept arrays.
    GradientError
        If the derivative does not match the values.
    """
    operation = _name(name, "activation").lower()
    if operation in BUILT_IN or (name in TYPES and not _is_own(TYPES[name])):
        raise ConfigurationError(f"activation: fastcnn already has a layer called {name}")
    operation = _unused(operation, {**OPERATIONS, **ELEMENTWISE, **LOSSES})
    value, derivative = plain(value), plain(derivative)
    numbers = _same_numbers(name, value, derivative, 1, dir(Activation()))
    defaults = tuple(number.default for number in numbers)
    _check_derivative(name, value, derivative, *defaults)

    def gradient(grad: Any, x: Any, *given: Any) -> Any:
        return grad * derivative_(x, *given)

    value, derivative_ = linked(value), linked(derivative)
    record = Elementwise(operation, formula=Formula(value, gradient), arguments=numbers)
    made = type(
        name,
        (Activation,),
        {
            "__doc__": inspect.getdoc(value) or f"The user's activation {name}.",
            "__module__": _caller(2),
            "__init__": _constructor(numbers),
            "operation": operation,
            "_entry": Entry(record),
        },
    )
    LAYERS[operation] = TYPES[name] = made
    return made


def loss(name: str, value: Callable[..., Any], derivative: Callable[..., Any]) -> Any:
    """Make a loss class: the mean over all elements of a function of prediction and target.

    Parameters
    ----------
    name : str
        Name of the class, such as ``"Huber"``. It may be used again, as for :func:`activation`.
    value, derivative : function
        ``value(prediction, target, **numbers)`` and its derivative with respect to the prediction.

    Returns
    -------
    type
        The loss's class, a frozen dataclass of the numbers.

    Raises
    ------
    ConfigurationError, GradientError
        As for :func:`activation`.
    """
    key = _name(name, "loss").lower()
    if key in LOSSES and not _is_own(LOSSES[key]):
        raise ConfigurationError(f"loss: fastcnn already has a loss called {key}")
    value, derivative = plain(value), plain(derivative)
    numbers = _same_numbers(name, value, derivative, 2, [*dir(ElementLoss), "operation"])
    defaults = tuple(number.default for number in numbers)
    for target in (-1.7171, 0.0, 1.0, 2.3131):
        _check_derivative(name, value, derivative, np.full_like(POINTS, target), *defaults)
    operation = _unused(key, {**OPERATIONS, **ELEMENTWISE})
    record = ElementwiseLoss(operation, linked(value), linked(derivative), numbers)
    members = {"operation": operation, "_entry": Entry(record)}
    made = _dataclass(name, value, numbers, members, (ElementLoss,))
    LOSSES[key] = made
    return made


def optimizer(
    name: str, update: Callable[..., Any], slots: Sequence[str] = (), *, lr: float = 0.01
) -> Any:
    """Make an optimiser class whose element-wise parameter update is a formula.

    Parameters
    ----------
    name : str
        Name of the class, such as ``"Signum"``. It may be used again, as for :func:`activation`.
    update : function
        ``update(parameter, gradient, *slots, lr, step, **numbers)`` returns the new parameter, or a
        tuple of it and the new values of the slots. ``lr`` is the learning rate of the step, and
        ``step`` counts from 1.
    slots : sequence of str
        Names of the values kept for each parameter, initially 0; at most three.
    lr : float
        The default learning rate.

    Returns
    -------
    type
        The optimiser's class, a frozen dataclass of ``lr`` and the numbers.

    Raises
    ------
    ConfigurationError
        If the name is taken, or the function takes other arguments, does not accept arrays, or
        returns something else.
    """
    key = _name(name, "optimizer").lower()
    if key in OPTIMIZERS and key not in OWN_UPDATES:
        raise ConfigurationError(f"optimizer: fastcnn already has an optimiser called {key}")
    slots = tuple(slots)
    if len(slots) > MOST_SLOTS or not all(isinstance(s, str) and s.isidentifier() for s in slots):
        raise ConfigurationError(f"{name}: slots must be at most {MOST_SLOTS} names, got {slots}")
    update = plain(update)
    used = "lr", "kind", "slots", "update"
    numbers = _numbers(name, update, 4 + len(slots), MOST_UPDATE_NUMBERS, used)
    defaults = [number.default for number in numbers]
    kept = [np.zeros_like(POINTS) for _ in slots]
    made = _of_arrays(name, update, POINTS, POINTS, *kept, lr, 1.0, *defaults)
    parts = len(made) if isinstance(made, tuple) else 0
    if parts != (1 + len(slots) if slots else 0):
        wanted = f"a tuple of the new parameter and {', '.join(slots)}" if slots else "an array"
        found = f"a tuple of {parts}" if parts else "no tuple"
        raise ConfigurationError(f"{name}: update must return {wanted}, got {found}")
    kind = _unused(key, OWN_UPDATES)
    entry = Entry(Update(kind, linked(update), slots, numbers))

    def step_in_place(
        self: Any, parameters: Any, gradient: Any, slots: Any, lr: float, step: int
    ) -> None:
        """One step, in place."""
        given = [getattr(self, number.name) for number in numbers]
        kept = [slots[slot] for slot in self.slots]
        made = update(parameters, gradient, *kept, lr, float(step), *given)
        for old, new in zip([parameters, *kept], made if kept else [made], strict=True):
            old[...] = new

    made = _dataclass(
        name,
        update,
        (Number("lr", lr, above=math.nextafter(0.0, -1.0)), *numbers),
        {"kind": kind, "slots": slots, "update": step_in_place, "_entry": entry},
    )
    OPTIMIZERS[key] = made
    return made


def _name(name: Any, what: str) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigurationError(f"{what}: name must be a Python name, got {name!r}")
    return name


def _is_own(made: Any) -> bool:
    """Whether a class is one that this module made."""
    return isinstance(getattr(made, "_entry", None), Entry)


def _caller(above: int) -> str:
    """The module of a caller that makes a class: pickle looks the class up there."""
    return str(sys._getframe(above).f_globals["__name__"])


def _unused(key: str, table: Mapping[str, Any]) -> str:
    """The key of a formula: objects of an earlier one of the same name keep theirs.

    Backends have functions of operations and of losses under their keys, which must all differ, and
    modules.
    """
    taken = set(table)
    for backend in map(get_backend, BACKENDS):
        taken.update(vars(backend), (file.name for file in iter_modules(backend.__path__)))
    keys = (key if number == 1 else f"{key}_{number}" for number in count(1))
    return next(each for each in keys if each not in taken)


def _numbers(
    owner: str, function: Any, values: int, most: int, used: Iterable[str]
) -> tuple[Number, ...]:
    """The hyperparameters that a formula takes after its values, with their defaults.

    Their names must not be ``used`` by the attributes of the class that is made.
    """
    parameters = list(inspect.signature(function).parameters.values())
    kinds = {parameter.kind for parameter in parameters}
    plain = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY}
    first, rest = parameters[:values], parameters[values:]
    given = len(first) == values and all(p.default is p.empty for p in first)
    if not given or not kinds <= plain or len(rest) > most:
        raise ConfigurationError(
            f"{owner}: {function.__name__} must take {counted(values, 'value')} and at most "
            f"{counted(most, 'number')}, got {inspect.signature(function)}"
        )
    for parameter in rest:
        if parameter.name in {"self", *used}:
            raise ConfigurationError(
                f"{owner}: {function.__name__}: a number cannot be called {parameter.name}, which "
                "is an attribute of the class: rename it"
            )
        number = isinstance(parameter.default, (int, float))
        if not (number and abs(parameter.default) <= sys.float_info.max):
            raise ConfigurationError(
                f"{owner}: {function.__name__}: {parameter.name} must have a finite number as its "
                "default"
            )
    return tuple(Number(parameter.name, float(parameter.default)) for parameter in rest)


def _same_numbers(
    owner: str, value: Any, derivative: Any, values: int, used: Iterable[str]
) -> tuple[Number, ...]:
    """The hyperparameters of a formula, which must be those of its derivative."""
    numbers, others = (
        _numbers(owner, each, values, MOST_NUMBERS, used) for each in (value, derivative)
    )
    if others != numbers:
        raise ConfigurationError(f"{owner}: value and derivative must take the same numbers")
    return numbers


def _of_arrays(name: str, formula: Any, *given: Any) -> Any:
    """Evaluate a formula on arrays; raises ConfigurationError unless it is one of each element."""
    some = [value[SOME] if isinstance(value, np.ndarray) else value for value in given]
    try:
        with np.errstate(all="ignore"):
            found, others = formula(*given), formula(*some)
            several = isinstance(found, tuple)
            same = all(
                np.allclose(np.broadcast_to(whole, POINTS.shape)[SOME], part, equal_nan=True)
                for whole, part in (
                    zip(found, others, strict=True) if several else [(found, others)]
                )
            )
    except OverflowError as error:
        raise ConfigurationError(f"{name}: a number is too large ({error})") from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{name}: a formula must accept arrays as well as numbers ({error}): use where, "
            "maximum and minimum of fastcnn.kernel instead of if, max and min, and its exp or "
            "numpy's instead of math's"
        ) from None
    if not same:
        raise ConfigurationError(
            f"{name}: a formula's value for an element must not depend on other elements"
        )
    return found


def _check_derivative(name: str, value: Any, derivative: Any, *rest: Any) -> None:
    given = (value, POINTS + STEP), (value, POINTS - STEP), (derivative, POINTS)
    made = [_of_arrays(name, formula, points, *rest) for formula, points in given]
    if any(isinstance(each, tuple) for each in made):
        raise ConfigurationError(f"{name}: value and derivative must return arrays, got a tuple")
    *ends, found = (np.broadcast_to(each, POINTS.shape) for each in made)
    with np.errstate(all="ignore"):
        expected = (ends[0] - ends[1]) / (2.0 * STEP)
    error = np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)
    error = np.where(np.isfinite(error), error, math.inf)
    # Where there are no values, such as those of a logarithm, there is no derivative to compare.
    defined = np.isfinite(expected)
    worst = int(np.argmax(np.where(defined, error, -1.0) if defined.any() else error))
    if not error[worst] <= TOLERANCE:
        raise GradientError(
            f"{name}: the derivative at {POINTS[worst]:.4g} is {float(found[worst]):.6g}, "
            f"finite differences of the values give {float(expected[worst]):.6g}"
        )


def _constructor(numbers: tuple[Number, ...]) -> Callable[..., None]:
    def __init__(self: Any, *args: float, **kwargs: float) -> None:
        given = signature.bind(self, *args, **kwargs).arguments
        del given["self"]
        Activation.__init__(self)
        self._set(**given)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    taken = [inspect.Parameter(each.name, kind, default=each.default) for each in numbers]
    signature = inspect.Signature([inspect.Parameter("self", kind), *taken])
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def _dataclass(
    name: str,
    function: Any,
    numbers: tuple[Number, ...],
    members: dict[str, Any],
    bases: tuple[type, ...] = (),
) -> Any:
    def check(self: Any) -> None:
        for number in numbers:
            object.__setattr__(self, number.name, number.check(name, getattr(self, number.name)))

    fields = [(number.name, float, dataclass_field(default=number.default)) for number in numbers]
    namespace = {
        **members,
        "__post_init__": check,
        "__doc__": inspect.getdoc(function) or f"The user's {name}.",
    }
    made = make_dataclass(name, fields, bases=bases, frozen=True, namespace=namespace)
    made.__module__ = _caller(3)  # from Python 3.12 on, make_dataclass has set its own caller's
    return made
