"""Reads a function's bytecode: the globals that it uses, and a digest of everything else."""

import dis
import hashlib
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

#: Names through which a function may read anything.
_HIDDEN = {
    *("eval", "exec", "globals", "locals", "vars", "__import__", "import_module", "modules"),
    *("_getframe", "environ", "getenv", "open"),
}
#: Attributes of any object that a digest does not include.
_UNWRITTEN = {"__annotations__", "__doc__", "__globals__"}


def _operations(*names: str) -> tuple[int, ...]:
    """Those of the instructions that this Python version has."""
    return tuple(dis.opmap[name] for name in names if name in dis.opmap)


_LOADS = _operations("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = _operations("LOAD_ATTR", "LOAD_METHOD")
_STATE = _operations("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")
_CONSTANTS = tuple(dis.hasconst)
_SKIPPED = {dis.opmap.get("CACHE", 0), dis.EXTENDED_ARG}
#: Instructions whose argument's lowest bit is a flag, not part of a name's index.
_SHIFTED = _operations("LOAD_GLOBAL", *["LOAD_ATTR"] * (sys.version_info >= (3, 12)))


@dataclass(frozen=True)
class Code:
    """The bytecode of a function and of those inside it."""

    #: Digest of instructions and constants, without docstrings and line numbers.
    digest: str
    #: Names of the globals that are read, each with the names of the attributes read of it.
    globals: tuple[tuple[str, ...], ...]
    #: Why the function may read more; empty if it does not.
    hidden: str


#: Cache: code does not change. The code object is kept, so that its id is not reused.
_codes: dict[int, tuple[types.CodeType, Code]] = {}


def read(code: types.CodeType) -> Code:
    """Read a function's code."""
    known = _codes.get(id(code))
    if known is None:
        known = _codes[id(code)] = (code, _read_code(code))
    return known[1]


def _read_code(code: types.CodeType) -> Code:
    raw = code.co_code
    operations, arguments = raw[::2], raw[1::2]
    inner = [read(value) for value in code.co_consts if isinstance(value, types.CodeType)]
    paths = dict.fromkeys(_global_paths(code, operations, arguments))
    for each in inner:
        paths |= dict.fromkeys(each.globals)
    hidden = [each.hidden for each in inner if each.hidden]
    hidden += sorted(_HIDDEN.intersection(name for path in paths for name in path))
    hidden += sorted(_UNWRITTEN.intersection(code.co_names))
    if any(operation in operations for operation in _STATE):
        hidden.append("imports or changes globals")
    constants = list(code.co_consts)
    if constants and type(constants[0]) is str and not _reads_first(operations, arguments):
        constants[0] = None  # a docstring
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    text = [repr((len(raw), counts, names))]
    text += [constant_text(value) for value in constants if not isinstance(value, types.CodeType)]
    text += [each.digest for each in inner]
    digest = hashlib.sha256(raw + code.co_exceptiontable + "\n".join(text).encode())
    return Code(digest.hexdigest(), tuple(paths), ", ".join(dict.fromkeys(hidden)))


def _places(operations: bytes, wanted: Iterable[int]) -> Iterator[int]:
    """Positions of some instructions."""
    for operation in wanted:
        at = operations.find(operation)
        while at >= 0:
            yield at
            at = operations.find(operation, at + 1)


def _reads_first(operations: bytes, arguments: bytes) -> bool:
    """Whether any instruction may read the first constant."""
    return any(arguments[at] == 0 for at in _places(operations, _CONSTANTS))


def _global_paths(
    code: types.CodeType, operations: bytes, arguments: bytes
) -> Iterator[tuple[str, ...]]:
    def name(at: int) -> str:
        index, before = arguments[at], at - 1
        while before >= 0 and operations[before] == dis.EXTENDED_ARG:
            index += arguments[before] << 8 * (at - before)
            before -= 1
        return str(code.co_names[index >> (operations[at] in _SHIFTED)])

    for at in _places(operations, _LOADS):
        path, after = [name(at)], at
        while True:
            after += 1
            while operations[after] in _SKIPPED:
                after += 1
            if operations[after] not in _ATTRIBUTES:
                break
            path.append(name(after))
        yield tuple(path)


def constant_text(value: Any) -> str:
    """A constant as text, with its type."""
    if isinstance(value, tuple):
        return f"({','.join(map(constant_text, value))})"
    if isinstance(value, frozenset):  # in any order
        return f"{{{','.join(sorted(map(constant_text, value)))}}}"
    # Python limits decimal integers to 4300 digits.
    return f"{type(value).__name__} {hex(value) if type(value) is int else repr(value)}"
