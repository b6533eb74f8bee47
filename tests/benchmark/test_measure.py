"""Measuring: fair turns, honest records, contestants that are wrong are refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.benchmark import accuracy, backward, inference, steps
from fastcnn.benchmark.environment import describe_environment, installed
from fastcnn.benchmark.measure import measure
from fastcnn.benchmark.own import OwnTrainer
from fastcnn.benchmark.results import Report, Result, read_report, table_rows
from fastcnn.benchmark.work import largest_difference
from fastcnn.data import digits_dataset
from fastcnn.errors import DataError
from tests.benchmark.conftest import Clock

QUICK: dict[str, Any] = {"rounds": 2, "seconds": 0.002}


def test_contestants_take_turns(clock: Clock) -> None:
    calls: list[str] = []

    def works(name: str, seconds: float, waits: float = 0.0) -> Callable[[int], None]:
        def run(times: int) -> None:
            calls.append(name)
            clock.compute(times * seconds)
            clock.sleep(times * waits)

        return run

    # Powers of two: the clock's sums are exact.
    timings = measure(
        {"fast": works("fast", 2**-10), "slow": works("slow", 2**-10, waits=3 * 2**-10)},
        rounds=3, seconds=2**-8, pause=64.0,
    )  # fmt: skip
    assert calls[-6:] == ["fast", "slow", "slow", "fast", "fast", "slow"]
    fast, slow = timings["fast"], timings["slow"]
    assert (fast.median, fast.rounds, fast.repeats, fast.cores) == (2**-10, 3, 4, 1.0)
    assert (slow.median, slow.rounds, slow.repeats, slow.cores) == (2**-8, 3, 1, 0.25)


def test_a_round_that_was_disturbed_is_in_the_spread(clock: Clock) -> None:
    rounds = iter([1.0, 1.0, 1.0, 9.0, 1.0, 2.0, 1.0])
    timing = measure(
        {"one": lambda times: clock.compute(times * next(rounds))}, rounds=5, seconds=1
    )
    assert timing["one"].times.tolist() == [1.0, 9.0, 1.0, 2.0, 1.0]
    assert (timing["one"].low, timing["one"].median) == (1.0, 1.0)
    assert timing["one"].high == pytest.approx(6.2)  # the decile lies between the two largest


def test_steps_compare_before_they_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(OwnTrainer):
        def train(self, steps: int) -> None:
            super().train(steps + 1)

    def some(work: Any, threads: Any, peers: bool, reference: bool) -> Iterator[Any]:
        yield "im2col", 1, lambda: OwnTrainer(work, "im2col", 1)
        yield "lanes", 1, lambda: OwnTrainer(work, "lanes", 1)
        yield "wrong", 1, lambda: Wrong(work, "im2col", 1)
        yield "broken", 1, lambda: 1 / 0

    monkeypatch.setattr(steps, "contestants", some)
    made = {r.contestant: r for r in steps.bench_steps("report_cnn", 4, threads=(1,), **QUICK)}
    assert made["lanes"].median > 0
    assert made["lanes"].ratio is not None
    assert made["im2col"].difference == 0
    assert "parameters differ" in made["wrong"].note
    assert made["wrong"].rounds == 0
    assert "division by zero" in made["broken"].note


def test_backends_are_contestants() -> None:
    made = steps.bench_steps("report_cnn", 16, threads=(1, 2), peers=False, **QUICK)
    assert {(r.contestant, r.threads) for r in made} == {
        ("im2col", 1), ("im2col", 2), ("lanes", 1), ("lanes", 2)
    }  # fmt: skip
    assert all(r.rounds == 2 and r.difference is not None for r in made)


def test_a_difference_is_relative_to_the_step() -> None:
    start = {"w": np.zeros(3)}
    assert largest_difference({"w": np.ones(3)}, {"w": np.full(3, 1.5)}, start) == 0.5


def test_inference_and_backward() -> None:
    made = inference.bench_inference("report_cnn", 3, threads=(1,), peers=False, **QUICK)
    assert {r.contestant for r in made} == {"im2col", "lanes"}
    if installed("onnxruntime") and installed("onnx"):
        made = inference.bench_inference("report_cnn", 3, threads=(1,), peers=True, **QUICK)
        assert "ONNX Runtime" in {r.contestant for r in made}
    some = [case for case in backward.cases() if case.value in (1, 4, 32, 10)]
    made = backward.bench_backward(chosen=some, **QUICK)
    assert len(made) == 3 * len(some)
    assert {case.operation for case in backward.cases()} >= {"conv2d", "max_pool2d", "linear"}
    for result in made:
        if result.contestant != "reference":
            assert result.difference is not None
            assert result.difference < 1e-5


def test_time_to_accuracy_counts_training_alone(clock: Clock) -> None:
    hits = iter([0.5, 0.96, 0.96, 0.985, 0.995])

    def take(order: np.ndarray) -> None:
        clock.compute(2.0)

    def test() -> float:
        clock.compute(100.0)
        return next(hits)

    reached = accuracy.time_to_levels(take, test, 6400, seed=0, most_epochs=1)
    assert reached == {0.95: 4.0, 0.98: 8.0, 0.99: 10.0}
    never = accuracy.time_to_levels(take, lambda: 0.1, 64, seed=0, most_epochs=1)
    assert never[0.95] == float("inf")


def test_time_to_accuracy_of_a_backend() -> None:
    train, test = digits_dataset(600, 200, classes=(0, 1, 2))
    made = accuracy.bench_accuracy("report_cnn", train, test, peers=False, seeds=(0,))
    assert {r.contestant for r in made} == {"lanes", "im2col"}
    lanes = [r.median for r in made if r.contestant == "lanes"]
    assert lanes == sorted(lanes)


def make_result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "suite": "step", "work": "w", "contestant": "c", "threads": 1, "batch": 2,
        "unit": "us/sample", "median": 1234.5, "low": 1.0, "high": 2000.0, "rounds": 3,
        "ratio": 0.5, "difference": 1e-6,
    }  # fmt: skip
    return Result(**{**fields, **changes})


def test_reports_survive_the_disk(tmp_path: Path) -> None:
    report = Report("fastcnn bench", "2026-01-01", describe_environment(), [make_result()])
    path, table = report.write(tmp_path)
    assert read_report(path) == report
    assert table.read_text().splitlines()[1].startswith("step,w,c,1,2,us/sample,1234.5")
    assert table_rows(report.results) == [("c", "1", "1,234 (1 to 2,000)", "0.5", "1e-06", "")]
    assert {"processor", "instruction set", "numba", "threads"} <= set(report.environment)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 9}'])
def test_a_file_that_is_no_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "bench.json").write_text(content)
    with pytest.raises(DataError, match=r"bench\.json"):
        read_report(tmp_path / "bench.json")


def test_unfinished_results_are_valid_json(tmp_path: Path) -> None:
    refused = make_result(median=float("nan"), rounds=0, ratio=None, note="not timed")
    path, _ = Report("", "", {}, [refused]).write(tmp_path)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert read_report(path).results[0].median != read_report(path).results[0].median
