"""Lowers convolutions of small maps to rows that compute direct sums over the whole batch."""

from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes.convolution.direct import rows as direct_rows
from fastcnn.backends.lanes.convolution.direct_batch import records
from fastcnn.backends.lanes.convolution.direct_batch.algorithm import ROWS
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.elements import copy
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import grid

#: Positions of one kind processed together: enough to read the weights rarely.
POSITIONS = 24


@dataclass(frozen=True)
class _Pairs:
    """Indices of pairs of output and input pixels, and of the weight between them."""

    output: np.ndarray
    input: np.ndarray
    weight: np.ndarray


def _pairs(g: ConvGeometry) -> _Pairs:
    """All pairs, ordered by weight, then by output."""
    (h, w), (kh, kw) = grid(*g.output), grid(*g.kernel)
    top, left = g.first_pixels(h, w)
    down = kh[:, None] * g.dilation[0] + top
    along = kw[:, None] * g.dilation[1] + left
    inside = (down >= 0) & (down < g.input[0]) & (along >= 0) & (along < g.input[1])
    weight, output = np.nonzero(inside)
    return _Pairs(output, (down * g.input[1] + along)[inside], weight)


def product(task: Task, x: Buffer, y: Buffer, pooled: bool, columns: dict[str, int]) -> None:
    """Add the rows of a convolution of X into Y."""
    planner, name, g, weight = task
    if pooled:
        padded = planner.buffer(x.shape, g.input_halo())
        copy(planner, name.split(":")[0], x, padded)
        direct_rows.product(task, padded, y, pooled, columns)
        return
    pairs, taps = _pairs(g), g.kernel[0] * g.kernel[1]
    sizes = {"w": weight, "out": g.taps, "channels": g.out_channels}
    _emit(planner, name, x, y, (pairs.input, pairs.output, pairs.weight), taps, sizes | columns)


def transpose(task: Task, grad: Buffer, grad_x: Buffer, columns: dict[str, int]) -> None:
    """Add the rows of the transpose, from the output side to the input side."""
    planner, name, g, weight = task
    pairs, taps = _pairs(g), g.kernel[0] * g.kernel[1]
    sizes = {"w": weight, "out": taps, "channels": g.group_inputs}
    found = (pairs.output, pairs.input, pairs.weight)
    _emit(planner, name, grad, grad_x, found, g.taps, sizes | columns)


def _emit(
    planner: Planner,
    name: str,
    x: Buffer,
    y: Buffer,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    step: int,
    columns: dict[str, int],
) -> None:
    """Add a row for each run of blocks; weights of adjacent channels of X are ``step`` apart."""
    source, target, weight = pairs
    x_pixels, y_pixels = x.pixels(), y.pixels()
    channels = np.arange(x.channels)[:, None]
    # Pixels with the same taps, relative to the first of their inputs.
    kinds: dict[tuple[bytes, bytes], list[tuple[int, int]]] = {}
    for pixel, place in enumerate(y_pixels):
        meets = target == pixel
        inputs = x_pixels[source[meets]]
        corner = int(inputs[0]) if inputs.size else 0
        taps = (channels * x.channel + inputs - corner).astype(np.int32)
        weights = (channels * step + weight[meets]).astype(np.int32)
        kinds.setdefault((taps.tobytes(), weights.tobytes()), []).append((corner, int(place)))
    most = max(len(pixels) for pixels in kinds.values())
    blocks = min(planner.blocks, max(1, POSITIONS // most))
    taps, weights = (
        np.concatenate([np.frombuffer(kind[column], np.int32) for kind in kinds])
        for column in (0, 1)
    )
    for first in range(0, planner.blocks, blocks):
        run = min(blocks, planner.blocks - first)
        places = [_places(x, y, run, np.array(pixels)) for pixels in kinds.values()]
        values = row(
            records.K_PRODUCT,
            x=x.offset + first * x.block,
            y=y.offset + first * y.block,
            **({"bias": -1} | columns),
            **{
                f"{key}_table": planner.table(np.concatenate([place[column] for place in places]))
                for column, key in enumerate("xy")
            },
            tap_table=planner.table(taps),
            m_table=planner.table(weights),
            strip_table=planner.table(_entries(kinds, places)),
            positions=len(kinds),
            y_channel=y.channel,
            strip_rows=run,
            groups=first,
        )
        planner.emit(name, values, whole=True)


def _places(x: Buffer, y: Buffer, blocks: int, corners: np.ndarray) -> np.ndarray:
    """Offsets of some pixels in X and in Y, ordered by block; the last is repeated."""
    steps = np.arange(blocks)[:, None, None] * [x.block, y.block]
    places = (steps + corners).reshape(-1, 2).T
    return np.pad(places, ((0, 0), (0, L.POSITION_PAD)), mode="edge")


def _entries(
    kinds: dict[tuple[bytes, bytes], list[tuple[int, int]]], places: list[np.ndarray]
) -> list[tuple[int, int, int, int]]:
    """First position, number of pixels, first tap and number of taps of each kind."""
    entries, place, tap = [], 0, 0
    for ((taps, _), pixels), found in zip(kinds.items(), places, strict=True):
        count = len(taps) // np.dtype(np.int32).itemsize
        entries.append((place, len(pixels), tap, count))
        place, tap = place + found.shape[1], tap + count
    return entries


def weight_gradient(task: Task, x: Buffer, grad: Buffer) -> None:
    """Add the rows of the weights' gradient."""
    planner, name, g, weight = task
    pairs, taps = _pairs(g), g.kernel[0] * g.kernel[1]
    inputs, outputs, blocks = g.group_inputs, g.out_channels, planner.blocks
    x_pixels, y_pixels = x.pixels(), grad.pixels()
    room = LANES * blocks * (len(x_pixels) * inputs + len(y_pixels) * outputs)
    sizes = {
        "in_": inputs,
        "channels": outputs,
        "positions": len(x_pixels),
        "groups": len(y_pixels),
        "strip_rows": blocks,
    }
    turn = row(
        records.K_TURN,
        **x.channel_columns("x"),
        **grad.channel_columns("y"),
        x_table=planner.table(x_pixels),
        y_table=planner.table(y_pixels),
        **sizes,
    )
    sums = taps * ROWS * inputs
    ends = np.searchsorted(pairs.weight, np.arange(taps + 1))
    gradient = row(
        records.K_GRADIENT,
        w=weight,
        m=planner.allocate(sums * planner.workers),
        m_slot=sums,
        taps=taps,
        m_table=planner.table(ends),
        tap_table=planner.table(np.stack([pairs.output, pairs.input], axis=1)),
        **sizes,
    )
    for label, values in (("transpose input", turn), ("weight gradient", gradient)):
        planner.with_shared_scratch(values, room)
        planner.emit(f"{name}: {label}", values, whole=True)
