"""A convolution of random arrays on the engine by a given algorithm, and its exact results."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fastcnn.backends import im2col, lanes
from fastcnn.backends.lanes import conv_algorithm

Pair = tuple[int, int]
#: The output, and the gradients of the input, the weight and the bias.
Results = tuple[np.ndarray, ...]


@dataclass
class Convolution:
    """Random arrays of a convolution; of ``rectified`` samples half of the elements are 0.

    ``padding`` has a number, or a pair of them, for each axis.
    """

    count: int
    inputs: int
    outputs: int
    size: Pair
    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[int | Pair, int | Pair] = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    rectified: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        x = generator.standard_normal((self.count, self.inputs, *self.size))
        self.x = (np.maximum(x, 0) if self.rectified else x).astype(np.float32)
        shape = (self.outputs, self.inputs // self.groups, *self.kernel)
        self.weight = generator.standard_normal(shape).astype(np.float32)
        self.bias = generator.standard_normal(self.outputs).astype(np.float32)
        sides = tuple((side, side) if isinstance(side, int) else side for side in self.padding)
        self.geometry: Any = (self.stride, sides, self.dilation, self.groups)
        y = im2col.conv2d(self.x, self.weight, self.bias, *self.geometry)
        self.dy = generator.standard_normal(y.shape).astype(np.float32)

    @cached_property
    def exact(self) -> Results:
        """In float64."""
        return self._results(im2col, np.float64)

    def by(self, algorithm: str | None) -> Results:
        """By an algorithm of the engine, None for the engine's choice."""
        with conv_algorithm(algorithm):
            return self._results(lanes, np.float32)

    def _results(self, backend: Any, dtype: Any) -> Results:
        x, weight, bias, dy = (a.astype(dtype) for a in (self.x, self.weight, self.bias, self.dy))
        y = backend.conv2d(x, weight, bias, *self.geometry)
        return y, *backend.conv2d_backward(dy, x, weight, *self.geometry)

    def check(self, found: Results, bound: float = 2e-6) -> None:
        """Each element is exact within a bound relative to the largest."""
        for got, right in zip(found, self.exact, strict=True):
            np.testing.assert_allclose(got, right, rtol=0, atol=bound * np.abs(right).max())

    def check_errors(self, found: Results, times: float, least: float) -> None:
        """Errors are at most some times im2col's in float32, or the least."""
        direct = self._results(im2col, np.float32)
        for got, other, right in zip(found, direct, self.exact, strict=True):
            assert error(got, right) <= max(times * error(other, right), least)


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square error, relative to that of the values."""
    return float(np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()))
