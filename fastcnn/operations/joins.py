"""What puts arrays together, and takes them apart."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_count, as_gradient, as_same_type
from fastcnn.backends import get_backend
from fastcnn.backends.geometry import concat_shape, narrow_shape, product_shape
from fastcnn.errors import ShapeError
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
    """``x + other`` for two arrays of one shape: where the branches of a residual block meet.

    Raises
    ------
    ShapeError
        If the shapes differ: nothing is broadcast.
    """
    return get_backend(backend).add(*_alike("add", x, other))


def add_backward(
    grad_output: Any, x: Any, other: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of :func:`add`: ``grad_output`` twice."""
    x, other = _alike("add_backward", x, other)
    grad_output = as_gradient("add_backward", grad_output, x, x.shape)
    grad_x, grad_other = get_backend(backend).add_backward(grad_output, x, other)
    return grad_x.copy(), grad_other.copy()


def subtract(x: Any, other: Any, *, backend: str | None = None) -> np.ndarray:
    """``x - other`` for two arrays of one shape.

    Raises
    ------
    ShapeError
        If the shapes differ: nothing is broadcast.
    """
    return get_backend(backend).subtract(*_alike("subtract", x, other))


def subtract_backward(
    grad_output: Any, x: Any, other: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of :func:`subtract`: ``grad_output``, and its negative."""
    x, other = _alike("subtract_backward", x, other)
    grad_output = as_gradient("subtract_backward", grad_output, x, x.shape)
    grad_x, grad_other = get_backend(backend).subtract_backward(grad_output, x, other)
    return grad_x.copy(), grad_other


def multiply(x: Any, other: Any, *, backend: str | None = None) -> np.ndarray:
    """``x * other``, element by element.

    Parameters
    ----------
    x, other : array_like
        Equal shapes; or one of shape (N, C, H, W) and the other (N, C, 1, 1), a factor for each
        channel as in squeeze-and-excitation, or (N, 1, H, W), one for each pixel.
    backend : str, optional

    Returns
    -------
    ndarray
        In the larger shape.

    Raises
    ------
    ShapeError
        If the shapes are not such a pair.
    """
    x, other, _ = _factors("multiply", x, other)
    return get_backend(backend).multiply(x, other)


def multiply_backward(
    grad_output: Any, x: Any, other: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of :func:`multiply` with respect to ``x`` and ``other``."""
    x, other, shape = _factors("multiply_backward", x, other)
    grad_output = as_gradient("multiply_backward", grad_output, x, shape)
    return get_backend(backend).multiply_backward(grad_output, x, other)


def concat(*inputs: Any, backend: str | None = None) -> np.ndarray:
    """Arrays put one after the other along the channel axis.

    Parameters
    ----------
    *inputs : array_like, shape (N, C_i, ...)
        Alike but for the number of channels.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, sum of C_i, ...)

    Raises
    ------
    ShapeError
        If there are none, or they differ in more than their channels.
    """
    arrays = _parts("concat", inputs)
    return get_backend(backend).concat(*arrays)


def concat_backward(
    grad_output: Any, *inputs: Any, backend: str | None = None
) -> tuple[np.ndarray, ...]:
    """Gradients of :func:`concat` with respect to each input: its channels of ``grad_output``."""
    arrays = _parts("concat_backward", inputs)
    shape = (len(arrays[0]), *concat_shape([x.shape[1:] for x in arrays]))
    grad_output = as_gradient("concat_backward", grad_output, arrays[0], shape)
    return get_backend(backend).concat_backward(grad_output, *arrays)


def narrow(x: Any, start: int, length: int, *, backend: str | None = None) -> np.ndarray:
    """Some channels that are next to each other: PyTorch's ``narrow`` along dimension 1.

    Parameters
    ----------
    x : array_like, shape (N, C, ...)
    start : int
        The first of them.
    length : int
        How many.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, length, ...)

    Raises
    ------
    ShapeError
        If there are no such channels.
    ConfigurationError
        If start or length are not whole numbers of at least 0 and 1.
    """
    x, start, length = _channels("narrow", x, start, length)
    return get_backend(backend).narrow(x, start, length)


def narrow_backward(
    grad_output: Any, x: Any, start: int, length: int, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`narrow` with respect to ``x``: zero for the other channels."""
    x, start, length = _channels("narrow_backward", x, start, length)
    shape = (len(x), length, *x.shape[2:])
    grad_output = as_gradient("narrow_backward", grad_output, x, shape)
    return get_backend(backend).narrow_backward(grad_output, x, start, length)


def _channels(operation: str, x: Any, start: Any, length: Any) -> tuple[np.ndarray, int, int]:
    x = as_array(operation, "x", x)
    start = as_count(operation, "start", start, least=0)
    length = as_count(operation, "length", length)
    if x.ndim < 2:
        raise ShapeError(f"{operation}: x must have the shape (N, C, ...), got {x.shape}")
    try:
        narrow_shape(x.shape[1:], start, length)
    except ShapeError as error:
        raise ShapeError(f"{operation}: {error}") from None
    return x, start, length


def _alike(operation: str, x: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    x = as_array(operation, "x", x)
    other = as_same_type(operation, x, "other", other, x.ndim)
    if x.shape != other.shape:
        raise ShapeError(f"{operation}: x has shape {x.shape}, other {other.shape}")
    return x, other


def _factors(operation: str, x: Any, other: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    x = as_array(operation, "x", x)
    other = as_same_type(operation, x, "other", other, x.ndim)
    if x.ndim < 2 or len(x) != len(other):
        if x.shape != other.shape:
            raise ShapeError(f"{operation}: x has shape {x.shape}, other {other.shape}")
        return x, other, x.shape
    try:
        return x, other, (len(x), *product_shape(x.shape[1:], other.shape[1:]))
    except ShapeError as error:
        raise ShapeError(f"{operation}: {error}") from None


def _parts(operation: str, inputs: tuple[Any, ...]) -> list[np.ndarray]:
    if not inputs:
        raise ShapeError(f"{operation}: there must be at least one array")
    first = as_array(operation, "inputs[0]", inputs[0])
    arrays = [first]
    for index, value in enumerate(inputs[1:], start=1):
        arrays.append(as_same_type(operation, first, f"inputs[{index}]", value, first.ndim))
    if first.ndim < 2 or any(len(x) != len(first) for x in arrays):
        shapes = ", ".join(str(x.shape) for x in arrays)
        raise ShapeError(f"{operation}: inputs must have shapes (N, C, ...) of one N, got {shapes}")
    try:
        concat_shape([x.shape[1:] for x in arrays])
    except ShapeError as error:
        raise ShapeError(f"{operation}: {error}") from None
    return arrays


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
)
