"""Output sizes, padding and windows: every shape formula is defined here once."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.scalars import is_integer

Pair = tuple[int, int]
#: Output size of an adaptive pooling; None keeps the input's size.
AdaptiveSize = tuple[int | None, int | None]
IntOrPair = int | tuple[int, int]
Padding = tuple[Pair, Pair]


def pair(value: Any, name: str, minimum: int = 1) -> Pair:
    """Return an int or a pair of ints as ``(rows, columns)``.

    Raises ConfigurationError if it is neither, or an element is below ``minimum``.
    """
    rows, columns = per_axis(value, name, 2, minimum)
    return rows, columns


#: Upper bound of windows, strides, paddings and maps; larger offset tables would not fit memory.
MOST_SIZE = 2**24


def per_axis(value: Any, name: str, axes: int, minimum: int | None = 1) -> tuple[int, ...]:
    """Return an int, or a sequence with one int per axis, as a tuple with one for each axis.

    Raises ConfigurationError if it is neither, or an element is below ``minimum``.
    """
    items = each_of(value, axes)
    integers = all(map(is_integer, items))
    too_large = integers and any(abs(int(item)) > MOST_SIZE for item in items)
    wrong = len(items) != axes or not integers or too_large
    if wrong or (minimum is not None and min(items) < minimum):
        bound = "" if minimum is None else f" of at least {minimum}"
        bound = f" of at most {MOST_SIZE:,}" if too_large else bound
        several = {1: "a tuple of one", 2: "a pair of integers", 4: "four integers"}[axes]
        raise ConfigurationError(f"{name} must be an integer{bound} or {several}, got {value!r}")
    return tuple(int(item) for item in items)


def each_of(value: Any, count: int) -> tuple[Any, ...]:
    """The items of a sequence, or one value ``count`` times."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    return tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,) * count


def of_map(values: tuple[Any, ...], of_row: Any) -> tuple[Any, Any]:
    """Values for rows and columns; a sequence is a map of one row, whose value is ``of_row``."""
    rows, columns = (of_row, *values)[-2:]
    return rows, columns


def resolve_padding(
    padding: Any, kernel_size: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[Pair, ...]:
    """Return a convolution's padding before and after, for each axis.

    Parameters
    ----------
    padding : int, a tuple with an int or a pair for each axis, "valid" or "same"
        "same" keeps the size; if the total is odd, the larger part goes to the bottom and right, as
        in PyTorch.

    Raises
    ------
    ConfigurationError
        If the value is none of these, negative, or "same" with a stride other than 1.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * len(kernel_size)
        if padding != "same":
            raise ConfigurationError(f'padding must be "valid", "same" or numbers, got {padding!r}')
        if any(step != 1 for step in stride):
            raise ConfigurationError(f'padding="same" needs stride 1, got stride {stride}')
        totals = [step * (size - 1) for size, step in zip(kernel_size, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    axes = len(kernel_size)
    nested = (
        isinstance(padding, (tuple, list))
        and len(padding) == axes
        and all(isinstance(item, (tuple, list)) for item in padding)
    )
    if nested:
        return tuple(pair(item, "padding", minimum=0) for item in padding)
    return tuple((size, size) for size in per_axis(padding, "padding", axes, minimum=0))


def conv_output_size(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """Rows (or columns) of a convolution's output.

    ``floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1``,
    relationship 14 of Dumoulin and Visin, arXiv:1603.07285. Raises ShapeError if the dilated kernel
    is larger than the padded input.
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

    ``(size - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1``,
    relationship 14 of Dumoulin and Visin, arXiv:1603.07285, solved for the input. Raises ShapeError
    if nothing is left.
    """
    extent = dilation * (kernel - 1) + 1
    output = (size - 1) * stride - padding[0] - padding[1] + extent + output_padding
    if output < 1:
        raise ShapeError(
            f"padding {padding} leaves nothing of a map of size {size} under a kernel of size "
            f"{kernel}"
        )
    return output


@lru_cache(maxsize=1024)
def conv_output(
    size: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[Pair, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """Size of each axis of a convolution's output, see :func:`conv_output_size`."""
    axes = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple(conv_output_size(*axis) for axis in axes)


def conv_transpose_output(
    size: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[Pair, ...],
    dilation: tuple[int, ...],
    output_padding: tuple[int, ...],
) -> tuple[int, ...]:
    """Size of each axis of a transposed convolution's output."""
    axes = zip(size, kernel, stride, padding, dilation, output_padding, strict=True)
    return tuple(conv_transpose_output_size(*axis) for axis in axes)


def check_output_padding(
    output_padding: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> None:
    """Refuse an output padding that no input size of the transposed convolution accounts for.

    Raises ConfigurationError if it is below neither the stride nor the dilation.
    """
    limits = [max(step, gap) for step, gap in zip(stride, dilation, strict=True)]
    if any(extra >= limit for extra, limit in zip(output_padding, limits, strict=True)):
        raise ConfigurationError(
            f"output_padding {output_padding} must be below the stride {stride} or the dilation "
            f"{dilation}"
        )


def adaptive_sizes(value: Any, axes: int) -> tuple[int | None, ...]:
    """Return the output size of an adaptive pooling; None is the input's size.

    Raises ConfigurationError if the value is neither a positive integer, None, nor a tuple of these
    with one for each axis.
    """
    items = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(items) != axes:
        several = "a pair" if axes == 2 else "a tuple of one"
        raise ConfigurationError(f"output_size must be an integer or {several}, got {value!r}")
    return tuple(item if item is None else pair(item, "output_size")[0] for item in items)


def adaptive_output(size: Any, output_size: tuple[int | None, ...]) -> tuple[int, ...]:
    """Size of each axis of an adaptive pooling's output for a map of ``size``."""
    return tuple(
        int(own) if wanted is None else wanted
        for own, wanted in zip(size, output_size, strict=True)
    )


def adaptive_windows(size: int, output: int) -> list[tuple[int, int]]:
    """First and last + 1 row of each window of an adaptive pooling.

    The windows divide the map evenly; neighbours overlap if it is not divisible.
    """
    return [(i * size // output, -(-(i + 1) * size // output)) for i in range(output)]


def check_pool_padding(
    kernel_size: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...] | None = None
) -> None:
    """Refuse a pooling padding of more than half the window: some windows would be all padding."""
    gaps = dilation or (1,) * len(kernel_size)
    for pad, size, gap in zip(padding, kernel_size, gaps, strict=True):
        if 2 * pad > gap * (size - 1) + 1:
            dilated = "" if dilation is None or set(dilation) == {1} else f", dilation {dilation}"
            raise ConfigurationError(
                f"pooling padding {padding} must be at most half the kernel size {kernel_size}"
                f"{dilated}"
            )


@lru_cache(maxsize=1024)
def pool_output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """Rows (or columns) of a pooling's output, rounded down, or up with ``ceil_mode``.

    As in PyTorch, a window that would start in the padding after the last row is dropped. Raises
    ShapeError if the window is larger than the padded input, or a window would contain no pixel.
    """
    if ceil_mode:
        extent = dilation * (kernel - 1) + 1
        output = -(-(size + 2 * padding - extent) // stride) + 1
        output -= (output - 1) * stride >= size + padding
    else:
        output = conv_output_size(size, kernel, stride, (padding, padding), dilation)
    empty = [
        not len(window) for window in pool_windows(size, output, kernel, stride, padding, dilation)
    ]
    if output < 1 or any(empty):
        raise ShapeError(
            f"windows of size {kernel} with dilation {dilation} and padding {padding} contain no "
            f"pixel in an input of size {size}"
        )
    return output


def pool_windows(
    size: int, output: int, kernel: int, stride: int, padding: int, dilation: int = 1
) -> list[range]:
    """The rows (or columns) of the input inside each window of a pooling."""
    windows = []
    for i in range(output):
        first = i * stride - padding
        end = min(first + dilation * (kernel - 1) + 1, size)
        if first < 0:
            first += -(first // dilation) * dilation
        windows.append(range(first, max(first, end), dilation))
    return windows


def pool_divisors(
    size: int, output: int, kernel: int, stride: int, padding: int, count_include_pad: bool
) -> list[int]:
    """Rows (or columns) that an average pooling counts in each window: all, or those in the input.

    Positions that ``ceil_mode`` adds after the padding are never counted, as in PyTorch.
    """
    if not count_include_pad:
        return [len(window) for window in pool_windows(size, output, kernel, stride, padding)]
    starts = [i * stride - padding for i in range(output)]
    return [min(first + kernel, size + padding) - first for first in starts]


@lru_cache(maxsize=1024)
def pool_output(
    size: Any,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> tuple[int, ...]:
    """Size of each axis of a pooling's output, see :func:`pool_output_size`."""
    axes = zip(size, kernel_size, stride, padding, dilation, strict=True)
    return tuple(pool_output_size(*axis, ceil_mode) for axis in axes)


def average_divisors(
    size: Any,
    output: Any,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
    divisor_override: int | None,
) -> np.ndarray:
    """The divisor of each window of an average pooling, shape (OH, OW)."""
    if divisor_override is not None:
        return np.full(tuple(output), divisor_override, np.int64)
    rows, columns = (
        np.array(pool_divisors(*axis, count_include_pad), np.int64)
        for axis in zip(size, output, kernel_size, stride, padding, strict=True)
    )
    made: np.ndarray = rows[:, None] * columns
    return made


#: Which gradients of a convolution are required: input, weight and bias.
Mask = tuple[bool, bool, bool]
ALL: Mask = (True, True, True)


def masked(mask: Mask, *gradients: Any) -> tuple[Any, Any, Any]:
    """The required gradients, and None for the others."""
    x, weight, bias = (g if wanted else None for g, wanted in zip(gradients, mask, strict=True))
    return x, weight, bias


def concat_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Shape of samples concatenated along their first axis.

    Raises ShapeError if they differ in another axis.
    """
    channels, size = sum(shape[0] for shape in shapes), shapes[0][1:]
    if any(shape[1:] != size for shape in shapes):
        given = " and ".join(str(tuple(shape)) for shape in shapes)
        raise ShapeError(f"expects inputs that differ in their channels only, got {given}")
    return (channels, *size)


def narrow_shape(shape: tuple[int, ...], start: int, length: int) -> tuple[int, ...]:
    """Shape of a range of a sample's channels; ShapeError if the range is out of bounds."""
    if not shape or start + length > shape[0]:
        raise ShapeError(
            f"expects samples of at least {start + length} channels, got {tuple(shape)}"
        )
    return (length, *shape[1:])


def product_shape(x: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the product of two samples, one of which may be a factor per channel or per pixel.

    Raises ShapeError if they are not of one shape, nor ``(C, H, W)`` and ``(C, 1, 1)`` or
    ``(1, H, W)``.
    """
    for whole, factor in ((x, other), (other, x)):
        ones = (1,) * (len(whole) - 1)
        if factor in (whole, (whole[0], *ones), (1, *whole[1:])):
            return tuple(whole)
    raise ShapeError(
        "expects two inputs of equal shape, or a factor of shape (C, 1, 1) or (1, H, W) for a map, "
        f"got {tuple(x)} and {tuple(other)}"
    )
