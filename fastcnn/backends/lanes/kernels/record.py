"""A kernel's record: its cost, memory bounds and other properties, and the table of all records.

Each file of kernels adds its records; kernel_table.py imports all of these files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row


def no_tile(r: Row) -> str:
    return ""


@dataclass(frozen=True)
class Kernel:
    """The record of a kernel."""

    #: Its parameters name the arguments it gets; see context.py.
    function: Any
    name: str
    #: From a :class:`Row` to its :class:`Cost`.
    cost: Callable[[Row], Cost]
    #: From a :class:`Row` to a description of its sizes.
    sizes: Callable[[Row], str]
    #: The memory that its rows access, from a :class:`~fastcnn.backends.lanes.reach.ranges.Reach`.
    touches: Callable[[Any], Any] = field(kw_only=True)
    #: From a :class:`Row` to the largest register tile that it uses, or ``""``.
    tile: Callable[[Row], str] = no_tile
    #: Parameters that are constants in this kernel.
    fixed: Mapping[str, Any] = field(default_factory=dict)
    #: Whether a row should process many blocks together.
    many: bool = False
    #: Whether its loops gain from LLVM's choice of addresses, which takes compilation time; see
    #: :class:`~fastcnn.codegen.build.Source`.
    strength_reduction: bool = True
    #: Symbol of the compiled function, if not derived from the function and its fixed parameters.
    symbol: str = ""
    #: How another process gets the source; see :class:`~fastcnn.codegen.build.Source`.
    origin: tuple[str, str, list[Any]] | None = None
    #: Which array of a run its rows access: ``"images"``, ``"outputs"``, ``"gradients"``, the
    #: ``"targets"`` of a loss or its ``"classes"``.
    of_run: str = ""
    #: The gradients that its rows compute in a backward pass: some of ``x``, ``weight`` and
    #: ``bias``.
    gradients: tuple[str, ...] = ()
    #: Whether its rows of the forward pass are needed even where only the backward pass is run.
    before_backward: bool = False
    #: The column of the least number of parts in which a phase may run its rows.
    parts: int | None = None
    #: Share of a core's peak FLOPs that it reaches, and a factor of that if all channels are one
    #: vector, on a Zen 5: used to choose the program and to decide whether threads share a row.
    speed: float = 1.0
    one_vector: float = 1.0


def per_element(
    flops: int, read: int, written: int, partial: int = 0, mask: bool = False
) -> Callable[[Row], Cost]:
    """Work per element; ``partial`` floats per channel and block; a mask is read with RELU."""

    def cost(r: Row) -> Cost:
        n = r.elements
        reads = read + (1 if mask and r[L.RELU] else 0)
        return r.cost(flops * n, reads * n, written * n, partial=partial * r[L.CHANNELS])

    return cost


def per_channel(r: Row) -> Cost:
    """Work over channels: two floats read per block, and four written per channel."""
    read = 2 * r[L.CHANNELS] * r.blocks
    return Cost(8 * read, FLOAT_BYTES * read, 4 * FLOAT_BYTES * r[L.CHANNELS])


def per_number(flops: int, read: int) -> Callable[[Row], Cost]:
    """Work per value of a sample, of which there are IN, each written once."""
    return lambda r: r.cost(flops * r[L.IN], read * r[L.IN], r[L.IN])


def map_sizes(r: Row) -> str:
    return f"{r[L.CHANNELS]} x {r[L.POSITIONS]}"


def matrix_sizes(r: Row) -> str:
    return f"{r[L.IN]} to {r[L.OUT]}"


def sizes_of(column: int) -> Callable[[Row], str]:
    return lambda r: str(r[column])


def clipped(tile: tuple[int, int], largest: tuple[int, int]) -> str:
    """A tile, or the part of it that fits in this processor's registers."""
    return f"{min(tile[0], largest[0])}x{min(tile[1], largest[1])}"


#: By number, which may differ between processes.
KERNELS: dict[int, Kernel] = {}


def numbered(*fields: Any, **more: Any) -> int:
    """Register a kernel, given the fields of its record, for use in programs.

    Returns its number.
    """
    number = next(n for n in range(L.FIRST_FORMULA) if n not in KERNELS)
    KERNELS[number] = Kernel(*fields, **more)
    return number
