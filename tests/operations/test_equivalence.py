"""Every backend against the nested loops in float64: all but convolutions and losses."""

from typing import Any

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn.backends import BACKENDS
from tests.operations.calls import ELEMENTWISE, SETS, SHAPE, Call
from tests.operations.conftest import assert_close, random_array

POOLINGS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 6, 6), {"kernel_size": 2}),
    ((1, 2, 7, 5), {"kernel_size": 2}),
    ((2, 1, 6, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((1, 2, 5, 6), {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)}),
    ((2, 2, 5, 5), {"kernel_size": 3, "stride": 1}),
    ((1, 1, 8, 8), {"kernel_size": 2, "stride": 3}),
    ((1, 1, 3, 4), {"kernel_size": (3, 4)}),
]


ADAPTIVE: list[tuple[tuple[int, ...], Any]] = [
    ((2, 3, 6, 6), 1),
    ((2, 3, 7, 5), (3, 2)),
    ((1, 2, 5, 8), (5, 3)),
    ((3, 1, 4, 6), (None, 4)),
    ((2, 2, 3, 2), (5, 4)),
    ((17, 2, 1, 1), 1),
]


@pytest.mark.parametrize(("shape", "output_size"), ADAPTIVE)
def test_adaptive_pooling(
    shape: tuple[int, ...], output_size: Any, backend: str, dtype: str
) -> None:
    x = random_array(shape)
    y = F.adaptive_avg_pool2d(x, output_size, backend="reference")
    dy = random_array(y.shape, 1)
    dx = F.adaptive_avg_pool2d_backward(dy, x, output_size, backend="reference")
    x, dy = x.astype(dtype), dy.astype(dtype)
    assert_close(F.adaptive_avg_pool2d(x, output_size, backend=backend), y, dtype)
    actual = F.adaptive_avg_pool2d_backward(dy, x, output_size, backend=backend)
    assert_close(actual, dx, dtype)


@pytest.mark.parametrize("count_include_pad", [None, True, False])
@pytest.mark.parametrize(("shape", "arguments"), POOLINGS)
def test_pooling(
    shape: tuple[int, ...],
    arguments: dict[str, Any],
    count_include_pad: bool | None,
    backend: str,
    dtype: str,
) -> None:
    name = "max_pool2d" if count_include_pad is None else "avg_pool2d"
    if count_include_pad is not None:
        arguments = {**arguments, "count_include_pad": count_include_pad}
    forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
    x = random_array(shape)
    y = forward(x, **arguments, backend="reference")
    dy = random_array(y.shape, 1)
    dx = backward(dy, x, **arguments, backend="reference")
    x, dy = x.astype(dtype), dy.astype(dtype)
    assert_close(forward(x, **arguments, backend=backend), y, dtype)
    assert_close(backward(dy, x, **arguments, backend=backend), dx, dtype)


def test_max_pooling_gives_a_tie_to_the_first(backend: str) -> None:
    x = np.zeros((1, 1, 2, 2))
    for name in ("reference", backend):
        grad = F.max_pool2d_backward(np.ones((1, 1, 1, 1)), x, 2, backend=name)
        assert grad.ravel().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("call", [*ELEMENTWISE, Call("flatten")], ids=str)
def test_elementwise(call: Call, backend: str, dtype: str) -> None:
    x = random_array((2, 3, 4, 5)) * 4
    x.ravel()[:4] = [0.0, -0.0, 30.0, -30.0]
    given = call.arrays(x)
    y = call.forward("reference", *given)
    dy = random_array(y.shape, 1)
    gradients = call.backward("reference", dy, *given)
    given = call.arrays(x.astype(dtype))
    assert_close(call.forward(backend, *given), y, dtype)
    found = call.backward(backend, dy.astype(dtype), *given)
    for actual, expected in zip(found, gradients, strict=True):
        assert_close(actual, expected, dtype)


@pytest.mark.parametrize("call", SETS, ids=str)
def test_within_a_sample(call: Call, backend: str, dtype: str) -> None:
    given = call.arrays(3 * random_array(SHAPE) + 1)
    y = call.forward("reference", *given)
    dy = random_array(y.shape, 1)
    gradients = call.backward("reference", dy, *given)
    given = [array.astype(dtype) for array in given]
    assert_close(call.forward(backend, *given), y, dtype)
    found = call.backward(backend, dy.astype(dtype), *given)
    for actual, expected in zip(found, gradients, strict=True):
        assert_close(actual, expected, dtype)
        assert actual.dtype == np.dtype(dtype)


def test_probabilities_of_large_logits(backend: str, dtype: str) -> None:
    x = np.array([[1000.0, 0.0, -1000.0], [-1e4, -1e4, -1e4]], dtype)
    y = F.softmax(x, 1, backend=backend)
    assert y == pytest.approx(np.array([[1.0, 0.0, 0.0], [1 / 3] * 3]), abs=1e-7)
    expected = np.array([[0.0, -1000.0, -2000.0], [-np.log(3.0)] * 3])
    assert F.log_softmax(x, 1, backend=backend) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("call", ELEMENTWISE, ids=str)
def test_elementwise_at_the_ends(call: Call, dtype: str) -> None:
    """Very large numbers neither overflow nor turn into NaN, and NaN stays NaN."""
    x = np.array([-1e4, -200.0, 200.0, 1e4, np.nan], dtype)
    x = np.stack([x] * 3, axis=1)
    given = call.arrays(x)
    for backend in BACKENDS:
        y = call.forward(backend, *given)
        dx = call.backward(backend, np.ones_like(x), *given)[0]
        for result in (y, dx):
            assert np.isfinite(result[:4]).all()
        assert np.isnan(y[4]).all()


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4, 5), (2, 3, 1, 2, 2)])
def test_a_slope_a_channel(shape: tuple[int, ...], backend: str, dtype: str) -> None:
    x, dy = random_array(shape), random_array(shape, 1)
    for count in {1, shape[1] if len(shape) > 1 else 1}:
        weight = random_array((count,), 2)
        expected = F.prelu_backward(dy, x, weight, backend="reference")
        axes = tuple(axis for axis in range(x.ndim) if count == 1 or axis != 1)
        assert expected[1] == pytest.approx(np.where(x > 0, 0.0, x * dy).sum(axis=axes).reshape(-1))
        given = [array.astype(dtype) for array in (dy, x, weight)]
        found = F.prelu_backward(*given, backend=backend)
        for actual, value in zip(found, expected, strict=True):
            assert_close(actual, value, dtype)


def test_add(backend: str, dtype: str) -> None:
    x, other, dy = (random_array((3, 2, 4, 5), i) for i in range(3))
    x, other, dy = (array.astype(dtype) for array in (x, other, dy))
    assert_close(F.add(x, other, backend=backend), F.add(x, other, backend="reference"), dtype)
    for grad in F.add_backward(dy, x, other, backend=backend):
        assert_close(grad, dy, dtype)
        assert not np.shares_memory(grad, dy)


#: Joins of branches, with the shapes of their inputs.
JOINS: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("subtract", ((3, 2, 4, 5), (3, 2, 4, 5))),
    ("multiply", ((3, 2, 4, 5), (3, 2, 4, 5))),
    ("multiply", ((3, 2, 4, 5), (3, 2, 1, 1))),
    ("multiply", ((3, 1, 4, 5), (3, 2, 4, 5))),
    ("multiply", ((4, 7), (4, 7))),
    ("multiply", ((4,), (4,))),
    ("concat", ((3, 2, 4, 5), (3, 1, 4, 5), (3, 3, 4, 5))),
    ("concat", ((4, 7), (4, 2))),
    ("concat", ((2, 3, 5),)),
]


@pytest.mark.parametrize(("name", "shapes"), JOINS)
def test_joins(name: str, shapes: tuple[tuple[int, ...], ...], backend: str, dtype: str) -> None:
    inputs = [random_array(shape, seed) for seed, shape in enumerate(shapes)]
    forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
    y = forward(*inputs, backend="reference")
    dy = random_array(y.shape, 9)
    expected = backward(dy, *inputs, backend="reference")
    given, dy = [x.astype(dtype) for x in inputs], dy.astype(dtype)
    assert_close(forward(*given, backend=backend), y, dtype)
    found = backward(dy, *given, backend=backend)
    for actual, wanted, x in zip(found, expected, inputs, strict=True):
        assert actual.shape == x.shape
        assert not np.shares_memory(actual, dy)
        assert_close(actual, wanted, dtype)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (3, 2, 4, 5), (17, 2, 1, 3), (1, 2, 3, 3)])
def test_batch_norm(
    shape: tuple[int, ...], training: bool, affine: bool, backend: str, dtype: str
) -> None:
    x, dy = 3 * random_array(shape) + 5, random_array(shape, 1)
    mean, weight, bias = (random_array(shape[1:2], seed) for seed in (2, 3, 4))
    variance = random_array(shape[1:2], 5) ** 2
    if not affine:
        weight = bias = None

    def run(name: str, kind: str) -> tuple[np.ndarray, ...]:
        given = [None if a is None else a.astype(kind) for a in (x, mean, variance, weight, bias)]
        y = F.batch_norm(*given, training=training, eps=0.1, backend=name)
        grads = F.batch_norm_backward(
            dy.astype(kind), *given[:4], training=training, eps=0.1, backend=name
        )
        return y, *grads, *F.batch_statistics(given[0], backend=name)

    for actual, expected in zip(run(backend, dtype), run("reference", "float64"), strict=True):
        assert_close(actual, expected, dtype)


def test_a_large_mean_does_not_swamp_the_variance(backend: str) -> None:
    x = (1e4 + random_array((64, 1))).astype(np.float32)
    mean, variance = F.batch_statistics(x, backend=backend)
    assert variance == pytest.approx(x.astype(np.float64).var(axis=0), rel=1e-4)
    assert mean == pytest.approx(x.astype(np.float64).mean(axis=0), rel=1e-6)


def test_linear(backend: str, dtype: str) -> None:
    x, w, b, dy = (random_array(shape, i) for i, shape in enumerate(((5, 7), (3, 7), (3,), (5, 3))))
    y = F.linear(x, w, b, backend="reference")
    expected = F.linear_backward(dy, x, w, backend="reference")
    x, w, b, dy = (array.astype(dtype) for array in (x, w, b, dy))
    assert_close(F.linear(x, w, b, backend=backend), y, dtype)
    for ours, theirs in zip(F.linear_backward(dy, x, w, backend=backend), expected, strict=True):
        assert_close(ours, theirs, dtype)


@pytest.mark.parametrize("name", ["dropout", "dropout2d"])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
def test_dropout_masks_are_the_same(name: str, p: float, backend: str, dtype: str) -> None:
    forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
    x, dy = random_array((3, 2, 4, 5)).astype(dtype), random_array((3, 2, 4, 5), 1).astype(dtype)
    key = 0x123456789ABCDEF0
    y = forward(x, p, key=key, backend=backend)
    assert_close(y, forward(x.astype(float), p, key=key, backend="reference"), dtype)
    expected = backward(dy.astype(float), x.astype(float), p, key=key, backend="reference")
    assert_close(backward(dy, x, p, key=key, backend=backend), expected, dtype)


def test_dropout2d_keeps_or_drops_whole_channels(backend: str) -> None:
    y = F.dropout2d(np.ones((50, 8, 3, 3)), 0.25, key=7, backend=backend)
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert (y == y[:, :, :1, :1]).all()
    assert (y[:, :, 0, 0] == 0).mean() == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("name", ["reference", "im2col"])
def test_non_finite_values(name: str) -> None:
    x = np.array([[[[np.nan, 1.0], [2.0, -np.inf]]]])
    assert np.isnan(F.relu(x, backend=name)[0, 0, 0, 0])
    assert np.isnan(F.max_pool2d(x, 2, backend=name)).all()
    assert np.isnan(F.conv2d(x, np.ones((1, 1, 2, 2)), backend=name)).all()
    extreme = F.sigmoid(np.array([-1000.0, 1000.0, 0.0]), backend=name)
    assert extreme.tolist() == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("name", ["reference", "im2col"])
def test_inputs_of_any_memory_layout_are_left_alone(name: str) -> None:
    x = np.asfortranarray(random_array((2, 3, 4, 6)))[:, :, :, ::-1]
    w = np.asfortranarray(random_array((2, 3, 3, 3), 1))
    before, expected = x.copy(), F.conv2d(x.copy(), w.copy(), padding=1, backend=name)
    for array in (x, w):
        array.flags.writeable = False
    y = F.conv2d(x, w, padding=1, backend=name)
    assert y == pytest.approx(expected)
    dy = np.asfortranarray(y)
    F.conv2d_backward(dy, x, w, padding=1, backend=name)
    F.max_pool2d_backward(F.max_pool2d(x, 2, backend=name), x, 2, backend=name)
    F.relu_backward(x, x, backend=name)
    assert (x == before).all()
    flat = F.flatten(x, backend=name)
    flat[...] = 0
    assert (x == before).all()
