"""Serialises everything that a compiled function reaches, as the input of its digest.

It is read from live objects, as numba reads them: the instructions and constants of a function, and
the contents of its globals, closure and defaults, recursively. So nothing is parsed, comments do
not count, and the text describes what this process would compile, whatever its files contain by
now.

Equal texts of different functions would be a silent wrong answer. Whatever cannot be fully
serialised, such as an object of another library or a module passed as a value, makes everything
that reaches it specific to this process.
"""

import abc
import enum
import functools
import os
import re
import sys
import types
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic

import numpy as np
from llvmlite import ir

from fastcnn.codegen import bytecode
from fastcnn.codegen.bytecode import constant_text
from fastcnn.codegen.declarations import Elementary, Emitted, Linked
from fastcnn.codegen.processor import processor
from fastcnn.codegen.vector_math import OF_NUMPY

#: Identified by name: their versions are part of each key.
VERSIONED = {*sys.stdlib_module_names, "numpy", "numba", "llvmlite"}
#: Locations of Python's own modules.
_OF_PYTHON = Path(os.__file__).parent, Path(sys.base_prefix, "DLLs")
#: Attributes of a class that have no effect on compiled code.
_OF_CLASSES = {
    *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__"),
    *("__firstlineno__", "__static_attributes__", "__dataclass_params__", "__annotate_func__"),
    *("__annotations_cache__", "__abstractmethods__", "_abc_impl", "__orig_bases__"),
    *("__parameters__", "__type_params__", "__classdictcell__"),
}

#: Bytes of an attribute's slot.
_POINTER = np.intp().itemsize
_ENUMS = "Enum", "IntEnum", "StrEnum", "ReprEnum", "Flag", "IntFlag"
_NUMBERS = int, float, complex, str, bytes
#: Classes of Python whose objects hold nothing but attributes.
_BASES = {object, abc.ABC, Generic, *(getattr(enum, name) for name in _ENUMS)}


class Record:
    """One object, serialised."""

    __slots__ = "parts", "text", "unknown", "value"

    def __init__(self, value: Any) -> None:
        #: Kept, so that its id is not reused.
        self.value = value
        self.text: list[str] = []
        #: The objects that it holds or names, in an order defined by the text.
        self.parts: list[Any] = []
        #: What could not be serialised; empty if everything was.
        self.unknown = ""
        kind = type(value)
        versioned = _is_versioned(kind.__module__)
        if write := WRITERS.get(kind):
            write(self, value)
        elif isinstance(value, type):
            self._class(value)
        elif kind is np.ndarray and not value.dtype.hasobject:
            flags = value.flags.c_contiguous, value.flags.f_contiguous, value.flags.writeable
            self.say("array", _dtype(value), value.shape, flags, value.tobytes())
        elif isinstance(value, np.generic) and versioned and not value.dtype.hasobject:
            self.say(kind.__qualname__, _dtype(value), value.tobytes())
        elif isinstance(value, (ir.Type, ir.Constant)) and versioned:
            text = str(value)
            self.say(kind.__qualname__, text)
            if "%" in text:
                self.give_up("a named type of LLVM")
        elif hasattr(value, "py_func") and versioned:  # numba's function
            self.say("numba", sorted(value.targetoptions.items()))
            self.add(value.py_func)
        elif not self._named(value):
            self._instance(value, kind)

    def say(self, *words: Any) -> None:
        """Append to the text."""
        self.text.append(repr(words))

    def add(self, value: Any) -> None:
        """Add a part, or its text if it needs no record."""
        kind = type(value)
        if kind in _PLAIN:
            self.text.append(constant_text(value))
        elif kind is tuple:  # equal ones may be one object in another process
            self.say("tuple", len(value))
            for part in value:
                self.add(part)
        else:
            self.text.append("part")
            self.parts.append(value)

    def give_up(self, what: str) -> None:
        """Note that the record is incomplete."""
        self.unknown = what

    def function(self, function: types.FunctionType) -> None:
        """Serialise a function."""
        owner = str(function.__globals__.get("__name__"))
        if function is processor:
            self.say("processor")  # which is part of each key, with the variables that it reads
            return
        if _is_versioned(owner):
            self.say("named", owner, function.__qualname__)
        else:
            code = bytecode.read(function.__code__)
            self.say("function", code.digest)
            if code.hidden:
                self.give_up(f"{function.__qualname__}: {code.hidden}")
            for path in code.globals:
                if path[0] in function.__globals__:
                    self._global(function.__globals__[path[0]], path)
        cells, defaults = function.__closure__ or (), function.__defaults__ or ()
        self.say("given", len(cells), len(defaults))
        for cell in cells:
            try:
                content = cell.cell_contents
            except ValueError:
                self.say("empty")
            else:
                self.add(content)
        self.add(defaults)
        for name, default in (function.__kwdefaults__ or {}).items():
            self.say("default", name)
            self.add(default)
        for name, value in vars(function).items():
            self.say("attribute", name)
            self.add(value)

    def _global(self, value: Any, path: tuple[str, ...]) -> None:
        """Serialise what a function reads of a global: attributes of a module, else all of it."""
        self.say("global", path)
        versioned = False
        for name in path[1:]:
            if not isinstance(value, types.ModuleType):
                break
            versioned = _is_versioned(value.__name__)
            self.say("of", value.__name__)
            if not hasattr(value, name):
                self.say("missing")
                return
            value = getattr(value, name)
        if not versioned or _emitted(value):
            self.add(value)

    def _class(self, kind: type) -> None:
        self.say("class", kind.__module__, kind.__qualname__)
        if _is_versioned(kind.__module__):
            if kind.__module__ == "types" and getattr(types, kind.__name__, None) is not kind:
                self.give_up(f"a class {kind.__name__} that was made by a function")
            return
        for part in (type(kind), *kind.__bases__):
            self.add(part)
        for name, value in vars(kind).items():
            if name not in _OF_CLASSES:
                self.say("attribute", name)
                self.add(value)

    def _named(self, value: Any) -> bool:
        """Serialise objects that are identified by name: C functions."""
        if emit := _emitted(value):
            self.add(emit)
        if isinstance(value, np.ufunc):
            known = getattr(np, value.__name__, None) is value
            owner, name = "numpy", value.__name__
        elif isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
            known, owner, name = True, value.__objclass__.__qualname__, value.__name__
        elif isinstance(value, types.BuiltinFunctionType | type(np.where)):
            own = getattr(value, "__self__", None)
            fixed = own is None or isinstance(own, types.ModuleType | type)
            owner = own.__module__ if isinstance(own, type) else str(value.__module__)
            known, name = fixed and _is_versioned(owner), value.__qualname__
        else:
            return False
        if known:
            self.say("named", owner, name)
        return known

    def _instance(self, value: Any, kind: type) -> None:
        if _is_versioned(kind.__module__):
            self.give_up(f"a {kind.__module__}.{kind.__qualname__}")
            return
        self.say("instance")
        self.add(kind)
        for base in kind.__mro__:
            if base in _NUMBERS:
                self.say(base.__name__, base.__repr__(value))
            elif base in (tuple, list):
                self.add(tuple(value))
            elif _is_versioned(base.__module__) and base not in _BASES:
                self.give_up(f"a {kind.__qualname__}, which is a {base.__qualname__}")
            elif base not in _BASES and _has_hidden_memory(base):
                self.give_up(f"a {kind.__qualname__}, which keeps what no attribute shows")
            for name, member in vars(base).items():
                if isinstance(member, types.MemberDescriptorType):
                    with suppress(AttributeError):  # empty
                        content = member.__get__(value)
                        self.say("slot", name)
                        self.add(content)
        for name, part in getattr(value, "__dict__", {}).items():
            self.say("state", name)
            self.add(part)


class Records:
    """Serialises functions with everything they reach; shared parts are read once.

    Objects are read when they are first reached: later changes are not seen.
    """

    def __init__(self) -> None:
        self._known: dict[int, Record] = {}

    def reached(self, *values: Any) -> list[Record]:
        """The records of some values and of everything they reach, in the order of :meth:`text`."""
        return list(self._walk(values, []))

    def text(self, *values: Any) -> tuple[str, list[Record]]:
        """Everything reached as one text, and the records that are incomplete."""
        lines: list[str] = []
        unknown = [record for record in self._walk(values, lines) if record.unknown]
        return "\n".join(lines), unknown

    def _walk(self, values: Sequence[Any], lines: list[str]) -> Iterator[Record]:
        places: dict[int, int] = {}
        waiting = [*reversed(values)]
        while waiting:
            value = waiting.pop()
            if id(value) in places:
                lines.append(f"again {places[id(value)]}")
                continue
            places[id(value)] = len(places)
            record = self._known.get(id(value))
            if record is None:
                record = self._known[id(value)] = Record(value)
            lines += record.text
            waiting += reversed(record.parts)
            yield record


def _is_versioned(module: str) -> bool:
    return _is_known_by_name(module.partition(".")[0])


@functools.cache
def _is_known_by_name(module: str) -> bool:
    """Whether a module is in :data:`VERSIONED`, not a user's file of the same name."""
    if module not in sys.stdlib_module_names:
        return module in VERSIONED
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or any(Path(file).is_relative_to(folder) for folder in _OF_PYTHON)


def _has_hidden_memory(kind: type) -> bool:
    """Whether objects have memory beyond that of the base class and of their attribute slots."""
    base: Any = kind.__base__
    places = sum(
        isinstance(member, types.MemberDescriptorType) or name in ("__dict__", "__weakref__")
        for name, member in vars(kind).items()
    )
    most = base.__basicsize__ + places * _POINTER
    return kind.__itemsize__ != base.__itemsize__ or kind.__basicsize__ > most


def _dtype(value: Any) -> str:
    """A dtype as text; numpy's own conversion is slow."""
    return str(value.dtype.str if value.dtype.names is None else value.dtype)


def _emitted(value: Any) -> Any:
    """The engine's implementation of a numpy function; None if there is none."""
    try:
        return OF_NUMPY.get(value, (None, 0))[0]
    except TypeError:  # not hashable
        return None


def of(*parts_of: Callable[[Any], Any]) -> Callable[[Record, Any], None]:
    """A function that serialises an object by the given parts."""

    def write(record: Record, value: Any) -> None:
        record.say(type(value).__qualname__)
        for part_of in parts_of:
            record.add(part_of(value))

    return write


def _of_text(text_of: Callable[[Any], str]) -> Callable[[Record, Any], None]:
    return lambda record, value: record.say(type(value).__qualname__, text_of(value))


def _mapping(record: Record, value: Any) -> None:
    record.say(type(value).__qualname__)
    record.add(tuple(part for item in value.items() for part in item))


def _set(record: Record, value: Any) -> None:
    record.say(type(value).__qualname__, sorted(map(constant_text, value)))
    if not all(type(part) in _PLAIN for part in value):
        record.give_up("a set")


#: The descriptor type of named tuples, which has no name.
_FIELD_OF_TUPLE: type = type(vars(namedtuple("_", "field"))["field"])
_PLAIN = {type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range}
#: How objects of some types are serialised; a type's own module may register it.
WRITERS: dict[type, Callable[[Record, Any], None]] = {
    types.FunctionType: Record.function,
    Linked: of(attrgetter("function")),
    Emitted: of(*map(attrgetter, ("emit", "result", "arguments", "sizes", "kinds"))),
    Elementary: of(*map(attrgetter, ("plain", "scalar", "vector"))),
    types.MethodType: of(attrgetter("__func__"), attrgetter("__self__")),
    functools.partial: of(*map(attrgetter, ("func", "args", "keywords"))),
    functools.cached_property: of(attrgetter("func")),
    type(functools.cache(repr)): of(attrgetter("__wrapped__")),
    staticmethod: of(attrgetter("__func__")),
    classmethod: of(attrgetter("__func__")),
    property: of(*map(attrgetter, ("fget", "fset", "fdel"))),
    Field: of(*map(attrgetter, ("name", "init", "default_factory", "metadata"))),
    _FIELD_OF_TUPLE: of(lambda value: value.__reduce__()[1][0]),
    list: of(tuple),
    dict: _mapping,
    types.MappingProxyType: _mapping,
    set: _set,
    frozenset: _set,
    re.Pattern: of(attrgetter("pattern"), attrgetter("flags")),
    type(MISSING): of(),
    Fraction: _of_text(str),
    type(Path()): _of_text(str),
    **{type(np.dtype(name)): _of_text(repr) for name in np.typecodes["All"] if name not in "OV"},
}
