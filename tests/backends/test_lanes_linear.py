"""Fully connected layers of many inputs, whose sums wait in the output."""

import numpy as np
import pytest

from fastcnn.backends import im2col, lanes
from fastcnn.execution.workers import workers
from fastcnn.layers import Linear, ReLU, Sequential


@pytest.mark.parametrize(
    ("batch", "inputs", "outputs"),
    [(64, 1100, 37), (70, 930, 5), (100, 40, 700), (130, 1025, 16), (20, 2049, 9)],
)
def test_many_inputs(batch: int, inputs: int, outputs: int) -> None:
    """As float64 has it, and the same bits on any threads."""
    generator = np.random.default_rng(0)
    x, weight, bias, grad = (
        generator.standard_normal(shape).astype(np.float32)
        for shape in ((batch, inputs), (outputs, inputs), outputs, (batch, outputs))
    )
    exact = [array.astype(np.float64) for array in (x, weight, bias, grad)]
    wanted = (
        im2col.linear(*exact[:3]),
        *im2col.linear_backward(exact[3], *exact[:2]),
        np.maximum(im2col.linear(*exact[:3]), 0),
    )
    layer = Linear(inputs, outputs)
    layer.parameters["weight"][...], layer.parameters["bias"][...] = weight, bias
    model = Sequential(layer, ReLU(), input_shape=(inputs,))
    found = []
    for threads in (1, 2, 3):
        with workers(threads):
            backward = lanes.linear_backward(grad, x, weight)
            found.append((lanes.linear(x, weight, bias), *backward, model.logits(x)))
    for got, right in zip(found[0], wanted, strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=3e-6 * np.abs(right).max())
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)
