"""Plain data in Python's pickle format, read without executing it.

Only CIFAR's "Python version" is pickled, nothing else that this package reads. Unpickling can run
arbitrary code, and numpy's part of it trusts sizes from the file, so that not even an allow-list of
classes makes it safe. This reads the operations one by one (:mod:`pickletools` only decodes them)
and supports those of plain data: numbers, text, bytes, lists, tuples, dictionaries, and the few
calls by which an array of numbers is written. Everything else is refused.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.errors import DataError

#: Operations that push their argument onto the stack.
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
#: Strings of Python 2, which are bytes.
BYTES = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
SAVING = {"PUT", "BINPUT", "LONG_BINPUT"}
LOADING = {"GET", "BINGET", "LONG_BINGET"}
SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
#: Allowed names, with their modules in any version of numpy.
NAMED = {
    "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "_frombuffer": ("numpy.core.numeric", "numpy._core.numeric"),
    "ndarray": ("numpy",),
    "dtype": ("numpy",),
    "encode": ("_codecs",),
}
MARK = object()


@dataclass
class _Named:
    """A function or class named in the file."""

    name: str


@dataclass
class _Type:
    """A numpy type under construction."""

    code: str
    order: str = "|"


@dataclass
class _Array:
    """A numpy array under construction."""

    values: np.ndarray | None = None


def read_pickled(content: bytes, name: str) -> dict[str, Any]:
    """A dictionary of plain data; keys become text, and ``name`` is for messages.

    Raises DataError if the bytes are damaged, or hold more than plain data and arrays of numbers.
    """
    try:
        made = _run(content)
        if not isinstance(made, dict):
            raise DataError(f"holds a {type(made).__name__}, not a dictionary")
        return {
            key.decode() if isinstance(key, bytes) else str(key): (
                value.values if isinstance(value, _Array) else value
            )
            for key, value in made.items()
        }
    except Exception as error:  # damaged files raise many kinds of errors
        raise DataError(f"{name}: cannot be read as pickled data ({error})") from None


def _run(content: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    argument: Any
    for operation, argument, _ in pickletools.genops(content):
        code = operation.name
        if code == "STOP":
            return stack.pop()
        if code in VALUES:
            stack.append(argument)
        elif code in BYTES:
            stack.append(argument.encode("latin-1"))
        elif code in CONSTANTS:
            stack.append(CONSTANTS[code]())
        elif code in SAVING:
            memo[argument] = stack[-1]
        elif code == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif code in LOADING:
            stack.append(memo[argument])
        elif code == "MARK":
            stack.append(MARK)
        elif code not in ("PROTO", "FRAME"):
            _combine(code, argument, stack)
    raise DataError("it does not end")


def _combine(code: str, argument: Any, stack: list[Any]) -> None:
    """Operations that pop values from the stack."""
    if code in SHORT_TUPLES:
        stack.append(tuple(_last(stack, SHORT_TUPLES[code])))
    elif code in ("TUPLE", "LIST"):
        values = _marked(stack)
        stack.append(tuple(values) if code == "TUPLE" else values)
    elif code == "DICT":
        values = _marked(stack)
        stack.append(dict(zip(values[::2], values[1::2], strict=True)))
    elif code in ("APPEND", "APPENDS"):
        values = _last(stack, 1) if code == "APPEND" else _marked(stack)
        _top(stack, list).extend(values)
    elif code in ("SETITEM", "SETITEMS"):
        values = _last(stack, 2) if code == "SETITEM" else _marked(stack)
        _top(stack, dict).update(zip(values[::2], values[1::2], strict=True))
    elif code == "GLOBAL":
        stack.append(_named(*argument.split(" ", 1)))
    elif code == "STACK_GLOBAL":
        stack.append(_named(*_last(stack, 2)))
    elif code == "REDUCE":
        function, arguments = _last(stack, 2)
        stack.append(_called(function, arguments))
    elif code == "BUILD":
        (state,) = _last(stack, 1)
        _build(stack[-1], state)
    else:
        raise DataError(f"{code} is not an operation of plain data")


def _last(stack: list[Any], count: int) -> list[Any]:
    values = stack[-count:]
    if len(values) < count or any(value is MARK for value in values):
        raise DataError("a value is missing")
    del stack[-count:]
    return values


def _marked(stack: list[Any]) -> list[Any]:
    place = max(index for index, value in enumerate(stack) if value is MARK)
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _top(stack: list[Any], kind: type) -> Any:
    if not isinstance(stack[-1], kind):
        raise DataError(f"a {kind.__name__} is missing")
    return stack[-1]


def _named(module: Any, name: Any) -> _Named:
    if not isinstance(name, str) or module not in NAMED.get(name, ()):
        raise DataError(f"{module}.{name} is not plain data")
    return _Named(name)


def _called(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case _Named("encode"), (str() as text, "latin1" | "latin-1"):
            return text.encode("latin-1")
        case _Named("dtype"), (str() | bytes() as code, *_):
            return _Type(code.decode() if isinstance(code, bytes) else code)
        case _Named("_reconstruct"), (_Named("ndarray"), *_):
            return _Array()
        case _Named("_frombuffer"), (raw, _Type() as kind, tuple() as shape, str() as order):
            return _Array(_array(raw, kind, shape, order == "F"))
    raise DataError("a call is not that of an array of numbers")


def _build(made: Any, state: Any) -> None:
    match made, state:
        case _Type(), (_, str() | bytes() as order, *_):
            made.order = order.decode() if isinstance(order, bytes) else order
        case _Array(), (_, tuple() as shape, _Type() as kind, fortran, raw):
            made.values = _array(raw, kind, shape, bool(fortran))
        case _:
            raise DataError("a state is not that of an array of numbers")


def _array(raw: Any, kind: _Type, shape: tuple[Any, ...], fortran: bool) -> np.ndarray:
    dtype = np.dtype(kind.order + kind.code)
    if dtype.kind not in "biuf" or len(kind.code) > 3:
        raise DataError(f"an array of {dtype} does not hold numbers")
    if not isinstance(raw, (bytes, bytearray)) or not all(
        isinstance(size, int) and size >= 0 for size in shape
    ):
        raise DataError("an array is damaged")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise DataError(f"an array of shape {shape} has {len(raw):,} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
