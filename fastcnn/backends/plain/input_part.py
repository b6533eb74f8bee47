"""One of several inputs of a network, as a slice of samples that hold all of them."""

import numpy as np


def input_part(x: np.ndarray, start: int, shape: tuple[int, ...]) -> np.ndarray:
    """One of several inputs, from samples that hold the elements of all of them."""
    size = int(np.prod(shape))
    return x[:, start : start + size].reshape(len(x), *shape)


def input_part_backward(
    grad_output: np.ndarray, x: np.ndarray, start: int, shape: tuple[int, ...]
) -> np.ndarray:
    """The gradients of the other inputs are contributed separately."""
    grad_x = np.zeros_like(x)
    grad_x[:, start : start + int(np.prod(shape))] = grad_output.reshape(len(x), -1)
    return grad_x


input_part_loops, input_part_backward_loops = input_part, input_part_backward
