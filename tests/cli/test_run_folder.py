"""Folders of runs that start within the same second."""

from pathlib import Path

import pytest

from fastcnn.cli.training_data import free_folder


def test_names_differ_in_one_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = []
    for _ in range(4):
        folder = free_folder("report_cnn")
        folder.mkdir(parents=True)
        made.append(folder.name)
    assert len(set(made)) == 4
    assert all("-report_cnn" in name for name in made)
