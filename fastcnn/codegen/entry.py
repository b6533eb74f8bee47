"""Entry points of compiled functions, with C's calling convention, and how they read arguments."""

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
#: Stack alignment of an entry in bytes. LLVM's default is 16, with which a spilled vector may span
#: two cache lines.
STACK_ALIGNMENT = 64


@dataclass(frozen=True)
class Entry:
    """A function ``int64 symbol(int64, ...)`` that calls another one."""

    symbol: str
    #: Kinds of the called function's arguments.
    kinds: Sequence[str]
    #: Number of the entry's arguments.
    inputs: int

    def define(self, module: Any) -> Any:
        """Declare the entry as an LLVM function of a module; its body is written by the caller."""
        kind = ir.FunctionType(INT64, [INT64] * self.inputs)
        function = ir.Function(module, kind, self.symbol)
        function.attributes.add("nounwind")  # llvmlite writes no alignment without an attribute
        function.attributes.alignstack = STACK_ALIGNMENT
        return function

    def read(self, builder: Any, arguments: Sequence[Any]) -> list[Any]:
        """For each argument of the function a number, or a pointer and its shape."""
        raise NotImplementedError

    def finish(self, builder: Any, arguments: Sequence[Any], status: Any, returned: Any) -> None:
        """Return the status: 0, or an error code."""
        builder.ret(status)


class Packed:
    """Reads numbers and arrays from consecutive int64."""

    def __init__(self, builder: Any, address: Any) -> None:
        self.builder = builder
        self.base = builder.inttoptr(address, INT64.as_pointer())

    def word(self, place: int) -> Any:
        """The int64 at an index."""
        return self.builder.load(self.builder.gep(self.base, [ir.Constant(INT64, place)]))

    def number(self, place: int, kind: str) -> Any:
        """A number whose bits are at an index: float64 is reinterpreted, all others are int64."""
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
    """Number of int64 that a value takes."""
    return 1 + kind.count(":")


@dataclass(frozen=True)
class ArgumentEntry(Entry):
    """``symbol(address)`` with packed arguments, one after the other; see :func:`words`.

    The result, if there is one, overwrites the first words.
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
    """``symbol(context, row, ...numbers)`` of a kernel, whose parameters are bound by name."""

    #: The kernel's parameters.
    names: Sequence[str] = ()
    #: Index and kind of each field of the context.
    fields: Mapping[str, tuple[int, str]] | None = None
    #: Names of the entry's arguments after the context and the row.
    numbers: Sequence[str] = ()
    #: Name and length of the row.
    row: tuple[str, int] = ("r", 0)
    #: Parameters with constant values.
    fixed: Mapping[str, Any] | None = None

    def read(self, builder: Any, arguments: Sequence[Any]) -> list[Any]:
        """See :class:`Entry`."""
        packed = Packed(builder, arguments[0])
        given = dict(zip(("context", "", *self.numbers), arguments, strict=True))
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
