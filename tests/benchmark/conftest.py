"""Fixtures for tests of measurements: a controlled clock, and a known peak."""

import sys

import pytest

from fastcnn.benchmark import layers
from fastcnn.timing import measure


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contestants do not rest before their turn, as no real time is measured."""
    for function in (measure, layers.bench_layers):
        monkeypatch.setitem(function.__kwdefaults__, "pause", 0.0)


@pytest.fixture(scope="session")
def peak() -> dict[int, float]:
    """Rates of one and of two threads, as if measured."""
    return {1: 1e11, 2: 2e11}


class Clock:
    """Replaces the module ``time`` where a test controls the clock."""

    def __init__(self) -> None:
        self.now = self.busy = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def compute(self, seconds: float) -> None:
        self.now += seconds
        self.busy += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    measuring = sys.modules[measure.__module__]
    monkeypatch.setattr(measuring, "time", made)
    monkeypatch.setattr(measuring, "_cpu_seconds", lambda: made.busy)
    monkeypatch.setattr(measuring, "REST", 2**-7)  # a sum of these is exact
    return made
