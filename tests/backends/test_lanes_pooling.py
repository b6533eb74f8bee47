"""Pooling rows that also compute the gradient of the function before: ReLU, and others."""

import copy

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn.backends.lanes.kernels.pool import FITS_CACHE, LANES
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.execution.workers import workers
from fastcnn.layers import (
    ELU,
    GELU,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    GlobalAvgPool2d,
    Input,
    Layer,
    Linear,
    MaxPool2d,
    Model,
    PReLU,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD

KINDS: dict[str, list[Layer]] = {
    "overlapping": [Conv2d(3, 6, 3, seed=0), ReLU(), MaxPool2d(3, stride=2, padding=1)],
    "gaps": [Conv2d(3, 6, 3, seed=0), ReLU(), MaxPool2d(2, stride=3)],
    "dilated": [Conv2d(3, 6, 3, seed=0), ReLU(), MaxPool2d(2, stride=1, dilation=2)],
    "adaptive": [Conv2d(3, 6, 3, seed=0), ReLU(), AdaptiveMaxPool2d((4, 3))],
    "without ReLU": [Conv2d(3, 6, 3, seed=0), MaxPool2d(3, stride=2)],
    "transposed": [ConvTranspose2d(3, 6, 3, stride=2, seed=0), ReLU(), MaxPool2d(3)],
    "depthwise": [Conv2d(3, 6, 3, groups=3, seed=0), ReLU(), MaxPool2d(3, stride=2)],
    "pooled twice": [
        Conv2d(3, 6, 3, padding=1, seed=0), ReLU(), MaxPool2d(2), MaxPool2d(3, stride=1),
    ],
    "normalised": [Conv2d(3, 6, 3, seed=0), BatchNorm2d(6), ReLU(), MaxPool2d(3, stride=2)],
    "read twice": [
        Conv2d(3, 6, 3, seed=0), ReLU(), Residual(MaxPool2d(3, stride=1, padding=1)), ReLU(),
        MaxPool2d(3, stride=2),
    ],
}  # fmt: skip
#: Average pooling, and whether one row computes its gradient and that of the function before.
AVERAGES: dict[str, tuple[bool, list[Layer]]] = {
    "tiles": (True, [Tanh(), AvgPool2d(2)]),
    "averages that overlap": (True, [SiLU(), AvgPool2d(3, stride=2, padding=1)]),
    "averages with gaps": (True, [GELU(), AvgPool2d(2, stride=3)]),
    "a setting": (True, [ELU(0.5), AvgPool2d(3, padding=1, count_include_pad=False)]),
    "shared out": (True, [Sigmoid(), AdaptiveAvgPool2d((4, 3))]),
    "padded": (True, [Tanh(), AvgPool2d(3, stride=2), Conv2d(6, 6, 3, padding=2, seed=2)]),
    "a parameter": (False, [PReLU(6), AvgPool2d(2)]),
    "nothing before": (False, [AvgPool2d(2)]),
    "averages read with their input": (
        False, [Tanh(), Residual(AvgPool2d(3, stride=1, padding=1))],
    ),
}  # fmt: skip
for name, (_, layers) in AVERAGES.items():
    KINDS[name] = [Conv2d(3, 6, 3, padding=1, seed=0), *layers]
#: Kinds whose pooling row masks and sums.
TOGETHER = ("overlapping", "gaps", "dilated", "adaptive", "transposed", "depthwise")


def network(kind: str) -> Sequential:
    model = Sequential(
        *copy.deepcopy(KINDS[kind]), Conv2d(6, 4, 2, seed=5), ReLU(), GlobalAvgPool2d(), Flatten(),
        Linear(4, 5, seed=6), input_shape=(3, 12, 13),
    )  # fmt: skip
    for name, values in model.state_dict().items():
        if name == "0.bias":
            # About half of the windows have no maximum.
            values -= 0.6
    return model


def step(model: Model, backend: str, threads: int = 1) -> np.ndarray:
    """The parameters after a step."""
    generator = np.random.default_rng(3)
    x = generator.standard_normal((37, 3, 12, 13)).astype(np.float32)
    with workers(threads):
        executor = make_executor(
            model,
            loss=CrossEntropyLoss(),
            optimizer=SGD(0.5),
            backend=backend,
            batch_size=37,
            threads=threads,
        )
        data = ArrayDataset(x, generator.integers(0, 5, 37))
        executor.train_steps(data, np.arange(37), np.array([0.5]))
    return model.parameter_vector.copy()


@pytest.mark.parametrize("kind", KINDS)
def test_steps(kind: str) -> None:
    """Equal to im2col's, with the same bits on any threads."""
    expected = step(network(kind), "im2col")
    assert np.abs(expected - network(kind).parameter_vector).max() > 1e-3
    ours = step(network(kind), "lanes")
    np.testing.assert_allclose(ours, expected, atol=2e-6)
    for threads in (2, 4):
        np.testing.assert_array_equal(step(network(kind), "lanes", threads), ours)


@pytest.mark.parametrize("kind", KINDS)
def test_rows(kind: str) -> None:
    names = fastcnn.plan(network(kind), 37).names
    apart = {"0: gradient of ReLU", "0: bias gradient"} & set(names)
    if kind in TOGETHER:
        assert not apart
    if kind == "read twice":
        # The weight gradient's row sums the bias gradient.
        assert apart == {"0: gradient of ReLU"}
    if kind in AVERAGES:
        assert any("average pooling" in name and "gradient" in name for name in names)
        together = any(name.startswith("1: gradient of") and " + " in name for name in names)
        assert together == AVERAGES[kind][0]


def test_a_gradient_of_averages_is_not_read_in_another_stage() -> None:
    """The normalisation of the other branch divides the stages of tanh and of its averages."""

    def model() -> Model:
        x = Input((3, 12, 13))
        y = Tanh()(Conv2d(3, 6, 1, seed=0)(x))
        z = AvgPool2d(2)(BatchNorm2d(6)(Conv2d(3, 6, 1, seed=1)(x)))
        y = AvgPool2d(2)(y)
        y = Add()(Conv2d(6, 6, 1, seed=2)(y), Conv2d(6, 6, 1, seed=3)(y))
        return Model(x, Linear(6, 5, seed=4)(Flatten()(GlobalAvgPool2d()(Add()(z, y)))))

    np.testing.assert_allclose(step(model(), "lanes"), step(model(), "im2col"), atol=2e-6)


def test_a_map_that_no_cache_keeps() -> None:
    """Its gradient is stored past the cache; the same bits on any threads."""
    side = 366
    generator = np.random.default_rng(4)
    x = generator.standard_normal((17, 1, side, side)).astype(np.float32)
    labels = generator.integers(0, 3, 17)
    model = Sequential(
        Conv2d(1, 2, 1, seed=0), ReLU(), MaxPool2d(3, stride=2, padding=1),
        Conv2d(2, 3, 3, stride=3, seed=1), GlobalAvgPool2d(), Flatten(), Linear(3, 3, seed=2),
        input_shape=(1, side, side),
    )  # fmt: skip
    assert 2 * side * side * LANES > FITS_CACHE
    _, expected = fastcnn.gradients(model, x, labels, backend="im2col")
    first: dict[str, np.ndarray] = {}
    for threads in (1, 2, 3):
        with workers(threads):
            _, found = fastcnn.gradients(model, x, labels, backend="lanes")
        first = first or found
        for name, right in expected.items():
            np.testing.assert_array_equal(found[name], first[name])
            np.testing.assert_allclose(found[name], right, atol=1e-4 * np.abs(right).max())


@pytest.mark.parametrize("kernel", [(1, 1), (1, 2), (2, 2), (3, 1), (3, 3), (4, 3), (5, 5)])
def test_sizes_of_windows(kernel: tuple[int, int]) -> None:
    """Values and gradients equal im2col's, with ties, for maps with few and with many windows."""
    generator = np.random.default_rng(5)
    for size in ((5, 6), (19, 23)):
        x = generator.integers(0, 4, (18, 3, *size)).astype(np.float32)
        for stride in ((1, 1), (2, 2)):
            arguments = {"kernel_size": kernel, "stride": stride, "padding": (0, 0)}
            y = F.max_pool2d(x, **arguments, backend="lanes")
            np.testing.assert_array_equal(y, F.max_pool2d(x, **arguments, backend="im2col"))
            dy = generator.standard_normal(y.shape).astype(np.float32)
            found, right = (
                F.max_pool2d_backward(dy, x, **arguments, backend=backend)
                for backend in ("lanes", "im2col")
            )
            np.testing.assert_allclose(found, right, atol=1e-6)


def test_windows_of_zeros_and_of_nan() -> None:
    """Zeros have no argmax, so no gradient goes to them; NaN is the argmax of its windows."""
    x, labels = np.ones((16, 3, 12, 13), np.float32), np.zeros(16, np.int64)
    for bias in (-100.0, np.nan):
        model = network("overlapping")
        model.state_dict()["0.bias"][...] = bias
        for backend in ("lanes", "im2col"):
            _, found = fastcnn.gradients(model, x, labels, backend=backend)
            for name in ("0.weight", "0.bias"):
                expected = np.full_like(found[name], 0 if bias == -100.0 else np.nan)
                np.testing.assert_array_equal(found[name], expected)
