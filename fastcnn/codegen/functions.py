"""Functions of arrays, each compiled as an object of its own and called from Python."""

import ctypes
import functools
from array import array
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from fastcnn import forks
from fastcnn.codegen.build import Source, addresses, is_disabled
from fastcnn.codegen.entry import ArgumentEntry
from fastcnn.codegen.reached import WRITERS, of

_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
_addressof, _from_buffer = ctypes.addressof, ctypes.c_char.from_buffer
#: Placeholder for an element type, which the first array of this kind determines.
REAL = "real"


def _element(kind: str) -> np.dtype | str:
    name = kind.partition("[")[0]
    return REAL if name == REAL else np.dtype(name)


class Compiled:
    """A function of numbers and arrays that is compiled at its first call.

    Runs without the interpreter's lock, or as plain Python: see ``disabled_by``.

    Parameters
    ----------
    function : callable
        Has no result; may call functions declared by ``linked``.
    kinds : sequence of str
        Kinds of the arguments, see declarations.py. Elements of kind ``real`` have the type of the
        first such array. The kind of an array that the function writes to begins with ``out``: it
        must be C-contiguous; all others are converted.
    """

    def __init__(self, function: Callable[..., None], kinds: tuple[str, ...]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        written = tuple(kind.startswith("out ") for kind in kinds)
        self.kinds = tuple(kind.removeprefix("out ") for kind in kinds)
        #: Element type of each array; REAL is determined at each call.
        elements = [_element(kind) if ":" in kind else None for kind in self.kinds]
        self._expected = self.kinds, elements, written
        self._entries: dict[np.dtype | None, Any] = {}
        self._lock = forks.lock()

    def source(self, real: str) -> Source:
        """The source for one element type."""
        kinds = [kind.replace(REAL, real) for kind in self.kinds]
        module, name = self.function.__module__, self.function.__qualname__
        symbol = f"{module}.{name}.{real}".replace(".", "_")
        origin = ("fastcnn.codegen.functions", "source_of", [module, name, real])
        return Source(self.function, ArgumentEntry(symbol, kinds), origin)

    def __call__(self, *arguments: Any) -> None:
        """Call the function.

        Raises TypeError if an array that is written to is not C-contiguous, aligned, writable and
        of the declared type.
        """
        real: np.dtype | None = None
        values: list[Any] = []
        packed: list[int] = []
        for kind, element, written, value in zip(*self._expected, arguments, strict=True):
            if element is None:
                packed.append(_bits(kind, value))
                values.append(value)
                continue
            if element is REAL:
                real = element = real or np.asarray(value).dtype
            fits = isinstance(value, np.ndarray) and value.dtype == element and value.flags.carray
            if not fits:
                if written:
                    raise TypeError(
                        f"{self.function.__name__} writes to a C-contiguous array of {element}, "
                        f"got {value.dtype} with strides {value.strides}"
                    )
                value = np.require(value, element, ["C", "A"])
            values.append(value)
            packed.append(address_of(value))
            packed += value.shape
        if is_disabled():
            self.function(*values)
            return
        memory = array("q", packed)
        self._entry(real)(memory.buffer_info()[0])

    def _entry(self, real: np.dtype | None) -> Any:
        if real not in self._entries:
            with self._lock:
                (address,) = addresses([self.source("only" if real is None else real.name)])
                self._entries[real] = _ENTRY(address)
        return self._entries[real]


# Not its compiled functions, or keys would depend on earlier calls.
WRITERS[Compiled] = of(*map(attrgetter, ("function", "_expected")))


def _bits(kind: str, value: Any) -> int:
    """A number's bits as a signed 64-bit integer."""
    if kind.startswith("float"):
        return int(np.float64(value).view(np.int64))
    return int(np.uint64(value).view(np.int64)) if kind == "uint64" else int(value)


def compiled(*kinds: str) -> Callable[[Callable[..., None]], Compiled]:
    """The decorator of functions compiled on their own; see :class:`Compiled`."""
    return lambda function: Compiled(function, kinds)


def source_of(module: str, name: str, real: str) -> Source:
    """The source of a compiled function, for another process."""
    import importlib

    found: Compiled = getattr(importlib.import_module(module), name)
    return found.source(real)


def address_of(array: np.ndarray) -> int:
    """Address of a contiguous array; faster than numpy's ``ctypes``, which creates an object."""
    if not array.size:
        return 0
    try:
        return _addressof(_from_buffer(array))  # type: ignore[arg-type]
    except TypeError:  # it is read-only
        return int(array.ctypes.data)
