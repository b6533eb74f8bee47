"""Records on disk: JSON that reads back unchanged, and CSV of the plain values."""

import sys
from pathlib import Path

import pytest

from fastcnn.benchmark.records import Records, this_command
from fastcnn.errors import DataError


def test_records_on_disk(tmp_path: Path) -> None:
    records = [{"name": "a, b", "us": 1.5, "parts": [1, 2]}, {"name": "c", "note": "x"}]
    written = Records("suite", "fastcnn bench suite", records, {"batch": 4}, quick=True)
    path, table = written.write(tmp_path / "new")
    assert Records.read(path) == written
    assert table.read_text() == 'name,us,note\n"a, b",1.5,\nc,,x\n'


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": 99}', '{"format": 1}', '{"format": 1, "suite": "s", "x": 1}'],
)
def test_what_is_no_record(content: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"r\.json: not a benchmark's records"):
        Records.read(path)
    with pytest.raises(DataError, match=r"none\.json: not a benchmark's records"):
        Records.read(tmp_path / "none.json")


def test_a_published_command_names_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["records", "report", "--data", str(tmp_path / "digits.tar"), f"--out={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments, "--seeds", "2"])
    assert this_command("python -m bench") == (
        f"python -m bench records report --data digits.tar --out={tmp_path.name} --seeds 2"
    )
