"""Lowers convolutions to rows, each part by the algorithm that accepts it.

The entry point for ``lowering``; the rows of an algorithm are in its own folder.

A convolution's forward pass is the product, its input's gradient the transpose; for a transposed
convolution the two are exchanged.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.algorithms import ALGORITHMS, algorithm, chooses
from fastcnn.backends.lanes.convolution.channel_algorithms import CHANNEL_ALGORITHMS
from fastcnn.backends.lanes.convolution.channel_direct import rows as channel_rows
from fastcnn.backends.lanes.convolution.channel_direct.sums import Sum
from fastcnn.backends.lanes.convolution.direct import rows as direct_rows
from fastcnn.backends.lanes.convolution.direct.algorithm import DIRECT
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.planning.buffers import Buffer
from fastcnn.backends.lanes.planning.channel_planner import ChannelPlanner

_ROWS = {found.name: import_module(f"{__package__}.{found.name}.rows") for found in ALGORITHMS}
_CHANNEL_ROWS = {
    found.name: import_module(f"{__package__}.channel_{found.name}.rows")
    for found in CHANNEL_ALGORITHMS
}


def _rows(g: ConvGeometry, part: Part) -> Any:
    return _ROWS[algorithm(g, part).name]


def _used(task: Task, found: Algorithm, *parts: Part) -> Any:
    """The rows of an algorithm, which the planner's group remembers for some parts."""
    task.planner.group.algorithms |= {part.title(task.g): found.name for part in parts}
    return _ROWS[found.name]


def _chosen(task: Task, part: Part) -> Any:
    return _used(task, algorithm(task.g, part), part)


def product(task: Task, x: Buffer, y: Buffer, pooled: bool = False, **columns: int) -> None:
    """Add the rows of a convolution of X into Y, with the columns of the operations fused to it."""
    _chosen(task, Part.PRODUCT).product(task, x, y, pooled, columns)


def moment_strips(g: ConvGeometry, pooled: bool) -> list[int]:
    """Pixels of each part of a product's output whose MOMENTS its rows can compute, or none."""
    of_algorithm = getattr(_rows(g, Part.PRODUCT), "moment_strips", None)
    return of_algorithm(g, pooled) if of_algorithm else []


def transpose(task: Task, grad: Buffer, grad_x: Buffer, **columns: int) -> None:
    """Add the rows of the transpose, from the output side to the input side."""
    _chosen(task, Part.TRANSPOSE).transpose(task, grad, grad_x, columns)


def are_made_together(g: ConvGeometry) -> bool:
    """Whether one row computes all gradients, if the output is not pooled."""
    return hasattr(_rows(g, Part.TRANSPOSE), "gradients")


def gradients(task: Task, x: Buffer, grad: Buffer, grad_x: Buffer | None, **columns: int) -> None:
    """Add this row; ``columns`` address each block's share of the parameters' gradients."""
    parts = (Part.TRANSPOSE, Part.GRADIENT) if grad_x else (Part.GRADIENT,)
    rows = _used(task, algorithm(task.g, Part.TRANSPOSE), *parts)
    rows.gradients(task, x, grad, grad_x, columns)


def sums_own_gradient(g: ConvGeometry) -> bool:
    """Whether rows of the weight gradient sum it over blocks: the blocks' layout is different."""
    return algorithm(g, Part.GRADIENT) is not DIRECT


def chooses_pixels(g: ConvGeometry, x: Buffer) -> bool:
    """Whether the weight gradient through pooling multiplies one selected pixel, not all four.

    This reads padding on all sides, which rows of another algorithm may not need.
    """
    has_zeros = all(here >= wanted for here, wanted in zip(x.halo, g.input_halo(), strict=True))
    return has_zeros and chooses(g) and direct_rows.chosen_rows(g) > 0


def weight_gradient(
    task: Task, x: Buffer, grad: Buffer, winners: Buffer | None, partial: dict[str, int], bias: int
) -> None:
    """Add the row of each block's weight gradient, by direct sums.

    With ``winners``, ``grad`` is the gradient after 2x2 max pooling.
    """
    _used(task, DIRECT, Part.GRADIENT)
    if winners is None:
        direct_rows.weight_gradient(task, x, grad, partial, bias)
    else:
        direct_rows.pooled_weight_gradient(task, x, grad, winners, partial, bias)


def sums_biases(g: ConvGeometry) -> bool:
    """Whether rows of the weight gradient can also compute the bias gradient."""
    return algorithm(g, Part.GRADIENT).sums_biases(g)


def unpools(g: ConvGeometry, parts: Iterable[Part]) -> bool:
    """Whether rows of these gradients read the gradient after 2x2 max pooling of the output."""
    return all(algorithm(g, part).unpools(g) for part in parts)


def summed_weight_gradient(task: Task, x: Buffer, grad: Buffer, **columns: dict[str, int]) -> None:
    """Add the rows of a weight gradient, including its sum over blocks.

    ``biases`` are EXTRA columns that address each block's sums of the output's gradient, if these
    are computed here; ``winners`` are M columns that address the argmax of the pooling in between.
    """
    _chosen(task, Part.GRADIENT).weight_gradient(task, x, grad, **columns)


def product_by_channels(planner: ChannelPlanner, g: ConvGeometry, work: Sum) -> None:
    """Add the rows of a convolution with a channel in each lane."""
    name = planner.algorithm(g).name
    planner.group.algorithms[Part.PRODUCT.title(g)] = name
    _CHANNEL_ROWS[name].convolution(planner, g, work)


def transpose_by_channels(planner: ChannelPlanner, g: ConvGeometry, work: Sum) -> None:
    """Add the rows of a transposed convolution with a channel in each lane, by direct sums."""
    planner.group.algorithms[Part.TRANSPOSE.title(g)] = CHANNEL_ALGORITHMS[0].name
    channel_rows.transposed(planner, g, work)
