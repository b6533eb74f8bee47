"""Output sizes, padding and windows: the one place where these formulas stand."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError, ShapeError

Pair = tuple[int, int]
#: Output size of an adaptive pooling; None keeps the size of the input.
AdaptiveSize = tuple[int | None, int | None]
IntOrPair = int | tuple[int, int]
Padding = tuple[Pair, Pair]


def pair(value: Any, name: str, minimum: int = 1) -> Pair:
    """Return an int or a pair of ints as ``(rows, columns)``.

    Raises
    ------
    ConfigurationError
        If it is neither, or an element is below ``minimum``.
    """
    items = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value, value)
    integers = all(
        isinstance(item, (int, np.integer)) and not isinstance(item, (bool, np.bool_))
        for item in items
    )
    if len(items) != 2 or not integers or min(items) < minimum:
        raise ConfigurationError(
            f"{name} must be an integer of at least {minimum} or a pair of such, got {value!r}"
        )
    return int(items[0]), int(items[1])


def resolve_padding(padding: Any, kernel_size: Pair, dilation: Pair, stride: Pair) -> Padding:
    """Return a convolution's padding as ``((top, bottom), (left, right))``.

    Parameters
    ----------
    padding : int, (int, int), ((int, int), (int, int)), "valid" or "same"
        "same" keeps the size; of an odd total the larger part goes to the bottom and right, as in
        PyTorch.

    Raises
    ------
    ConfigurationError
        If the value is none of these, negative, or "same" with a stride other than 1.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding != "same":
            raise ConfigurationError(f'padding must be "valid", "same" or numbers, got {padding!r}')
        if stride != (1, 1):
            raise ConfigurationError(f'padding="same" needs stride 1, got stride {stride}')
        totals = [step * (size - 1) for size, step in zip(kernel_size, dilation, strict=True)]
        rows, columns = ((total // 2, total - total // 2) for total in totals)
        return rows, columns
    nested = (
        isinstance(padding, (tuple, list))
        and len(padding) == 2
        and all(isinstance(item, (tuple, list)) for item in padding)
    )
    if nested:
        rows, columns = (pair(item, "padding", minimum=0) for item in padding)
        return rows, columns
    height, width = pair(padding, "padding", minimum=0)
    return (height, height), (width, width)


def conv_output_size(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """Rows (or columns) of a convolution's output.

    ``floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1``

    Raises
    ------
    ShapeError
        If the dilated kernel is larger than the padded input.

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285, relationship 14.
    """
    padded = size + padding[0] + padding[1]
    extent = dilation * (kernel - 1) + 1
    if extent > padded:
        raise ShapeError(
            f"kernel of size {kernel} (extent {extent} with dilation {dilation}) is larger than "
            f"the padded input of size {padded}"
        )
    return (padded - extent) // stride + 1


def conv_transpose_output_size(
    size: int, kernel: int, stride: int, padding: Pair, dilation: int, output_padding: int
) -> int:
    """Rows (or columns) of a transposed convolution's output.

    ``(size - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1``

    Raises
    ------
    ShapeError
        If nothing is left.

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285, relationship 14, solved for the input.
    """
    extent = dilation * (kernel - 1) + 1
    output = (size - 1) * stride - padding[0] - padding[1] + extent + output_padding
    if output < 1:
        raise ShapeError(
            f"padding {padding} leaves nothing of a map of size {size} under a kernel of size "
            f"{kernel}"
        )
    return output


def check_output_padding(output_padding: Pair, stride: Pair, dilation: Pair) -> None:
    """Refuse an output padding that no input size of the transposed convolution explains.

    Raises
    ------
    ConfigurationError
        If it is neither below the stride nor below the dilation.
    """
    limits = [max(step, gap) for step, gap in zip(stride, dilation, strict=True)]
    if any(extra >= limit for extra, limit in zip(output_padding, limits, strict=True)):
        raise ConfigurationError(
            f"output_padding {output_padding} must be below the stride {stride} or the dilation "
            f"{dilation}"
        )


def adaptive_size(value: Any) -> AdaptiveSize:
    """Return the output size of an adaptive pooling: numbers, or None for the input's.

    Raises
    ------
    ConfigurationError
        If it is neither a positive integer, None, nor a pair of such.
    """
    items = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(items) != 2:
        raise ConfigurationError(f"output_size must be a number or a pair, got {value!r}")
    rows, columns = (item if item is None else pair(item, "output_size")[0] for item in items)
    return rows, columns


def adaptive_output(size: Any, output_size: AdaptiveSize) -> Pair:
    """Rows and columns of an adaptive pooling's output for a map of ``size``."""
    rows, columns = (
        int(own) if wanted is None else wanted
        for own, wanted in zip(size, output_size, strict=True)
    )
    return rows, columns


def adaptive_windows(size: int, output: int) -> list[tuple[int, int]]:
    """First and last + 1 row of each window of an adaptive pooling.

    They share the map out over the output's rows; neighbours overlap where it does not divide.
    """
    return [(i * size // output, -(-(i + 1) * size // output)) for i in range(output)]


def check_pool_padding(kernel_size: Pair, padding: Pair) -> None:
    """Refuse a pooling padding of more than half the window: windows would hold nothing else.

    Raises
    ------
    ConfigurationError
    """
    if any(2 * pad > size for size, pad in zip(kernel_size, padding, strict=True)):
        raise ConfigurationError(
            f"pooling padding {padding} must be at most half the kernel size {kernel_size}"
        )


def pool_output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Rows (or columns) of a pooling's output, rounded down.

    Raises
    ------
    ShapeError
        If the window is larger than the padded input.
    """
    return conv_output_size(size, kernel, stride, (padding, padding), 1)


#: Which gradients of a convolution are wanted: of input, weight and bias.
Mask = tuple[bool, bool, bool]
ALL: Mask = (True, True, True)


def masked(mask: Mask, *gradients: Any) -> tuple[Any, Any, Any]:
    """The gradients that are wanted, and None for the others."""
    x, weight, bias = (g if wanted else None for g, wanted in zip(gradients, mask, strict=True))
    return x, weight, bias


def concat_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Shape of samples put one after the other along their first axis.

    Raises
    ------
    ShapeError
        If they differ in another axis.
    """
    channels, size = sum(shape[0] for shape in shapes), shapes[0][1:]
    if any(shape[1:] != size for shape in shapes):
        given = " and ".join(str(tuple(shape)) for shape in shapes)
        raise ShapeError(f"expects inputs that differ in their channels alone, got {given}")
    return (channels, *size)


def product_shape(x: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the product of two samples, one of which may be a factor for each channel, or pixel.

    Raises
    ------
    ShapeError
        If they are not of one shape, nor ``(C, H, W)`` and ``(C, 1, 1)`` or ``(1, H, W)``.
    """
    for whole, factor in ((x, other), (other, x)):
        ones = (1,) * (len(whole) - 1)
        if factor in (whole, (whole[0], *ones), (1, *whole[1:])):
            return tuple(whole)
    raise ShapeError(
        "expects two inputs of one shape, or a factor of shape (C, 1, 1) or (1, H, W) for a map, "
        f"got {tuple(x)} and {tuple(other)}"
    )
