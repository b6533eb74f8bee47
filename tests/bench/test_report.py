"""Reports of results on disk."""

import json
from pathlib import Path

import pytest

from bench.report import read_report
from fastcnn.benchmark.environment import describe_environment
from fastcnn.benchmark.records import Records
from fastcnn.benchmark.results import Result, as_records, table_of
from fastcnn.errors import DataError
from tests.benchmark.test_measure import make_result


def write(folder: Path, *results: Result) -> tuple[Path, Path]:
    return Records("bench", "fastcnn bench", as_records(results), {"seconds": 12.5}).write(folder)


def test_reports_survive_the_disk(tmp_path: Path) -> None:
    path, table = write(tmp_path, make_result())
    report = read_report(path)
    assert report.results == [make_result()]
    assert (report.command, report.seconds, report.quick) == ("fastcnn bench", 12.5, False)
    assert report.environment == describe_environment()
    assert table.read_text().splitlines()[1].startswith("step,w,c,1,2,us/sample,1234.5")
    *_, line = table_of("", "us/sample", report.results).splitlines()
    assert line.split() == ["c", "1", "1,234", "(1-2,000)", "0.5", "1e-06"]
    assert {"processor", "instruction set", "numba", "threads"} <= set(report.environment)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 9}'])
def test_a_file_that_is_no_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "bench.json").write_text(content)
    with pytest.raises(DataError, match=r"bench\.json"):
        read_report(tmp_path / "bench.json")


def test_unfinished_results_are_valid_json(tmp_path: Path) -> None:
    refused = make_result(median=float("nan"), rounds=0, ratio=None, note="not timed")
    path, _ = write(tmp_path, refused)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert read_report(path).results[0].median != read_report(path).results[0].median
