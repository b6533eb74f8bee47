"""Entries of compiled functions, by C's calling convention, and how they read their arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

INT64 = ir.IntType(64)
LLVM = {
    "int64": INT64,
    "uint64": INT64,
    "int32": ir.IntType(32),
    "uint32": ir.IntType(32),
    "uint8": ir.IntType(8),
    "bool": ir.IntType(1),
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
}
#: Bytes to which an entry aligns its stack. LLVM leaves it at 16, so that a vector which finds no
#: register may be kept across two lines of the cache.
STACK_ALIGNMENT = 64


@dataclass(frozen=True)
class Entry:
    """A function ``int64 symbol(int64, ...)`` that calls another one."""

    symbol: str
    #: Kinds of the arguments of the function that is called.
    kinds: Sequence[str]
    #: Arguments of the entry.
    inputs: int

    def define(self, module: Any) -> Any:
        """The entry as an LLVM function of a module, whose blocks are still to be written."""
        kind = ir.FunctionType(INT64, [INT64] * self.inputs)
        function = ir.Function(module, kind, self.symbol)
        function.attributes.add("nounwind")  # llvmlite writes no alignment without an attribute
        function.attributes.alignstack = STACK_ALIGNMENT
        return function

    def read(self, builder: Any, arguments: Sequence[Any]) -> list[Any]:
        """A number, or a pointer and its shape, for each argument of the function."""
        raise NotImplementedError

    def finish(self, builder: Any, arguments: Sequence[Any], status: Any, returned: Any) -> None:
        """Return the status: 0, or what went wrong."""
        builder.ret(status)


class Packed:
    """Reads numbers and arrays from consecutive int64."""

    def __init__(self, builder: Any, address: Any) -> None:
        self.builder = builder
        self.base = builder.inttoptr(address, INT64.as_pointer())

    def word(self, place: int) -> Any:
        """The int64 at a place."""
        return self.builder.load(self.builder.gep(self.base, [ir.Constant(INT64, place)]))

    def number(self, place: int, kind: str) -> Any:
        """A number whose bits are at a place: float64 of its own, all others as int64."""
        builder, word = self.builder, self.word(place)
        if kind in ("int64", "uint64"):
            return word
        if kind in ("float64", "float32"):
            number = builder.bitcast(word, LLVM["float64"])
            return number if kind == "float64" else builder.fptrunc(number, LLVM["float32"])
        return builder.trunc(word, LLVM[kind])

    def array(self, place: int, kind: str) -> tuple[Any, list[Any]]:
        """Pointer and shape of an array: its address, then its lengths."""
        dimensions = kind.count(":")
        pointer = self.pointer(self.word(place), kind)
        return pointer, [self.word(place + 1 + i) for i in range(dimensions)]

    def pointer(self, address: Any, kind: str) -> Any:
        """A pointer to elements of a kind."""
        return self.builder.inttoptr(address, LLVM[kind.partition("[")[0]].as_pointer())


def words(kind: str) -> int:
    """Places that a value takes."""
    return 1 + kind.count(":")


@dataclass(frozen=True)
class ArgumentEntry(Entry):
    """``symbol(address)`` of packed arguments, one after the other; see :func:`words`.

    The result, if there is one, is written over the first places.
    """

    inputs: int = 1

    def read(self, builder: Any, arguments: Sequence[Any]) -> list[Any]:
        """See :class:`Entry`."""
        packed, place, values = Packed(builder, arguments[0]), 0, []
        for kind in self.kinds:
            if ":" in kind:
                values.append(packed.array(place, kind))
            else:
                values.append(packed.number(place, kind))
            place += words(kind)
        return values


@dataclass(frozen=True)
class ContextEntry(Entry):
    """``symbol(context, row, ...numbers)`` of a kernel, which takes what it names."""

    #: The kernel's parameters.
    names: Sequence[str] = ()
    #: Place and kind of each field of the context.
    fields: Mapping[str, tuple[int, str]] | None = None
    #: Names of the entry's arguments after the context and the row.
    numbers: Sequence[str] = ()
    #: Name and length of the row.
    row: tuple[str, int] = ("r", 0)
    #: Parameters that have one value.
    fixed: Mapping[str, Any] | None = None

    def read(self, builder: Any, arguments: Sequence[Any]) -> list[Any]:
        """See :class:`Entry`."""
        packed = Packed(builder, arguments[0])
        given = dict(zip(self.numbers, arguments[2:], strict=True))
        values: list[Any] = []
        for name, kind in zip(self.names, self.kinds, strict=True):
            if name in (self.fixed or {}):
                values.append(ir.Constant(LLVM[kind], self.fixed[name]))  # type: ignore[index]
            elif name == self.row[0]:
                length = ir.Constant(INT64, self.row[1])
                values.append((packed.pointer(arguments[1], kind), [length]))
            elif name in given:
                values.append(given[name])
            else:
                place, _ = self.fields[name]  # type: ignore[index]
                read = packed.array if ":" in kind else packed.number
                values.append(read(place, kind))
        return values
