"""Measuring: fair turns, correct records, and wrong contestants are refused."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn.benchmark import backward, inference, steps
from fastcnn.benchmark.environment import can_run
from fastcnn.benchmark.results import Result, table_of
from fastcnn.benchmark.work import LEARNING_RATE, OwnTrainer, largest_difference
from fastcnn.execution import make_executor
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD
from tests.benchmark.conftest import Clock

QUICK: dict[str, Any] = {"rounds": 2, "seconds": 0.002}


def test_steps_compare_before_they_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(OwnTrainer):
        def train(self, steps: int) -> None:
            super().train(steps + 1)

    class WithoutMomentum(OwnTrainer):
        def __init__(self, work: Any, backend: str, threads: int) -> None:
            super().__init__(work, backend, threads)
            self.executor = make_executor(
                self.model, loss=CrossEntropyLoss(), optimizer=SGD(LEARNING_RATE),
                backend=backend, batch_size=work.batch, threads=threads,
            )  # fmt: skip

    class OtherLoss(OwnTrainer):
        def loss(self) -> float:
            return 1.01 * super().loss()

    class Stuck(OwnTrainer):
        """Does not update one layer, like a compiler that once lost a gradient."""

        def train(self, steps: int) -> None:
            before = self.model.state_dict()["conv1.bias"].copy()
            super().train(steps)
            self.model.state_dict()["conv1.bias"][...] = before

    def some(work: Any, threads: Any, peers: bool, backends: object) -> Iterator[Any]:
        yield "im2col", 1, lambda: OwnTrainer(work, "im2col", 1)
        yield "lanes", 1, lambda: OwnTrainer(work, "lanes", 1)
        yield "ahead", 1, lambda: Ahead(work, "im2col", 1)
        yield "without momentum", 1, lambda: WithoutMomentum(work, "im2col", 1)
        yield "other loss", 1, lambda: OtherLoss(work, "im2col", 1)
        yield "stuck", 1, lambda: Stuck(work, "im2col", 1)
        yield "broken", 1, lambda: 1 / 0

    monkeypatch.setattr(steps, "contestants", some)
    made = {r.contestant: r for r in steps.bench_steps("report_cnn", 1, threads=(1,), **QUICK)}
    assert made["lanes"].median > 0
    assert made["lanes"].ratio is not None
    assert made["im2col"].difference == 0
    assert made["reference"].median > 1e4  # of Python's loops, on any machine
    assert made["reference"].rounds == steps.CHECKED_STEPS
    assert made["ahead"].note.startswith("not timed: gradients differ by")
    assert made["other loss"].note == "not timed: loss differs by 1.0e-02"
    assert "differ" in made["without momentum"].note
    assert made["stuck"].note == "not timed: gradients differ by 1.0e+00"
    assert made["stuck"].rounds == 0
    assert "division by zero" in made["broken"].note


def test_backends_are_contestants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "REFERENCE_FLOPS", 0)
    made = steps.bench_steps("report_cnn", 16, threads=(1, 2), peers=(), **QUICK)
    assert {(r.contestant, r.threads) for r in made} == {
        ("im2col", 1), ("im2col", 2), ("lanes", 1), ("lanes", 2)
    }  # fmt: skip
    assert all(r.rounds == 2 and r.difference is not None for r in made)


def test_a_difference_is_relative_to_the_step() -> None:
    start = {"w": np.zeros(3)}
    assert largest_difference({"w": np.ones(3)}, {"w": np.full(3, 1.5)}, start) == 0.5
    # A tensor with a large step does not hide one with a small step, and counters are ignored.
    start = {"w": np.zeros(3), "running_var": np.ones(3), "batches": np.array(0)}
    ours = {"w": np.full(3, 1e-3), "running_var": np.full(3, 9.0), "batches": np.array(1)}
    assert largest_difference(ours, {**ours, "w": np.zeros(3)}, start) == 1.0
    # A difference that rounds to zero does not count.
    start = {"w": np.ones(3)}
    assert largest_difference(start, {"w": np.full(3, 1 + 1e-8)}, start) < 2e-3


def test_inference_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    made = inference.bench_inference("report_cnn", 3, threads=(1, 2), peers=False, **QUICK)
    assert {(r.contestant, r.threads) for r in made} == {("im2col", 2), ("lanes", 1), ("lanes", 2)}
    if can_run("ONNX Runtime"):
        # torch.compile takes seconds.
        monkeypatch.setattr(inference, "can_run", lambda name: name == "ONNX Runtime")
        made = inference.bench_inference("report_cnn", 3, threads=(1,), peers=True, **QUICK)
        assert "ONNX Runtime" in {r.contestant for r in made}
    some = list(backward.cases())[::2]
    made = backward.bench_backward(chosen=some, **QUICK)
    assert len(made) == 3 * len(some)
    assert {case.layer.operation for case in backward.cases()} >= {"conv2d", "max_pool2d", "linear"}
    for result in made:
        if result.contestant != "reference":
            assert result.difference is not None
            assert result.difference < 1e-5


def test_the_first_call_of_the_loops_is_not_timed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = iter([8.0, 1.0])

    def relu_backward(grad: np.ndarray, x: np.ndarray, *, backend: str) -> np.ndarray:
        clock.compute(next(costs))
        return grad

    monkeypatch.setattr(F, "relu_backward", relu_backward)
    case = next(case for case in backward.cases() if case.layer.operation == "relu")
    (loops, *_) = backward._contestants(case)
    timing = loops[2]().timing
    assert timing is not None
    assert timing.median / case.layer.batch == 1.0


def test_wrong_logits_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "TOLERANCE", 0.0)
    made = inference.bench_inference("report_cnn", 3, threads=(1,), peers=False, **QUICK)
    notes = {r.contestant: r.note for r in made}
    assert notes["im2col"] == ""
    assert notes["lanes"].startswith("not timed: logits differ by")


@pytest.mark.torch
@pytest.mark.slow
def test_inference_of_compiled_modules() -> None:
    pytest.importorskip("torch")
    made = inference.bench_inference("report_cnn", 2, threads=(1, 2), **QUICK)
    assert {(r.contestant, r.threads) for r in made if r.rounds} >= {
        (f"PyTorch {variant}", threads)
        for variant in ("eager", "channels_last", "compile")
        for threads in (1, 2)
    }


def test_a_table_has_a_line_for_each() -> None:
    rows = [
        make_result(contestant="slow", median=90.0),
        make_result(contestant="broken", median=float("nan"), rounds=0, note="failed: " + "x" * 80),
        make_result(contestant="fast", median=8.5, threads=2),
    ]
    lines = table_of("step: w", "us/sample", rows).splitlines()
    assert [line.split()[0] for line in lines] == [
        "step:", "contestant", "-" * len(lines[2]), "fast", "slow", "broken:"
    ]  # fmt: skip
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[-1] == "broken: failed: " + "x" * 80


def test_a_table_of_long_names_and_times_fits_80_columns() -> None:
    rows = [
        make_result(contestant="PyTorch channels_last", median=26.25, low=25.75, high=27.25),
        make_result(median=250654.0, low=249689.0, high=319420.0, ratio=0.000674, share=0.004),
    ]
    assert max(map(len, table_of("step: w", "us/sample", rows).splitlines())) <= 80


def make_result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "suite": "step", "work": "w", "contestant": "c", "threads": 1, "batch": 2,
        "unit": "us/sample", "median": 1234.5, "low": 1.0, "high": 2000.0, "rounds": 3,
        "ratio": 0.5, "difference": 1e-6,
    }  # fmt: skip
    return Result(**{**fields, **changes})
