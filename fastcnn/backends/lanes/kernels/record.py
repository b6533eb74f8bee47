"""A kernel's record: what else is known of it, and which kernels there are.

Each file of kernels adds records of its own; kernel_table.py has seen all of them.
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

    #: Its parameters name what it gets; see context.py.
    function: Any
    name: str
    #: From a :class:`Row` to its :class:`Cost`.
    cost: Callable[[Row], Cost]
    #: From a :class:`Row` to text.
    sizes: Callable[[Row], str]
    #: What its rows touch, from a :class:`~fastcnn.backends.lanes.reach.ranges.Reach`.
    touches: Callable[[Any], Any] = field(kw_only=True)
    #: From a :class:`Row` to the largest register tile that it uses, or ``""``.
    tile: Callable[[Row], str] = no_tile
    #: Parameters that have one value in this kernel.
    fixed: Mapping[str, Any] = field(default_factory=dict)
    #: Whether a row had better take many blocks at once.
    many: bool = False
    #: The compiled function's, where it is not that of the function and its fixed parameters.
    symbol: str = ""
    #: How another process gets what is compiled; see :class:`~fastcnn.codegen.build.Source`.
    origin: tuple[str, str, list[Any]] | None = None
    #: Which of a run's arrays its rows use: ``"images"``, ``"outputs"``, ``"gradients"``, the
    #: ``"targets"`` of a loss or its ``"classes"``.
    of_run: str = ""
    #: What its rows in a backward pass make gradients of: some of ``x``, ``weight`` and ``bias``.
    gradients: tuple[str, ...] = ()
    #: Whether a backward pass needs its rows of the forward pass, where the rest is left out.
    before_backward: bool = False
    #: Share of a core's FLOPs that it reaches, and share of that where all channels are one vector:
    #: on a Zen 5, for deciding which program runs and whether threads share a row.
    speed: float = 1.0
    one_vector: float = 1.0


def per_element(
    flops: int, read: int, written: int, partial: int = 0, mask: bool = False
) -> Callable[[Row], Cost]:
    """Work on each element; ``partial`` floats a channel and block; a mask is read with RELU."""

    def cost(r: Row) -> Cost:
        n = r.elements
        reads = read + (1 if mask and r[L.RELU] else 0)
        return r.cost(flops * n, reads * n, written * n, partial=partial * r[L.CHANNELS])

    return cost


def per_channel(floats_read: int, floats_written: int) -> Callable[[Row], Cost]:
    """Work over channels: floats read of each block, and written for each channel."""

    def cost(r: Row) -> Cost:
        channels = r[L.CHANNELS]
        read = channels * floats_read * r.blocks
        return Cost(8 * read, FLOAT_BYTES * read, FLOAT_BYTES * channels * floats_written)

    return cost


def per_number(flops: int, read: int, written: int) -> Callable[[Row], Cost]:
    """Work on each of IN numbers of a sample."""
    return lambda r: r.cost(flops * r[L.IN], read * r[L.IN], written * r[L.IN])


def map_sizes(r: Row) -> str:
    return f"{r[L.CHANNELS]} x {r[L.POSITIONS]}"


def matrix_sizes(r: Row) -> str:
    return f"{r[L.IN]} to {r[L.OUT]}"


def sizes_of(column: int) -> Callable[[Row], str]:
    return lambda r: str(r[column])


def clipped(tile: tuple[int, int], largest: tuple[int, int]) -> str:
    """A tile, or that part of it that the registers of this processor hold."""
    return f"{min(tile[0], largest[0])}x{min(tile[1], largest[1])}"


#: By their numbers, which may be others in the next process.
KERNELS: dict[int, Kernel] = {}


def numbered(*fields: Any, **more: Any) -> int:
    """Add a kernel, by the fields of its record, to those that programs may use.

    Returns its number.
    """
    number = next(n for n in range(L.FIRST_FORMULA) if n not in KERNELS)
    KERNELS[number] = Kernel(*fields, **more)
    return number
