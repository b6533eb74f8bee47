"""Rows of convolutions, each part in the way that suits it.

A convolution's forward pass is the product, its input's gradient the transpose; a transposed
convolution has the two exchanged.
"""

from fastcnn.backends.lanes.convolution.direct import rows as direct_rows
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.method import Way, method
from fastcnn.backends.lanes.convolution.winograd1d import rows as winograd1d_rows
from fastcnn.backends.lanes.convolution.winograd2d import rows as winograd2d_rows
from fastcnn.backends.lanes.planning.buffers import Buffer
from fastcnn.backends.lanes.planning.planner import Planner

_ROWS = {
    Way.DIRECT: direct_rows, Way.WINOGRAD_1D: winograd1d_rows, Way.WINOGRAD_2D: winograd2d_rows
}  # fmt: skip


def product(
    planner: Planner, name: str, g: ConvGeometry, weight: int, x: Buffer, y: Buffer,
    pooled: bool = False, **columns: int,
) -> None:  # fmt: skip
    """Add the rows of a convolution of X into Y, with the columns of what is fused behind it."""
    _ROWS[method(g).product].product(planner, name, g, weight, x, y, pooled, columns)


def transpose(
    planner: Planner, name: str, g: ConvGeometry, weight: int, grad: Buffer, grad_x: Buffer,
    **columns: int,
) -> None:  # fmt: skip
    """Add the rows that carry a convolution's output side back to its input side."""
    _ROWS[method(g).transpose].transpose(planner, name, g, weight, grad, grad_x, columns)


def sums_transforms(g: ConvGeometry) -> bool:
    """Whether the weights' gradient is that of their transforms until it is summed over blocks."""
    return method(g).gradient != Way.DIRECT


def transformed_weight_gradient(
    planner: Planner, name: str, g: ConvGeometry, weight: int, x: Buffer, grad: Buffer
) -> None:
    """Add the rows of such a gradient, its sum over blocks among them."""
    rows = winograd1d_rows if method(g).gradient == Way.WINOGRAD_1D else winograd2d_rows
    rows.weight_gradient(planner, name, g, weight, x, grad)
