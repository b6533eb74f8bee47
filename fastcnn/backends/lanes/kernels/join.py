"""Kernels that combine two maps, each for one block of 16 samples, and their rows."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import STRIP, base, share
from fastcnn.backends.lanes.kernels.elements import K_NEGATE, elements_reach, numbered_element
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered, per_element
from fastcnn.backends.lanes.planning.rows import element_columns, fused
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena
from fastcnn.codegen import linked, simd

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.shared_forward import SharedForward
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner

LANES = simd.LANES
JOINED = per_element(1, 2, 1)


@linked
def _rectifies(A, P, r, m, c):
    return r[L.RELU]


@linked
def _factor(A, P, r, m, c):
    return simd.load(A, m + c * r[L.M_CHANNEL]), r[L.RELU]


@linked
def _store(A, y, value, relu):
    if relu:
        value = simd.relu(value)
    simd.store(A, y, value)


@linked
def _added(A, x, y, m, relu):
    _store(A, y, simd.add(simd.load(A, x), simd.load(A, m)), relu)


@linked
def _subtracted(A, x, y, m, relu):
    _store(A, y, simd.sub(simd.load(A, x), simd.load(A, m)), relu)


@linked
def _multiplied(A, x, y, m, relu):
    _store(A, y, simd.mul(simd.load(A, x), simd.load(A, m)), relu)


@linked
def _gated(A, x, y, m, factor):
    _store(A, y, simd.mul(simd.load(A, x), factor[0]), factor[1])


@linked
def product_sums(A, T, r, block, slot, part, parts):
    """Y = sum of X * M over each channel's pixels, or with OF_PIXELS over each pixel's channels."""
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    by_pixel = r[L.MODE] == L.OF_PIXELS
    outer, inner = r[L.CHANNELS], r[L.POSITIONS]
    if by_pixel:
        outer, inner = inner, outer
    first, last = share(outer, part, parts)
    for o in range(first, last):
        total = simd.splat(np.float32(0))
        for begin in range(0, inner, STRIP):
            strip = simd.splat(np.float32(0))
            for i in range(begin, min(begin + STRIP, inner)):
                c, p = (i, o) if by_pixel else (o, i)
                x = x0 + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p]
                m = m0 + c * r[L.M_CHANNEL] + T[r[L.M_TABLE] + p]
                strip = simd.add(strip, simd.mul(simd.load(A, x), simd.load(A, m)))
            total = simd.add(total, strip)
        y = y0 + T[r[L.Y_TABLE] + o] if by_pixel else y0 + o * r[L.Y_CHANNEL] + T[r[L.Y_TABLE]]
        simd.store(A, y, total)


def _gate_reach(r: Reach) -> Touches:
    yield from elements_reach("X", "Y")(r)
    factors = r.along(r.count(L.CHANNELS), r[L.M_CHANNEL])
    yield arena("M", r.buffer(L.M) + factors)


def _sums_reach(r: Reach) -> Touches:
    positions = r.count(L.POSITIONS)
    for name in "XM":
        yield r.pixels(name, positions)
    if r.among(L.MODE, (L.OF_CHANNELS, L.OF_PIXELS)) == L.OF_PIXELS:
        yield arena("Y", r.buffer(L.Y) + r.entries(L.Y_TABLE, positions))
    else:
        yield r.pixels("Y", 1)


_ALL: dict[str, Any] = {
    "touches": elements_reach("X", "Y", "M"),
    "given": _rectifies,
    "third": True,
}
K_ADD = numbered_element(_added, "add", JOINED, **_ALL)
K_SUBTRACT = numbered_element(_subtracted, "subtract", JOINED, **_ALL)
K_MULTIPLY = numbered_element(_multiplied, "multiply", JOINED, **_ALL)
K_GATE = numbered_element(
    _gated, "multiply channels", per_element(1, 1, 1), _gate_reach, given=_factor, whole=False
)
K_PRODUCT_SUMS = numbered(
    product_sums, "sums of products", per_element(2, 2, 0), map_sizes, touches=_sums_reach
)


def _same_pixels(x: "Buffer", y: "Buffer") -> bool:
    """Whether two maps have the same height and width."""
    return (x.height, x.width) == (y.height, y.width)


def _product(planner: "Planner", x: "Buffer", m: "Buffer", y: "Buffer", **more: int) -> np.ndarray:
    """The row of Y = X * M, where M may be a factor per channel of X, or per pixel."""
    if m.elements == x.elements:
        return row(K_MULTIPLY, **element_columns(planner, x=x, y=y, m=m), **more)
    if _same_pixels(x, m):
        columns = element_columns(planner, x=x, y=y, m=m) | {"m_channel": 0}
        return row(K_MULTIPLY, **columns, **more)
    columns = element_columns(planner, x=x, y=y) | m.columns("m")
    columns |= {"m": m.offset + int(m.pixels()[0]), "m_channel": m.channel}
    return row(K_GATE, **columns, **more)


def _product_sums(planner: "Planner", x: "Buffer", m: "Buffer", y: "Buffer") -> np.ndarray:
    """The row of Y = X * M, summed over the pixels or channels along which Y has size one."""
    columns = element_columns(planner, x=x, m=m) | element_columns(planner, y=y)
    columns |= {"channels": x.channels, "positions": x.height * x.width}
    return row(K_PRODUCT_SUMS, **columns, mode=L.OF_PIXELS if _same_pixels(x, y) else L.OF_CHANNELS)


def _join(walk: "SharedForward", group: "Group", kernel: int) -> None:
    x, m = walk.joined(group)
    columns = element_columns(walk.planner, x=x, y=walk.output(group), m=m)
    walk.planner.emit(
        f"{group.node.name}: {group.operation}" + fused(group),
        row(kernel, **columns, relu=int(group.relu)),
    )


def _add(walk: "SharedForward", group: "Group") -> None:
    _join(walk, group, K_ADD)


def _add_gradient(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    """Both inputs get the gradient unchanged: the same memory, if the layout allows."""
    grad = walk.rectify(group, grad)
    walk.shared.add(grad.offset)
    for source in group.sources:
        walk.hand_on(group, source, grad)


def _subtract(walk: "SharedForward", group: "Group") -> None:
    _join(walk, group, K_SUBTRACT)


def _subtract_gradient(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    """The unchanged gradient, and its negative."""
    grad = walk.rectify(group, grad)
    first, second = group.sources
    negative = walk.contribution(second)
    if negative is not None:
        columns = element_columns(walk.planner, x=grad, y=negative)
        name = f"{group.node.name}: gradient of the second input"
        walk.planner.emit(name, row(K_NEGATE, **columns))
    walk.hand_on(group, first, grad)


def _multiply(walk: "SharedForward", group: "Group") -> None:
    """Product of two maps, one of which may be a factor per channel or per pixel."""
    x, m = sorted(walk.joined(group), key=lambda buffer: buffer.elements, reverse=True)
    walk.planner.emit(
        f"{group.node.name}: multiply" + fused(group),
        _product(walk.planner, x, m, walk.output(group), relu=int(group.relu)),
    )


def _multiply_gradient(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    """The gradient times the other input, summed where a factor was broadcast."""
    grad = walk.rectify(group, grad)
    for source, other in zip(group.sources, reversed(group.sources), strict=True):
        made, factor = walk.contribution(source), walk.values[other]
        if made is None:
            continue
        if made.elements < grad.elements:
            values = _product_sums(walk.planner, grad, factor, made)
        else:
            values = _product(walk.planner, grad, factor, made)
        walk.planner.emit(f"{group.node.name}: gradient of multiply", values)


lowered("add", forward=_add, backward=_add_gradient, channels=_add, keeps_lanes=True)
lowered(
    "subtract", forward=_subtract, backward=_subtract_gradient, channels=_subtract, keeps_lanes=True
)
lowered(
    "multiply", forward=_multiply, backward=_multiply_gradient, channels=_multiply, keeps_lanes=True
)
