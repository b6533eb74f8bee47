"""Output sizes, padding and windows: the one place where these formulas stand."""

from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError, ShapeError

Pair = tuple[int, int]
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
