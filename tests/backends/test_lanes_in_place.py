"""Activations that overwrite their input, and gradients that overwrite what they read."""

import copy

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GroupNorm,
    Layer,
    Linear,
    MaxPool2d,
    PReLU,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)

#: Layers, and the places of activations that overwrite their input in training.
KINDS: dict[str, tuple[list[Layer], set[int]]] = {
    "by output": ([Conv2d(3, 4, 1, seed=0), Tanh()], {1}),
    "by input": ([Conv2d(3, 4, 1, seed=0), SiLU()], set()),
    "one after another": ([Conv2d(3, 4, 1, seed=0), SiLU(), Sigmoid(), Softplus(), Tanh()], {2, 4}),
    "after one that reads its output": ([Conv2d(3, 4, 1, seed=0), Tanh(), Sigmoid()], {1}),
    "after a ReLU": ([Conv2d(3, 4, 1, seed=0), ReLU(), Tanh()], set()),
    "after fused pooling": (
        [Conv2d(3, 4, 1, seed=0), ReLU(), MaxPool2d(2), Tanh()], set(),
    ),
    "after batch normalisation": ([Conv2d(3, 4, 1, seed=0), BatchNorm2d(4), Tanh()], {2}),
    "after group normalisation": ([Conv2d(3, 4, 1, seed=0), GroupNorm(2, 4), Tanh()], {2}),
    "after max pooling": ([MaxPool2d(3, stride=2), Tanh()], {1}),
    "after average pooling": ([Conv2d(3, 4, 1, seed=0), AvgPool2d(2), Tanh()], {2}),
    "after dropout": ([Conv2d(3, 4, 1, seed=0), Dropout(0.3), Tanh()], set()),
    "before dropout": ([Conv2d(3, 4, 1, seed=0), Tanh(), Dropout(0.3)], {1}),
    "first": ([Tanh(), Conv2d(3, 4, 1, seed=0)], set()),
    "read twice": ([Conv2d(3, 4, 1, seed=0), Residual(Tanh()), SiLU()], set()),
    "read twice after": ([Conv2d(3, 4, 1, seed=0), Tanh(), Residual(SiLU())], {1}),
    "with a parameter": ([Conv2d(3, 4, 1, seed=0), PReLU(4), Tanh()], {2}),
    "padded": ([Conv2d(3, 4, 1, seed=0), Tanh(), Conv2d(4, 4, 3, padding=1, seed=1)], set()),
}  # fmt: skip
SHAPE = (3, 8, 10)


def network(kind: str) -> Sequential:
    layers = copy.deepcopy(KINDS[kind][0])
    channels, height, width = Sequential(*layers, input_shape=SHAPE).output_shape(SHAPE)
    return Sequential(
        *layers, Conv2d(channels, 2, 1, seed=6), Flatten(), Linear(2 * height * width, 3, seed=7),
        Tanh(), input_shape=SHAPE,
    )  # fmt: skip


def rows(kind: str, **arguments: bool) -> dict[str, np.ndarray]:
    program = fastcnn.plan(network(kind), 20, threads=1, **arguments)
    return dict(zip(program.names, program.rows, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_rows(kind: str) -> None:
    over = {
        int(name.split(":")[0])
        for name, row in rows(kind).items()
        if ": gradient" not in name and row[L.KERNEL] >= L.FIRST_FORMULA and row[L.X] == row[L.Y]
    }
    last = len(network(kind)) - 1
    assert over - {last} == KINDS[kind][1]


def test_gradients_overwrite_what_they_read() -> None:
    for kind, name in (("by output", "1: gradient of tanh"), ("by input", "1: gradient of silu")):
        row = rows(kind)[name]
        assert row[L.X] == row[L.M]
    row = rows("read twice after")["1: gradient of tanh"]
    assert row[L.X] == row[L.M]


def test_outside_training_all_do() -> None:
    row = rows("by input", training=False)["1: silu"]
    assert row[L.X] == row[L.Y]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "dropout" not in kind])
def test_equal_to_im2col(kind: str) -> None:
    """Gradients of parameters and of the input, and outputs, also of a session and of layers."""
    generator = np.random.default_rng(1)
    x = generator.standard_normal((20, *SHAPE)).astype(np.float32)
    labels = generator.integers(0, 3, 20)
    model = network(kind)
    loss, expected = fastcnn.gradients(model, x, labels, backend="im2col")
    found, gradients = fastcnn.gradients(model, x, labels, backend="lanes")
    assert abs(found - loss) < 1e-6
    for name, right in expected.items():
        np.testing.assert_allclose(gradients[name], right, atol=2e-6, err_msg=name)
    right = fastcnn.input_gradient(model, x, labels, backend="im2col")
    np.testing.assert_allclose(
        fastcnn.input_gradient(model, x, labels, backend="lanes"), right, atol=2e-6
    )
    outputs = model.logits(x, backend="im2col")
    np.testing.assert_allclose(model.logits(x, backend="lanes"), outputs, atol=2e-6)
    session = fastcnn.session(model)
    for count in (1, 20):
        np.testing.assert_allclose(session.logits(x[:count]), outputs[:count], atol=2e-6)
