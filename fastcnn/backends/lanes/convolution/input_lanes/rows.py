"""Lowers weight gradients whose vectors hold input channels to rows."""

import numpy as np

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.input_lanes.kernels import PIXEL
from fastcnn.backends.lanes.convolution.input_lanes.records import K_GRADIENT
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.convolution.winograd import STAGGER
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.linear import K_REDUCE, K_REDUCE_KERNELS
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.strips import LEAST, Access, strip_count, strip_of

#: Floats of a strip's inputs and gradients, which stay in the second-level cache.
STRIP = 128 * 1024
#: Taps from which 16 channels of a strip at a time are enough.
MANY_TAPS = 9


def _read(g: ConvGeometry, axis: int) -> tuple[int, int, np.ndarray]:
    """Rows (or columns) of the input that any output reads.

    Preceded by their distance from one output to the next, and from one tap to the next.
    """
    kernel, stride, dilation = g.kernel[axis], g.stride[axis], g.dilation[axis]
    if stride > (kernel - 1) * dilation:
        output, tap = kernel, 1
        index = np.arange(g.output[axis] * kernel)
        places = index // kernel * stride + index % kernel * dilation
    else:
        common = int(np.gcd(stride, dilation))
        output, tap = stride // common, dilation // common
        places = np.arange((g.output[axis] - 1) * output + (kernel - 1) * tap + 1) * common
    return output, tap, places - g.padding[axis]


def weight_gradient(
    task: Task, x: Buffer, grad: Buffer, biases: dict[str, int] | None = None
) -> None:
    """Add the rows of the weight gradient, and of the bias gradient."""
    planner, name, g, weight = task
    inputs, outputs, taps = g.group_inputs, g.out_channels, g.kernel[0] * g.kernel[1]
    (down, tap_down, rows), (along, tap_along, columns) = _read(g, 0), _read(g, 1)
    height, width = g.output
    together = 1 if taps >= MANY_TAPS else min(inputs // LANES, -(-MANY_TAPS // taps))
    deep = (g.kernel[0] - 1) * tap_down + 1
    # Floats of one row of outputs.
    each = LANES * (down * len(columns) * together * LANES + width * outputs)
    high = max(1, min(STRIP // each, height))
    high = -(-height // -(-height // high))
    tops = np.arange(0, height, high)
    heights = np.minimum(high, height - tops)
    size = (down * (heights - 1) + deep) * len(columns)
    strips = [tops * width, heights * width, tops * down * len(columns), size]
    room = int(size.max()) * PIXEL + STAGGER
    h, w = np.mgrid[:high, :width]
    kernel_rows, kernel_columns = np.mgrid[: g.kernel[0], : g.kernel[1]]
    inside = (kernel_rows * tap_down * len(columns) + kernel_columns * tap_along).ravel()
    group = np.arange(together)[:, None]
    sums = np.arange(taps) * LANES
    count = outputs * inputs
    partial = planner.for_each_block(taps * count)
    pixels = x.at(*np.meshgrid(rows, columns, indexing="ij")).ravel()
    positions = grad.pixels()
    table = np.stack(strips, axis=1)
    parts = strip_count(min(height * width // LEAST, len(tops)), x, grad)
    common = dict(
        **x.channel_columns("x"),
        **grad.channel_columns("y"),
        **partial,
        m=biases["extra"] if biases else -1,
        m_block=biases["extra_block"] if biases else 0,
        channels=outputs,
        taps=taps,
        groups=together,
        x_table=planner.table(pixels),
        y_table=planner.table(positions),
        s_table=planner.table((h * down * len(columns) + w * along) * PIXEL),
        tap_table=planner.table(group * room + inside * PIXEL),
        m_table=planner.table(group * LANES * taps + sums),
        in_=inputs,
    )

    def strips_row(first: int, last: int) -> np.ndarray:
        own = np.concatenate([strip_of(table, i, parts) for i in range(first, last)])
        some = {"positions": len(own), "strip_table": planner.table(own), "adds": first > 0}
        return planner.with_scratch(row(K_GRADIENT, **common, **some), together * room)

    accesses = []
    for index in range(parts):
        p0, counts, q0, sizes = strip_of(table, index, parts).T
        read = pixels[q0[0] : q0[-1] + sizes[-1]], positions[p0[0] : p0[-1] + counts[-1]]
        accesses.append([Access.of(x, read[0]), Access.of(grad, read[1])])
    planner.emit_strips(f"{name}: weight gradient", accesses, strips_row)
    if taps == 1:
        values = row(K_REDUCE, w=weight, **partial, out=count)
    else:
        sizes = {"in_": count, "taps": taps, "channels": count, "down": 1}
        values = row(K_REDUCE_KERNELS, w=weight, **partial, **sizes)
    planner.reductions.append((f"{name}: sum gradients", values))
