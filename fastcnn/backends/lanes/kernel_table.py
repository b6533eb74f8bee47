"""The table of kernels: for each, its name and what a row asks of it: sizes, tile, work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastcnn.backends.lanes import conv_kernels as conv
from fastcnn.backends.lanes import dispatcher
from fastcnn.backends.lanes import element_kernels as elements
from fastcnn.backends.lanes import input_kernels as inputs
from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes import linear_kernels as dense
from fastcnn.backends.lanes import loss_kernels as losses
from fastcnn.backends.lanes import norm_kernels as norm
from fastcnn.backends.lanes import optimizer_kernels as optimizers
from fastcnn.backends.lanes import output_kernels as outputs
from fastcnn.backends.lanes import pixel_kernels as single
from fastcnn.backends.lanes import pool_kernels as pooling
from fastcnn.backends.lanes import winograd1d_kernels as winograd1d
from fastcnn.backends.lanes import winograd2d_kernels as winograd2d
from fastcnn.backends.lanes import winograd_costs as winograd
from fastcnn.backends.lanes.buffers import LANES
from fastcnn.backends.lanes.context import kernel_entry
from fastcnn.backends.lanes.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernel_reach import REACHES
from fastcnn.backends.lanes.reach import Reach, Touches
from fastcnn.codegen.build import Source
from fastcnn.codegen.entry import ArgumentEntry
from fastcnn.codegen.target import blocking, tile_heights


@dataclass(frozen=True)
class Kernel:
    """One line of the table.

    Attributes
    ----------
    function : Linked
        Its parameters name what it gets; see context.py.
    name : str
    cost : callable
        From a :class:`Row` to its :class:`Cost`.
    sizes : callable
        From a :class:`Row` to text.
    tile : callable
        From a :class:`Row` to the largest register tile that it uses, or ``""``.
    fixed : mapping of str to number
        Parameters that have one value in this kernel.
    many : bool
        Whether a row had better take many blocks at once.
    symbol : str
        Of the compiled function, where it is not that of the function and its fixed parameters.
    origin : (str, str, list), optional
        How another process gets what is compiled; see :class:`~fastcnn.codegen.build.Source`.
    reach : callable, optional
        From a :class:`~fastcnn.backends.lanes.reach.Reach` to what a row touches.
    """

    function: Any
    name: str
    cost: Callable[[Row], Cost]
    sizes: Callable[[Row], str]
    tile: Callable[[Row], str] = field(default=lambda r: "")
    fixed: Mapping[str, Any] = field(default_factory=dict)
    many: bool = False
    symbol: str = ""
    origin: tuple[str, str, list[Any]] | None = None
    reach: Callable[[Reach], Touches] | None = None


def _input(r: Row) -> Cost:
    pixels = r[L.IN]
    return Cost(2 * pixels * r.batch, pixels * r.batch, FLOAT_BYTES * LANES * pixels * r.blocks)


def _pack(r: Row) -> Cost:
    return Cost(0, 2 * FLOAT_BYTES * r[L.TAPS], FLOAT_BYTES * r[L.TAPS])


def _input_vectors(r: Row) -> int:
    """Vectors of its input that a convolution reads: each once, whichever taps meet there."""
    pixels = r.table(L.X_TABLE, r[L.POSITIONS]) // LANES
    taps = r.table(L.TAP_TABLE, r[L.TAPS]) // LANES
    if not len(pixels) or not len(taps):
        return 0
    seen = np.zeros(int(pixels.max()) + int(taps.max()) + 1, np.bool_)
    for tap in taps:
        seen[pixels + tap] = True
    return r[L.GROUPS] * int(seen.sum())


def _weights(r: Row) -> int:
    return r[L.GROUPS] * r[L.CHANNELS] * r[L.TAPS]


def _convolution(r: Row) -> Cost:
    pooled, masked = r[L.MODE] == L.POOLED, r[L.MODE] == L.MASKED
    outputs = r.elements // (4 if pooled else 1)
    read = _input_vectors(r) + (outputs if masked else 0)
    written = 2 * outputs if pooled else outputs
    weights = _weights(r)
    return r.cost(2 * r.elements * r[L.TAPS], read, written, parameters_read=weights)


def _weight_gradient(r: Row) -> Cost:
    pooled = r[L.MODE] == L.POOLED
    read = _input_vectors(r) + r.elements // (2 if pooled else 1)
    flops = r.elements * (2 * r[L.TAPS] + (1 if pooled else 0))
    return r.cost(flops, read, 0, partial=_weights(r))


def _windows(r: Row) -> int:
    """Vectors of a channel that lie in some window of an average pooling."""
    rows = r.table(L.TAP_TABLE, r[L.POSITIONS] * (r[L.TAPS] + 1)).reshape(-1, r[L.TAPS] + 1)
    inside = np.arange(r[L.TAPS]) < rows[:, :1]
    return len(np.unique(rows[:, 1:][inside]))


def _max_pool(r: Row) -> Cost:
    read = r[L.CHANNELS] * len(np.unique(r.table(L.TAP_TABLE, r[L.POSITIONS] * r[L.TAPS])))
    return r.cost(r.elements * (r[L.TAPS] - 1), read, 2 * r.elements)


def _max_pool_backward(r: Row) -> Cost:
    return r.cost(r.elements * r[L.TAPS], 2 * r.elements, r[L.CHANNELS] * r[L.IN])


def _avg_pool(r: Row) -> Cost:
    return r.cost(r.elements * r[L.TAPS], r[L.CHANNELS] * _windows(r), r.elements)


def _avg_pool_backward(r: Row) -> Cost:
    return r.cost(r.elements * r[L.TAPS], r.elements, r[L.CHANNELS] * r[L.IN])


def _unpool(r: Row) -> Cost:
    return r.cost(4 * r.elements, 2 * r.elements, 4 * r.elements, partial=r[L.CHANNELS])


def _linear(r: Row) -> Cost:
    weights = r[L.IN] * r[L.OUT]
    read = r[L.IN] + (r[L.OUT] if r[L.MODE] == L.MASKED else 0)
    return r.cost(2 * weights, read, r[L.OUT], parameters_read=weights)


def _outer(r: Row) -> Cost:
    weights = r[L.IN] * r[L.OUT]
    return r.cost(2 * weights, r[L.IN] + r[L.OUT], 0, parameters_written=weights)


def _reduce(r: Row) -> Cost:
    size = r[L.OUT]
    return Cost(size * (r.blocks - 1), FLOAT_BYTES * size * r.blocks, FLOAT_BYTES * size)


def _sum_places(r: Row) -> Cost:
    return Cost(r[L.OUT], 2 * FLOAT_BYTES * r[L.OUT], FLOAT_BYTES * r[L.OUT])


def _statistics(floats_read: int, floats_written: int) -> Callable[[Row], Cost]:
    """Work over channels: floats read of each block, and written for each channel."""

    def cost(r: Row) -> Cost:
        channels = r[L.CHANNELS]
        read = channels * floats_read * r.blocks
        return Cost(8 * read, FLOAT_BYTES * read, FLOAT_BYTES * channels * floats_written)

    return cost


def elements_cost(
    flops: int, read: int, written: int, partial: int = 0, mask: bool = False
) -> Callable[[Row], Cost]:
    """Work on each element; ``partial`` floats a channel and block; a mask is read with RELU."""

    def cost(r: Row) -> Cost:
        n = r.elements
        reads = read + (1 if mask and r[L.RELU] else 0)
        return r.cost(flops * n, reads * n, written * n, partial=partial * r[L.CHANNELS])

    return cost


def _vector(flops: int, read: int, written: int) -> Callable[[Row], Cost]:
    """Work on each of IN numbers of a sample."""
    return lambda r: r.cost(flops * r[L.IN], read * r[L.IN], written * r[L.IN])


def _single(read: int, written: int) -> Callable[[Row], Cost]:
    """Floats of one sample that are copied, or set."""
    return lambda r: Cost(0, FLOAT_BYTES * read * r.elements, FLOAT_BYTES * written * r.elements)


def _matrix_vector(r: Row) -> Cost:
    weights = r[L.IN] * r[L.OUT]
    return Cost(2 * weights, FLOAT_BYTES * (weights + r[L.IN]), FLOAT_BYTES * r[L.OUT])


def map_sizes(r: Row) -> str:
    return f"{r[L.CHANNELS]} x {r[L.POSITIONS]}"


def _window_sizes(r: Row) -> str:
    return f"{map_sizes(r)}, {r[L.TAPS]} taps"


def _conv_sizes(r: Row) -> str:
    groups = f", {r[L.GROUPS]} groups" if r[L.GROUPS] > 1 else ""
    channels = r[L.GROUPS] * r[L.CHANNELS]
    return f"{channels} x {r[L.POSITIONS]}, {r[L.TAPS]} taps{groups}"


def _matrix_sizes(r: Row) -> str:
    return f"{r[L.IN]} to {r[L.OUT]}"


def _sizes_of(column: int) -> Callable[[Row], str]:
    return lambda r: str(r[column])


def _clipped(tile: tuple[int, int], largest: tuple[int, int]) -> str:
    """A tile, or that part of it that the registers of this processor hold."""
    return f"{min(tile[0], largest[0])}x{min(tile[1], largest[1])}"


#: Positions of a convolution's tile and taps of a weight gradient's by their channels, as in
#: conv_kernels.py.
CONV_WIDTHS = {8: 3, 6: 4, 4: 4, 2: 8, 1: 8}
GRADIENT_WIDTHS = {4: 5, 2: 5, 1: 8}


def _winograd2d_gradient_tile(r: Row) -> str:
    return _clipped((8, 2 if r[L.IN] > LANES else 1), blocking().products)


def _conv_tile(r: Row) -> str:
    pooled = r[L.MODE] == L.POOLED and r[L.KERNEL] == L.K_CONV
    height = next(height for height in tile_heights(pooled) if height <= r[L.CHANNELS])
    largest = blocking().windows if pooled else blocking().products
    return _clipped((height, CONV_WIDTHS[height]), largest)


def _gradient_tile(r: Row) -> str:
    height = next(height for height in GRADIENT_WIDTHS if height <= r[L.CHANNELS])
    return _clipped((height, GRADIENT_WIDTHS[height]), blocking().gradients)


def _linear_tile(r: Row) -> str:
    if r.own_blocks >= 4:
        tile = (4 if r[L.OUT] >= 4 else 1, 4)
    elif r.own_blocks >= 2 and r[L.OUT] >= 16:
        tile = (8, 2)
    else:
        tile = (16 if r[L.OUT] >= 16 else 4 if r[L.OUT] >= 4 else 1, 1)
    return _clipped(tile, blocking().products)


def _outer_tile(r: Row) -> str:
    return _clipped((4 if r[L.OUT] >= 4 else 1, 4), blocking().products)


_KERNELS: dict[int, Kernel] = {
    L.K_INPUT: Kernel(inputs.gather_input, "gather input", _input, _sizes_of(L.IN)),
    L.K_PACK: Kernel(conv.pack, "pack", _pack, _sizes_of(L.TAPS)),
    L.K_CONV: Kernel(conv.convolution, "convolution", _convolution, _conv_sizes, _conv_tile),
    L.K_WEIGHT_GRADIENT: Kernel(
        conv.weight_gradient, "weight gradient", _weight_gradient, _conv_sizes, _gradient_tile
    ),
    L.K_WINOGRAD2D_WEIGHTS: Kernel(
        winograd2d.winograd2d_weights, "Winograd 2-D weights", winograd.weights, _sizes_of(L.IN)
    ),
    L.K_WINOGRAD2D: Kernel(
        winograd2d.winograd2d, "Winograd 2-D", winograd.product, winograd.sizes, _conv_tile
    ),
    L.K_WINOGRAD2D_GRADIENT: Kernel(
        winograd2d.winograd2d_gradient,
        "Winograd 2-D gradient",
        winograd.gradient,
        winograd.sizes,
        _winograd2d_gradient_tile,
    ),
    L.K_WINOGRAD2D_WEIGHT_GRADIENT: Kernel(
        winograd2d.winograd2d_weight_gradient,
        "Winograd 2-D weights",
        winograd.weight_gradient,
        _sizes_of(L.IN),
    ),
    L.K_WINOGRAD2D_REDUCE: Kernel(
        winograd2d.winograd2d_reduce, "Winograd 2-D sum", winograd.reduction, _sizes_of(L.IN)
    ),
    L.K_WINOGRAD1D_WEIGHTS: Kernel(
        winograd1d.winograd1d_weights, "Winograd 1-D weights", winograd.weights_1d, _sizes_of(L.IN)
    ),
    L.K_WINOGRAD1D: Kernel(
        winograd1d.winograd1d,
        "Winograd 1-D",
        winograd.product_1d,
        winograd.sizes_1d,
        _conv_tile,
        fixed={"back": False},
    ),
    L.K_WINOGRAD1D_TRANSPOSED: Kernel(
        winograd1d.winograd1d,
        "Winograd 1-D transposed",
        winograd.product_1d,
        winograd.sizes_1d,
        _conv_tile,
        fixed={"back": True},
    ),
    L.K_WINOGRAD1D_GRADIENT: Kernel(
        winograd1d.winograd1d_gradient,
        "Winograd 1-D gradient",
        winograd.gradient_1d,
        winograd.sizes_1d,
        _gradient_tile,
    ),
    L.K_WINOGRAD1D_REDUCE: Kernel(
        winograd1d.winograd1d_reduce, "Winograd 1-D sum", winograd.reduction_1d, _sizes_of(L.IN)
    ),
    L.K_BIAS_GRADIENT: Kernel(
        conv.bias_gradient, "bias gradient", elements_cost(1, 1, 0, 1), map_sizes
    ),
    L.K_MAX_POOL: Kernel(pooling.max_pool, "max pool", _max_pool, _window_sizes),
    L.K_MAX_POOL_BACKWARD: Kernel(
        pooling.max_pool_backward, "max pool gradient", _max_pool_backward, _window_sizes
    ),
    L.K_AVG_POOL: Kernel(
        pooling.avg_pool, "average pool", _avg_pool, _window_sizes, fixed={"backward": False}
    ),
    L.K_AVG_POOL_BACKWARD: Kernel(
        pooling.avg_pool,
        "average pool gradient",
        _avg_pool_backward,
        _window_sizes,
        fixed={"backward": True},
    ),
    L.K_UNPOOL: Kernel(pooling.unpool, "unpool 2x2", _unpool, map_sizes),
    L.K_COPY: Kernel(elements.copy, "copy", elements_cost(0, 1, 1), map_sizes),
    L.K_DROPOUT: Kernel(elements.dropout, "dropout", elements_cost(1, 1, 1), map_sizes),
    L.K_LINEAR: Kernel(
        dense.linear,
        "linear",
        _linear,
        _matrix_sizes,
        _linear_tile,
        fixed={"backward": False},
        many=True,
    ),
    L.K_LINEAR_BACKWARD: Kernel(
        dense.linear,
        "linear transposed",
        _linear,
        _matrix_sizes,
        _linear_tile,
        fixed={"backward": True},
        many=True,
    ),
    L.K_TRANSPOSE: Kernel(
        dense.transpose, "transpose", _vector(0, 1, 1), _sizes_of(L.IN), many=True
    ),
    L.K_OUTER: Kernel(dense.outer, "outer product", _outer, _matrix_sizes, _outer_tile),
    L.K_LINEAR_BIAS_GRADIENT: Kernel(
        dense.linear_bias_gradient,
        "bias gradient",
        lambda r: r.cost(r[L.OUT], r[L.OUT], 0, parameters_written=r[L.OUT]),
        _sizes_of(L.OUT),
    ),
    L.K_CROSS_ENTROPY: Kernel(
        losses.cross_entropy, "cross-entropy", _vector(6, 1, 1), _sizes_of(L.IN)
    ),
    L.K_MSE: Kernel(losses.mean_squared_error, "squared error", _vector(4, 2, 1), _sizes_of(L.IN)),
    L.K_REDUCE: Kernel(dense.reduce_partials, "sum over blocks", _reduce, _sizes_of(L.OUT)),
    L.K_SUM_PLACES: Kernel(dense.sum_places, "sum over places", _sum_places, _sizes_of(L.OUT)),
    L.K_OUTPUT: Kernel(outputs.write_output, "output", _vector(0, 1, 1), _sizes_of(L.IN)),
    L.K_OUTPUT_GRADIENT: Kernel(
        inputs.gather_gradient, "gather gradient", _vector(0, 1, 1), _sizes_of(L.IN)
    ),
    L.K_IMAGE: Kernel(
        single.image,
        "normalise image",
        lambda r: Cost(2 * r[L.IN], r[L.IN], FLOAT_BYTES * r[L.IN]),
        _sizes_of(L.IN),
    ),
    L.K_GATHER: Kernel(single.gather, "gather", _single(1, 1), map_sizes),
    L.K_CLEAR: Kernel(single.clear, "clear", _single(0, 1), map_sizes),
    L.K_MATRIX_VECTOR: Kernel(
        single.matrix_vector, "matrix-vector product", _matrix_vector, _matrix_sizes
    ),
    L.K_ADD: Kernel(elements.addition, "add", elements_cost(1, 2, 1), map_sizes),
    L.K_NORM_SUMS: Kernel(norm.sums, "normalisation sums", elements_cost(4, 1, 0, 2), map_sizes),
    L.K_NORM_STATISTICS: Kernel(
        norm.statistics, "normalisation statistics", _statistics(2, 4), map_sizes
    ),
    L.K_NORM: Kernel(norm.normalise, "normalise", elements_cost(2, 1, 1), map_sizes),
    L.K_NORM_GRADIENT_SUMS: Kernel(
        norm.gradient_sums,
        "normalisation gradient sums",
        elements_cost(4, 2, 0, 2, mask=True),
        map_sizes,
    ),
    L.K_NORM_GRADIENT_STATISTICS: Kernel(
        norm.gradient_statistics, "normalisation gradient statistics", _statistics(2, 4), map_sizes
    ),
    L.K_NORM_GRADIENT: Kernel(
        norm.gradient, "normalisation gradient", elements_cost(4, 2, 1, mask=True), map_sizes
    ),
}
#: By the number of a kernel in layout.py.
KERNELS = {number: replace(kernel, reach=REACHES[number]) for number, kernel in _KERNELS.items()}

#: The update of each optimiser; SGD has two. SQUARES makes the sums of the gradient's norm.
UPDATES = {
    "sgd": optimizers.sgd,
    "momentum": optimizers.momentum,
    "adam": optimizers.adam,
    "adamw": optimizers.adamw,
    "rmsprop": optimizers.rmsprop,
}
SQUARES = "gradient_squares"


def kernel_source(key: int | str) -> Source:
    """What a kernel is compiled from, by its number, or the name of an update."""
    if isinstance(key, int):
        kernel = KERNELS[key]
        function, fixed = kernel.function, dict(kernel.fixed)
        if key >= L.FIRST_FORMULA:
            entry = kernel_entry(f"fastcnn_{kernel.symbol}", function, fixed)
            return Source(function, entry, kernel.origin)
        symbol = "_".join([function.__name__, *(n for n, value in fixed.items() if value)])
    else:
        function = optimizers.gradient_squares if key == SQUARES else UPDATES[key]
        fixed, symbol = {}, f"update_{key}"
    origin = (__name__, "kernel_source", [key])
    return Source(function, kernel_entry(f"fastcnn_{symbol}", function, fixed), origin)


def all_sources() -> list[Source]:
    """What all kernels and the dispatcher are compiled from."""
    keys: tuple[int | str, ...] = (*KERNELS, *UPDATES, SQUARES)
    return [dispatcher_source(), *(kernel_source(key) for key in keys)]


def dispatcher_source() -> Source:
    """What the dispatcher is compiled from."""
    entry = ArgumentEntry("fastcnn_run", tuple(dispatcher.KINDS.values()))
    return Source(dispatcher.run, entry, (__name__, "dispatcher_source", []))
