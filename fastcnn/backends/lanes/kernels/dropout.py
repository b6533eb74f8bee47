"""The kernel of dropout, for one block of 16 samples."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.counter_random import drop_threshold, kept_factor
from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.elements import copy, elements_reach, run_length
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered, per_element
from fastcnn.backends.lanes.planning.rows import element_columns
from fastcnn.codegen import linked, simd
from fastcnn.operations import OPERATIONS

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner

LANES = simd.LANES


@linked
def splitmix64(value):
    """See counter_random.py."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@linked
def dropout_key(seed, step, node):
    """See counter_random.py."""
    key = splitmix64(np.uint64(seed))
    key = splitmix64(key ^ np.uint64(step))
    return np.int64(splitmix64(key ^ np.uint64(node)))


@linked
def dropout(A, T, r, seed, step, first_sample, block, slot, part, parts):
    """Zero elements whose hash is below the threshold, scale the others; forward and backward.

    With MODE 1, all elements of a channel share one hash. With THRESHOLD 0 all are scaled.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    positions, channelwise = r[L.POSITIONS], r[L.MODE] == 1
    key = dropout_key(seed, step, r[L.KEY])
    run = run_length(T, r, False)
    run = min(run, positions) if channelwise else run
    hashes = r[L.CHANNELS] if channelwise else r[L.CHANNELS] * positions
    counter = (first_sample + block * LANES) * hashes
    one, scale, threshold = simd.splat(np.float32(1)), simd.splat(A[r[L.SCALE]]), r[L.THRESHOLD]
    e, last = share(r[L.CHANNELS] * positions, part, parts)
    c, p, count = e // positions, e % positions, run - e % run
    while e < last:
        count = min(count, last - e)
        x = x0 + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p]
        y = y0 + c * r[L.Y_CHANNEL] + T[r[L.Y_TABLE] + p]
        if channelwise and threshold:
            kept = simd.keep_random(counter + c, hashes, key, threshold, one)
            for i in range(0, count * LANES, LANES):
                value = simd.mul(simd.load(A, x + i), scale)
                simd.store(A, y + i, simd.keep_positive(kept, value))
        else:
            for i in range(count):
                value = simd.mul(simd.load(A, x + i * LANES), scale)
                if threshold:
                    value = simd.keep_random(counter + e + i, hashes, key, threshold, value)
                simd.store(A, y + i * LANES, value)
        e, p, count = e + count, p + count, run
        if p == positions:
            c, p = c + 1, 0


K_DROPOUT = numbered(
    dropout, "dropout", per_element(1, 1, 1), map_sizes, touches=elements_reach("X", "Y", numbers=1)
)


def _row(planner: "Planner", group: "Group", x: "Buffer", y: "Buffer") -> np.ndarray:
    """The row of dropout; the key of its mask is the node's index in the graph."""
    p = group.node.arguments["p"]
    return row(
        K_DROPOUT,
        **element_columns(planner, x=x, y=y),
        key=planner.number(group),
        threshold=drop_threshold(p),
        scale=planner.constant([kept_factor(p)]),
        mode=L.WHOLE_CHANNELS if group.operation == "dropout2d" else L.ELEMENTS,
    )


def _forward(walk: "Forward", group: "Group") -> None:
    """In place if nothing else needs the input; outside training the same memory, or a copy where
    halos differ."""
    planner, x = walk.planner, walk.values[group.source]
    same = planner.halo(group.target) == x.halo
    if same and (not planner.training or _is_free(walk, group.source)):
        walk.values[group.target] = x
    y = walk.output(group)
    if planner.training:
        planner.emit(f"{group.node.name}: {group.operation}", _row(planner, group, x, y))
    elif y is not x:
        copy(planner, group.node.name, x, y)


def _is_free(walk: "Forward", source: int) -> bool:
    """Whether a node's only reader may overwrite its output with zeros and multiples.

    The backward pass only reads which elements of a ReLU's output are positive.
    """
    planner = walk.planner
    while planner.turns and len(planner.readers[source]) == 1 and not planner.is_joined(source):
        maker = planner.makers.get(source)
        if maker is None:
            return False
        renames = OPERATIONS[maker.operation].renames
        if not renames or walk.values[maker.source].offset != walk.values[source].offset:
            return not OPERATIONS[maker.operation].gradient_reads_output
        source = maker.source
    return False


def _backward(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    """Apply the forward mask, in place unless the gradient has other readers."""
    source = group.source
    if not walk.planner.training:
        walk.renamed(group, grad)
        return
    grad_x: Buffer | None = grad
    if source == INPUT or grad.offset in walk.shared or not walk.fits(source, grad):
        grad_x = walk.wanted(group)
    elif walk.is_needed(source):
        walk.contributions.setdefault(source, []).append(grad)
    else:
        grad_x = None
    if grad_x is None:
        return
    values = _row(walk.planner, group, grad, grad_x)
    walk.planner.emit(f"{group.node.name}: gradient of {group.operation}", values)
    if group.target in walk.masked:
        # The output's zeros, which include all dropped elements, have masked the gradient.
        values[L.THRESHOLD] = 0
        walk.masked.add(source)


def _channels(walk: "ChannelForward", group: "Group") -> None:
    walk.rename(group)


lowered("dropout", "dropout2d", forward=_forward, backward=_backward, channels=_channels)
