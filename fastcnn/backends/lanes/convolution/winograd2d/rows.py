"""Lowers 3x3 convolutions by Winograd's F(4x4, 3x3) to rows of a program."""

from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry, pack_order
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.convolution.winograd import (
    OUTPUTS,
    STAGGER,
    first_outputs,
    flipped_padding,
    outputs_left,
    tiles,
)
from fastcnn.backends.lanes.convolution.winograd2d import records
from fastcnn.backends.lanes.convolution.winograd2d.gradient_kernels import (
    TILE_PIXELS,
    gradient_room,
)
from fastcnn.backends.lanes.convolution.winograd2d.kernels import (
    MOST_TILES,
    PRODUCTS,
    moment_room,
    strip_room,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided import (
    LARGEST,
    TRANSFORMS,
    Transform,
    first_gradient,
    weights_of_products,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided_gradient_kernels import (
    strided_gradient_room,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import HEIGHTS
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.kernels import carried_floats
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.linear import K_REDUCE_KERNELS
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, whole
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import grid

#: Shares of a block's strips, with separate moments: threads without a block take some of them.
SHARES = 4
#: Vectors of a weight gradient's strip, which leave room for pixels in the second-level cache, the
#: channels of either side that are transformed at a time, and the maximum number of tiles.
GRADIENT_STRIP, GRADIENT_INPUTS, GRADIENT_OUTPUTS, GRADIENT_TILES = 8 * 1024, 32, 256, 4
#: Channel pairs above which many tiles at a time are better than transforms that stay in the
#: second-level cache, as the sums are larger than that, and the vectors of a strip in this case.
LARGE_SUMS, LARGE_STRIP = 128 * 128, 64 * 1024
#: The same with stride 2, where all sums are kept until the last phase.
STRIDED_STRIP, STRIDED_INPUTS, STRIDED_OUTPUTS = 8 * 1024, 64, 64


@dataclass(frozen=True)
class Tiling:
    """A convolution as a product of transforms."""

    #: Shape (outputs, inputs). Index of the first weight of each kernel.
    source: np.ndarray
    padding: tuple[int, ...]
    #: Rows and columns of the output map.
    size: tuple[int, ...]
    #: Rows and columns that a tile writes.
    step: int = OUTPUTS
    transform: Transform = TRANSFORMS[1]
    dilation: tuple[int, ...] = (1, 1)
    #: Whether the kernels are flipped.
    flipped: bool = False

    def first(self) -> np.ndarray:
        """Row and column of the output map at which each tile begins; int (tiles, 2)."""
        return first_outputs(self.size, self.dilation, self.step)

    def left(self) -> np.ndarray:
        """Rows and columns of the output map from each tile's first on; int (tiles, 2)."""
        return outputs_left(self.size, self.first(), self.dilation)

    def pixels(self) -> np.ndarray:
        """Pixels that each tile writes."""
        made: np.ndarray = self.left().clip(max=self.step).prod(axis=1)
        return made

    def places(self, planner: Planner, x: Buffer, y: Buffer) -> dict[str, int]:
        """Columns with the tiles' offsets in X and Y."""
        h, w = self.first().T
        each = OUTPUTS * self.transform.stride // self.step
        corners = x.at(each * h - self.padding[0], each * w - self.padding[1])
        down, along = self.dilation
        return {
            "bias": -1,
            **x.map_columns("x", down),
            **y.map_columns("y", down),
            "in": self.source.shape[1],
            "channels": self.source.shape[0],
            "positions": len(h),
            "x_table": planner.table(corners),
            "y_table": planner.table(y.at(h, w)),
            "strip_table": planner.table(self.left()),
            "spacing": along * x.pixel,
        }


def moment_strips(g: ConvGeometry, pooled: bool) -> list[int]:
    """Pixels of each strip of a product's output."""
    tiling = product_tiling(g, 0, pooled)
    pixels = tiling.pixels()
    strip, strips = strips_of_unit(len(pixels))
    each = strip * strips
    return [int(pixels[first : first + each].sum()) for first in range(0, len(pixels), each)]


def product_tiling(g: ConvGeometry, weight: int, pooled: bool) -> Tiling:
    """The tiling of a convolution's product."""
    transform, kernels = TRANSFORMS[g.stride[0]], _kernels(g, weight)
    if not pooled:
        return Tiling(kernels, g.padding, g.output, OUTPUTS, transform, g.dilation)
    size = (g.output[0] // 2, g.output[1] // 2)
    return Tiling(kernels, g.padding, size, OUTPUTS // 2, transform)


def product(task: Task, x: Buffer, y: Buffer, pooled: bool, columns: dict[str, int]) -> None:
    """Add the row of a convolution of X into Y."""
    planner, name, g, weight = task
    _emit(planner, name, x, y, product_tiling(g, weight, pooled), columns)


def transpose(task: Task, grad: Buffer, grad_x: Buffer, columns: dict[str, int]) -> None:
    """Add the row of the transpose, from the output side to the input side."""
    planner, name, g, weight = task
    if g.stride == (2, 2):
        _emit_strided_adjoint(planner, name, g, weight, grad, grad_x, columns)
        return
    if g.dilation != (1, 1):
        kernels, padding = transposed_kernels(g, weight), flipped_padding(g)
        tiling = Tiling(kernels, padding, g.input, dilation=g.dilation, flipped=True)
        _emit(planner, name, grad, grad_x, tiling, columns)
        return
    columns = adjoint_places(g, grad, grad_x) | columns
    columns |= weights(planner, name, transposed_kernels(g, weight))
    first, windows = first_outputs(g.output), "m" in columns
    left, step = outputs_left(g.output, first), OUTPUTS
    if windows:
        columns["m"] += int(grad.at(0, 0))
        left, step = outputs_left((grad.height, grad.width), first // 2), OUTPUTS // 2
    edge = has_edge(left, step)
    if windows or edge:
        columns["strip_table"] = planner.table(left)
    outputs, inputs = columns["channels"], columns["in"]
    strip = min(MOST_TILES, columns["positions"])
    size = strip_room(inputs, strip, PRODUCTS) + outputs * carried_floats(columns["across"])
    values = row(records.K_WINOGRAD2D_ADJOINT[windows, edge], **columns, taps=strip)
    planner.emit(name, planner.with_scratch(values, size))


def has_edge(left: np.ndarray, step: int) -> bool:
    """Whether any tile has at most half of its rows or columns."""
    return bool((left <= step // 2).any())


def _emit_strided_adjoint(
    planner: Planner,
    name: str,
    g: ConvGeometry,
    weight: int,
    grad: Buffer,
    grad_x: Buffer,
    columns: dict[str, int],
) -> None:
    inputs, outputs = g.out_channels, g.group_inputs
    found = weights(planner, name, transposed_kernels(g, weight), TRANSFORMS[2])
    side = 2 * OUTPUTS
    h, w = grid(*(-(-size // side) for size in g.input))
    top, left = (first_gradient(padding) for padding in g.padding)
    strip = min(MOST_TILES, len(h))
    places = {
        "bias": -1,
        **grad.map_columns("x"),
        **grad_x.map_columns("y"),
        "w": found["w"],
        "s_table": planner.table(weights_of_products(TRANSFORMS[2]) * found["out"]),
        "in": inputs,
        "channels": outputs,
        "positions": len(h),
        "taps": strip,
        "top": g.padding[0],
        "left": g.padding[1],
        "x_table": planner.table(grad.at(OUTPUTS * h + top, OUTPUTS * w + left)),
        "y_table": planner.table(grad_x.at(side * h, side * w)),
        "strip_table": planner.table(np.array(g.input) - side * np.stack((h, w), axis=1)),
    }
    values = row(records.K_WINOGRAD2D_STRIDED_ADJOINT, **places | columns)
    planner.emit(name, planner.with_scratch(values, strip_room(inputs, strip, LARGEST)))


def transposed_kernels(g: ConvGeometry, weight: int) -> np.ndarray:
    """Index of the first weight of each kernel: [input][output]."""
    return _kernels(g, weight).T


def adjoint_places(g: ConvGeometry, grad: Buffer, grad_x: Buffer) -> dict[str, int]:
    """Columns of a transpose's tiles: the product's target is its source X."""
    down, across = (tiles(size) for size in g.output)
    return {
        "bias": -1,
        **grad.map_columns("x"),
        **grad_x.map_columns("y"),
        "x": grad.offset + int(grad.at(0, 0)),
        "y": grad_x.offset + int(grad_x.at(0, 0)),
        "in": g.out_channels,
        "channels": g.group_inputs,
        "positions": down * across,
        "across": across,
        "top": g.padding[0],
        "left": g.padding[1],
        "y_rows": g.input[0],
        "y_width": g.input[1],
    }


def weights(
    planner: Planner,
    name: str,
    source: np.ndarray,
    transform: Transform = TRANSFORMS[1],
    flipped: bool = False,
) -> dict[str, int]:
    """Request the transform of weights before a run; return the columns that address the result."""
    order = pack_order(source, HEIGHTS)
    padded = whole(order.size, LANES) + STAGGER
    packed = planner.allocate(PRODUCTS * padded)
    sizes: dict[str, int] = {"in": order.size, "out": padded, "down": transform.stride}
    table = planner.table(order, LANES)
    mode = L.FLIPPED if flipped else L.AS_STORED
    values = row(records.K_WINOGRAD2D_WEIGHTS, w=packed, tap_table=table, mode=mode, **sizes)
    planner.preparations.append((f"{name.split(':')[0]}: transform weights", values))
    return {"w": packed, "out": padded}


def _kernels(g: ConvGeometry, first: int) -> np.ndarray:
    """Index of a weight of each kernel: [output][input]."""
    return first + 9 * np.arange(g.out_channels * g.group_inputs).reshape(g.out_channels, -1)


def _emit(
    planner: Planner, name: str, x: Buffer, y: Buffer, tiling: Tiling, columns: dict[str, int]
) -> None:
    transform = tiling.transform
    found = weights(planner, name, tiling.source, transform, tiling.flipped)
    of_products = planner.table(weights_of_products(transform) * found["out"])
    common = {"w": found["w"], "s_table": of_products, "down": transform.stride}
    common |= tiling.places(planner, x, y) | columns
    strip, strips = strips_of_unit(common["positions"])
    edge = transform.stride == 1 and has_edge(tiling.left(), tiling.step)
    kernel = records.K_WINOGRAD2D[edge, tiling.dilation != (1, 1)]
    values = row(kernel, **common, taps=strip, groups=strips)
    size = strip_room(common["in"], strip, transform.products)
    size += moment_room(common["channels"])
    planner.emit(name, planner.with_scratch(values, size))


def weight_gradient(
    task: Task,
    x: Buffer,
    grad: Buffer,
    biases: dict[str, int] | None = None,
    winners: dict[str, int] | None = None,
) -> None:
    """Add the rows of the weight gradient, and of the biases'; GRAD may be that of windows."""
    planner, name, g, weight = task
    inputs, outputs = g.group_inputs, g.out_channels
    stride = g.stride[0]
    first = first_outputs(g.output, g.dilation)
    count = whole(outputs, LANES) * inputs
    partial = planner.for_each_block(9 * count)
    sizes: dict[str, int] = {"in": count}
    # Threads without a block of their own share the six rows of one, or its four phases.
    own = planner.blocks % planner.workers == 0
    if stride == 1:
        together = channels_together((inputs, outputs), (GRADIENT_INPUTS, GRADIENT_OUTPUTS))
        large = inputs * together[1] > LARGE_SUMS
        most, vectors = (len(first), LARGE_STRIP) if large else (GRADIENT_TILES, GRADIENT_STRIP)
        strip = even_strip(len(first), min(vectors // (PRODUCTS * sum(together)), most))
        size = gradient_room(inputs, together, strip, len(first), own)
    else:
        together = channels_together((inputs, outputs), (STRIDED_INPUTS, STRIDED_OUTPUTS))
        vectors = LARGEST * sum(together) + TILE_PIXELS * together[1]
        strip = even_strip(len(first), STRIDED_STRIP // vectors)
        size = strided_gradient_room(inputs, together, strip, own)
    pooled = 2 if winners else 1
    more: dict[str, int] = {"bias": -1} if stride == 1 else {}
    if biases:
        more = {"bias": biases["extra"], "z_block": biases["extra_block"]}
    left = outputs_left(g.output, first, g.dilation)
    if winners:
        left = outputs_left((grad.height, grad.width), first // pooled)
        more |= winners
    edge = stride == 1 and has_edge(left, OUTPUTS // pooled)
    if edge:
        rows, columns = (left <= OUTPUTS // pooled // 2).T
        # The tiles of each product are contiguous.
        order = np.argsort(np.where(rows, 2 + columns, 1 - columns), kind="stable")
        first, left = first[order], left[order]
    if winners or edge:
        more["strip_table"] = planner.table(left)
    (h, w), (down, along) = first.T, g.dilation
    kernel = records.K_WINOGRAD2D_STRIDED_GRADIENT
    if stride == 1:
        kernel = records.K_WINOGRAD2D_GRADIENT[winners is not None, edge, g.dilation != (1, 1)]
    gradient = row(
        kernel,
        **x.map_columns("x", down),
        **grad.map_columns("y", down),
        **partial,
        **more,
        taps=strip,
        x_group=together[0],
        groups=together[1],
        positions=len(h),
        channels=outputs,
        x_table=planner.table(x.at(stride * h - g.padding[0], stride * w - g.padding[1])),
        y_table=planner.table(grad.at(h // pooled, w // pooled)),
        spacing=along * x.pixel,
        **{"in": inputs},
    )
    planner.emit(f"{name}: weight gradient", planner.with_scratch(gradient, size))
    if not own:
        # Products of one weight must not all map to one cache set.
        gradient[L.OUT] = count + STAGGER
        columns = partial | sizes | {"out": count + STAGGER, "down": stride}
        values = row(records.K_WINOGRAD2D_WEIGHT_GRADIENT, **columns)
        planner.emit(f"{name}: weight gradient, transformed back", values)
        planner.pass_on(gradient, values, PRODUCTS * (count + STAGGER))
    sizes |= {"channels": outputs, "down": inputs, "taps": 9}
    values = row(K_REDUCE_KERNELS, w=weight, **partial, **sizes)
    planner.reductions.append((f"{name}: sum gradients", values))


def channels_together(channels: tuple[int, int], most: tuple[int, int]) -> tuple[int, int]:
    """Channels of either side that a weight gradient processes at a time."""
    return min(whole(channels[0], LANES), most[0]), min(whole(channels[1], LANES), most[1])


def even_strip(tiles: int, most: int) -> int:
    """Tiles of a strip, if possible at most some: all strips but the last have as many."""
    strip = max(1, min(most, tiles))
    return -(-tiles // -(-tiles // strip))


def strips_of_unit(tiles: int) -> tuple[int, int]:
    """Tiles of a strip, and strips of a unit: a block has four shares or more."""
    strip = min(MOST_TILES, tiles)
    return strip, max(1, -(-tiles // strip) // SHARES)
