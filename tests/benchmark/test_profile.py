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
from fastcnn.benchmark.profile import PARTS, WAITING, Profile, profile
from fastcnn.benchmark.records import Records
from fastcnn.benchmark.roofline import roofline_figure
from fastcnn.errors import ConfigurationError
from fastcnn.training.figure import save_figure

PEAKS = Peaks(1, 1e11, {"L2": 1e11, "memory": 1e10}, {"L2": 1 << 18, "memory": 1 << 28})


@pytest.fixture(scope="module")
def profiled() -> Profile:
    model = fastcnn.models.report_cnn(seed=0)
    before = model.parameter_vector.copy()
    result = profile(model, 40, threads=1, name="report_cnn", rounds=2, seconds=1e-5, peaks=PEAKS)
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


@pytest.mark.parametrize("threads", [1, 2])
def test_times_add_up_to_the_step(threads: int) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    found = profile(model, 40, threads=threads, rounds=3, seconds=1e-5, peaks=PEAKS)
    assert min(row.in_step for row in found.rows) >= 0
    # Every thread gets a share of these.
    assert all(row.in_step > 0 for row in found.rows if row.whole and row.phase > 1)
    assert len(found.waits) == threads
    assert min(found.waits) > 0
    assert found.waiting == pytest.approx(np.mean(found.waits))
    assert sum(row.in_step for row in found.rows) + found.waiting == pytest.approx(found.step)
    assert found.step == pytest.approx(np.mean(sorted(found.rounds)[:2]))
    assert f"\n{WAITING} " in found.table()


def test_an_update_in_the_row_of_its_gradient() -> None:
    model = fastcnn.Sequential(
        fastcnn.Flatten(), fastcnn.Linear(784, 700), fastcnn.ReLU(), fastcnn.Linear(700, 2),
        input_shape=(1, 28, 28),
    )  # fmt: skip
    found = profile(model, 16, threads=1, rounds=1, seconds=1e-5, peaks=PEAKS)
    program, weights = fastcnn.plan(model, 16, threads=1), 784 * 700
    rows = [index for index, row in enumerate(found.rows) if row.name.endswith(" + update")]
    assert len(rows) == 1
    assert found.rows[rows[0]].name == program.names[rows[0]] + " + update"
    alone = program.costs()[rows[0]]
    assert found.rows[rows[0]].flops == alone.flops + 11 * weights
    # The weights and their velocity; the gradient is not written.
    assert found.rows[rows[0]].read == alone.read + 8 * weights
    assert found.rows[rows[0]].written == alone.written + 4 * weights
    assert found.rows[-1].flops == 11 * (model.num_parameters - weights)
    assert found.rows[-1].in_step > 0


def test_a_network_whose_only_weights_are_updated_in_their_gradient_s_row() -> None:
    model = fastcnn.Sequential(
        fastcnn.Flatten(), fastcnn.Linear(784, 700, bias=False), input_shape=(1, 28, 28)
    )
    found = profile(model, 16, threads=1, rounds=1, seconds=1e-5, peaks=PEAKS)
    assert {row.part for row in found.rows} == {"forward", "backward"}
    assert "all of update  0.0  0.0 %  0.0\n" in re.sub(" {2,}", "  ", found.table())


def test_a_network_that_classifies_each_pixel() -> None:
    model = fastcnn.Sequential(fastcnn.Conv2d(1, 4, 3, padding=1), input_shape=(1, 6, 7))
    found = profile(model, 20, threads=2, rounds=1, seconds=1e-5, peaks=PEAKS)
    assert {row.part for row in found.rows} == set(PARTS)


def test_table_and_record(profiled: Profile) -> None:
    text = profiled.table()
    for row in profiled.rows:
        assert f"\n{row.name} " in text
    assert "report_cnn, batch 40, 1 thread; whole step:" in text
    assert "measured peak of 1 thread: 100 GFLOP/s; GB/s: L2 100, memory 10" in text


def test_records_keep_everything(profiled: Profile, tmp_path: Path) -> None:
    path, table = profiled.as_records("fastcnn profile report_cnn").write(tmp_path)
    assert path.name == "profile-report_cnn.json"
    assert Profile.from_records(Records.read(path)) == profiled
    lines = table.read_text().splitlines()
    assert len(lines) == 1 + len(profiled.rows)
    assert lines[0].startswith("name,kernel,sizes,part,phase")


def test_disturbances_are_pointed_out(profiled: Profile) -> None:
    message = "the machine is busy; measure again"
    fast = Peaks(1, 1e18, {"L2": 1e18}, {"L2": 1})
    calm = replace(profiled, peaks=fast, rounds=[1.0, 1.05, 1.05, 2.0])
    assert message not in calm.summary()
    assert message in replace(calm, rounds=[1.0, 1.2, 1.2, 1.2]).summary()
    assert message in replace(calm, peaks=replace(fast, flops=1.0)).summary()


def test_impossible_shares_are_not_printed(profiled: Profile, tmp_path: Path) -> None:
    """No row is above the peak."""
    fast = Peaks(1, 1e18, {"L2": 1e18}, {"L2": 1})
    rows = [replace(profiled.rows[0], flops=10**12, seconds=1e-9), *profiled.rows[1:]]
    busy = replace(profiled, rows=rows, peaks=fast)
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


def test_what_the_engine_does_not_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcnn.benchmark.profile.measure_peaks", None)  # would take seconds
    model = fastcnn.Sequential(fastcnn.Conv2d(1, 2, 3, dtype=np.float64), input_shape=(1, 6, 6))
    with pytest.raises(ConfigurationError, match="does not support parameters of type float64"):
        profile(model, 16)
