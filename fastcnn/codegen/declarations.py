"""Declarations of functions to be compiled, without importing numba.

numba reads these objects when something is compiled; a process that finds everything in the cache
never imports it.

Types of values are written as text, called kinds: ``"int64"``, ``"int32"``, ``"uint8"``,
``"uint32"``, ``"uint64"``, ``"float32"``, ``"float64"``, ``"bool"``, ``"void"``, ``"vector"`` (16
float32), and for C-contiguous arrays the kind of their elements with their dimensions, as in
``"float32[:]"`` or ``"int64[:,:]"``.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

#: A power of two above the sizes that a function may have at run time.
MOST_SIZE = 64
#: From a declaration's class to a function that makes its numba type; filled by numba_frontend,
#: which imports numba.
TYPES: dict[type, Callable[[Any], Any]] = {}


class _Declared:
    """Base of declarations, for which numba finds a type by their class."""

    @functools.cached_property
    def _numba_type_(self) -> Any:
        return TYPES[type(self)](self)


class Linked(_Declared):
    """A function that compiled functions may call; it is compiled into each caller."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        """Run as plain Python."""
        return self.function(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function,)


#: The decorator of functions that kernels call.
linked = Linked


class Emitted(_Declared):
    """A function that emits LLVM instructions at the place of its call.

    Parameters
    ----------
    emit : callable
        ``emit(builder, *sizes, *values)`` returns the result, or None. Arrays are passed as
        pointers to their first element, tuples as Python tuples.
    result : str
        Kind of the result.
    arguments : sequence of (str or None)
        Kinds; None accepts an array of any kind, an int64, or a tuple of these.
    sizes : int
        Number of leading arguments that are integer literals at the call, passed to ``emit`` as
        Python integers.
    kinds : bool
        Whether ``emit`` receives the kinds of the arguments' elements, as ``kinds``.
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
        """The same function with fixed sizes."""

        def emit(builder: Any, *values: Any, **kinds: Any) -> Any:
            return self.emit(builder, *sizes, *values, **kinds)

        return Emitted(emit, self.result, self.arguments, kinds=self.kinds)

    def among(self, *shapes: tuple[int, ...]) -> "Emitted":
        """The same function of one of some sizes, which are its first arguments at run time.

        All are below MOST_SIZE. Other sizes are taken for the last ones.
        """
        count = len(shapes[0])

        def emit(builder: Any, first: Any, *values: Any, **kinds: Any) -> None:
            kinds = {name: of_values[count:] for name, of_values in kinds.items()}
            # A chain of comparisons would take 2 to 3 % of a short inference.
            for size in values[: count - 1]:
                first = builder.add(builder.mul(first, first.type(MOST_SIZE)), size)
            blocks = [builder.append_basic_block() for _ in shapes]
            choice, end = builder.switch(first, blocks[-1]), builder.append_basic_block()
            for shape, block in zip(shapes, blocks, strict=True):
                if block is not blocks[-1]:
                    choice.add_case(
                        functools.reduce(lambda n, size: n * MOST_SIZE + size, shape), block
                    )
                builder.position_at_end(block)
                self.emit(builder, *shape, *values[count - 1 :], **kinds)
                builder.branch(end)
            builder.position_at_end(end)

        return Emitted(emit, self.result, [*[None] * count, *self.arguments], kinds=self.kinds)

    def __call__(self, *arguments: Any) -> Any:
        """Emitted functions have no meaning outside compiled code."""
        raise TypeError(f"{self.emit} can only be called by compiled functions")


class Elementary(_Declared):
    """A mathematical function of numbers, numpy arrays and vectors.

    Parameters
    ----------
    plain : callable
        The implementation for Python floats and numpy arrays.
    scalar : callable
        The implementation that numba compiles for scalars.
    vector : Emitted
        The implementation for vectors; scalar arguments are broadcast to all lanes.
    """

    def __init__(self, plain: Any, scalar: Any, vector: Emitted) -> None:
        functools.update_wrapper(self, plain)
        self.plain, self.scalar, self.vector = plain, scalar, vector

    def __call__(self, *arguments: Any) -> Any:
        """Compute with Python floats if all arguments are, else with numpy.

        If an argument has a method ``elementary(name, arguments)``, this is called instead, as for
        an expression that writes a formula as text.
        """
        for argument in arguments:
            if hasattr(argument, "elementary"):
                return argument.elementary(self.plain.__name__, arguments)
        if all(isinstance(argument, (float, bool)) for argument in arguments):
            try:
                return self.scalar(*arguments)
            except (OverflowError, ValueError):  # numpy returns infinity or NaN instead
                pass
        return self.plain(*arguments)


def parameter_names(function: Any) -> tuple[str, ...]:
    """Names of a function's parameters."""
    return tuple(inspect.signature(getattr(function, "function", function)).parameters)
