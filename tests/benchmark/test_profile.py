"""Peaks of the machine and the profile of a program. No time is asserted."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn.benchmark.peaks import Peaks, cache_sizes, measure_peaks, measured_flops, working_sets
from fastcnn.benchmark.profile import PARTS, Profile, never_falling, profile
from fastcnn.benchmark.records import Records
from fastcnn.benchmark.roofline import roofline_figure
from fastcnn.errors import ConfigurationError
from fastcnn.training.figure import save_figure

PEAKS = Peaks(1, 1e11, {"L2": 1e11, "memory": 1e10}, {"L2": 1 << 18, "memory": 1 << 28})


@pytest.fixture(scope="module")
def profiled() -> Profile:
    model = fastcnn.models.report_cnn(seed=0)
    before = model.parameter_vector.copy()
    result = profile(model, 40, threads=1, name="report", rounds=2, seconds=1e-5, peaks=PEAKS)
    np.testing.assert_array_equal(model.parameter_vector, before)
    return result


def test_peaks_of_a_process_that_compiled_nothing() -> None:
    code = (
        "from fastcnn.benchmark.peaks import measure_peaks; "
        "print(measure_peaks((1,), rounds=1, seconds=1e-4, memory_limit=8 << 20)[1].flops > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_peaks() -> None:
    found = measure_peaks((1, 2), rounds=1, seconds=1e-4, memory_limit=8 << 20)
    assert list(found) == [1, 2]
    for threads, peaks in found.items():
        assert peaks.threads == threads
        assert peaks.flops > 0
        assert list(peaks.bandwidth) == ["L1", "L2", "L3", "memory"]
        assert min(peaks.bandwidth.values()) > 0
        assert threads * peaks.working_set["memory"] <= 8 << 20
    assert measured_flops((1,))[1] > 0


def test_working_sets_fit_their_caches() -> None:
    sizes = cache_sizes()
    assert 0 < sizes["L1"] < sizes["L2"]
    assert working_sets(2)["L1"] < sizes["L1"]


def test_rows_are_those_of_the_program(profiled: Profile) -> None:
    program = fastcnn.plan(fastcnn.models.report_cnn(seed=0), 40, threads=1)
    assert [row.name for row in profiled.rows[:-1]] == program.names
    assert [row.flops for row in profiled.rows[:-1]] == [c.flops for c in program.costs()]
    assert {row.part for row in profiled.rows} == set(PARTS)
    parts = {row.name: row.part for row in profiled.rows}
    assert parts["loss cross_entropy"] == "forward"
    assert parts["conv2: transform weights"] == "forward"
    assert parts["fc3: weight gradient"] == "backward"
    # Of the phase in which the loss is.
    assert (
        parts["fc3: input gradient"]
        == parts["conv2: weight gradient through pooling"]
        == "backward"
    )
    assert profiled.rows[-1].part == "update"
    assert all(row.low <= row.seconds <= row.high for row in profiled.rows)
    assert profiled.total() == pytest.approx(sum(profiled.total(part) for part in PARTS))
    assert profiled.memory == program.bytes


def test_no_row_shortens_the_step(profiled: Profile) -> None:
    assert min(row.in_step for row in profiled.rows) >= 0
    numbers = re.findall(r"-[\d.,]*\d", profiled.table().split("whole step:")[0])
    assert not numbers
    noisy = replace(profiled, uncertainty=0.5 * profiled.step)
    assert f"{5e5 * profiled.step:.1f} us of them are noise" in noisy.summary()
    assert noisy.is_disturbed


def test_times_that_never_fall() -> None:
    assert never_falling(np.array([0.0, 1.0, 3.0])).tolist() == [0, 1, 3]
    assert never_falling(np.array([0.0, 4.0, 2.0, 5.0])).tolist() == [0, 3, 3, 5]
    assert never_falling(np.array([1.0, 6.0, 5.0, 1.0, 8.0])).tolist() == [1, 4, 4, 4, 8]
    isotonic = pytest.importorskip("sklearn.isotonic")
    values = np.random.default_rng(0).normal(np.arange(50) / 9, 1.0)
    theirs = isotonic.IsotonicRegression().fit_transform(np.arange(50), values)
    assert never_falling(values) == pytest.approx(theirs)


def test_table_and_record(profiled: Profile) -> None:
    text = profiled.table()
    for row in profiled.rows:
        assert f"\n{row.name} " in text
    assert "report, batch 40, 1 thread; whole step:" in text
    assert "measured peak of 1 thread: 100 GFLOP/s; GB/s: L2 100, memory 10" in text


def test_records_keep_everything(profiled: Profile, tmp_path: Path) -> None:
    path, table = profiled.as_records("fastcnn profile report").write(tmp_path)
    assert path.name == "profile-report.json"
    assert Profile.from_records(Records.read(path)) == profiled
    lines = table.read_text().splitlines()
    assert len(lines) == 1 + len(profiled.rows)
    assert lines[0].startswith("name,kernel,sizes,part,phase")


def test_contradictions_are_pointed_out(profiled: Profile) -> None:
    message = "the machine is busy; measure again"
    fast = Peaks(1, 1e18, {"L2": 1e18}, {"L2": 1})
    rows = [replace(row, in_step=row.seconds) for row in profiled.rows]
    calm = replace(profiled, rows=rows, peaks=fast, step=profiled.total(), uncertainty=0.0)
    assert message not in calm.summary()
    assert message in replace(calm, step=profiled.total() / 2).summary()
    assert message in replace(calm, peaks=replace(fast, flops=1.0)).summary()


def test_impossible_shares_are_not_printed(profiled: Profile, tmp_path: Path) -> None:
    """A row's share of the step is between zero and one, and no row is above the peak."""
    fast = Peaks(1, 1e18, {"L2": 1e18}, {"L2": 1})
    rows = [replace(row, in_step=0.5 * profiled.step) for row in profiled.rows]
    rows[0] = replace(rows[0], in_step=-2.1 * profiled.step)
    rows[1] = replace(rows[1], in_step=3.0 * profiled.step)
    rows[2] = replace(rows[2], flops=10**12, seconds=1e-9)
    busy = replace(profiled, rows=rows, peaks=fast, uncertainty=0.0)
    percents = [float(found) for found in re.findall(r"(-?[\d.]+) %", busy.table())]
    assert percents
    assert min(percents) >= 0
    assert max(percents) <= 100
    assert "the machine is busy" in busy.summary()
    figure = roofline_figure(busy)
    assert any("the machine is busy" in text.get_text() for text in figure.texts)
    labels = " ".join(label.get_text() for label in figure.axes[1].get_yticklabels())
    assert rows[0].name not in labels
    save_figure(figure, tmp_path / "busy.png")


def test_figure(profiled: Profile, tmp_path: Path) -> None:
    save_figure(roofline_figure(profiled), tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").stat().st_size > 10_000


def test_what_the_engine_does_not_cover() -> None:
    model = fastcnn.Sequential(fastcnn.Conv2d(1, 2, 3, dtype=np.float64), input_shape=(1, 6, 6))
    with pytest.raises(ConfigurationError, match="does not support parameters of type float64"):
        profile(model, 16, peaks=PEAKS)
