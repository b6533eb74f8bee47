"""Fully connected layers of many inputs, whose sums wait in the output."""

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import im2col, lanes
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.linear import K_LINEAR, K_LINEAR_JOIN, K_OUTER
from fastcnn.backends.lanes.session.update import Update, UpdatePart
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.execution.step import Step
from fastcnn.execution.workers import workers
from fastcnn.layers import Linear, ReLU, Sequential
from fastcnn.optim import SGD, Adadelta


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


def large(inputs: int, outputs: int) -> Sequential:
    """A layer whose threads have some inputs each, and one whose weights are few."""
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
    """As float64 has them."""
    model, (x, y) = large(inputs, outputs), drawn(batch, inputs)
    rows = fastcnn.plan(model, batch_size=batch, threads=2).rows
    assert rows[rows[:, L.KERNEL] == K_LINEAR_JOIN, L.GROUPS].tolist() == [groups]
    for kind in (K_LINEAR, K_OUTER):
        assert (rows[rows[:, L.KERNEL] == kind, L.GROUPS] == groups).sum() == 1
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
    """The same bits on any threads, short batches and the clipped norm included."""
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


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 16])
def test_units_of_an_update(threads: int) -> None:
    """Each parameter once, the same pieces on any threads, and the inputs' with their thread."""
    places = [(0, (7, 300), 1), (2100, (9, 530), 4), (6870, (9,), 1), (6879, (2, 700), 2)]
    size = 8279
    parts = [UpdatePart(0, 3000, "sgd"), UpdatePart(3000, 3001, "sgd"),
             UpdatePart(4500, size, "sgd")]  # fmt: skip
    update = Update(parts, np.zeros((0, size), np.float32))
    units = update.units(threads, places, size)
    spans = units.spans.reshape(-1, 3)
    seen = np.zeros(size, int)
    for first, end, row in spans:
        assert parts[row].first <= first < end <= parts[row].end
        seen[first:end] += 1
    wanted = np.ones(size, int)
    wanted[3001:4500] = 0
    np.testing.assert_array_equal(seen, wanted)
    alone = Update(parts, np.zeros((0, size), np.float32)).units(1, places, size)
    np.testing.assert_array_equal(units.spans, alone.spans)
    assert units.owners.min() >= 0
    assert units.owners.max() < threads
    if threads == 2:
        columns = (spans[:, 0] - 2100) % 530
        inside = (spans[:, 0] >= 2100) & (spans[:, 1] <= 6870)
        np.testing.assert_array_equal(units.owners[inside], columns[inside] >= 34 // 2 * 16)
