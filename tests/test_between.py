"""Python code in the middle of the engine's runs: losses, updates, sums, averages."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ShapeError
from fastcnn.execution import make_executor
from fastcnn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, ReLU, Sequential
from fastcnn.losses import Loss, MSELoss, PythonLoss
from fastcnn.optim import SGD

generator = np.random.default_rng(0)
X = generator.standard_normal((50, 2, 6, 6)).astype(np.float32)
Y = generator.standard_normal((50, 3)).astype(np.float32)


def network(normalised: bool = True) -> Sequential:
    return Sequential(
        Conv2d(2, 4, 3, seed=0), *([BatchNorm2d(4)] if normalised else []), ReLU(), Flatten(),
        Dropout(0.2), Linear(64, 3, seed=1), input_shape=(2, 6, 6),
    )  # fmt: skip


def square(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    error = outputs - targets
    return float((error * error).mean()), 2.0 * error / error.size


class Plain:
    lr, slots = 0.05, ("velocity",)

    def update(self, p: Any, g: Any, slots: Any, lr: float, step: int) -> None:
        slots["velocity"] *= 0.5
        slots["velocity"] += g
        p -= lr * slots["velocity"]


@pytest.mark.parametrize("threads", [1, 2])
def test_all_of_them_together(threads: int) -> None:
    """A loss and an optimiser in Python, small batches, and averages, on both backends."""
    found = []
    for backend in ("im2col", "lanes"):
        for loss, optimizer in ((square, Plain()), (MSELoss(), SGD(0.05, 0.5))):
            model = network()
            history = fastcnn.fit(
                model, (X, Y), loss=loss, optimizer=optimizer, epochs=2, batch_size=8,
                accumulate=2, lookahead=3, clip_norm=0.5, backend=backend, threads=threads,
                diagnose=False,
            )  # fmt: skip
            losses = [step["loss"] for step in history.steps]
            found.append((losses, model.parameter_vector, model.state_dict()["1.running_var"]))
    for other in found[1:]:
        for value, expected in zip(other, found[0], strict=True):
            assert value == pytest.approx(expected, abs=1e-5)


def test_bits_do_not_depend_on_how_many_steps_are_taken_at_once() -> None:
    states = []
    for size in (1, 2, 5):
        model = network()
        executor = make_executor(
            model, loss=PythonLoss(square), optimizer=Plain(), batch_size=10, clip_norm=0.3,
            threads=2,
        )  # fmt: skip
        for first in range(0, 5, size):
            rows = np.arange(50)[10 * first : 10 * (first + size)]
            executor.train_steps(ArrayDataset(X, Y), rows, np.full(-(-len(rows) // 10), 0.1))
        states.append(model.parameter_vector.copy())
    assert np.array_equal(states[0], states[1])
    assert np.array_equal(states[0], states[2])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [ShapeError, KeyboardInterrupt])
def test_what_a_function_raises_ends_the_run(error: type[BaseException], threads: int) -> None:
    calls = []

    def fails(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
        calls.append(len(outputs))
        if len(calls) == 3:
            raise error("of a function")
        return square(outputs, targets)

    model = network()
    executor = make_executor(
        model, loss=PythonLoss(fails), optimizer=SGD(0.1), batch_size=10, threads=threads
    )
    with pytest.raises(error, match="of a function"):
        executor.train_steps(ArrayDataset(X, Y), np.arange(50), np.full(5, 0.1))
    assert calls == [10, 10, 10]
    executor.train_steps(ArrayDataset(X, Y), np.arange(50), np.full(5, 0.1))
    assert calls == [10] * 8


def test_a_function_may_use_the_engine_and_small_numbers() -> None:
    """As a teacher network does; denormals are flushed during passes, but not between them."""
    teacher, seen = network(), []

    def distilled(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
        seen.append(np.float32(1e-40) * np.float32(0.5) > 0.0)
        return square(outputs, teacher.logits(X[: len(outputs)]))

    executor = make_executor(
        network(), loss=PythonLoss(distilled), optimizer=SGD(0.1), batch_size=10, threads=2
    )
    losses = executor.train_steps(
        ArrayDataset(X, Y), np.tile(np.arange(10), 30), np.full(30, 0.1)
    ).losses
    assert losses[-1] < losses[0]
    assert all(seen)


@pytest.mark.parametrize("loss", [MSELoss(), PythonLoss(square)])
def test_outputs_that_do_not_fit_in_memory_at_once(
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastcnn.execution.lanes.MOST_OUTPUTS", 4 * 10 * 3 * 2)
    model = network(normalised=False)
    executor = make_executor(model, loss=loss, optimizer=SGD(0.1), batch_size=10)
    order = np.random.default_rng(1).permutation(50)
    losses = executor.train_steps(ArrayDataset(X, Y), order, np.zeros(5)).losses
    other = network(normalised=False)
    expected = make_executor(
        other, loss=MSELoss(), optimizer=SGD(0.1), batch_size=10, backend="im2col"
    ).train_steps(ArrayDataset(X, Y), order, np.zeros(5))
    assert losses == pytest.approx(expected.losses, rel=1e-5)
