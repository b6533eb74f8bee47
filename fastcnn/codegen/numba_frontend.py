"""Compiles Python functions to LLVM modules with numba.

numba types and lowers each function with all its callees, for a target of our own without
time-consuming features; objects.py optimises and generates machine code. Private parts of numba are
used only here; ``TESTED_NUMBA`` in extras.py has the versions with which they work.
"""

import functools
import inspect
from typing import Any

import llvmlite.binding as ll
from llvmlite import ir
from numba.core import cgutils, codegen, typed_passes, types, typing, untyped_passes
from numba.core.compiler import CompilerBase
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.cpu import CPUContext
from numba.core.errors import TypingError
from numba.core.extending import intrinsic, models, register_model
from numba.core.registry import CPUDispatcher, CPUTarget
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_registry
from numba.core.types.containers import BaseTuple
from numba.np import arrayobj

from fastcnn.codegen import numba_operators  # noqa: F401
from fastcnn.codegen.declarations import TYPES, Elementary, Emitted, Linked
from fastcnn.codegen.entry import Entry
from fastcnn.codegen.identity import is_own
from fastcnn.codegen.numba_types import (
    choice,
    kind_of,
    numba_type,
    spread,
    taken,
    unliteral,
    vector,
)

#: The name of our target in numba.
TARGET = "fastcnn"
#: Compiled functions neither raise nor count references.
OPTIONS = {
    "nopython": True,
    "nogil": True,
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",
}


class _Library(codegen.CPUCodeLibrary):
    """The IR of one function; it is not optimised, linked or compiled further."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Do nothing: the module is complete."""
        self._raise_if_finalized()
        self._finalized = True

    def linked_module(self) -> Any:
        """This function's module linked with those of all its callees."""
        whole = self._final_module.clone()
        seen, waiting = {id(self)}, list(self._linking_libraries)
        while waiting:
            library = waiting.pop()
            if id(library) in seen:
                continue
            seen.add(id(library))
            if isinstance(library, _Library):
                whole.link_in(library._final_module, preserve=True)
                waiting += library._linking_libraries
            else:  # a function of numba's
                whole.link_in(library._get_module_for_linking(), preserve=True)
        return whole


class _Codegen(codegen.JITCPUCodegen):
    _library_class = _Library


class _Context(CPUContext):
    def init(self) -> None:
        """Use libraries of our kind."""
        super().init()
        self._internal_codegen = _Codegen("fastcnn")

    def get_executable(self, library: Any, fndesc: Any, env: Any) -> Any:
        """A unique name for numba's tables; nothing is executable."""
        return {}.__getitem__


class _Function(types.Function):
    """A numba function type that caches the signature of each call: numba tries many templates."""

    def __init__(self, template: Any) -> None:
        super().__init__(template)
        self._calls: dict[Any, Any] = {}

    def augment(self, other: Any) -> Any:
        """This function with further templates; None if the other is a different function."""
        known = types.Function(self.templates).augment(types.Function(other.templates))
        return known and _Function(known.templates)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """The signature of a call; TypingError if there is none."""
        if kws:
            return super().get_call_type(context, args, kws)
        if args not in self._calls:
            try:
                self._calls[args] = super().get_call_type(context, args, kws)
            except TypingError as error:
                self._calls[args] = error
        found = self._calls[args]
        if isinstance(found, TypingError):
            raise found.with_traceback(None)
        return found


register_model(_Function)(models.OpaqueModel)


class _TypingContext(typing.Context):
    def _insert_global(self, gv: Any, gty: Any) -> None:
        super()._insert_global(gv, _Function(gty.templates) if type(gty) is types.Function else gty)


class _Descriptor(CPUTarget):
    @functools.cached_property
    def _toplevel_typing_context(self) -> Any:
        return _TypingContext()

    @functools.cached_property
    def _toplevel_target_context(self) -> Any:
        return _Context(self.typing_context, TARGET)

    @property
    def target_context(self) -> Any:
        """The context in which functions are lowered."""
        return self._toplevel_target_context


class _Target(CPU):
    """A target that inherits everything that numba has for the CPU."""


class Dispatcher(CPUDispatcher):
    """A dispatcher for this target."""

    targetdescr = _Descriptor(TARGET)


def _jit(**options: Any) -> Any:
    """How numba declares its own functions that ours call."""
    kept = {name: options[name] for name in ("inline",) if name in options}
    return lambda function: Dispatcher(function, targetoptions={**OPTIONS, **kept})


@functools.cache
def _passes() -> Any:
    manager = PassManager(TARGET)
    for made in (
        untyped_passes.TranslateByteCode,
        untyped_passes.FixupArgs,
        untyped_passes.IRProcessing,
        untyped_passes.ReconstructSSA,
        typed_passes.NopythonTypeInference,
        typed_passes.PreLowerStripPhis,
        typed_passes.IRLegalization,
        typed_passes.NativeLowering,
        typed_passes.NoPythonBackend,
    ):
        manager.add_pass(made, made.__name__)
    manager.finalize()
    return manager


class _Compiler(CompilerBase):
    """A pipeline without passes that the package's functions do not need.

    Such as those for closures, array expressions and objects: they took a fourth of the time to an
    LLVM module, and the machine code is the same.
    """

    def define_pipelines(self) -> Any:
        """The only pipeline."""
        return [_passes()]


target_registry[TARGET] = _Target
dispatcher_registry[_Target] = Dispatcher
jit_registry[_Target] = _jit


@functools.cache
def dispatcher_of(function: Any) -> Any:
    """numba's dispatcher of a function of ours or a user's, of any kind."""
    how = {"pipeline_class": _Compiler} if is_own(function) else {}
    return Dispatcher(function, targetoptions=dict(OPTIONS), **how)


def linked_type(declared: Linked) -> Any:
    """The type by which numba calls a linked function."""
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
    """Convert arrays to pointers to their first element, and tuples to Python tuples."""
    if isinstance(kind, types.Array):
        return arrayobj.make_array(kind)(context, builder, value).data
    if isinstance(kind, BaseTuple):
        parts = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        return tuple(_value(context, builder, *part) for part in parts)
    return value


def emitted_type(declared: Emitted) -> Any:
    """The type by which numba calls an emitted function."""
    sizes = declared.sizes

    def typed(typing_context: Any, *given: Any) -> Any:
        shape = [literal.literal_value for literal in given[:sizes]]
        kinds = [
            taken(actual) if wanted is None else numba_type(wanted)
            for actual, wanted in zip(given[sizes:], declared.arguments, strict=True)
        ]

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            extra = {"kinds": [kind_of(kind) for kind in kinds]} if declared.kinds else {}
            pairs = zip(signature.args[sizes:], values[sizes:], strict=True)
            arguments = [_value(context, builder, *each) for each in pairs]
            made = declared.emit(builder, *shape, *arguments, **extra)
            return context.get_dummy_value() if made is None else made

        return numba_type(declared.result)(*given[:sizes], *kinds), generate

    names = [f"argument{i}" for i in range(sizes + len(declared.arguments))]
    return _intrinsic_type(typed, names, literal=sizes > 0)


def elementary_type(declared: Elementary) -> Any:
    """The type by which numba calls an elementary function."""
    scalar = dispatcher_of(declared.scalar)
    truths = declared.vector.arguments.count("choice")

    def typed(typing_context: Any, *given: Any) -> Any:
        given = tuple(unliteral(kind) for kind in given)
        if vector in given or choice in given:

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                vectors = spread(context, builder, signature.args, values, truths)
                return declared.vector.emit(builder, *vectors)

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


TYPES.update({Linked: linked_type, Emitted: emitted_type, Elementary: elementary_type})


def lower(function: Any, entry: Entry) -> Any:
    """Lower a function with all its callees to one LLVM module, with a C entry point.

    Parameters
    ----------
    function : callable
        Plain Python or :class:`Linked`.
    entry : Entry
        Symbol, and how the function's arguments are read from those of the entry.

    Returns
    -------
    llvmlite.binding.ModuleRef
        Not optimised; only the entry is meant to be visible.
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
