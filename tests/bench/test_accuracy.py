"""Seconds to an accuracy: only training is timed."""

from typing import Any

import numpy as np
import pytest

from bench import accuracy
from fastcnn.data import digits_dataset
from tests.benchmark.conftest import Clock


@pytest.fixture
def clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(accuracy, "time", clock)
    return clock


def test_time_to_accuracy_counts_training_alone(clock: Clock) -> None:
    hits = iter([0.5, 0.96, 0.96, 0.985, 0.995])

    seen: list[float] = []

    def take(order: np.ndarray, rates: np.ndarray) -> None:
        assert len(order) == 64 * len(rates)
        seen.extend(rates)
        clock.compute(2.0)

    def test() -> float:
        clock.compute(100.0)
        return next(hits)

    reached = accuracy.time_to_levels(take, test, 6400, seed=0, epochs=1)
    assert reached == {0.95: 4.0, 0.98: 8.0, 0.99: 10.0}
    never = accuracy.time_to_levels(take, lambda: 0.1, 64, seed=0, epochs=1)
    assert never[0.95] == float("inf")
    assert len(seen) == 50 + 1
    # One cycle: the rate rises to its maximum, and falls.
    assert accuracy.LEARNING_RATE >= max(seen[:50]) > 0.99 * accuracy.LEARNING_RATE
    assert seen[0] < seen[49] < max(seen[:50])


def test_levels_that_are_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = digits_dataset(128, 10, classes=(0, 1, 2))
    hits = {0: [0.96, 0.99], 1: [0.5, 0.97], 2: [0.5, 0.5]}

    def make(network: str, train: Any, test: Any, seed: int) -> Any:
        left = iter(hits[seed])
        return (lambda order, rates: None), (lambda: next(left))

    monkeypatch.setattr(accuracy, "_contestants", lambda peers: [("c", make)])
    made = accuracy.bench_accuracy("n", train, test, seeds=(0, 1, 2), epochs=1)
    assert [r.rounds for r in made] == [2, 1, 1]
    assert made[0].work == "n on digits012, classes 0, 1, 2, to 95%"
    assert made[0].low <= made[0].median == made[0].high
    assert made[1].median != made[1].median
    assert [r.note for r in made] == [
        f"{missed} of 3 not within 1 epoch" for missed in (1, 2, 2)
    ]  # fmt: skip
    made = accuracy.bench_accuracy("n", train, test, seeds=(2, 0), epochs=1, patience=0.0)
    assert made[0].note == "1 of 1 stopped after 0 s; 1 of 2 seeds"


def test_time_to_accuracy_of_a_backend() -> None:
    train, test = digits_dataset(600, 200, classes=(0, 1, 2))
    made = accuracy.bench_accuracy("report_cnn", train, test, peers=False, seeds=(0,))
    assert {r.contestant for r in made} == {"lanes", "im2col"}
    lanes = [r.median for r in made if r.contestant == "lanes"]
    assert lanes == sorted(lanes)
