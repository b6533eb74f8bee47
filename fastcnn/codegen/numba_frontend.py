"""From Python functions to LLVM modules.

numba types and lowers each function with what it calls; optimisation and machine code are
objects.py's. Private parts of numba are used here and in numba_target.py. Works with numba 0.61
to 0.68.
"""

import inspect
import itertools
import operator
from typing import Any

import llvmlite.binding as ll
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types, typing
from numba.core.compiler_lock import global_compiler_lock
from numba.core.extending import intrinsic, lower_builtin
from numba.core.types.containers import BaseTuple
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.np import arrayobj

from fastcnn.codegen.declarations import TYPES, Elementary, Emitted, Linked
from fastcnn.codegen.entry import ArgumentEntry, Entry
from fastcnn.codegen.numba_target import Dispatcher, dispatcher_of
from fastcnn.codegen.numba_types import (
    ChoiceType,
    VectorType,
    choice,
    is_number,
    kind_of,
    numba_type,
    unliteral,
    vector,
)
from fastcnn.codegen.simd import emit_splat
from fastcnn.codegen.vector_math import OF_NUMPY


def linked_type(declared: Linked) -> Any:
    """The type by which numba calls a function."""
    return types.Dispatcher(dispatcher_of(declared.function))


def _intrinsic_type(typed: Any, names: list[str], literal: bool = False) -> Any:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("typing", *names)]
    typed.__signature__ = inspect.Signature(parameters)
    made = intrinsic(prefer_literal=literal)(typed)
    known = Dispatcher.targetdescr.typing_context
    known.refresh()
    return known.resolve_value_type(made)


def _value(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Arrays as pointers to their first element, tuples as Python's."""
    if isinstance(kind, types.Array):
        return arrayobj.make_array(kind)(context, builder, value).data
    if isinstance(kind, BaseTuple):
        parts = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        return tuple(_value(context, builder, *part) for part in parts)
    return value


def _taken(kind: Any) -> Any:
    """As what an emitted function takes an argument of any kind."""
    if isinstance(kind, BaseTuple):
        return BaseTuple.from_types([_taken(part) for part in kind])
    return kind if isinstance(kind, types.Array) else types.intp


def emitted_type(declared: Emitted) -> Any:
    """The type by which numba calls an emitted function."""
    sizes = declared.sizes

    def typed(typing_context: Any, *given: Any) -> Any:
        shape = [literal.literal_value for literal in given[:sizes]]
        kinds = [
            _taken(actual) if wanted is None else numba_type(wanted)
            for actual, wanted in zip(given[sizes:], declared.arguments, strict=True)
        ]

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            extra = {"kinds": [kind_of(kind) for kind in kinds]} if declared.kinds else {}
            taken = zip(signature.args[sizes:], values[sizes:], strict=True)
            arguments = [_value(context, builder, *each) for each in taken]
            made = declared.emit(builder, *shape, *arguments, **extra)
            return context.get_dummy_value() if made is None else made

        return numba_type(declared.result)(*given[:sizes], *kinds), generate

    names = [f"argument{i}" for i in range(sizes + len(declared.arguments))]
    return _intrinsic_type(typed, names, literal=sizes > 0)


def _spread(context: Any, builder: Any, kinds: Any, values: Any) -> list[Any]:
    """Numbers as vectors that have them in all lanes; vectors stay."""
    return [
        value
        if kind in (vector, choice)
        else emit_splat(builder, context.cast(builder, value, kind, types.float32))
        for kind, value in zip(kinds, values, strict=True)
    ]


def elementary_type(declared: Elementary) -> Any:
    """The type by which numba calls a function of numbers and vectors."""
    scalar = dispatcher_of(declared.scalar)

    def typed(typing_context: Any, *given: Any) -> Any:
        given = tuple(unliteral(kind) for kind in given)
        if vector in given or choice in given:

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                spread = _spread(context, builder, signature.args, values)
                return declared.vector.emit(builder, *spread)

            return vector(*given), generate
        called = typing_context.resolve_function_type(types.Dispatcher(scalar), given, {})

        def call(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            function = context.get_function(types.Dispatcher(scalar), called)
            casted = [
                context.cast(builder, value, have, want)
                for value, have, want in zip(values, signature.args, called.args, strict=True)
            ]
            return function(builder, casted)

        return called.return_type(*given), call

    return _intrinsic_type(typed, list(inspect.signature(declared.scalar).parameters))


def _operator(symbol: Any, emit: Any, arity: int, result: Any) -> None:
    """Teach numba an operator of vectors, and of vectors with numbers."""

    @infer_global(symbol)
    class Template(AbstractTemplate):
        def generic(self, args: Any, keywords: Any) -> Any:
            args = tuple(unliteral(kind) for kind in args)
            if len(args) != arity or vector not in args:
                return None
            if not all(kind is vector or is_number(kind) for kind in args):
                return None
            return typing.signature(result, *args)

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit(builder, *_spread(context, builder, signature.args, values))

    if arity == 1:
        lower_builtin(symbol, VectorType)(lower)
        return
    lower_builtin(symbol, VectorType, VectorType)(lower)
    for number in (types.Number, types.Boolean):
        lower_builtin(symbol, VectorType, number)(lower)
        lower_builtin(symbol, number, VectorType)(lower)


def _compare(sign: str) -> Any:
    return lambda builder, x, y: builder.fcmp_ordered(sign, x, y)


_operator(operator.add, lambda builder, x, y: builder.fadd(x, y), 2, vector)
_operator(operator.sub, lambda builder, x, y: builder.fsub(x, y), 2, vector)
_operator(operator.mul, lambda builder, x, y: builder.fmul(x, y), 2, vector)
_operator(operator.truediv, lambda builder, x, y: builder.fdiv(x, y), 2, vector)
_operator(operator.neg, lambda builder, x: builder.fneg(x), 1, vector)
for _symbol, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
):
    _operator(_symbol, _compare(_sign), 2, choice)
_operator(operator.ne, lambda builder, x, y: builder.fcmp_unordered("!=", x, y), 2, choice)


def _numpy_function(known: Any, emit: Any, arity: int) -> None:
    """Teach numba a function of numpy for vectors; of all else it knows it already."""

    class Template(AbstractTemplate):
        key = known

        def generic(self, args: Any, keywords: Any) -> Any:
            args = tuple(unliteral(kind) for kind in args)
            if len(args) != arity or not {vector, choice} & set(args):
                return None
            if not all(kind in (vector, choice) or is_number(kind) for kind in args):
                return None
            return typing.signature(vector, *args)

    # Not as a decorator: that looks for the module of the function, which ufuncs of numpy 2.0 lack.
    infer_global(known, types.Function(Template))

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit(builder, *_spread(context, builder, signature.args, values))

    # Not for any types: that is what numba's own implementations are for.
    numbers = (VectorType, types.Number, types.Boolean)
    for kinds in itertools.product(*[(ChoiceType,)] * (arity == 3), *[numbers] * min(arity, 2)):
        if VectorType in kinds or ChoiceType in kinds:
            lower_builtin(known, *kinds)(lower)


@infer_global(np.where)
class _WhereOfNumbers(AbstractTemplate):
    def generic(self, args: Any, keywords: Any) -> Any:
        if len(args) != 3 or not all(is_number(unliteral(kind)) for kind in args):
            return None
        return typing.signature(types.float64, types.boolean, types.float64, types.float64)


@lower_builtin(np.where, types.Boolean, types.Float, types.Float)
def _where_of_numbers(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return builder.select(*values)


for _known, (_emit, _arity) in OF_NUMPY.items():
    _numpy_function(_known, _emit, _arity)

TYPES.update({Linked: linked_type, Emitted: emitted_type, Elementary: elementary_type})


def lower(function: Any, entry: Entry) -> Any:
    """A function with all that it calls as one LLVM module, with an entry of C's convention.

    Parameters
    ----------
    function : callable
        Plain Python or :class:`Linked`.
    entry : Entry
        Symbol, and how the function's arguments are read from those of the entry.

    Returns
    -------
    llvmlite.binding.ModuleRef
        Not optimised; of its functions the entry alone is meant to be seen.
    """
    function = getattr(function, "function", function)
    kinds = tuple(numba_type(kind) for kind in entry.kinds)
    dispatcher = dispatcher_of(function)
    with global_compiler_lock:
        dispatcher.compile(kinds)
        result = dispatcher.overloads[kinds]
        whole = result.library.linked_module()
        whole.link_in(_entry_module(entry, kinds, result, whole))
    return whole


def _nothing(array: Any) -> None:
    array[0] += 1


def prepare() -> None:
    """Do what numba does when it first compiles something."""
    lower(_nothing, ArgumentEntry("nothing", ("float32[:]",)))


def _entry_module(entry: Entry, kinds: Any, result: Any, whole: Any) -> Any:
    context = result.target_context
    described = result.fndesc
    module = ir.Module(entry.symbol)
    module.triple, module.data_layout = whole.triple, whole.data_layout
    convention = context.call_conv
    native = ir.Function(
        module,
        convention.get_function_type(described.restype, described.argtypes),
        described.llvm_func_name,
    )
    function = entry.define(module)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    values = []
    for kind, raw in zip(kinds, entry.read(builder, function.args), strict=True):
        if not isinstance(kind, types.Array):
            values.append(raw)
            continue
        array = arrayobj.make_array(kind)(context, builder)
        pointer, shape = raw
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        strides = [ir.Constant(ir.IntType(64), size)]
        for length in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], length))
        arrayobj.populate_array(
            array,
            data=builder.bitcast(pointer, context.get_data_type(kind.dtype).as_pointer()),
            shape=cgutils.pack_array(builder, shape),
            strides=cgutils.pack_array(builder, strides),
            itemsize=ir.Constant(ir.IntType(64), size),
            meminfo=None,
        )
        values.append(array._getvalue())
    status, returned = convention.call_function(
        builder, native, described.restype, described.argtypes, values
    )
    code = builder.sext(status.code, ir.IntType(64))
    entry.finish(builder, function.args, code, described.restype is not types.none and returned)
    text = cgutils.normalize_ir_text(str(module))
    return ll.parse_assembly(text)
