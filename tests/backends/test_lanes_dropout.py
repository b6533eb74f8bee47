"""Dropout works in place if nothing else reads its input: no other result changes."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import BACKENDS
from fastcnn.backends.lanes.kernels import dropout
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.layers import (
    GELU,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Dropout2d,
    Flatten,
    Input,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    Model,
    ReLU,
    ReLU6,
    Sequential,
    Sigmoid,
    Softmax,
    Split,
    Tanh,
)

SHAPE = (2, 6, 6)


def chain(*layers: Layer) -> Model:
    """Some layers between a convolution with 4 maps and a linear layer."""
    first = [Conv2d(2, 4, 1, seed=0), *layers]
    features = int(np.prod(Sequential(*first, input_shape=SHAPE).output_shape(SHAPE)))
    return Sequential(*first, Flatten(), Linear(features, 3, seed=9), input_shape=SHAPE)


def branched(join: Callable[..., object]) -> Model:
    x = Input(SHAPE)
    y = join(Conv2d(2, 4, 1, seed=0)(x))
    return Model(x, Linear(3 * 12, 3, seed=9)(Flatten()(AvgPool2d(2)(Conv2d(4, 4, 1, seed=8)(y)))))


#: Each with the number of its dropouts that work in place.
NETWORKS: dict[str, tuple[Callable[[], Model], int]] = {
    "relu": (lambda: chain(ReLU(), Dropout(0.3)), 1),
    "pooled": (lambda: chain(ReLU(), MaxPool2d(2), Dropout(0.3)), 1),
    "pooled to product": (lambda: chain(ReLU(), MaxPool2d(2), Dropout2d(0.3),
                                        Conv2d(4, 4, 1, seed=1), ReLU()), 1),
    "pooled to norm": (lambda: chain(ReLU(), MaxPool2d(2), Dropout(0.3), BatchNorm2d(4)), 1),
    "product": (lambda: chain(Dropout(0.3)), 1),
    "halo": (lambda: chain(ReLU(), Dropout(0.3), Conv2d(4, 4, 3, padding=1, seed=1)), 0),
    "point": (lambda: chain(ReLU(), Dropout2d(0.3), Conv2d(4, 4, 1, seed=1), ReLU()), 1),
    "to pooling": (lambda: chain(ReLU(), Dropout(0.3), MaxPool2d(2)), 1),
    "reads output": (lambda: chain(Sigmoid(), Dropout(0.3)), 0),
    "tanh": (lambda: chain(Tanh(), Dropout2d(0.3)), 0),
    "softmax": (lambda: chain(Softmax(1), Dropout(0.3)), 0),
    "reads input": (lambda: chain(GELU(), Dropout(0.3)), 1),
    "relu6": (lambda: chain(ReLU6(), Dropout(0.8)), 0),
    "normalised": (lambda: chain(BatchNorm2d(4), ReLU(), Dropout(0.3)), 1),
    "layer": (lambda: chain(LayerNorm((4, 6, 6)), Dropout(0.3)), 1),
    "twice": (lambda: chain(ReLU(), Dropout(0.3), Dropout2d(0.3)), 2),
    "flat": (lambda: chain(ReLU(), Flatten(), Dropout(0.3), Linear(144, 9, seed=1), ReLU(),
                           Dropout(0.5)), 2),
    "first": (lambda: Sequential(Dropout(0.3), Flatten(), Linear(72, 3, seed=0),
                                 input_shape=SHAPE), 0),
    "last": (lambda: Sequential(Flatten(), Linear(72, 3, seed=0), Dropout(0.3),
                                input_shape=SHAPE), 1),
    "read twice": (lambda: branched(lambda y: Add()(Dropout(0.3)(y), y)), 0),
    "sum": (lambda: branched(lambda y: Dropout(0.3)(ReLU()(Add()(Conv2d(4, 4, 1, seed=1)(y), y)))),
            1),
    "two readers": (lambda: branched(lambda y: Add()(*[Conv2d(4, 4, 1, seed=1)(d) if k else d
                                                       for d in [Dropout(0.3)(ReLU()(y))]
                                                       for k in (0, 1)])), 1),
    "parts": (lambda: branched(lambda y: Concat()(*map(Dropout(0.3), Split((1, 3))(y)))), 0),
    "flat twice": (lambda: branched(lambda y: Add()(y, Dropout2d(0.3)(Dropout(0.3)(y)))), 1),
}  # fmt: skip


def trained(model: Model, backend: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The parameters after two steps, of which the second has few samples."""
    model = deepcopy(model)
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=fastcnn.optim.SGD(0.1),
        backend=backend, batch_size=37, seed=3,
    )  # fmt: skip
    executor.train_steps(ArrayDataset(x, y), np.arange(len(x)), np.full(2, 0.1))
    return model.parameter_vector


@pytest.mark.parametrize(
    ("kind", "masked"),
    [("relu", 1), ("pooled", 1), ("pooled to product", 1), ("flat", 2), ("to pooling", 1),
     ("product", 0), ("tanh", 0), ("read twice", 0), ("two readers", 0)],
)  # fmt: skip
def test_a_masked_gradient_is_only_scaled(kind: str, masked: int) -> None:
    program = fastcnn.plan(NETWORKS[kind][0](), 37, training=True)
    backward = program.rows[program.forward_rows :]
    dropouts = backward[backward[:, L.KERNEL] == dropout.K_DROPOUT]
    assert np.count_nonzero(dropouts[:, L.THRESHOLD] == 0) == masked


@pytest.mark.parametrize("kind", NETWORKS)
def test_no_bit_depends_on_the_place(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, in_place = NETWORKS[kind]
    model, generator = make(), np.random.default_rng(0)
    x = (3.0 * generator.standard_normal((42, *SHAPE))).astype(np.float32)
    y = generator.integers(0, 3, 42)
    program = fastcnn.plan(model, 37, training=True)
    forward = program.rows[: program.forward_rows]
    dropouts = forward[forward[:, L.KERNEL] == dropout.K_DROPOUT]
    assert np.count_nonzero(dropouts[:, L.X] == dropouts[:, L.Y]) == in_place
    found = trained(model, "lanes", x, y)
    np.testing.assert_allclose(found, trained(model, "im2col", x, y), rtol=1e-4, atol=2e-6)
    monkeypatch.setattr(dropout, "_is_free", lambda walk, source: False)
    np.testing.assert_array_equal(trained(model, "lanes", x, y), found)


@pytest.mark.parametrize("layer", [Dropout(1), Dropout2d(1.0)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_may_be_dropped(layer: Dropout, backend: str) -> None:
    """As in PyTorch: the output and its gradient are zero."""
    model = chain(ReLU(), layer)
    x = np.random.default_rng(0).standard_normal((19, *SHAPE)).astype(np.float32)
    _, found = fastcnn.gradients(model, x, np.arange(19) % 3, backend=backend, training=True)
    assert not any(found[key].any() for key in found if key.endswith("weight"))
    outputs = fastcnn.execution.forward(model, x[:2], backend=backend, training=True)
    assert (outputs == model["4"].bias).all()
