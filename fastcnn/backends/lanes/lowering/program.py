"""The result of planning: rows for the dispatcher, tables of offsets, and the arena's layout."""

from collections.abc import Callable
from dataclasses import dataclass
from textwrap import fill, wrap
from typing import Any

import numpy as np

from fastcnn.backends.lanes.convolution.algorithms import report_refused
from fastcnn.backends.lanes.kernel_table import KERNELS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.strips import IN_STRIPS
from fastcnn.codegen.target import instruction_set
from fastcnn.notebook import brief
from fastcnn.text_table import text_table

#: Columns of a description, and of a kernel's name in it.
WIDTH, KERNEL_WIDTH = 80, 20


@dataclass
class Program:
    """The rows that the dispatcher runs, and the layout of memory."""

    #: Samples of a step, and threads for which memory is planned.
    batch: int
    workers: int
    #: ndarray of int64, shape (phases, 3). First and last + 1 row, and the least number of parts in
    #: which the rows process the whole batch, or 0 if they process blocks.
    phases: np.ndarray
    #: ndarray of int64, shape (rows, WIDTH).
    rows: np.ndarray
    #: A description of each row.
    names: list[str]
    #: Each convolution's layer, and the algorithm of each of its parts: ``"forward"``, ``"input
    #: gradient"`` and ``"weight gradient"``, as far as they are computed.
    algorithms: list[tuple[str, dict[str, str]]]
    tables: np.ndarray
    arena_size: int
    #: Initial contents of the arena, by offset.
    constants: dict[int, np.ndarray]
    #: dict of str to (offset, channels). By state key of a running mean: its offset; the running
    #: variance follows it.
    running: dict[str, tuple[int, int]]
    #: By offset of weights whose inputs are divided among threads: the number of groups.
    grouped: dict[int, int]
    #: Size of the gradient array: the parameters' gradients, then those of shared parameters from
    #: each use but the first.
    gradient_size: int
    #: The first phase after the loss; rows of the backward pass may share the loss's phase.
    first_backward: int
    #: Whether the first phase enforces the maximum norms of weights.
    constrains: bool
    #: Number of rows before the backward pass.
    forward_rows: int
    input: Buffer
    output: Buffer
    #: By node the buffer of its output, for fused nodes that of the last; all are kept if the
    #: program was planned so.
    values: dict[int, Buffer]
    output_gradient: Buffer | None
    input_gradient: Buffer | None
    normalisation: int
    #: Samples of a block.
    samples: int = LANES
    #: Leading phases that pack weights and the like: run once, if parameters do not change.
    preparations: int = 0
    #: Packed weights, if the program does not read the model's parameters.
    weights: np.ndarray | None = None

    __repr__ = brief

    @classmethod
    def collected(cls, planner: Planner, **more: Any) -> "Program":
        """The program that a planner has collected, given the fields that it does not have."""
        algorithms = [(one.node.name, one.algorithms) for one in planner.groups if one.algorithms]
        report_refused(algorithms)
        return cls(
            batch=planner.batch,
            workers=planner.workers,
            phases=np.array(planner.phases, np.int64).reshape(-1, 3),
            rows=np.array(planner.rows, np.int64).reshape(-1, L.WIDTH),
            names=planner.names,
            algorithms=algorithms,
            tables=np.concatenate([*planner.tables, np.zeros(1, np.int32)]),
            arena_size=planner.size,
            constants=planner.constants,
            running=planner.running,
            grouped=planner.grouped,
            gradient_size=planner.gradient_size,
            constrains=bool(planner.constraints),
            samples=planner.samples,
            **more,
        )

    @property
    def blocks(self) -> int:
        """Blocks of a batch."""
        return -(-self.batch // self.samples)

    def only_gradients(
        self, phases: np.ndarray, wants_x: bool, wants_weight: bool, wants_bias: bool
    ) -> np.ndarray:
        """A convolution's backward phases, without rows that compute only unwanted gradients."""
        given = {"x": wants_x, "weight": wants_weight, "bias": wants_bias}
        wanted = {
            number: any(given[name] for name in kernel.gradients)
            for number, kernel in KERNELS.items()
            if kernel.gradients
        }
        return self.filtered(phases, lambda index: wanted.get(self.rows[index, L.KERNEL], True))

    def filtered(self, phases: np.ndarray, keeps: Callable[[int], bool]) -> np.ndarray:
        """Phases without some of their rows."""
        kept: list[list[int]] = []
        for start, end, whole in phases.tolist():
            joins = False
            for index in range(start, end):
                stays = keeps(index)
                if stays and joins:
                    kept[-1][1] = index + 1
                elif stays:
                    kept.append([index, index + 1, whole])
                joins = stays
        return np.array(kept, np.int64).reshape(-1, 3)

    def backward_phases(self, skip_forward: bool) -> np.ndarray:
        """The phases of input and backward pass, optionally with the forward pass between them."""
        if not skip_forward:
            return self.phases
        before = [
            [index, index + 1, whole or kernel.many]
            for start, end, whole in self.phases[: self.first_backward]
            for index in range(start, end)
            if (kernel := KERNELS[self.rows[index, L.KERNEL]]).before_backward
        ]
        return np.array([*before, *self.phases[self.first_backward :]], np.int64)

    def operations(self) -> list[tuple[int, list[int]]]:
        """Phases and rows, of which an operation's strips are together."""
        found: dict[tuple[int, str | int], list[int]] = {}
        for number, (first, last, _) in enumerate(self.phases):
            for index in range(first, last):
                name = self.names[index]
                key = number, name if name.endswith(IN_STRIPS) else index
                found.setdefault(key, []).append(index)
        return [(number, rows) for (number, _), rows in found.items()]

    @property
    def bytes(self) -> int:
        """Bytes of arena, rows and tables."""
        return FLOAT_BYTES * self.arena_size + self.rows.nbytes + self.tables.nbytes

    def costs(self) -> list[Cost]:
        """FLOPs and bytes of each row, for one batch, as counted in cost.py."""
        return [KERNELS[row[L.KERNEL]].cost(self._row(row)) for row in self.rows]

    def kernel(self, index: int) -> str:
        """The name of a row's kernel."""
        return KERNELS[self.rows[index, L.KERNEL]].name

    def sizes(self, index: int) -> str:
        """A row's sizes, in the units of its kernel: channels x positions, inputs to outputs, or a
        number of elements."""
        row = self.rows[index]
        return KERNELS[row[L.KERNEL]].sizes(self._row(row))

    def describe(self) -> str:
        """The program as text of 80 columns: the algorithms of each convolution, and all rows.

        Under each row's name are its kernel, sizes, register tile, bytes read and written, and
        FLOPs. Rows of a block phase process one block of 16 samples after the other, each through
        the whole phase; linear layers process all blocks of a thread. Rows of a batch phase process
        the whole batch, divided among the threads. The rows of an operation's strips are described
        once, with the sizes of the first.
        """
        costs = self.costs()
        lines: list[str | tuple[str, ...]] = []
        for number, (index, *more) in self.operations():
            first, _, whole = self.phases[number]
            if index == first:
                lines.append(f"phase {number + 1}, {'batch' if whole else 'block'}")
            lines += wrap(self.names[index], WIDTH, initial_indent=" ", subsequent_indent="  ")
            kernel = KERNELS[self.rows[index, L.KERNEL]]
            numbers = (
                self.sizes(index),
                kernel.tile(self._row(self.rows[index], 1 if whole else self.workers)),
                *_cells(sum((costs[other] for other in more), costs[index])),
            )
            name, *rest = wrap(kernel.name, KERNEL_WIDTH)
            lines.append((f"   {name}", *numbers))
            lines += [f"     {line}" for line in rest]
        header = ("phase, row and kernel", "sizes", "tile", "read", "written", "FLOPs")
        total = ("total", "", "", *_cells(sum(costs, Cost())))
        blocks, samples = self.blocks, self.samples
        title = (
            f"batch {self.batch}: {blocks} block{'s' if blocks > 1 else ''} of {samples} "
            f"sample{'s' if samples > 1 else ''}, "
            f"{self.workers} thread{'s' if self.workers > 1 else ''}, {instruction_set()}; "
            f"{len(self.rows)} rows in {len(self.phases)} phases; "
            f"arena {FLOAT_BYTES * self.arena_size / 2**20:.2f} MiB"
        )
        tables = [fill(title, WIDTH), text_table(header, lines, left=3, footer=total)]
        if self.algorithms:
            parts = ("forward", "input gradient", "weight gradient")
            used = [
                (layer, *(found.get(part, "") for part in parts))
                for layer, found in self.algorithms
            ]
            tables.insert(1, text_table(("convolution", *parts), used, left=4))
        return "\n\n".join(tables)

    def _row(self, values: np.ndarray, threads: int = 1) -> Row:
        return Row(values, self.tables, self.batch, threads, self.blocks)


def _cells(cost: Cost) -> tuple[str, ...]:
    return _short(cost.read, "B"), _short(cost.written, "B"), _short(cost.flops)


def _short(count: float, unit: str = "", prefixes: str = " kMGT") -> str:
    """Three digits and a prefix: 33751040 is 33.8 M."""
    if count < 999.5:
        return f"{count:.3g} {prefixes[0].strip()}{unit}".rstrip()
    return _short(count / 1000, unit, prefixes[1:])
