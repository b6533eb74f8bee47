"""Fully connected layers with many inputs, whose partial sums are in the output, and updates."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import im2col, lanes
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.linear import K_LINEAR, K_LINEAR_JOIN
from fastcnn.backends.lanes.kernels.linear_gradients import K_OUTER
from fastcnn.backends.lanes.session.update import Update, UpdatePart
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.execution.lanes import LanesExecutor
from fastcnn.execution.step import Step
from fastcnn.execution.workers import workers
from fastcnn.layers import AvgPool2d, Flatten, Input, Linear, Model, ReLU, Sequential, Sigmoid
from fastcnn.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Assignment,
    Lion,
    Muon,
    NAdam,
    RMSprop,
    as_groups,
)

UPDATES = [
    SGD(0.1), Adam(0.01), NAdam(0.01), RMSprop(0.01, momentum=0.5, centered=True), Lion(0.01),
    Adagrad(0.1), Adadelta(), Muon(0.1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "inputs", "outputs"),
    [(64, 1100, 37), (70, 930, 5), (100, 40, 700), (130, 1025, 16), (20, 2049, 9)],
)
def test_many_inputs(batch: int, inputs: int, outputs: int) -> None:
    """Equal to float64, with the same bits on any threads."""
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


def large(inputs: int, outputs: int) -> Sequential:
    """A layer whose inputs are divided among threads, and one with few weights."""
    return Sequential(
        Linear(inputs, outputs, seed=0), ReLU(), Linear(outputs, 3, seed=1), input_shape=(inputs,)
    )


def drawn(batch: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(batch)
    x = generator.standard_normal((batch, inputs)).astype(np.float32)
    return x, generator.integers(0, 3, batch)


SIZES = [(64, 2100, 40, 8), (70, 1040, 67, 4), (5, 2049, 33, 8), (100, 517, 129, 2)]


@pytest.mark.parametrize(("batch", "inputs", "outputs", "groups"), SIZES)
def test_gradients_of_groups_of_inputs(batch: int, inputs: int, outputs: int, groups: int) -> None:
    """Equal to float64."""
    model, (x, y) = large(inputs, outputs), drawn(batch, inputs)
    rows = fastcnn.plan(model, batch_size=batch, threads=2).rows
    assert rows[rows[:, L.KERNEL] == K_LINEAR_JOIN, L.GROUPS].tolist() == [groups]
    assert (rows[rows[:, L.KERNEL] == K_LINEAR, L.GROUPS] == groups).sum() == 1
    assert (rows[rows[:, L.KERNEL] == K_OUTER, L.BY_STRIP] > 0).sum() == 1
    loss = fastcnn.CrossEntropyLoss()
    ours = fastcnn.execution.loss_and_gradients(
        model, x, y, loss=loss, backend="lanes", step=Step(True, 0)
    )
    exact = fastcnn.execution.loss_and_gradients(
        large(inputs, outputs).to(np.float64), x.astype(np.float64), y, loss=loss,
        backend="im2col", step=Step(True, 0),
    )  # fmt: skip
    assert ours[0] == pytest.approx(exact[0], rel=1e-6)
    np.testing.assert_allclose(ours[2], exact[2], rtol=0, atol=3e-6 * np.abs(exact[2]).max())


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adadelta()])
@pytest.mark.parametrize(("batch", "inputs", "outputs", "groups"), SIZES[1:])
def test_steps_of_groups_of_inputs(
    batch: int, inputs: int, outputs: int, groups: int, optimizer: object
) -> None:
    """The same bits on any threads, also for short batches and the clipped norm."""
    x, y = drawn(2 * batch - 3, inputs)
    found = []
    for threads in (1, 2, 3):
        model = large(inputs, outputs)
        executor = make_executor(
            model, loss=fastcnn.CrossEntropyLoss(), optimizer=optimizer, backend="lanes",
            batch_size=batch, threads=threads, clip_norm=0.2,
        )  # fmt: skip
        made = executor.train_steps(ArrayDataset(x, y), np.arange(len(x)), np.full(2, 0.3))
        found.append((model.parameter_vector, made.losses, made.gradient_norms))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("optimizer", [*UPDATES, SGD(0.1, momentum=0.9)], ids=str)
def test_an_update_that_follows_the_gradient_at_once(optimizer: Any, threads: int) -> None:
    """The same bits and norm as after all gradients, which clipping requires."""
    x, y = drawn(150, 530)
    groups = as_groups([{"match": "2.weight", "lr_factor": 0.5, "weight_decay": 0.1}])
    found = []
    for limit in (None, 1e9):
        model = Sequential(
            Linear(530, 130, seed=0), ReLU(), Linear(130, 18, seed=1), ReLU(),
            Linear(18, 3, seed=2), input_shape=(530,),
        )  # fmt: skip
        executor = make_executor(
            model, loss=fastcnn.CrossEntropyLoss(), optimizer=Assignment(optimizer, groups),
            backend="lanes", batch_size=40, threads=threads, clip_norm=limit,
        )  # fmt: skip
        made = executor.train_steps(ArrayDataset(x, y), np.arange(150), np.full(4, optimizer.lr))
        found.append((model.parameter_vector, made, executor.optimizer_state()))
        stored = executor.engine().gradient[: 530 * 130].any()
        assert stored == (limit is not None or isinstance(optimizer, Muon))
    (ours, at_once, state), (others, later, kept) = found
    np.testing.assert_array_equal(ours, others)
    np.testing.assert_array_equal(at_once.losses, later.losses)
    np.testing.assert_allclose(at_once.gradient_norms, later.gradient_norms, rtol=1e-6)
    for name, values in state.items():
        np.testing.assert_array_equal(values, kept[name])


@pytest.mark.parametrize("inputs", [512, 1160])
def test_an_update_that_follows_the_gradient_of_a_layer_that_takes_blocks_one_by_one(
    inputs: int,
) -> None:
    """The same bits as after all gradients, on any threads."""
    x = np.random.default_rng(0).random((40, inputs // 8, 64, 8), np.float32)
    found = []
    for limit, threads in ((None, 1), (None, 2), (1e9, 1)):
        model = Sequential(
            ReLU(), Sigmoid(), AvgPool2d(8), Flatten(), Linear(inputs, 130, seed=0),
            input_shape=x.shape[1:],
        )  # fmt: skip
        rows = fastcnn.plan(model, batch_size=20).rows
        assert rows[rows[:, L.KERNEL] == K_LINEAR, L.BY_BLOCK].tolist() == [1]
        executor = make_executor(
            model, loss=fastcnn.CrossEntropyLoss(), optimizer=SGD(0.1, momentum=0.9),
            backend="lanes", batch_size=20, threads=threads, clip_norm=limit,
        )  # fmt: skip
        executor.train_steps(ArrayDataset(x, np.arange(40)), np.arange(40), np.full(2, 0.1))
        found.append(model.parameter_vector.copy())
    for others in found[1:]:
        np.testing.assert_array_equal(found[0], others)


def test_one_update_in_engines_of_several_batch_sizes() -> None:
    """Each engine has its own offsets of gradients that are followed by an update."""
    model, (x, y) = large(70, 40), drawn(64, 70)
    executors = [
        make_executor(
            model, loss=fastcnn.CrossEntropyLoss(), optimizer=SGD(0.1), backend="lanes",
            batch_size=size, threads=1,
        )
        for size in (16, 64)
    ]  # fmt: skip
    first, second = executors
    assert isinstance(first, LanesExecutor)
    assert isinstance(second, LanesExecutor)
    second.engine_update = first.engine_update
    began = model.parameter_vector.copy()
    first.train_steps(ArrayDataset(x, y), np.arange(64), np.full(4, 0.1))
    model.parameter_vector[...] = began
    second.train_steps(ArrayDataset(x, y), np.arange(64), np.full(1, 0.1))
    alone = large(70, 40)
    make_executor(
        alone, loss=fastcnn.CrossEntropyLoss(), optimizer=SGD(0.1), backend="lanes",
        batch_size=64, threads=1,
    ).train_steps(ArrayDataset(x, y), np.arange(64), np.full(1, 0.1))  # fmt: skip
    np.testing.assert_array_equal(model.parameter_vector, alone.parameter_vector)


def followed(model: Model, *parts: UpdatePart) -> int:
    """Number of a model's weights whose updates directly follow their gradients."""
    rows = fastcnn.plan(model, batch_size=16).rows
    update = Update(parts, np.zeros((1, model.num_parameters), np.float32))
    return len(update.units(1, [], model.num_parameters, rows).following)


def test_which_updates_follow_the_gradient_at_once() -> None:
    """Updates of many weights in one contiguous part of the parameters, used once."""
    model = large(600, 120)
    count, weights = model.num_parameters, 600 * 120
    assert followed(model, UpdatePart(0, count, "momentum")) == 1
    assert followed(model, UpdatePart(0, 5000, "sgd"), UpdatePart(5000, count, "sgd")) == 0
    assert followed(model, UpdatePart(0, weights, "muon", shape=(120, 600))) == 0
    assert followed(model, UpdatePart(0, count, "clip")) == 0
    assert followed(large(600, 109), UpdatePart(0, 65_400, "sgd")) == 0  # few weights
    layer, x = Linear(300, 300, seed=0), Input((300,))
    twice = Model(x, Linear(300, 220, seed=1)(layer(ReLU()(layer(x)))))
    assert followed(twice, UpdatePart(0, twice.num_parameters, "sgd")) == 1


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 16])
def test_units_of_an_update(threads: int) -> None:
    """Each parameter once, the same pieces on any threads, inputs with their thread."""
    places = [(0, (7, 300), 1), (2100, (9, 530), 4), (6870, (9,), 1), (6879, (2, 700), 2)]
    size = 8279
    parts = [UpdatePart(0, 3000, "sgd"), UpdatePart(3000, 3001, "sgd"),
             UpdatePart(4500, size, "sgd")]  # fmt: skip
    update = Update(parts, np.zeros((0, size), np.float32))
    rows = np.zeros((0, L.WIDTH), np.int64)
    units = update.units(threads, places, size, rows)
    spans = units.spans.reshape(-1, 3)
    seen = np.zeros(size, int)
    for first, end, row in spans:
        assert parts[row].first <= first < end <= parts[row].end
        seen[first:end] += 1
    wanted = np.ones(size, int)
    wanted[3001:4500] = 0
    np.testing.assert_array_equal(seen, wanted)
    alone = Update(parts, np.zeros((0, size), np.float32)).units(1, places, size, rows)
    np.testing.assert_array_equal(units.spans, alone.spans)
    assert units.owners.min() >= 0
    assert units.owners.max() < threads
    if threads == 2:
        columns = (spans[:, 0] - 2100) % 530
        inside = (spans[:, 0] >= 2100) & (spans[:, 1] <= 6870)
        np.testing.assert_array_equal(units.owners[inside], columns[inside] >= 34 // 2 * 16)
