"""Every backend against the nested loops in float64, over awkward geometries."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastcnn import functional as F
from fastcnn.backends import BACKENDS
from tests.operations.conftest import assert_close, random_array

# (N, C, H, W), (O, C / groups, KH, KW), arguments
CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 1, 6, 6), (4, 1, 3, 3), {"padding": 1}),
    ((3, 3, 5, 7), (2, 3, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    ((1, 2, 7, 6), (3, 2, 3, 3), {"dilation": 2, "padding": 2}),
    ((2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "stride": 2, "padding": 1}),
    ((2, 3, 6, 5), (3, 1, 3, 3), {"groups": 3, "padding": "same"}),
    ((2, 3, 6, 5), (6, 1, 2, 2), {"groups": 3, "stride": 3}),
    ((2, 3, 4, 4), (5, 3, 1, 1), {}),
    ((2, 3, 5, 4), (5, 3, 1, 1), {"stride": 2, "padding": 1}),
    ((1, 2, 4, 3), (2, 2, 4, 3), {"padding": "valid"}),
    ((1, 1, 5, 8), (2, 1, 2, 4), {"padding": "same", "dilation": (2, 1)}),
    ((1, 1, 9, 9), (1, 1, 2, 3), {"stride": (3, 4), "dilation": (3, 2)}),
    ((17, 2, 3, 3), (2, 2, 3, 3), {"padding": 1}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
]
POOLINGS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 6, 6), {"kernel_size": 2}),
    ((1, 2, 7, 5), {"kernel_size": 2}),
    ((2, 1, 6, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((1, 2, 5, 6), {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)}),
    ((2, 2, 5, 5), {"kernel_size": 3, "stride": 1}),
    ((1, 1, 8, 8), {"kernel_size": 2, "stride": 3}),
    ((1, 1, 3, 4), {"kernel_size": (3, 4)}),
]


def check_convolution(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    arguments: dict[str, Any],
    backend: str,
    dtype: str,
) -> None:
    """Compare forward and all three gradients."""
    x, w, b = random_array(x_shape, 1), random_array(w_shape, 2), random_array(w_shape[:1], 3)
    y = F.conv2d(x, w, b, **arguments, backend="reference")
    dy = random_array(y.shape, 4)
    expected = (y, *F.conv2d_backward(dy, x, w, **arguments, backend="reference"))
    x, w, b, dy = (array.astype(dtype) for array in (x, w, b, dy))
    actual = (
        F.conv2d(x, w, b, **arguments, backend=backend),
        *F.conv2d_backward(dy, x, w, **arguments, backend=backend),
    )
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs, dtype)
    without = F.conv2d(x, w, **arguments, backend=backend)
    assert_close(without, expected[0] - b.astype(float)[:, None, None], dtype)


@pytest.mark.parametrize(("x_shape", "w_shape", "arguments"), CONVOLUTIONS)
def test_convolution(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    arguments: dict[str, Any],
    backend: str,
    dtype: str,
) -> None:
    check_convolution(x_shape, w_shape, arguments, backend, dtype)


@given(st.data())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_convolution_of_any_geometry(backend: str, data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups = draw(1, 3)
    kernel, dilation = (draw(1, 3), draw(1, 3)), (draw(1, 2), draw(1, 2))
    padding = (draw(0, 2), draw(0, 2))
    size = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + draw(0, 3)
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    channels = draw(1, 2)
    check_convolution(
        (draw(1, 3), channels * groups, *size),
        (draw(1, 2) * groups, channels, *kernel),
        {"stride": (draw(1, 3), draw(1, 3)), "padding": padding, "dilation": dilation,
         "groups": groups},
        backend,
        data.draw(st.sampled_from(["float32", "float64"])),
    )  # fmt: skip


# (N, C, H, W), (C, O / groups, KH, KW), arguments
TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 4, 5), (3, 2, 3, 3), {}),
    ((2, 3, 4, 5), (3, 4, 3, 2), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((1, 4, 3, 3), (4, 2, 2, 3), {"stride": (2, 3), "groups": 2, "output_padding": (0, 2)}),
    ((2, 3, 4, 3), (3, 1, 3, 3), {"groups": 3, "padding": (1, 2), "dilation": (1, 2)}),
    ((3, 2, 3, 4), (2, 3, 2, 2), {"dilation": 3, "output_padding": 2}),
    ((17, 2, 2, 2), (2, 2, 4, 4), {"stride": 2, "padding": 1}),
    ((2, 5, 3, 3), (5, 2, 1, 1), {}),
    ((1, 2, 3, 3), (2, 1, 1, 1), {"stride": 3}),
    ((1, 1, 1, 1), (1, 1, 2, 3), {}),
]


def check_transposed(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    arguments: dict[str, Any],
    backend: str,
    dtype: str,
) -> None:
    """Compare forward and all three gradients."""
    channels = w_shape[1] * arguments.get("groups", 1)
    x, w, b = random_array(x_shape, 1), random_array(w_shape, 2), random_array((channels,), 3)
    y = F.conv_transpose2d(x, w, b, **arguments, backend="reference")
    dy = random_array(y.shape, 4)
    expected = (y, *F.conv_transpose2d_backward(dy, x, w, **arguments, backend="reference"))
    x, w, b, dy = (array.astype(dtype) for array in (x, w, b, dy))
    actual = (
        F.conv_transpose2d(x, w, b, **arguments, backend=backend),
        *F.conv_transpose2d_backward(dy, x, w, **arguments, backend=backend),
    )
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs, dtype)
    without = F.conv_transpose2d(x, w, **arguments, backend=backend)
    assert_close(without, expected[0] - b.astype(float)[:, None, None], dtype)


@pytest.mark.parametrize(("x_shape", "w_shape", "arguments"), TRANSPOSED)
def test_transposed_convolution(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    arguments: dict[str, Any],
    backend: str,
    dtype: str,
) -> None:
    check_transposed(x_shape, w_shape, arguments, backend, dtype)


@given(st.data())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_transposed_convolution_of_any_geometry(backend: str, data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, stride, dilation = draw(1, 3), (draw(1, 3), draw(1, 3)), (draw(1, 2), draw(1, 2))
    kernel, size = (draw(1, 3), draw(1, 3)), (draw(1, 4), draw(1, 4))
    extra = tuple(draw(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    largest = (
        (n - 1) * s + d * (k - 1) + e
        for n, s, d, k, e in zip(size, stride, dilation, kernel, extra, strict=True)
    )
    padding = tuple(draw(0, min(2, most // 2)) for most in largest)
    channels = draw(1, 2)
    check_transposed(
        (draw(1, 3), channels * groups, *size),
        (channels * groups, draw(1, 2), *kernel),
        {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
         "output_padding": extra},
        backend,
        data.draw(st.sampled_from(["float32", "float64"])),
    )  # fmt: skip


def test_a_transposed_convolution_is_the_gradient_of_a_convolution(backend: str) -> None:
    x, w = random_array((2, 3, 7, 6)), random_array((4, 3, 3, 2), 1)
    arguments: dict[str, Any] = {"stride": (3, 2), "padding": 1}
    y = F.conv2d(x, w, **arguments, backend=backend)
    dx = F.conv2d_backward(y, x, w, **arguments, backend=backend)[0]
    ours = F.conv_transpose2d(y, w, **arguments, output_padding=(0, 0), backend=backend)
    assert ours.shape == dx.shape
    assert ours == pytest.approx(dx)


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


ELEMENTWISE: list[tuple[str, dict[str, Any]]] = [
    ("relu", {}),
    ("sigmoid", {}),
    ("tanh", {}),
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("elu", {}),
    ("elu", {"alpha": 1.5}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {}),
    ("softplus", {}),
    ("softplus", {"beta": 2.0, "threshold": 5.0}),
]


@pytest.mark.parametrize(("name", "arguments"), [*ELEMENTWISE, ("flatten", {})])
def test_elementwise(name: str, arguments: dict[str, Any], backend: str, dtype: str) -> None:
    x = random_array((3, 2, 4, 5)) * 4
    x.ravel()[:4] = [0.0, -0.0, 30.0, -30.0]
    forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
    y = forward(x, **arguments, backend="reference")
    dy = random_array(y.shape, 1)
    dx = backward(dy, x, **arguments, backend="reference")
    x, dy = x.astype(dtype), dy.astype(dtype)
    assert_close(forward(x, **arguments, backend=backend), y, dtype)
    assert_close(backward(dy, x, **arguments, backend=backend), dx, dtype)


@pytest.mark.parametrize(("name", "arguments"), ELEMENTWISE)
def test_elementwise_at_the_ends(name: str, arguments: dict[str, Any], dtype: str) -> None:
    """Numbers far out neither overflow nor turn into NaN, and NaN stays NaN."""
    x = np.array([-1e4, -200.0, 200.0, 1e4, np.nan], dtype)
    for backend in BACKENDS:
        y = getattr(F, name)(x, **arguments, backend=backend)
        dx = getattr(F, f"{name}_backward")(np.ones_like(x), x, **arguments, backend=backend)
        for result in (y, dx):
            assert np.isfinite(result[:4]).all()
        assert np.isnan(y[4])


def test_add(backend: str, dtype: str) -> None:
    x, other, dy = (random_array((3, 2, 4, 5), i) for i in range(3))
    x, other, dy = (array.astype(dtype) for array in (x, other, dy))
    assert_close(F.add(x, other, backend=backend), F.add(x, other, backend="reference"), dtype)
    for grad in F.add_backward(dy, x, other, backend=backend):
        assert_close(grad, dy, dtype)
        assert not np.shares_memory(grad, dy)


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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_cross_entropy(smoothing: float, scale: float, backend: str, dtype: str) -> None:
    logits, target = random_array((6, 4)) * scale, np.array([0, 1, 2, 3, 0, 1])
    expected = F.cross_entropy(logits, target, smoothing, backend="reference")
    grad = F.cross_entropy_backward(2.0, logits, target, smoothing, backend="reference")
    logits = logits.astype(dtype)
    actual = F.cross_entropy(logits, target, smoothing, backend=backend)
    assert actual == pytest.approx(expected, rel=1e-5)
    assert_close(
        F.cross_entropy_backward(2.0, logits, target, smoothing, backend=backend), grad, dtype
    )


@pytest.mark.parametrize("weight", [None, np.array([0.5, 2.0, 0.0, 3.0, 1.0, 1.5])])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_against_probabilities(
    smoothing: float, weight: np.ndarray | None, backend: str, dtype: str
) -> None:
    logits = random_array((6, 4)) * 3
    target = np.random.default_rng(1).dirichlet(np.ones(4), 6)
    options: dict[str, Any] = {"label_smoothing": smoothing, "sample_weight": weight}
    expected = F.cross_entropy(logits, target, **options, backend="reference")
    grad = F.cross_entropy_backward(2.0, logits, target, **options, backend="reference")
    logits = logits.astype(dtype)
    actual = F.cross_entropy(logits, target, **options, backend=backend)
    assert actual == pytest.approx(expected, rel=1e-5)
    assert_close(
        F.cross_entropy_backward(2.0, logits, target, **options, backend=backend), grad, dtype
    )


def test_certain_probabilities_are_classes(backend: str) -> None:
    logits, classes = random_array((6, 4)), np.array([0, 1, 2, 3, 0, 1])
    certain = np.eye(4)[classes]
    for smoothing in (0.0, 0.2):
        assert F.cross_entropy(logits, certain, smoothing, backend=backend) == pytest.approx(
            F.cross_entropy(logits, classes, smoothing, backend=backend)
        )
        assert F.cross_entropy_backward(
            1.0, logits, certain, smoothing, backend=backend
        ) == pytest.approx(
            F.cross_entropy_backward(1.0, logits, classes, smoothing, backend=backend)
        )


def test_softmax_subtracts_the_maximum_of_each_row() -> None:
    logits = np.array([[1000.0, 999.0], [-1000.0, -1001.0]])
    assert F.softmax(logits)[1] == pytest.approx(F.softmax(logits)[0])


def test_mse(backend: str, dtype: str) -> None:
    a, b = random_array((4, 3)), random_array((4, 3), 1)
    expected = F.mse_backward(1.0, a, b, backend="reference")
    assert F.mse(a, b, backend=backend) == pytest.approx(F.mse(a, b, backend="reference"))
    a, b = a.astype(dtype), b.astype(dtype)
    assert_close(F.mse_backward(1.0, a, b, backend=backend), expected, dtype)


WEIGHT = np.array([0.5, 2.0, 0.0, 3.0, 1.0, 1.5])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy(smoothing: float, backend: str, dtype: str) -> None:
    logits, target = random_array((6, 4)), np.array([0, 1, 2, 3, 0, 1])
    arguments = {"label_smoothing": smoothing, "sample_weight": WEIGHT}
    expected = F.cross_entropy(logits, target, **arguments, backend="reference")
    grad = F.cross_entropy_backward(2.0, logits, target, **arguments, backend="reference")
    logits = logits.astype(dtype)
    actual = F.cross_entropy(logits, target, **arguments, backend=backend)
    assert actual == pytest.approx(expected, rel=1e-5)
    assert_close(
        F.cross_entropy_backward(2.0, logits, target, **arguments, backend=backend), grad, dtype
    )


def test_weighted_mse(backend: str, dtype: str) -> None:
    a, b = random_array((6, 2, 3)), random_array((6, 2, 3), 1)
    expected = F.mse(a, b, sample_weight=WEIGHT, backend="reference")
    grad = F.mse_backward(1.0, a, b, sample_weight=WEIGHT, backend="reference")
    assert F.mse(a, b, sample_weight=WEIGHT, backend=backend) == pytest.approx(expected)
    a, b = a.astype(dtype), b.astype(dtype)
    assert_close(F.mse_backward(1.0, a, b, sample_weight=WEIGHT, backend=backend), grad, dtype)


@pytest.mark.parametrize("name", ["reference", "im2col"])
def test_whole_weights_count_repetitions(name: str) -> None:
    logits, target, weight = random_array((3, 4)), np.array([0, 3, 1]), np.array([1, 2, 3])
    weighted = F.cross_entropy(logits, target, 0.1, sample_weight=weight, backend=name)
    repeated = F.cross_entropy(
        logits.repeat(weight, axis=0), target.repeat(weight), 0.1, backend=name
    )
    assert weighted == pytest.approx(repeated, rel=1e-12)
    values = random_array((3, 4), 1)
    assert F.mse(logits, values, sample_weight=weight, backend=name) == pytest.approx(
        F.mse(logits.repeat(weight, axis=0), values.repeat(weight, axis=0), backend=name)
    )


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


def test_columns_are_bounded_without_changing_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastcnn.backends.im2col import conv

    x, w = random_array((5, 2, 6, 6)), random_array((3, 2, 3, 3), 1)
    whole = F.conv2d(x, w, backend="im2col")
    grads = F.conv2d_backward(whole, x, w, backend="im2col")
    monkeypatch.setattr(conv, "COLUMN_BYTES", 1)
    assert (F.conv2d(x, w, backend="im2col") == whole).all()
    for ours, theirs in zip(F.conv2d_backward(whole, x, w, backend="im2col"), grads, strict=True):
        assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("mask", [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_of_a_convolution_apart(
    mask: tuple[bool, bool, bool], backend: str, dtype: str
) -> None:
    x, w = random_array((3, 4, 5, 6), 1), random_array((6, 2, 3, 3), 2)
    arguments: dict[str, Any] = {"stride": 2, "padding": 1, "groups": 2}
    dy = random_array(F.conv2d(x, w, **arguments, backend="reference").shape, 3)
    expected = F.conv2d_backward(dy, x, w, **arguments, backend="reference")
    apart = F.conv2d_backward(dy, x, w, **arguments, output_mask=mask, backend="reference")
    x, w, dy = (array.astype(dtype) for array in (x, w, dy))
    ours = F.conv2d_backward(dy, x, w, **arguments, output_mask=mask, backend=backend)
    for wanted, part, mine, whole in zip(mask, apart, ours, expected, strict=True):
        if wanted:
            assert (part == whole).all()
            assert_close(mine, whole, dtype)
        else:
            assert part is None
            assert mine is None
