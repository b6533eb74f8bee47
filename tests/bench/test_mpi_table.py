"""The page on several processes agrees with the committed measurement."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench import mpi_scaling
from bench.markdown import filled
from fastcnn.benchmark.records import Records
from fastcnn.distributed.scaling import NETWORKS, StepCost, predict_scaling

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return mpi_scaling


@pytest.fixture(scope="module")
def records(script: ModuleType) -> dict[str, dict[str, Any]]:
    return {record["case"]: record for record in Records.read(script.RESULTS / "mpi.json").records}


def test_the_tables(script: ModuleType, records: dict[str, dict[str, Any]]) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert list(records) == [f"{network}-{batch}" for network, batch, _ in script.CASES]
    assert page == filled(page, "scaling.md", mpi=script.render(list(records.values())))
    row = re.search(r"^\| lenet5, 64 \| (.*) \|$", page, re.MULTILINE)
    assert row
    cells = [float(cell.replace(",", "")) for cell in row[1].split(" | ")]
    case = records["lenet5-64"]
    keys = ("one", "threads", "two", "predicted", "sum", "weak", "predicted_weak")
    assert cells == pytest.approx([1e6 * case[key] for key in keys], abs=0.5)


def test_the_text(script: ModuleType, records: dict[str, dict[str, Any]]) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    found = re.search(r"StepCost\(fixed=(\S+), each=(\S+), alone=(\S+), gradient_bytes=4", page)
    assert found
    cost = records["report_cnn-64"]["cost"]
    measured = [cost[key] for key in ("fixed", "each", "alone")]
    assert [float(number) for number in found.groups()] == pytest.approx(measured, rel=5e-3)
    ratios = [
        record[made] / record[predicted]
        for record in records.values()
        for made, predicted in (("two", "predicted"), ("weak", "predicted_weak"))
    ]
    bounds = re.search(r"(\d+) to (\d+) %\s+longer than predicted", page)
    assert bounds
    low, high = (1 + int(bound) / 100 for bound in bounds.groups())
    assert min(ratios) == pytest.approx(low, abs=5e-3)
    assert max(ratios) == pytest.approx(high, abs=5e-3)
    large = StepCost(**records["vgg_small-64"]["cost"])
    line = predict_scaling(large, NETWORKS["10gbit"], 64, 2, weak=False)
    assert f"a batch of 64 {line.speedup:.2f} times as fast" in page
    assert f"{1e3 * large.alone:.0f} ms of work for {large.gradient_bytes / 1e6:.1f} MB" in page


def test_what_is_said_of_threads_and_of_overlap(records: dict[str, dict[str, Any]]) -> None:
    for record in records.values():
        assert record["threads"] < record["two"]
        assert record["buckets"] > record["after"]
        assert record["at_once"] > 0.99 * record["after"]
