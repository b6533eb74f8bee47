"""A kernel's arguments besides its row: the fields of a context, and the entry's integers.

Every compiled kernel is called with a context, which the session fills once per run.

A kernel is a function whose parameters are named here and bound by name; ``r`` is its row. A
context is an array of int64: for each field its value, or an array's address and length. Each
thread has its own context, in which it counts steps.

A kernel computes the ``part``-th of ``parts`` equal shares of its units; a unit's result does not
depend on the division, so neither do results on the number of threads.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels.layout import WIDTH
from fastcnn.codegen.declarations import parameter_names
from fastcnn.codegen.entry import ContextEntry, words

#: Types of the fields: A arena, T tables, P parameters, G their gradient, S the optimiser's state,
#: one array for each quantity it keeps per parameter.
KINDS = {
    "A": "float32[:]",
    "T": "int32[:]",
    "P": "float32[:]",
    "G": "float32[:]",
    "S": "float32[:]",
    "settings": "float64[:]",
    # Working memory of updates of whole matrices.
    "scratch": "float32[:]",
    "bytes_": "uint8[:]",
    "floats": "float32[:]",
    "order": "int64[:]",
    # The order of targets; an output's gradient has the order of the run: 0, 1, 2 ...
    "target_order": "int64[:]",
    "labels": "int64[:]",
    "targets": "float32[:]",
    "weights": "float64[:]",
    "outputs": "float32[:]",
    "losses": "float64[:]",
    "hits": "int64[:]",
    "squares": "float64[:]",
    # For each unit of the update its first and last + 1 parameter, and its row of settings.
    "spans": "int64[:]",
    "seed": "int64",
    # Values of a step, set by the dispatcher.
    "first_sample": "int64",
    "step": "int64",
    "start": "int64",
    "count": "int64",
    # For each loss, the weight of a whole step's targets, divided by the samples of this pass.
    "mean_weights": "float64[:]",
    "scale": "float64",
    "rate": "float64",
    # For profiles, see clocks.py.
    "clocks": "int64[:]",
}


def _places() -> dict[str, tuple[int, str]]:
    places, place = {}, 0
    for name, kind in KINDS.items():
        places[name] = (place, kind)
        place += words(kind)
    return places


#: Offset and type of each field.
FIELDS = _places()
SIZE = sum(words(kind) for kind in KINDS.values())
STEP, START, COUNT = (FIELDS[name][0] for name in ("step", "start", "count"))
FIRST_SAMPLE = FIELDS["first_sample"][0]
MEAN_WEIGHTS, SCALE, RATE = (FIELDS[name][0] for name in ("mean_weights", "scale", "rate"))

#: The entry's arguments after context and row. A kernel computes the ``part``-th of ``parts``
#: shares of ``blocks`` blocks from ``block`` on; for an optimiser, a block is a unit of parameters.
NUMBERS = ("block", "blocks", "slot", "worker", "part", "parts")


def kernel_entry(symbol: str, function: Any, fixed: Mapping[str, Any]) -> ContextEntry:
    """The entry of a kernel, from the names of its parameters.

    Raises ValueError if a parameter has an unknown name.
    """
    names = parameter_names(function)
    kinds = []
    for name in names:
        if name == "r":
            kinds.append("int64[:]")
        elif name in fixed:
            kinds.append("bool" if isinstance(fixed[name], bool) else "int64")
        elif name in NUMBERS or name == "context":
            kinds.append("int64")
        elif name in KINDS:
            kinds.append(KINDS[name])
        else:
            known = ", ".join(("r", "context", *NUMBERS, *KINDS))
            raise ValueError(f"kernel {symbol}: parameter {name} must be one of {known}")
    return ContextEntry(
        symbol,
        kinds,
        2 + len(NUMBERS),
        names=names,
        fields=FIELDS,
        numbers=NUMBERS,
        row=("r", WIDTH),
        fixed=dict(fixed),
    )


def make_contexts(threads: int, values: Mapping[str, Any]) -> np.ndarray:
    """A context for each thread, shape (threads, SIZE); arrays must outlive it."""
    context = np.zeros(SIZE, np.int64)
    for name, value in values.items():
        place, kind = FIELDS[name]
        if array_type(kind) is None:
            context[place] = value
        elif value.size:
            context[place] = value.ctypes.data
            context[place + 1] = value.size
    return context[None] if threads == 1 else np.repeat(context[None], threads, axis=0)


@cache
def array_type(kind: str) -> "np.dtype[Any] | None":
    """The dtype of an array argument's elements; None for a scalar."""
    name, bracket, _ = kind.partition("[")
    return np.dtype(name) if bracket else None


def check_arrays(values: Mapping[str, Any]) -> None:
    """Raise TypeError for arrays whose dtype or layout is not what kernels read."""
    for name, value in values.items():
        kind = array_type(KINDS[name])
        if kind is not None and (value.dtype != kind or not value.flags.c_contiguous):
            raise TypeError(f"{name} must be a contiguous array of {kind}, got {value.dtype}")
