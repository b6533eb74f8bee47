"""Plain Python functions from users' ones, which later changes of the script do not reach."""

import inspect
from types import CellType, CodeType, FunctionType
from typing import Any

from fastcnn.errors import ConfigurationError


def plain(function: Any) -> Any:
    """The plain Python function: numba's functions are compiled again, for vectors.

    Its globals, and the variables of functions around it, are those of now, which the engine
    compiles, also if the script assigns others.
    """
    function = getattr(function, "py_func", getattr(function, "function", function))
    if not inspect.isfunction(function):
        raise ConfigurationError(f"a formula must be a function, got {function!r}")
    read = {"__builtins__", "__name__", *_names(function.__code__)}
    kept = {name: value for name, value in function.__globals__.items() if name in read}
    around = tuple(map(_kept, function.__closure__ or ()))
    made = FunctionType(function.__code__, kept, function.__name__, function.__defaults__, around)
    made.__doc__, made.__qualname__ = function.__doc__, function.__qualname__
    return made


def _kept(cell: CellType) -> CellType:
    try:
        return CellType(cell.cell_contents)
    except ValueError:  # a function around the formula assigns it later
        return cell


def _names(code: CodeType) -> set[str]:
    """The names that a function and those in it read, of globals and attributes."""
    inner = [_names(each) for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*inner)
