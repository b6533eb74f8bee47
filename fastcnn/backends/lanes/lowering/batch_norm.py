"""Lowers batch normalisation to rows."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.convolution.channel_direct import rows as channel_rows
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels import norm
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.planning import rows
from fastcnn.backends.lanes.planning.buffers import Buffer
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward
    from fastcnn.backends.lanes.planning.planner import Planner


def _forward(walk: "Forward", group: Group) -> None:
    """Batch normalisation, by the statistics of the batch or by the running ones."""
    planner, node = walk.planner, group.node
    x, y = walk.values[group.source], walk.output(group)
    # Scale, shift, mean, 1 / std, and two coefficients of the backward pass.
    statistics = planner.allocate(6 * x.channels)
    planner.statistics[group.target] = statistics
    running = -1
    if node.arguments["track_running_stats"]:
        key = node.buffers["running_mean"]
        if key not in planner.running:
            planner.running[key] = planner.allocate(2 * x.channels), x.channels
        running = planner.running[key][0]
    of_batch = node.takes_batch_statistics(planner.training)
    columns = {
        "channels": x.channels,
        "positions": x.height * x.width,
        "batch": statistics,
        "running": running,
        "w": rows.parameter_offset(planner, group, "weight"),
        "bias": rows.parameter_offset(planner, group, "bias"),
        "scale": planner.constant([rows.stored_eps(node), node.arguments["momentum"] or 0.0]),
        "mode": L.OF_BATCH if of_batch else L.FROZEN,
    }
    name = f"{node.name}: batch normalisation"
    if of_batch:
        if group.source in walk.moments:
            columns |= walk.moments[group.source]
        else:
            columns |= planner.for_each_block(2 * x.channels)
            _emit(planner, f"{name}, sums", norm.K_NORM_SUMS, columns, "", x=x)
        planner.emit(f"{name}, statistics", row(norm.K_NORM_STATISTICS, **columns), whole=True)
    else:
        planner.preparations.append((f"{name}, statistics", row(norm.K_NORM_STATISTICS, **columns)))
    kernel, buffers = norm.K_NORM, {"x": x, "y": y}
    if group.adds:
        kernel, buffers["m"] = norm.K_NORM_ADD, walk.values[group.sources[1]]
    columns = {"batch": statistics, "relu": int(group.relu)}
    _emit(planner, name + rows.fused(group), kernel, columns, "y", **buffers)


def _emit(
    planner: "Planner",
    name: str,
    kernel: int,
    columns: dict[str, int],
    written: str,
    **buffers: Buffer,
) -> None:
    """Add a row over all elements of some buffers, of which ``written`` is overwritten."""
    channels = buffers["x"].channels

    def some(first: int, last: int) -> np.ndarray:
        own = {name: buffer.part(first, last - first) for name, buffer in buffers.items()}
        places = {name: columns[name] + first for name in ("batch", "extra") if name in columns}
        return row(kernel, **columns | rows.element_columns(planner, **own) | places, out=channels)

    maps = [(buffer, name == written) for name, buffer in buffers.items()]
    planner.emit_channels(name, channels, maps, some)


def _backward(walk: "Backward", group: Group, grad: Buffer, other: Buffer | None = None) -> None:
    """Two passes; the first also adds two gradients, and masks them by a sum's ReLU."""
    planner, node = walk.planner, group.node
    masks = group.adds and group.relu and group.target not in walk.masked
    trains = any(walk.trains(group, name) for name in ("weight", "bias"))
    trains = trains or walk.is_needed(group.source)
    if not trains or (other is not None and grad.offset in walk.shared):
        grad, other = walk.collected(group.target), None
    if masks and (not trains or grad.offset in walk.shared):
        grad, masks = walk.rectify(group, grad), False
    if trains:
        of_batch = node.takes_batch_statistics(planner.training)
        columns = {
            "batch": planner.statistics[group.target],
            "relu": int(group.relu and not group.adds),
            **planner.for_each_block(2 * walk.values[group.source].channels),
            "w": rows.gradient_offset(planner, group, "weight"),
            "bias": rows.gradient_offset(planner, group, "bias"),
            "mode": L.OF_BATCH if of_batch else L.FROZEN,
        }
        _sums(walk, group, columns, grad, other, masks)
        if masks or other is not None:
            columns["relu"] = 0
    if group.adds:
        walk.shared.add(grad.offset)
        walk.hand_on(group, group.sources[1], grad)
    if trains:
        _gradient(walk, group, columns, grad)


def _sums(
    walk: "Backward",
    group: Group,
    columns: dict[str, int],
    grad: Buffer,
    other: Buffer | None,
    masks: bool,
) -> None:
    """The sums of the first pass; with a summand or a mask it stores the gradient, too."""
    buffers, kernel = {"x": walk.values[group.source], "y": grad}, norm.K_NORM_GRADIENT_SUMS
    if other is not None or masks:
        kernel = norm.K_NORM_JOINED_GRADIENT_SUMS
        columns = columns | {"mode": L.MASKED if masks else L.PLAIN, "adds": int(other is not None)}
    if masks:
        buffers["m"] = walk.values[group.target]
    if other is not None:
        buffers["z"] = other
    name = f"{group.node.name}: gradient of batch normalisation, "
    name += "sum and " if other is not None else ""
    name += "ReLU and " if masks else ""
    written = "y" if kernel == norm.K_NORM_JOINED_GRADIENT_SUMS else ""
    _emit(walk.planner, f"{name}sums", kernel, columns, written, **buffers)


def _gradient(walk: "Backward", group: Group, columns: dict[str, int], grad: Buffer) -> None:
    """The statistics and the second pass."""
    planner, x = walk.planner, walk.values[group.source]
    name = f"{group.node.name}: gradient of batch normalisation"
    sizes = {"channels": x.channels, "positions": x.height * x.width}
    statistics = row(norm.K_NORM_GRADIENT_STATISTICS, **sizes, **columns)
    if columns["mode"] == L.OF_BATCH:
        planner.emit(f"{name}, statistics", statistics, whole=True)
    else:
        planner.reductions.append((f"{name}, statistics", statistics))
    grad_x = walk.wanted(group)
    if grad_x is not None:
        _emit(planner, name, norm.K_NORM_GRADIENT, columns, "z", x=x, y=grad, z=grad_x)


def _channels(walk: "ChannelForward", group: Group) -> None:
    """Batch normalisation that is not folded into a layer before it: a scale and an offset."""
    node, planner = group.node, walk.planner
    if not node.arguments["track_running_stats"]:
        raise Unsupported("this batch normalisation with a channel in each lane")
    mean, variance = (
        planner.state[node.buffers[name]].astype(np.float64)
        for name in ("running_mean", "running_var")
    )
    weight, bias = planner.parameter(group, "weight"), planner.parameter(group, "bias")
    scale = (1.0 if weight is None else weight) / np.sqrt(variance + node.arguments["eps"])
    shift = (0.0 if bias is None else bias) - mean * scale
    (x,), y = walk.joined(group), walk.output(group)
    name = f"{node.name}: batch normalisation" + rows.fused(group)
    lanes = walk.lanes[group.target]
    work = channel_rows.Sum(name, x, y, scale[:, None], shift, walk.rectifier(group), lanes=lanes)
    channel_rows.depthwise(planner, work, x.pixels(), np.zeros(1))


lowered("batch_norm", forward=_forward, backward=_backward, channels=_channels, keeps_lanes=True)
