"""The scaling suite: which points it flags, its explanations, its counts. No time is asserted."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from bench import scaling, scaling_causes
from bench.scaling import ScalingPoint, axes, results_of, scale, thread_counts
from bench.scaling_causes import Case, OtherPrograms, explain
from bench.scaling_figure import scaling_figure
from fastcnn.errors import ConfigurationError
from fastcnn.timing import Timing
from fastcnn.training.figure import save_figure


def point(value: int, cost: float, spread: float = 0.0) -> ScalingPoint:
    return ScalingPoint(value, cost, cost * (1 - spread), cost * (1 + spread), cost, cost, 1)


def flags(costs: list[float], spread: float = 0.0) -> list[bool]:
    case = Case(fastcnn.models.report_cnn(seed=0), 16, threads=1)
    points = [point(index + 1, cost, spread) for index, cost in enumerate(costs)]
    return [p.flagged for p in scaling._flag(points, [case] * len(points), "lanes", 0.0)]


def test_flags() -> None:
    assert flags([8.0, 4.0, 2.0, 2.1]) == [False] * 4
    assert flags([2.0, 1.0, 1.2, 0.9]) == [False, False, True, False]
    # Relative to the lowest cost so far, so that a slow rise is found, too.
    assert flags([1.0, 1.08, 1.16]) == [False, False, True]
    # A rise within the spread of the rounds is not flagged.
    assert flags([1.0, 1.2], spread=0.2) == [False, False]


def test_explanations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling_causes, "default_threads", lambda: 2)
    monkeypatch.setattr(scaling_causes, "cache_sizes", lambda: {"L2": 1 << 20, "L3": 8 << 20})
    report = fastcnn.models.report_cnn(seed=0)
    best = Case(report, 16, threads=1)
    text = explain(Case(report, 17, threads=1), best, "lanes")
    assert text.startswith("53 % of the lanes hold a sample, before it 100 %")
    text = explain(Case(report, 48, threads=2), best, "lanes")
    assert "2 threads wait for each other 11 times a step" in text
    assert "1 of the blocks cannot be given to a thread of its own" in text
    text = explain(Case(fastcnn.models.vgg_small(seed=0), 16, threads=1), best, "lanes")
    assert "what a row touches for a block: 5." in text
    assert "the parameters: 2.5 MiB (before 0.3), beyond the second-level cache of 1.0" in text
    assert "all that a step touches: " in text
    assert "beyond the last cache of 8.0 MiB" in text
    text = explain(Case(report, 32, threads=1), best, "lanes")
    assert text.startswith("it rose in each measurement without passing a limit")
    touched = (
        r"; all that a step touches: \d\.\d MiB \(before \d\.\d\), \d+% of the last cache of 8\.0"
    )
    assert re.search(touched, text)
    assert text.endswith("; other programs took 0.0 of 2 cores meanwhile")
    assert explain(best, best, "lanes", 0.6) == "other programs took 0.6 of 2 cores meanwhile"


def test_other_programs_are_not_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"perf_counter": 10.0, "process_time": 5.0}
    for name in clocks:
        monkeypatch.setattr(scaling_causes.time, name, lambda name=name: clocks[name])
    monkeypatch.setattr(scaling_causes.os, "sysconf", lambda name: 100)
    stat = iter(["cpu 100 0 50 9000 7 1 2 3 0 0\ncpu0", "cpu 400 10 150 9999 9 1 2 13 0 0\ncpu0"])
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: next(stat))
    others = OtherPrograms()
    clocks.update(perf_counter=12.0, process_time=7.0)
    # 4.2 s of all processors in 2 s, of which this process had 2 s.
    assert others.cores() == pytest.approx(1.1)


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, encoding: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert OtherPrograms().cores() == 0.0


def test_axes() -> None:
    found = axes(6)
    assert found["batch"].values == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    assert found["threads"].values == thread_counts(6) == (1, 2, 4, 6)
    assert thread_counts(1) == (1,)
    for axis in found.values():
        assert set(axis.quick) <= set(axis.values)
    # Cost is per FLOP: doubling the channels takes four times the work.
    small, large = (found["channels"].case(n).work for n in (64, 128))
    assert 3.5 < large / small < 4.0
    case = found["threads"].case(4)
    assert (case.threads, case.work) == (4, 0.25)


def test_what_rises_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter([{16: 1.0, 32: 4.0, 64: 9.0}, {32: 1.9, 64: 8.0}, {64: 8.5}])
    asked = []

    def measure(runs: dict[int, object], **settings: object) -> dict[int, Timing]:
        asked.append(list(runs))
        return {value: Timing([cost]) for value, cost in next(costs).items()}

    monkeypatch.setattr(scaling, "measure", measure)
    model = fastcnn.models.report_cnn(seed=0)
    axis = replace(axes(1)["batch"], case=lambda n: Case(model, n, threads=1))
    result = scale(axis, backend="im2col", values=(16, 32, 64))
    assert asked == [[16, 32, 64], [32, 64], [64]]
    assert [p.seconds for p in result.points] == [1.0, 1.9, 8.0]
    assert [p.flagged for p in result.points] == [False, False, True]


@pytest.mark.parametrize("backend", ["lanes", "im2col"])
def test_measurement(backend: str) -> None:
    axis = axes(1)["batch"]
    model = fastcnn.models.report_cnn(seed=0)
    before = model.parameter_vector.copy()
    axis = replace(axis, case=lambda n: Case(model, n, threads=1))
    result = scale(axis, backend=backend, values=(16, 64), rounds=2, seconds=1e-4)
    np.testing.assert_array_equal(model.parameter_vector, before)
    assert [p.value for p in result.points] == [16, 64]
    for p in result.points:
        assert p.low <= p.seconds <= p.high
        assert p.cost == p.per_sample == pytest.approx(p.seconds / p.value)
    assert 1 << 18 < result.points[0].memory < result.points[1].memory < 1 << 27
    text = result.table()
    assert text.startswith(f"Batch size, the report's network ({backend})\nbatch")
    assert results_of(json.loads(json.dumps(result.as_records()))) == [result]


def test_memory_of_lanes_is_the_arena() -> None:
    axis = axes(1)["batch"]
    result = scale(axis, values=(1024,), rounds=1, seconds=1e-4)
    arena = fastcnn.plan(fastcnn.models.report_cnn(seed=0), 1024).bytes
    assert arena <= result.points[0].memory < 1.3 * arena


def test_figure(tmp_path: Path) -> None:
    points = [point(1, 9.0), point(2, 1.0, 0.1), replace(point(4, 1.5), flagged=True)]
    result = scaling.ScalingResult("batch", "Batch size, the report's network", "sample", "lanes")
    result.points = points
    save_figure(scaling_figure([result] * 4), tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 10_000


def test_bad_values() -> None:
    with pytest.raises(ConfigurationError, match="values must be positive"):
        scale(axes(1)["batch"], values=(0,))
    with pytest.raises(ConfigurationError, match="values must be positive"):
        scale(axes(1)["batch"], values=())
