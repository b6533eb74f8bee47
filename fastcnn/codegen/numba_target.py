"""The package as a target of numba: what it does without, so that compilation takes less time."""

import functools
from typing import Any

from numba.core import codegen, typed_passes, types, typing, untyped_passes
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.cpu import CPUContext
from numba.core.errors import TypingError
from numba.core.extending import models, register_model
from numba.core.registry import CPUDispatcher, CPUTarget
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_registry

from fastcnn.codegen.identity import is_own

#: The name of our target among numba's.
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
    """The IR of one function; nothing is optimised, linked or made machine code of."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Nothing is added any more."""
        self._raise_if_finalized()
        self._finalized = True

    def linked_module(self) -> Any:
        """All modules of this function and of those that it calls, in one."""
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
            else:  # of numba's own functions
                whole.link_in(library._get_module_for_linking(), preserve=True)
        return whole


class _Codegen(codegen.JITCPUCodegen):
    _library_class = _Library


class _Context(CPUContext):
    def init(self) -> None:
        """Make libraries of our kind."""
        super().init()
        self._internal_codegen = _Codegen("fastcnn")

    def get_executable(self, library: Any, fndesc: Any, env: Any) -> Any:
        """A name for numba's tables, different for each function; nothing is executable."""
        return {}.__getitem__


class _Function(types.Function):
    """A function of numba's that looks at each kind of call once: it tries many templates."""

    def __init__(self, template: Any) -> None:
        super().__init__(template)
        self._calls: dict[Any, Any] = {}

    def augment(self, other: Any) -> Any:
        """This function with further templates; None if the other one is another function."""
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
        """Where functions are lowered."""
        return self._toplevel_target_context


class _Target(CPU):
    """What numba has for the processor is ours, too."""


class Dispatcher(CPUDispatcher):
    """A function for this target."""

    targetdescr = _Descriptor(TARGET)


def _jit(**options: Any) -> Any:
    """How numba declares the functions of its own that ours call."""
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
    """Without the passes for what the package's functions do not use.

    Such as closures, expressions of arrays and objects: they took a fourth of the time to an LLVM
    module, and the machine code is the same.
    """

    def define_pipelines(self) -> Any:
        """One for all functions."""
        return [_passes()]


target_registry[TARGET] = _Target
dispatcher_registry[_Target] = Dispatcher
jit_registry[_Target] = _jit


@functools.cache
def dispatcher_of(function: Any) -> Any:
    """How numba knows a function of ours, or of a user, which may be of any kind."""
    how = {"pipeline_class": _Compiler} if is_own(function) else {}
    return Dispatcher(function, targetoptions=dict(OPTIONS), **how)
