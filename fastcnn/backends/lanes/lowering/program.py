"""A network lowered: rows for the interpreter, tables of addresses, one arena."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernel_table import KERNELS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.codegen.target import instruction_set
from fastcnn.notebook import brief
from fastcnn.text_table import text_table


@dataclass
class Program:
    """What the interpreter runs, and where things are."""

    #: Samples of a step, and threads for which memory is planned.
    batch: int
    workers: int
    #: ndarray of int64, shape (phases, 3). First and last row, and whether they take the whole
    #: batch at once.
    phases: np.ndarray
    #: ndarray of int64, shape (rows, WIDTH).
    rows: np.ndarray
    #: What each row does, for people.
    names: list[str]
    tables: np.ndarray
    arena_size: int
    #: What stands in the arena before the first run, by offset.
    constants: dict[int, np.ndarray]
    #: dict of str to (offset, channels). By state key of a running mean: where it is, followed by
    #: the running variance.
    running: dict[str, tuple[int, int]]
    #: By the place of weights of which each thread has some inputs: groups of inputs.
    grouped: dict[int, int]
    #: Size of the array of gradients: the parameters', then those of parameters that are used at
    #: several places, from each place but the first.
    gradient_size: int
    #: The first phase after the loss; rows of the backward pass may join that of the loss.
    first_backward: int
    #: Whether the first phase scales weights down to the largest norm that they may have.
    constrains: bool
    #: Rows before the backward pass.
    forward_rows: int
    input: Buffer
    output: Buffer
    #: By node where its output stands, or of nodes that run as one that of the last; a program that
    #: was asked to keeps them all.
    values: dict[int, Buffer]
    output_gradient: Buffer | None
    input_gradient: Buffer | None
    normalisation: int
    #: Samples of a block.
    samples: int = LANES
    #: Phases at the beginning that pack weights and the like: once, where parameters stay.
    preparations: int = 0
    #: Packed weights, where the program's parameters are not the model's.
    weights: np.ndarray | None = None

    __repr__ = brief

    @classmethod
    def collected(cls, planner: Planner, **more: Any) -> "Program":
        """What a planner has collected, with the fields that it does not know."""
        return cls(
            batch=planner.batch,
            workers=planner.workers,
            phases=np.array(planner.phases, np.int64).reshape(-1, 3),
            rows=np.array(planner.rows, np.int64).reshape(-1, L.WIDTH),
            names=planner.names,
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
        """A convolution's backward phases without the rows of gradients that are not wanted."""
        given = {"x": wants_x, "weight": wants_weight, "bias": wants_bias}
        wanted = {
            number: any(given[name] for name in kernel.gradients)
            for number, kernel in KERNELS.items()
            if kernel.gradients
        }
        kept = [
            [index, index + 1, whole]
            for start, end, whole in phases
            for index in range(start, end)
            if wanted.get(self.rows[index, L.KERNEL], True)
        ]
        return np.array(kept, np.int64).reshape(-1, 3)

    def backward_phases(self, skip_forward: bool) -> np.ndarray:
        """The phases of input and backward pass, with or without the forward pass between."""
        if not skip_forward:
            return self.phases
        before = [
            [index, index + 1, whole or kernel.many]
            for start, end, whole in self.phases[: self.first_backward]
            for index in range(start, end)
            if (kernel := KERNELS[self.rows[index, L.KERNEL]]).before_backward
        ]
        return np.array([*before, *self.phases[self.first_backward :]], np.int64)

    @property
    def bytes(self) -> int:
        """Memory of arena, rows and tables."""
        return FLOAT_BYTES * self.arena_size + self.rows.nbytes + self.tables.nbytes

    def costs(self) -> list[Cost]:
        """FLOPs and bytes of each row, for one batch; see cost.py for what is counted."""
        return [KERNELS[row[L.KERNEL]].cost(self._row(row)) for row in self.rows]

    def kernel(self, index: int) -> str:
        """The name of a row's kernel."""
        return KERNELS[self.rows[index, L.KERNEL]].name

    def sizes(self, index: int) -> str:
        """What a row works on, in the units of its kernel: channels x positions, inputs to
        outputs, or a number of elements."""
        row = self.rows[index]
        return KERNELS[row[L.KERNEL]].sizes(self._row(row))

    def describe(self) -> str:
        """The program as a table: each row's kernel, sizes, register tile, bytes and FLOPs.

        Rows of a block phase take one block of 16 samples after the other through all of the
        phase, but linear layers all that a thread has; rows of a batch phase share the whole batch
        out among the threads.
        """
        costs = self.costs()
        lines = []
        for number, (first, last, whole) in enumerate(self.phases, start=1):
            for index in range(first, last):
                kernel = KERNELS[self.rows[index, L.KERNEL]]
                lines.append(
                    (
                        f"{number} {'batch' if whole else 'block'}" if index == first else "",
                        self.names[index],
                        kernel.name,
                        self.sizes(index),
                        kernel.tile(self._row(self.rows[index], 1 if whole else self.workers)),
                        *_cells(costs[index]),
                    )
                )
        header = ("phase", "step", "kernel", "sizes", "tile", "read", "written", "FLOPs")
        total = ("", "total", "", "", "", *_cells(sum(costs, Cost())))
        blocks, samples = self.blocks, self.samples
        title = (
            f"batch {self.batch}: {blocks} block{'s' if blocks > 1 else ''} of {samples} "
            f"sample{'s' if samples > 1 else ''}, "
            f"{self.workers} thread{'s' if self.workers > 1 else ''}, {instruction_set()}; "
            f"{len(self.rows)} rows in {len(self.phases)} phases; "
            f"arena {FLOAT_BYTES * self.arena_size / 2**20:.2f} MiB"
        )
        return f"{title}\n\n{text_table(header, lines, left=5, footer=total)}"

    def _row(self, values: np.ndarray, threads: int = 1) -> Row:
        return Row(values, self.tables, self.batch, threads, self.blocks)


def _cells(cost: Cost) -> tuple[str, str, str]:
    return f"{cost.read:,}", f"{cost.written:,}", f"{cost.flops:,}"
