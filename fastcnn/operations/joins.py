"""Operations that combine and split arrays."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_count, as_same_type, naming
from fastcnn.backends.geometry import concat_shape, narrow_shape, product_shape
from fastcnn.errors import ShapeError
from fastcnn.operations.forms import Checked, computed, gradient
from fastcnn.operations.record import Operation, case

__all__ = [
    "add",
    "add_backward",
    "concat",
    "concat_backward",
    "multiply",
    "multiply_backward",
    "narrow",
    "narrow_backward",
    "subtract",
    "subtract_backward",
]


def add(x: Any, other: Any, *, backend: str | None = None) -> np.ndarray:
    """``x + other`` for two arrays of the same shape, as in residual blocks.

    Parameters
    ----------
    x, other : array_like, of one shape
    backend : str, optional

    Raises
    ------
    ShapeError
        If the shapes differ: nothing is broadcast.
    """
    return computed("add", _alike, backend, x, other)


def subtract(x: Any, other: Any, *, backend: str | None = None) -> np.ndarray:
    """``x - other`` for two arrays of the same shape.

    Parameters
    ----------
    x, other : array_like, of one shape
    backend : str, optional

    Raises
    ------
    ShapeError
        If the shapes differ: nothing is broadcast.
    """
    return computed("subtract", _alike, backend, x, other)


def _alike(name: str, x: Any, other: Any) -> Checked:
    x = as_array(name, "x", x)
    other = as_same_type(name, x, "other", other, x.ndim)
    if x.shape != other.shape:
        raise ShapeError(f"{name}: x has shape {x.shape}, other {other.shape}")
    return Checked((x, other), {}, x.shape)


def add_backward(
    grad_output: Any, x: Any, other: Any, *, backend: str | None = None
) -> tuple[np.ndarray, ...]:
    """Gradient of :func:`add`: ``grad_output`` twice.

    Returns
    -------
    grad_x, grad_other : ndarray
    """
    return gradient("add", _alike, backend, grad_output, x, other)


def subtract_backward(
    grad_output: Any, x: Any, other: Any, *, backend: str | None = None
) -> tuple[np.ndarray, ...]:
    """Gradient of :func:`subtract`: ``grad_output``, and its negative.

    Returns
    -------
    grad_x, grad_other : ndarray
    """
    return gradient("subtract", _alike, backend, grad_output, x, other)


def multiply(x: Any, other: Any, *, backend: str | None = None) -> np.ndarray:
    """``x * other``, element-wise.

    Parameters
    ----------
    x, other : array_like
        Equal shapes; or one of shape (N, C, H, W) and the other (N, C, 1, 1), a factor per channel
        as in squeeze-and-excitation, or (N, 1, H, W), one per pixel.
    backend : str, optional

    Returns
    -------
    ndarray
        In the larger shape.

    Raises
    ------
    ShapeError
        If the shapes are incompatible.
    """
    return computed("multiply", _factors, backend, x, other)


def _factors(name: str, x: Any, other: Any) -> Checked:
    x = as_array(name, "x", x)
    other = as_same_type(name, x, "other", other, x.ndim)
    if x.ndim < 2 or len(x) != len(other):
        return _alike(name, x, other)
    with naming(name):
        shape = product_shape(x.shape[1:], other.shape[1:])
    return Checked((x, other), {}, (len(x), *shape))


def multiply_backward(
    grad_output: Any, x: Any, other: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of :func:`multiply`.

    Returns
    -------
    grad_x, grad_other : ndarray
    """
    return gradient("multiply", _factors, backend, grad_output, x, other)


def concat(*inputs: Any, backend: str | None = None) -> np.ndarray:
    """Concatenate arrays along the channel axis.

    Parameters
    ----------
    *inputs : array_like, shape (N, C_i, ...)
        Shapes must be equal except for the number of channels.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, sum of C_i, ...)

    Raises
    ------
    ShapeError
        If there are none, or they differ in more than their channels.
    """
    return computed("concat", _parts, backend, inputs)


def _parts(name: str, inputs: tuple[Any, ...]) -> Checked:
    if not inputs:
        raise ShapeError(f"{name}: there must be at least one array")
    first = as_array(name, "inputs[0]", inputs[0])
    arrays = [first]
    for index, value in enumerate(inputs[1:], start=1):
        arrays.append(as_same_type(name, first, f"inputs[{index}]", value, first.ndim))
    if first.ndim < 2 or any(len(x) != len(first) for x in arrays):
        shapes = ", ".join(str(x.shape) for x in arrays)
        raise ShapeError(
            f"{name}: inputs must have shapes (N, C, ...) with the same N, got {shapes}"
        )
    with naming(name):
        shape = concat_shape([x.shape[1:] for x in arrays])
    return Checked(tuple(arrays), {}, (len(first), *shape))


def concat_backward(
    grad_output: Any, *inputs: Any, backend: str | None = None
) -> tuple[np.ndarray, ...]:
    """Gradient of :func:`concat`: each input gets its channels of ``grad_output``.

    Returns
    -------
    tuple of ndarray, one for each input
    """
    return gradient("concat", _parts, backend, grad_output, inputs)


def narrow(x: Any, start: int, length: int, *, backend: str | None = None) -> np.ndarray:
    """A range of channels: PyTorch's ``narrow`` along dimension 1.

    Parameters
    ----------
    x : array_like, shape (N, C, ...)
    start : int
        The first channel.
    length : int
        Number of channels.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, length, ...)

    Raises
    ------
    ShapeError
        If there are no such channels.
    ConfigurationError
        If start or length are not integers of at least 0 and 1.
    """
    return computed("narrow", _channels, backend, x, start, length)


def _channels(name: str, x: Any, start: Any, length: Any) -> Checked:
    x = as_array(name, "x", x)
    start = as_count(name, "start", start, least=0)
    length = as_count(name, "length", length)
    if x.ndim < 2:
        raise ShapeError(f"{name}: x must have the shape (N, C, ...), got {x.shape}")
    with naming(name):
        shape = narrow_shape(x.shape[1:], start, length)
    return Checked((x,), {"start": start, "length": length}, (len(x), *shape))


def narrow_backward(
    grad_output: Any, x: Any, start: int, length: int, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`narrow`: zero for the other channels."""
    return gradient("narrow", _channels, backend, grad_output, x, start, length)


JOIN: dict[str, Any] = {"inputs": 2, "fuses_relu": True, "any_layout": True}
#: The operations of this file.
RECORDS = (
    Operation(
        "add",
        **JOIN,
        hands_gradient_on=True,
        layers=(case("Add", (2, 3, 3)),),
        timed=(((32, 16, 16), {}),),
    ),
    Operation(
        "subtract",
        **JOIN,
        hands_gradient_on=True,
        layers=(case("Subtract", (2, 3, 3)),),
        timed=(((32, 16, 16), {}),),
    ),
    Operation(
        "multiply",
        **JOIN,
        layers=(
            case("Multiply", (2, 3, 3)),
            case("Multiply", ((3, 2, 4), (3, 1, 1))),
            case("Multiply", ((1, 2, 4), (3, 2, 4))),
        ),
        timed=(((32, 16, 16), {}),),
    ),
    Operation(
        "concat",
        inputs=None,
        any_layout=True,
        hands_gradient_on=True,
        layers=(case("Concat", ((2, 3, 2), (1, 3, 2), (3, 3, 2))), case("Concat", ((4,), (3,)))),
        timed=(((32, 16, 16), {}),),
    ),
    Operation(
        "narrow",
        gradient_needs="nothing",
        renames=True,
        any_layout=True,
        layers=(
            case("Narrow", (4, 2, 3), 1, 2),
            case("Narrow", (5, 4), 0, 3),
            case("Narrow", (5,), 2, 3),
        ),
        timed=(((32, 16, 16), {"start": 16, "length": 16}),),
    ),
    Operation("input_part", gradient_needs="nothing", renames=True),
    # Only in the engine's own graphs; see backends/lanes/planning/bands.py.
    Operation("split_bands", gradient_needs="nothing"),
    Operation("extend_bands", gradient_needs="nothing"),
    Operation("join_bands", gradient_needs="nothing", any_layout=True),
)
