"""Lowers direct convolutions to rows: a product, its transpose, the weight gradient.

A convolution's forward pass is the product, its input's gradient the transpose; a transposed
convolution has the two exchanged.
"""

from itertools import product as product_of
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from fastcnn.backends.lanes.convolution.direct import records
from fastcnn.backends.lanes.convolution.direct.gradient_kernels import RUNS, SCRATCH, TAP_BLOCK
from fastcnn.backends.lanes.convolution.geometry import (
    ConvGeometry,
    stretch,
    tiles_of,
    without_zeros,
)
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import grid, windows_of_two
from fastcnn.backends.lanes.planning.strips import LEAST, Access, strip_count, strip_of
from fastcnn.codegen.target import tile_heights

#: Floats of a block's input or output above which a convolution prefetches its next data.
FITS_CACHE = 96 * 1024


class Weights(NamedTuple):
    """Where the weights of sums are among those of a layer."""

    #: Offsets from one group, one channel of Y and one of X to the next.
    group: int
    channel: int
    input: int
    #: Offsets of the weights of a channel of X.
    kernel: np.ndarray

    def of_inputs(self, inputs: int) -> np.ndarray:
        """Offsets of the weights of some channels of X, for one channel of Y."""
        return (np.arange(inputs)[:, None] * self.input + self.kernel).ravel()


class Sums(NamedTuple):
    """Sums over taps, one for each pixel of each channel of Y."""

    #: Offsets from a pixel of X to the inputs of its taps.
    taps: np.ndarray
    weights: Weights
    #: Offsets in X and in Y, one for each position.
    from_pixels: np.ndarray
    to_pixels: np.ndarray
    #: Numbers of channels of Y in a group, and of the channels of X that they read.
    channels: int
    group_inputs: int
    #: Positions of a max-pooling window, of which only the maximum is stored.
    window: int = 1

    def strip(self, index: int, count: int) -> "Sums":
        """The sums of one of ``count`` strips of positions, if none are pooled."""
        source, target = (strip_of(p, index, count) for p in (self.from_pixels, self.to_pixels))
        return self._replace(from_pixels=source, to_pixels=target)

    def accesses(self, x: Buffer, y: Buffer) -> list[Access]:
        """The parts of both maps that they access."""
        if not len(self.to_pixels):
            return []
        taps = self.taps[: len(self.taps) // self.group_inputs].tolist() or [0]
        return [Access.of(x, self.from_pixels, taps), Access.of(y, self.to_pixels, writes=True)]


def product_sums(g: ConvGeometry, x: Buffer, y: Buffer, pooled: bool = False) -> Sums:
    """The sums of a convolution of X into Y."""
    kernel = np.arange(g.kernel[0] * g.kernel[1])
    weights = Weights(g.group_outputs * g.taps, g.taps, len(kernel), kernel)
    h, w = windows_of_two(*g.output) if pooled else grid(*g.output)
    pixels = x.at(*g.first_pixels(h, w))
    window = 4 if pooled else 1
    sizes = g.group_outputs, g.group_inputs, window
    return Sums(input_taps(g, x), weights, pixels, y.pixels(), *sizes)


def product(task: Task, x: Buffer, y: Buffer, pooled: bool, columns: dict[str, int]) -> None:
    """Add the row of a convolution of X into Y, with the columns of the operations fused to it."""
    _emit(task, x, y, [product_sums(task.g, x, y, pooled)], columns)


def transposed_sums(g: ConvGeometry, grad: Buffer, grad_x: Buffer) -> list[Sums]:
    """The sums of the transpose, from the output side to the input side.

    One convolution for each phase of the stride: input rows that are congruent modulo the stride
    use the same kernel rows. Border rows may be separate.
    """
    index = np.arange(g.kernel[0] * g.kernel[1]).reshape(g.kernel)
    found = []
    phases = [range(min(g.stride[axis], g.input[axis])) for axis in (0, 1)]
    for first_h, first_w in product_of(*phases):
        across = stretch(g, 1, first_w)
        for down in without_zeros(stretch(g, 0, first_h), g.output[0]):
            taps = (
                np.arange(g.group_outputs)[:, None, None] * grad.channel
                + down.shift[:, None] * grad.row
                + across.shift * grad.pixel
            ).ravel()
            kernel = index[down.kernel][:, across.kernel].ravel()
            weights = Weights(g.group_outputs * g.taps, index.size, g.taps, kernel)
            h, w = (part.ravel() for part in np.meshgrid(down.steps, across.steps, indexing="ij"))
            target = grad_x.at(first_h + h * g.stride[0], first_w + w * g.stride[1])
            sizes = g.group_inputs, g.group_outputs
            found.append(Sums(taps, weights, grad.at(h, w), target, *sizes))
    return found


def transpose(task: Task, grad: Buffer, grad_x: Buffer, columns: dict[str, int]) -> None:
    """Add the row of the transpose, from the output side to the input side."""
    _emit(task, grad, grad_x, transposed_sums(task.g, grad, grad_x), columns)


def _emit(task: Task, x: Buffer, y: Buffer, phases: list[Sums], columns: dict[str, int]) -> None:
    """Add a convolution row, whose first phase has the most positions."""
    planner, name, g, weight = task
    phases = sorted(phases, key=lambda sums: -len(sums.from_pixels))
    group_inputs, channels = phases[0].group_inputs, phases[0].channels
    before = np.cumsum([0, *(channels * len(sums.taps) for sums in phases)]).tolist()
    packed = planner.allocate(g.groups * before[-1] + LANES)
    for sums, place in zip(phases, before, strict=False):
        if not sums.taps.size:
            continue
        values = _pack(planner, sums)
        values[L.W], values[L.X] = packed + place, weight
        values[L.GROUPS], values[L.OUT] = g.groups, before[-1]
        planner.preparations.append((f"{name.split(':')[0]}: pack weights", values))
    if max(x.size, y.size) > FITS_CACHE and before[-1]:
        taps = [sums.taps.reshape(group_inputs, -1) for sums in phases if sums.taps.size]
        furthest = np.concatenate(taps, axis=1).max(axis=1)
        columns = columns | {"in": group_inputs, "extra": planner.table(furthest)}
    count = strip_count(len(phases[0].from_pixels) // LEAST, x, y)
    if columns.get("mode", L.PLAIN) not in (L.PLAIN, L.MASKED):
        count = 1

    def strips_row(first: int, last: int) -> np.ndarray:
        some = phases if last - first == count else [sums.strip(first, count) for sums in phases]
        return row(
            records.K_CONV,
            **x.columns("x"),
            **y.channel_columns("y"),
            **({"bias": -1} | columns),
            **phase_columns(planner, some, before),
            w=packed,
            taps=sum(len(sums.taps) for sums in phases),
            positions=max(len(sums.from_pixels) for sums in some),
            x_table=planner.table(some[0].from_pixels, some[0].window),
            groups=g.groups,
            channels=channels,
            x_group=group_inputs * x.channel,
        )

    accesses = [
        [access for sums in phases for access in sums.strip(index, count).accesses(x, y)]
        for index in range(count)
    ]
    planner.emit_strips(name, accesses, strips_row)


def _pack(planner: Planner, sums: Sums) -> np.ndarray:
    """The row that packs the weights of sums, without their place."""
    weights, tiles = sums.weights, []
    for first, rows in tiles_of(sums.channels, tile_heights(pooled=sums.window == 4)):
        # Their weights fill vectors.
        inputs = LANES // gcd(LANES, rows * len(weights.kernel))
        order = np.add.outer(weights.of_inputs(inputs), np.arange(rows) * weights.channel)
        tiles.append((first, rows, planner.table(order), inputs))
    return row(
        records.K_PACK,
        taps=len(weights.kernel),
        positions=len(tiles),
        strip_table=planner.table(tiles),
        in_=sums.group_inputs,
        x_group=weights.group,
        x_channel=weights.channel,
        x_row=weights.input,
    )


def phase_columns(planner: Planner, phases: list[Sums], weights: list[int]) -> dict[str, int]:
    """Columns of a row's phases, given the offset of each one's weights."""
    found = [
        (
            len(sums.taps),
            planner.table(sums.taps, 1),
            place,
            len(sums.from_pixels),
            planner.table(sums.from_pixels, sums.window),
            planner.table(sums.to_pixels, 1),
        )
        for sums, place in zip(phases, weights, strict=False)
        if len(sums.to_pixels)
    ]
    return {"phases": len(found), "phase_table": planner.table(np.array(found))}


def weight_gradient(
    task: Task, x: Buffer, grad: Buffer, partial: dict[str, int], bias: int = -1
) -> None:
    """Add the row of the weight gradient; ``partial`` addresses each block's share of it.

    The sums of the output's gradient are stored ``bias`` floats after it, unless that is -1.
    """
    planner, g = task.planner, task.g
    pixels = grad.at(*grid(*g.output)) - grad.at(0, 0)
    columns = partial | {"bias": bias, "y_table": planner.table(pixels)}
    columns |= {"positions": g.output[0] * g.output[1], "in": _run(g, input_taps(g, x))}
    _emit_gradient(task, "weight gradient", x, grad, g.output, columns)


def pooled_weight_gradient(
    task: Task, x: Buffer, pooled: Buffer, winners: Buffer, partial: dict[str, int], bias: int
) -> None:
    """The same, from the gradient after 2x2 max pooling of the output."""
    size, rows = (task.g.output[0] // 2, task.g.output[1] // 2), chosen_rows(task.g)
    columns = {**partial, **winners.columns("z"), "mode": L.POOLED, "bias": bias}
    # Without such rows, single taps are multiplied with all four pixels of a window.
    columns |= {"kernel_rows": rows, "in": task.g.kernel[1] if rows else 1}
    columns |= {"positions": 4 * size[0] * size[1]}
    _emit_gradient(task, "weight gradient through pooling", x, pooled, size, columns)


def _emit_gradient(
    task: Task, what: str, x: Buffer, grad: Buffer, size: tuple[int, ...], columns: dict[str, int]
) -> None:
    planner, g = task.planner, task.g
    values = row(
        records.K_WEIGHT_GRADIENT,
        **x.columns("x"),
        **grad.map_columns("y"),
        **columns,
        m=planner.allocate(SCRATCH * planner.workers),
        m_slot=SCRATCH,
        taps=g.taps,
        tap_table=planner.table(input_taps(g, x), 1),
        groups=g.groups,
        channels=g.group_outputs,
        x_group=g.group_inputs * x.channel,
        x_row=g.stride[0] * x.row,
        along=g.stride[1] * x.pixel // LANES,
        y_rows=size[0],
        y_width=size[1],
    )
    values[L.X] += int(x.at(-g.padding[0], -g.padding[1]))
    values[[L.Y, L.Z]] += int(grad.at(0, 0))
    planner.emit(f"{task.name}: {what}", values)


def _run(g: ConvGeometry, taps: np.ndarray) -> int:
    """Length of the runs of adjacent taps, if there are tiles for it; else 1."""
    run = g.kernel[1]
    together = 9 if run == 3 else run
    if run not in RUNS or len(taps) % together:
        return 1
    return run if (np.diff(taps.reshape(-1, run)) == LANES).all() else 1


def chosen_rows(g: ConvGeometry) -> int:
    """Kernel rows whose taps are laid out like pixels, if there are tiles for that; else 0."""
    high, wide = g.kernel
    fits = high % 3 == 0 if wide == 3 else wide == 5 and high > 1
    is_plain = g.stride == g.dilation == (1, 1) and high * wide <= TAP_BLOCK
    return high if fits and is_plain else 0


def input_taps(g: ConvGeometry, x: Buffer) -> np.ndarray:
    """Offsets of a convolution's taps in its input, in the order of the weights."""
    c, kh, kw = np.mgrid[: g.group_inputs, : g.kernel[0], : g.kernel[1]]
    taps: Any = c * x.channel + kh * g.dilation[0] * x.row + kw * g.dilation[1] * x.pixel
    return taps.ravel()
