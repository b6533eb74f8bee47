"""Residual blocks on the engine: sums and their gradients within batch normalisation's passes."""

from collections.abc import Callable

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes import Inference, conv_algorithm
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.join import K_ADD
from fastcnn.backends.lanes.kernels.norm import K_NORM_ADD, K_NORM_JOINED_GRADIENT_SUMS, K_NORM_SUMS
from fastcnn.backends.lanes.session.forward_pass import Pass
from fastcnn.execution import forward, loss_and_gradients
from fastcnn.execution.engines import room_for
from fastcnn.execution.prepared import make_inference
from fastcnn.execution.step import Step
from fastcnn.layers import (
    BatchNorm2d,
    Concat,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Input,
    Layer,
    Linear,
    MaxPool2d,
    Model,
    ReLU,
    Residual,
    Sequential,
)


def convolution(inputs: int, outputs: int, seed: int, **arguments: int) -> Conv2d:
    return Conv2d(inputs, outputs, 3, padding=1, bias=False, seed=seed, **arguments)


def norm(channels: int, seed: int, **arguments: object) -> BatchNorm2d:
    layer = BatchNorm2d(channels, **arguments)  # type: ignore[arg-type]
    generator = np.random.default_rng(seed)
    for name, value in layer.parameters.items():
        value[...] = generator.uniform(0.5, 1.5, value.shape) - (name == "bias")
    for name, value in layer.buffers.items():
        if value.shape:
            value[...] = generator.uniform(0.5, 1.5, value.shape) - (name == "running_mean")
    return layer


def branch(inputs: int, outputs: int, seed: int, **arguments: object) -> list[object]:
    return [
        convolution(inputs, outputs, seed), norm(outputs, seed + 1, **arguments), ReLU(),
        convolution(outputs, outputs, seed + 2), norm(outputs, seed + 3, **arguments),
    ]  # fmt: skip


def inference(model: Model, threads: int) -> Inference:
    return make_inference(model, model.graph(), 64, threads)


def outputs(made: Pass, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The outputs of a pass without normalisation of its input."""
    found, channels = np.empty(shape, np.float32), x.shape[1]
    factors = np.repeat(np.float32([1, 0]), channels)
    made.run(x, found, factors, (x.ctypes.data, found.ctypes.data))
    return found


def network(*layers: object) -> Sequential:
    head = GlobalAvgPool2d(), Flatten(), Linear(8, 3, seed=90)
    return Sequential(*layers, *head, input_shape=(3, 7, 6))  # type: ignore[arg-type]


def residual(*layers: object, shortcut: Sequential | None = None) -> Residual:
    return Residual(Sequential(*layers), shortcut)  # type: ignore[arg-type]


def stem(seed: int = 0, **arguments: object) -> list[object]:
    return [convolution(3, 8, seed), norm(8, seed + 1, **arguments), ReLU()]


def block(seed: int, *after: object, **arguments: object) -> list[object]:
    return [residual(*branch(8, 8, seed, **arguments)), *after]


def shared() -> Sequential:
    again = norm(8, 50)
    return network(
        *stem(), residual(convolution(8, 8, 2), again), ReLU(),
        residual(convolution(8, 8, 4), again), ReLU(),
    )  # fmt: skip


def with_shortcut() -> Sequential:
    shortcut = Sequential(Conv2d(8, 8, 1, bias=False, seed=30), norm(8, 31))
    return network(
        *stem(), residual(*branch(8, 8, 10), shortcut=shortcut), ReLU(), *block(20, ReLU())
    )


def early_norm() -> Sequential:
    """The normalisation precedes the map that it is added to."""
    shortcut = Sequential(convolution(8, 8, 30), ReLU(), convolution(8, 8, 31))
    return network(*stem(), residual(*branch(8, 8, 10), shortcut=shortcut), ReLU())


def shared_by_branches() -> Sequential:
    """A normalisation that updates its statistics in one branch before the other."""
    again = norm(8, 50)
    shortcut = Sequential(convolution(8, 8, 30), again, ReLU())
    return network(*stem(), residual(convolution(8, 8, 2), again, shortcut=shortcut), ReLU())


def of_three() -> Sequential:
    """A map with three readers."""
    inner = residual(convolution(8, 8, 5), norm(8, 6))
    return network(*stem(), residual(inner, ReLU(), norm(8, 8)), ReLU())


def before_activation() -> Sequential:
    body = [norm(8, 4), ReLU(), convolution(8, 8, 5), norm(8, 6), ReLU(), convolution(8, 8, 7)]
    return network(convolution(3, 8, 1), residual(*body), residual(convolution(8, 8, 9)))


NETWORKS: dict[str, Callable[[], Sequential]] = {
    "ReLU after the sum": lambda: network(*stem(), *block(10, ReLU()), *block(20, ReLU())),
    "nothing after the sum": lambda: network(*stem(), *block(10), *block(20)),
    "without affine": lambda: network(*stem(affine=False), *block(10, ReLU(), affine=False)),
    "cumulative": lambda: network(*stem(momentum=None), *block(10, ReLU(), momentum=None)),
    "without statistics": lambda: network(
        *stem(track_running_stats=False), *block(10, ReLU(), track_running_stats=False)
    ),
    "two branches": with_shortcut,
    "early": early_norm,
    "shared": shared,
    "shared by branches": shared_by_branches,
    "three readers": of_three,
    "before activation": before_activation,
}


def batch(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(count)
    x = generator.standard_normal((count, 3, 7, 6)).astype(np.float32)
    return x, generator.integers(0, 3, count), generator.uniform(0.1, 3.0, count)


def gradients(
    model: Model, count: int, backend: str, threads: int | None = None, training: bool = True
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    x, y, weights = batch(count)
    loss, output, gradient = loss_and_gradients(
        model, x, y, sample_weight=weights, backend=backend, step=Step(training, 3), threads=threads
    )
    statistics = [value.ravel() for name, value in sorted(model.state_dict().items())
                  if "running" in name]  # fmt: skip
    return loss, output, gradient, np.concatenate([*statistics, np.zeros(1)])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", [16, 21])
@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_of_residual_blocks(kind: str, count: int, training: bool) -> None:
    ours = gradients(NETWORKS[kind](), count, "lanes", training=training)
    theirs = gradients(NETWORKS[kind](), count, "im2col", training=training)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=2e-4, abs=2e-4)


@pytest.mark.parametrize("kind", NETWORKS)
def test_threads_do_not_change_a_bit(kind: str) -> None:
    results = [gradients(NETWORKS[kind](), 53, "lanes", threads) for threads in (1, 2, 3)]
    for other in results[1:]:
        for mine, same in zip(results[0], other, strict=True):
            assert np.array_equal(mine, same)


@pytest.mark.parametrize("kind", NETWORKS)
def test_outputs_outside_training(kind: str) -> None:
    x, _, _ = batch(21)
    ours, theirs = (forward(NETWORKS[kind](), x, backend=name) for name in ("lanes", "im2col"))
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "kernel", "pooled"),
    [
        (16, 16, (33, 30), 3, False), (16, 24, (13, 9), 3, False), (64, 40, (18, 17), 3, True),
        (128, 256, (9, 7), 3, False), (128, 256, (10, 8), 3, True), (16, 24, (37, 19), 4, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [5, 32, 50])
def test_moments_from_a_convolution(
    inputs: int, outputs: int, size: tuple[int, int], kernel: int, pooled: bool, count: int
) -> None:
    """With outputs far from zero, border tiles, a short block and several threads."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((count, inputs, *size)).astype(np.float32)
    x[1] *= 30.0
    level = generator.choice([300.0, -20.0], outputs).astype(np.float32)
    layers: list[Layer] = [Conv2d(inputs, outputs, kernel, kernel - 2, padding=1, seed=0)]
    layers += [MaxPool2d(2)] * pooled
    layers[0].parameters["bias"][...] = level
    values = forward(Sequential(*layers, input_shape=(inputs, *size)), x, training=True)
    axes, exact = (0, 2, 3), values.astype(np.float64)
    mean, variance = exact.mean(axes), exact.var(axes, ddof=1)
    for threads in (1, 2, 3):
        norm = BatchNorm2d(outputs, momentum=1.0)
        model = Sequential(*layers, norm, input_shape=(inputs, *size))
        kernels = fastcnn.plan(model, room_for(count), threads=threads).rows[:, L.KERNEL].tolist()
        assert K_NORM_SUMS not in kernels
        loss_and_gradients(
            model, x, np.zeros_like(values), loss=fastcnn.MSELoss(), step=Step(True, 0),
            threads=threads,
        )  # fmt: skip
        if threads == 1:
            first = {name: value.copy() for name, value in norm.buffers.items()}
            assert first["running_mean"] == pytest.approx(mean, rel=1e-6)
            assert first["running_var"] == pytest.approx(variance, rel=2e-5)
        for name, value in first.items():
            assert np.array_equal(value, norm.buffers[name])


def test_a_sum_takes_no_pass_of_its_own() -> None:
    """Neither the sum, its ReLU, nor the sum of gradients at the start of a branch has a pass."""
    program = fastcnn.plan(NETWORKS["ReLU after the sum"](), 32)
    kernels = program.rows[:, L.KERNEL].tolist()
    assert K_ADD not in kernels
    assert kernels.count(K_NORM_ADD) == 2
    assert kernels.count(K_NORM_JOINED_GRADIENT_SUMS) == 3
    assert not [name for name in program.names if "gradient of ReLU" in name]


@pytest.mark.parametrize("trained", ["main", "shortcut"])
def test_one_branch_is_trained(trained: str) -> None:
    """The other branch's gradients are zero, and nothing before the block has any."""
    results = []
    for backend in ("lanes", "im2col"):
        model = with_shortcut()
        for name in ("0", "1", "3.main", "3.shortcut"):
            model[name].requires_grad = name.endswith(trained)
        results.append(gradients(model, 21, backend))
    for mine, other in zip(*results, strict=True):
        assert mine == pytest.approx(other, rel=2e-4, abs=2e-4)
    assert results[0][2].any()


WINOGRAD = ["winograd2d", "winograd2d_batch", "winograd2d_phases"]


@pytest.mark.parametrize("algorithm", [None, "direct", *WINOGRAD])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_convolution_adds_the_other_branch(algorithm: str | None, threads: int) -> None:
    """In inference, where batch normalisation is folded into it; the sum is not stored before."""
    layers = [Conv2d(16, 16, 3, padding=1, seed=seed) for seed in range(6)]
    model = Sequential(
        layers[0],
        residual(layers[1], ReLU(), layers[2]),
        ReLU(),
        residual(layers[3], shortcut=Sequential(Conv2d(16, 16, 1, seed=9))),
        residual(layers[4], ReLU(), layers[5]),
        residual(
            Conv2d(16, 16, 5, stride=2, padding=2, seed=7),
            shortcut=Sequential(Conv2d(16, 16, 1, stride=2, seed=8)),
        ),
        MaxPool2d(2),
        Conv2d(16, 5, 3, stride=2, padding=1, seed=10),
        input_shape=(16, 11, 9),
    )
    x = np.random.default_rng(0).standard_normal((37, 16, 11, 9)).astype(np.float32)
    expected = forward(model, x, backend="im2col")
    with conv_algorithm(algorithm):
        made = inference(model, threads).by_samples(64)
        found = outputs(made, x, expected.shape)
    assert K_ADD not in made.program.rows[:, L.KERNEL]
    assert (made.program.rows[:, L.MODE] == L.ADDED).sum() >= 3
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_convolution_adds_what_lies_elsewhere() -> None:
    """The input, a part of a concatenation, and maps with other readers."""
    x = Input((16, 10, 8))
    y = Conv2d(16, 16, 3, padding=1, seed=0)(x) + x
    joined = Concat()(y, Conv2d(16, 16, 1, seed=1)(y))
    z = ReLU()(Conv2d(32, 32, 3, padding=1, seed=2)(joined) + joined)
    model = Model(x, Conv2d(48, 3, 1, seed=3)(Concat()(z, y)))
    values = np.random.default_rng(0).standard_normal((20, 16, 10, 8)).astype(np.float32)
    expected = forward(model, values, backend="im2col")
    made = inference(model, 2).by_samples(64)
    assert (made.program.rows[:, L.MODE] == L.ADDED).sum() == 2
    found = outputs(made, values, expected.shape)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
