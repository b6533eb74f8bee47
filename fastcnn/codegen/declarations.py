"""How functions are declared that become machine code, without importing numba.

numba reads these objects when something is compiled; a process that finds all it needs in the
cache never imports it.

Kinds of values are written as text: ``"int64"``, ``"int32"``, ``"uint8"``, ``"uint32"``,
``"uint64"``, ``"float32"``, ``"float64"``, ``"bool"``, ``"void"``, ``"vector"`` (16 float32), and
for C-contiguous arrays the kind of their elements with their dimensions, as in ``"float32[:]"`` or
``"int64[:,:]"``.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

#: Makes numba's type of a declared function, by its class; numba_frontend, which imports
#: numba, fills it.
TYPES: dict[type, Callable[[Any], Any]] = {}


class _Declared:
    """What numba finds the type of by its class."""

    @functools.cached_property
    def _numba_type_(self) -> Any:
        return TYPES[type(self)](self)


class Linked(_Declared):
    """A function that compiled functions may call; it is compiled into each of them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        """Run as plain Python."""
        return self.function(*arguments)


#: The decorator of parts of kernels.
linked = Linked


class Emitted(_Declared):
    """A function that emits LLVM instructions where it is called.

    Parameters
    ----------
    emit : callable
        ``emit(builder, *sizes, *values)`` returns the result, or None. Arrays arrive as pointers
        to their first element, tuples as Python's.
    result : str
        Kind of the result.
    arguments : sequence of (str or None)
        Kinds; None takes an array of any kind, an int64, or a tuple of such.
    sizes : int
        How many arguments before these are literal numbers at the call, given to ``emit`` as
        Python's.
    kinds : bool
        Whether ``emit`` gets the kinds of the arguments' elements, as ``kinds``.
    """

    def __init__(
        self,
        emit: Callable[..., Any],
        result: str,
        arguments: Sequence[str | None],
        sizes: int = 0,
        kinds: bool = False,
    ) -> None:
        self.emit = emit
        self.result = result
        self.arguments = tuple(arguments)
        self.sizes = sizes
        self.kinds = kinds

    def sized(self, *sizes: int) -> "Emitted":
        """The same function for some sizes."""

        def emit(builder: Any, *values: Any, **kinds: Any) -> Any:
            return self.emit(builder, *sizes, *values, **kinds)

        return Emitted(emit, self.result, self.arguments, kinds=self.kinds)

    def __call__(self, *arguments: Any) -> Any:
        """Emitted functions have no meaning outside compiled code."""
        raise TypeError(f"{self.emit} can only be called by compiled functions")


class Elementary(_Declared):
    """A mathematical function of numbers, numpy arrays and vectors.

    Parameters
    ----------
    plain : callable
        On Python floats and numpy arrays.
    scalar : callable
        What numba compiles for single numbers.
    vector : Emitted
        On vectors; scalar arguments are copied to all lanes.
    """

    def __init__(self, plain: Any, scalar: Any, vector: Emitted) -> None:
        functools.update_wrapper(self, plain)
        self.plain, self.scalar, self.vector = plain, scalar, vector

    def __call__(self, *arguments: Any) -> Any:
        """Compute with Python's floats where there are no others, else with numpy.

        An argument with a method ``elementary(name, arguments)`` is asked instead, such as an
        expression that writes a formula as text.
        """
        for argument in arguments:
            if hasattr(argument, "elementary"):
                return argument.elementary(self.plain.__name__, arguments)
        if all(isinstance(argument, (float, bool)) for argument in arguments):
            try:
                return self.scalar(*arguments)
            except (OverflowError, ValueError):  # numpy has infinity and NaN
                pass
        return self.plain(*arguments)


def parameter_names(function: Any) -> tuple[str, ...]:
    """Names of a function's parameters."""
    return tuple(inspect.signature(getattr(function, "function", function)).parameters)
