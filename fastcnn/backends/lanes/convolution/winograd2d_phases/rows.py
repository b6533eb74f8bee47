"""Lowers convolutions with stride 2 to rows of a program, by their phases."""

import numpy as np

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry, pack_order
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.convolution.winograd import STAGGER, first_outputs, outputs_left, points
from fastcnn.backends.lanes.convolution.winograd2d.kernels import moment_room, strip_room
from fastcnn.backends.lanes.convolution.winograd2d.rows import (
    channels_together,
    even_strip,
    strips_of_unit,
)
from fastcnn.backends.lanes.convolution.winograd2d.rows import moment_strips as moment_strips
from fastcnn.backends.lanes.convolution.winograd2d.tiles import HEIGHTS
from fastcnn.backends.lanes.convolution.winograd2d_phases import records
from fastcnn.backends.lanes.convolution.winograd2d_phases.gradient_kernels import (
    phases_gradient_room,
)
from fastcnn.backends.lanes.convolution.winograd2d_phases.phases import (
    PHASES,
    half,
    lacks,
    phases_of_products,
    products_of_phase,
    transposed_phases,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.linear import K_REDUCE_KERNELS
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, whole

#: Vectors of a weight gradient's strip, and the channels of either side that are transformed at a
#: time.
GRADIENT_STRIP, GRADIENT_INPUTS, GRADIENT_OUTPUTS = 16 * 1024, 32, 128


def product(task: Task, x: Buffer, y: Buffer, pooled: bool, columns: dict[str, int]) -> None:
    """Add the row of a convolution of X into Y."""
    g = task.g
    first = first_outputs(g.output)
    source = np.concatenate([_kernels(g, phase) for phase in PHASES], axis=1)
    places = {
        "x_table": task.planner.table(x.at(*(2 * first - g.padding).T)),
        "y_table": task.planner.table(y.at(*first.T)),
        "strip_table": task.planner.table(outputs_left(g.output, first)),
        "tap_table": task.planner.table(_channels(g, x)),
        "phases": len(PHASES),
        "phase_table": task.planner.table(phases_of_products(g) * g.group_inputs),
        "x_row": 2 * x.row,
        "spacing": 2 * x.pixel,
        "y_row": y.row,
        "y_spacing": y.pixel,
        "positions": len(first),
    }
    _emit(task, x, y, places | columns, _weights(task, source, flipped=False))


def transpose(task: Task, grad: Buffer, grad_x: Buffer, columns: dict[str, int]) -> None:
    """Add the rows of the transpose, one for each phase of the input's pixels."""
    planner, g = task.planner, task.g
    for phase, *sides in transposed_phases(g):
        size = tuple(side.pixels for side in sides)
        first = first_outputs(size)
        sources = first + [side.source for side in sides]
        targets = 2 * first + [side.first for side in sides]
        some = products_of_phase(g, phase) * g.out_channels
        places = {
            "x_table": planner.table(grad.at(*sources.T)),
            "y_table": planner.table(grad_x.at(*targets.T)),
            "strip_table": planner.table(outputs_left(size, first)),
            "tap_table": planner.table(np.arange(g.out_channels) * grad.channel),
            "phases": 1,
            "phase_table": planner.table(np.stack((0 * some, some), axis=1)),
            "x_row": grad.row,
            "spacing": grad.pixel,
            "y_row": 2 * grad_x.row,
            "y_spacing": 2 * grad_x.pixel,
            "positions": len(first),
        }
        found = _weights(task, _kernels(g, phase).T, flipped=True)
        _emit(task, grad, grad_x, places | columns, found)


def _kernels(g: ConvGeometry, phase: tuple[int, int]) -> np.ndarray:
    """A phase of each kernel, [output][input]: index of its first weight, and what it lacks.

    Both are in one number; see ``phase_weight_tile``.
    """
    rows, columns = lacks(g, phase)
    first = np.arange(g.out_channels * g.group_inputs) * g.kernel[0] * g.kernel[1]
    first += phase[0] * g.kernel[1] + phase[1]
    return (4 * first + 2 * rows + columns).reshape(g.out_channels, -1)


def _channels(g: ConvGeometry, x: Buffer) -> np.ndarray:
    """Offsets of the channels of each phase of the input."""
    corners = np.array([down * x.row + along * x.pixel for down, along in PHASES])
    return corners[:, None] + np.arange(g.group_inputs) * x.channel


def _weights(task: Task, source: np.ndarray, flipped: bool) -> dict[str, int]:
    """Request the transform of weights before a run; return the columns that address the result."""
    planner, g = task.planner, task.g
    order = pack_order(source, HEIGHTS)
    padded = whole(order.size, LANES) + STAGGER
    count = points(half(g)) ** 2
    packed = planner.allocate(count * padded)
    values = row(
        records.K_WEIGHTS[half(g)],
        w=packed,
        x=task.weight,
        tap_table=planner.table(order, LANES),
        mode=L.FLIPPED if flipped else L.AS_STORED,
        in_=order.size,
        out=padded,
        x_row=g.kernel[1],
    )
    planner.preparations.append((f"{task.name.split(':')[0]}: transform weights", values))
    return {
        "w": packed,
        "s_table": planner.table(np.arange(count) * padded),
        "in": source.shape[1],
        "channels": source.shape[0],
    }


def _emit(task: Task, x: Buffer, y: Buffer, columns: dict[str, int], found: dict[str, int]) -> None:
    strip, strips = strips_of_unit(columns["positions"])
    places = {"bias": -1, **x.channel_columns("x"), **y.channel_columns("y")} | found | columns
    values = row(records.K_PRODUCT[half(task.g)], **places, taps=strip, groups=strips)
    size = strip_room(found["in"], strip, points(half(task.g)) ** 2)
    size += moment_room(found["channels"])
    task.planner.emit(task.name, task.planner.with_scratch(values, size))


def weight_gradient(task: Task, x: Buffer, grad: Buffer) -> None:
    """Add the rows of the weight gradient."""
    planner, name, g, weight = task
    inputs, outputs, taps = g.group_inputs, g.out_channels, g.kernel[0] * g.kernel[1]
    first = first_outputs(g.output)
    count = whole(outputs, LANES) * inputs
    partial = planner.for_each_block(taps * count)
    products = points(half(g)) ** 2
    channels = len(PHASES) * inputs, outputs
    together = channels_together(channels, (GRADIENT_INPUTS, GRADIENT_OUTPUTS))
    strip = even_strip(len(first), GRADIENT_STRIP // (products * sum(together)))
    values = row(
        records.K_GRADIENT[half(g)],
        **x.map_columns("x", 2),
        **grad.map_columns("y"),
        **partial,
        **{"in": len(PHASES) * inputs},
        taps=strip,
        x_group=together[0],
        groups=together[1],
        positions=len(first),
        channels=outputs,
        kernel_rows=g.kernel[0],
        m_row=g.kernel[1],
        x_table=planner.table(x.at(*(2 * first - g.padding).T)),
        y_table=planner.table(grad.at(*first.T)),
        tap_table=planner.table(_channels(g, x)),
        phase_table=planner.table(phases_of_products(g) * inputs),
        spacing=2 * x.pixel,
    )
    size = phases_gradient_room(products, len(PHASES) * inputs, together, strip, len(first))
    planner.emit(f"{name}: weight gradient", planner.with_scratch(values, size))
    sizes = {"in": count, "channels": outputs, "down": inputs, "taps": taps}
    planner.reductions.append(
        (f"{name}: sum gradients", row(K_REDUCE_KERNELS, w=weight, **partial, **sizes))
    )
