"""Kernels of softmax and log-softmax, each for one block of 16 samples.

Sets and tables are those of sets.py. MODE LOGARITHM selects log-softmax.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.channel_sets import channel_set_rows
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.record import numbered
from fastcnn.backends.lanes.kernels.sets import (
    group_sets,
    set_columns,
    set_elements,
    set_sizes,
    sets_reach,
)
from fastcnn.codegen import linked, simd
from fastcnn.codegen.elementary import exp, log

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group


@linked
def softmax(A, T, r, block, slot, part, parts):
    """Y = exp(X - largest) / their sum, or the logarithm of that."""
    sets, members = r[L.GROUPS], r[L.POSITIONS]
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    xs, ys = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    inner, inner_y = xs[sets:], ys[sets:]
    first, last = share(sets, part, parts)
    for s in range(first, last):
        x, y = x0 + xs[s], y0 + ys[s]
        largest = simd.load(A, x + inner[0])
        for k in range(1, members):
            largest = simd.maximum(largest, simd.load(A, x + inner[k]))
        total = simd.splat(np.float32(0))
        if r[L.MODE] == L.LOGARITHM:
            for k in range(members):
                total = simd.add(total, exp(simd.sub(simd.load(A, x + inner[k]), largest)))
            level = log(total)
            for k in range(members):
                value = simd.sub(simd.load(A, x + inner[k]), largest)
                simd.store(A, y + inner_y[k], simd.sub(value, level))
        else:
            for k in range(members):
                value = exp(simd.sub(simd.load(A, x + inner[k]), largest))
                simd.store(A, y + inner_y[k], value)
                total = simd.add(total, value)
            inverse = simd.div(simd.splat(np.float32(1)), total)
            for k in range(members):
                at = y + inner_y[k]
                simd.store(A, at, simd.mul(simd.load(A, at), inverse))


@linked
def softmax_gradient(A, T, r, block, slot, part, parts):
    """The input's gradient Z from the output X and its gradient Y."""
    sets, members = r[L.GROUPS], r[L.POSITIONS]
    x0, y0, z0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.Z, block, slot)
    xs, ys, zs = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.Z_TABLE] :]
    inner, inner_y, inner_z = xs[sets:], ys[sets:], zs[sets:]
    first, last = share(sets, part, parts)
    for s in range(first, last):
        x, y, z = x0 + xs[s], y0 + ys[s], z0 + zs[s]
        total = simd.splat(np.float32(0))
        if r[L.MODE] == L.LOGARITHM:
            for k in range(members):
                total = simd.add(total, simd.load(A, y + inner_y[k]))
            for k in range(members):
                chance = exp(simd.load(A, x + inner[k]))
                grad = simd.load(A, y + inner_y[k])
                simd.store(A, z + inner_z[k], simd.sub(grad, simd.mul(chance, total)))
        else:
            for k in range(members):
                grad = simd.load(A, y + inner_y[k])
                total = simd.fma(grad, simd.load(A, x + inner[k]), total)
            for k in range(members):
                grad = simd.sub(simd.load(A, y + inner_y[k]), total)
                simd.store(A, z + inner_z[k], simd.mul(grad, simd.load(A, x + inner[k])))


K_SOFTMAX = numbered(
    softmax, "softmax", set_elements(4, 1), set_sizes, touches=sets_reach("X", "Y")
)
K_GRADIENT = numbered(
    softmax_gradient,
    "gradient of softmax",
    set_elements(4, 2),
    set_sizes,
    touches=sets_reach("X", "Y", "Z"),
)


def _forward(walk: "Forward", group: "Group") -> None:
    sets = group_sets(group)
    x, y = walk.values[group.source], walk.output(group)
    columns = set_columns(walk.planner, sets, sets.axes, x=x, y=y)
    walk.planner.emit(
        f"{group.node.name}: {group.operation}", row(K_SOFTMAX, **columns, mode=_mode(group))
    )


def _backward(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    grad_x, sets = walk.wanted(group), group_sets(group)
    if grad_x is not None:
        y = walk.values[group.target]
        columns = set_columns(walk.planner, sets, sets.axes, x=y, y=grad, z=grad_x)
        walk.planner.emit(
            f"{group.node.name}: gradient of {group.operation}",
            row(K_GRADIENT, **columns, mode=_mode(group)),
        )


def _channels(walk: "ChannelForward", group: "Group") -> None:
    channel_set_rows(walk, group, in_=1, mode=_mode(group))


def _mode(group: "Group") -> int:
    return L.LOGARITHM if group.operation == "log_softmax" else L.PROBABILITY


lowered("softmax", "log_softmax", forward=_forward, backward=_backward, channels=_channels)
