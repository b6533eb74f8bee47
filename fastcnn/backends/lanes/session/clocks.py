"""Clocks around each kernel of a run, for profiles: where the time of real steps goes.

The entries of rows and updates are replaced by a kernel that reads the processor's counter, calls
the real one, and reads the counter again. The dispatcher is the same as in training.
"""

import time
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir

from fastcnn.backends.alignment import LINE, aligned
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.context import kernel_entry
from fastcnn.backends.lanes.session.batches import Batches
from fastcnn.backends.lanes.session.dispatcher import ENTRY, address, call
from fastcnn.backends.lanes.session.engine import Engine, run_threads
from fastcnn.backends.lanes.session.update import Update
from fastcnn.codegen import build, linked
from fastcnn.codegen.build import Source
from fastcnn.codegen.processor import is_aarch64
from fastcnn.codegen.simd import INT64, define, emit_call

#: Words of the array ``clocks``: the address of the first row, the number of rows, the first word
#: of the first thread, the words of a thread, and the addresses of kernels: of rows, of the
#: gradient's squares, of the update's units.
ROWS, COUNT, FIRST, EACH, KERNELS = range(5)
#: Words of a thread: its first and last reading, and for each row, then the update, the ticks.
BEGAN, ENDED, TICKS = range(3)
#: What a timed kernel belongs to.
WHAT = ROW, SQUARES, UNIT = range(3)


def _emit_ticks(builder: Any) -> Any:
    # The cycle counter of 64-bit ARM is not readable by programs; this one counts time.
    if is_aarch64(builder.module.triple):
        kind = ir.FunctionType(INT64, [ir.MetaDataType()])
        name = builder.module.add_metadata(["cntvct_el0"])
        return emit_call(builder, "llvm.read_volatile_register.i64", kind, [name])
    return emit_call(builder, "llvm.readcyclecounter", ir.FunctionType(INT64, []), ())


#: The processor's counter, of constant frequency on x86 (since 2008) and ARM.
ticks = define("int64", _emit_ticks)


@linked
def timed(clocks, context, r, block, blocks, slot, worker, part, parts, what):
    """Call a kernel between two readings of the counter; returns its status."""
    place, row = clocks[COUNT], address(r, 0)
    if what == ROW:
        place = (row - clocks[ROWS]) // (8 * L.WIDTH)
    elif what == UNIT:
        place += 1 + block
    kernel, mine = clocks[KERNELS + place], clocks[FIRST] + worker * clocks[EACH]
    began = ticks()
    status = call(kernel, context, row, block, blocks, slot, worker, part, parts)
    ended = ticks()
    if clocks[mine + BEGAN] == 0:
        clocks[mine + BEGAN] = began
    clocks[mine + ENDED] = ended
    clocks[mine + TICKS + min(place, clocks[COUNT])] += ended - began
    return status


def timed_source(what: int) -> Source:
    """The source of the timed kernel of rows, of the gradient's squares, or of units."""
    entry = kernel_entry(f"fastcnn_timed_{what}", timed, {"what": what})
    return Source(timed, entry, (__name__, "timed_source", [what]))


class Clocks:
    """Runs an engine's steps with clocks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._readings: list[tuple[float, int]] = []
        #: By index of a row the number of parameters that its kernel also updates.
        self.updated: dict[int, int] = {}

    @property
    def tick(self) -> float:
        """Seconds of a tick, measured from the first run of whole steps to the last."""
        (began, first), *_, (ended, last) = self._readings
        return (ended - began) / (last - first)

    def run(
        self, batches: Batches, rates: np.ndarray, update: Update, phases: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run steps, or only some phases of them, each with its update.

        Returns for each thread the ticks from its first kernel to the end of its last, and those
        inside each row's kernel and, as last column, inside the update's.
        """
        found: list[np.ndarray] = []
        self._engine.run(batches, rates, update=update, launch=partial(self._launch, phases, found))
        return found[0][:, ENDED] - found[0][:, BEGAN], found[0][:, TICKS:]

    def _launch(
        self,
        phases: np.ndarray | None,
        found: list[np.ndarray],
        threads: int,
        fields: dict[str, Any],
        steps: dict[str, Any],
    ) -> None:
        rows, entries, line = self._engine.program.rows, steps["entries"].copy(), LINE // 8
        own = entries[:, ENTRY] != self._engine.prepare()[0][:, ENTRY]
        self.updated = {
            int(row): int(rows[row, L.IN] * rows[row, L.OUT]) for row in np.flatnonzero(own)
        }
        kernels = [*entries[:, ENTRY], steps["square"], *steps["updates"]]
        count, first = len(entries), -(-(KERNELS + len(kernels)) // line) * line
        # Apart, so that no two threads share a cache line, or a pair of them.
        each = (-(-(TICKS + count + 1) // line) + 1) * line
        clocks = aligned(first + threads * each, np.int64)
        clocks[:KERNELS] = steps["rows"].ctypes.data, count, first, each
        clocks[KERNELS : KERNELS + len(kernels)] = kernels
        entries[:, ENTRY], square, unit = build.addresses([timed_source(what) for what in WHAT])
        replaced = {
            "phases": steps["phases"] if phases is None else phases,
            "entries": entries,
            "square": square,
            "updates": np.full_like(steps["updates"], unit),
        }
        began = time.perf_counter()
        run_threads(threads, {**fields, "clocks": clocks}, {**steps, **replaced})
        ended = time.perf_counter()
        found.append(clocks[first:].reshape(threads, each)[:, : TICKS + count + 1])
        if phases is None:
            first, last = found[0][0, [BEGAN, ENDED]].tolist()
            self._readings += [(began, first), (ended, last)]
