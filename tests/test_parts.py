"""Batches that im2col divides: equal on any number of threads, and to the loops' results."""

import threading
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import get_backend
from fastcnn.execution import loss_and_gradients, predict_logits
from fastcnn.execution import parts as passes
from fastcnn.execution.step import Step
from fastcnn.execution.workers import run_all, workers


def network(dtype: Any = np.float32) -> fastcnn.Sequential:
    return fastcnn.Sequential(
        fastcnn.Conv2d(2, 6, 3, padding=1, seed=1),
        fastcnn.BatchNorm2d(6),
        fastcnn.ReLU(),
        fastcnn.MaxPool2d(2),
        fastcnn.Dropout(0.3),
        fastcnn.Conv2d(6, 5, 3, stride=2, seed=2),
        fastcnn.BatchNorm2d(5),
        fastcnn.Flatten(),
        fastcnn.Linear(5 * 2 * 2, 3, seed=3),
        input_shape=(2, 12, 10),
    ).to(dtype)


def batch(count: int = 41) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.standard_normal((count, 2, 12, 10)), generator.integers(0, 3, count)


def results(model: Any, backend: str, threads: int = 1) -> list[np.ndarray]:
    x, y = batch()
    with workers(threads):
        value, logits, gradient = loss_and_gradients(
            model, x, y, backend=backend, step=Step(True, 3, 2, 5)
        )
        return [np.array(value), logits, gradient, *model.copy_state().values()]


def test_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "WORTH_A_CORE", 1000)
    ours, theirs = (results(network(np.float64), name) for name in ("im2col", "reference"))
    for part, whole in zip(ours, theirs, strict=True):
        assert part == pytest.approx(whole, abs=1e-12)


def lengths(backend: str = "im2col") -> list[int]:
    parts = passes.divided(network().graph(), batch()[0], backend, passes.INFERENCE)
    return [len(part.x) for part in parts]


def test_a_batch_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """If that is worth a core, or parts would be too large; equally many for each of two cores."""
    assert lengths() == [41]
    monkeypatch.setattr(passes, "WORTH_A_CORE", 1000)
    assert lengths() == [21, 20]
    monkeypatch.setattr(passes, "PART_BYTES", 16 * 6 * 12 * 10 * 8)
    assert lengths() == [11, 11, 11, 8]
    assert lengths("reference") == [41]


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "PART_BYTES", 7 * 6 * 12 * 10 * 8)
    one, many = results(network(), "im2col"), results(network(), "im2col", threads)
    for first, second in zip(one, many, strict=True):
        assert first.tobytes() == second.tobytes()


def test_predictions_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "WORTH_A_CORE", 1000)
    model, (x, _) = network(), batch(300)
    found = [predict_logits(model, x, backend="im2col", threads=threads) for threads in (1, 2)]
    assert found[0].tobytes() == found[1].tobytes()


def test_an_exception_comes_when_all_have_ended() -> None:
    ended = []

    def work(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        ended.append(number)
        return number * 2

    with workers(3), pytest.raises(ValueError, match="one"):
        run_all(work, [0, 1, 2, 3, 5])
    assert set(ended) == {0, 2, 3}
    with workers(3):
        assert run_all(lambda number: number * 2, list(range(8))) == list(range(0, 16, 2))


def test_this_thread_is_one_of_the_workers() -> None:
    with workers(2):
        names = run_all(lambda _: threading.current_thread().name, [0, 1, 2, 3])
    assert names[0] == names[2] == threading.current_thread().name
    assert names[1] == names[3] != names[0]


@pytest.mark.parametrize("backend", ["im2col", "reference"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "pool", [{}, {"stride": 1}, {"padding": 1}, {"ceil_mode": True}, {"dilation": 2}]
)
def test_pooling_before_relu_changes_no_bit(pool: dict[str, Any], dtype: Any, backend: str) -> None:
    """Including ties, windows without a positive value, NaN, infinities and -0."""
    model = fastcnn.Sequential(
        fastcnn.Conv2d(1, 2, 1, bias=False, seed=0),
        fastcnn.ReLU(),
        fastcnn.MaxPool2d(3 if pool else 2, **pool),
        fastcnn.Conv2d(2, 3, 1, seed=1),
        input_shape=(1, 11, 37),
    ).to(dtype)
    generator = np.random.default_rng(0)
    x = generator.integers(-6, 3, (4, 1, 11, 37)).astype(dtype)
    x[1:][generator.random((3, 1, 11, 37)) < 0.02] = np.nan
    x[2:][generator.random((2, 1, 11, 37)) < 0.05] = np.inf
    x[3:] = np.where(generator.random((1, 1, 11, 37)) < 0.5, -0.0, -np.inf)
    graph, operations, found = model.graph(), get_backend(backend), []
    assert [node.operation for node in graph.pooled_first.nodes[1:3]] == ["max_pool2d", "relu"]
    for network in (graph, graph.pooled_first):
        slots = {key: np.zeros_like(value) for key, value in model.named_parameters().items()}
        state = model.state_dict()
        with np.errstate(invalid="ignore"):
            outputs = passes.run_forward(network, state, x, operations)
            grad = np.random.default_rng(1).standard_normal(outputs[-1].shape).astype(dtype)
            grad_x = passes.run_backward(network, state, x, outputs, grad, operations, slots)
        found.append([outputs[-1], grad_x, *slots.values()])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
        assert not ((first == 0) & (np.signbit(first) != np.signbit(second))).any()


def test_a_relu_that_others_read_stays_before_pooling() -> None:
    x = fastcnn.Input((1, 4, 4))
    y = fastcnn.ReLU()(x)
    pooled = fastcnn.Flatten()(fastcnn.MaxPool2d(2)(y))
    graph = fastcnn.Model(x, fastcnn.Concat()(fastcnn.Flatten()(y), pooled)).graph()
    assert graph.pooled_first.nodes == graph.nodes
