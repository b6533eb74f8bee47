import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastcnn.training.pool import is_over, run_jobs


def describe(job: int, factor: int) -> tuple[int, int]:
    if job == 13:
        raise ValueError("thirteen")
    if job == 99:
        os._exit(1)
    return job * factor, os.getpid()


def test_in_this_process() -> None:
    results = list(run_jobs(describe, [1, 2, 3], (10,), workers=1))
    assert results == [(index, (10 * (index + 1), os.getpid())) for index in range(3)]
    assert not is_over()


def test_in_other_processes() -> None:
    results = dict(run_jobs(describe, [1, 2, 3, 4], (10,), workers=2))
    assert {index: result[0] for index, result in results.items() if result} == {
        0: 10, 1: 20, 2: 30, 3: 40,
    }  # fmt: skip
    assert os.getpid() not in {result[1] for result in results.values() if result}


def test_errors_come_through() -> None:
    with pytest.raises(ValueError, match="thirteen"):
        list(run_jobs(describe, [1, 13], (1,), workers=2))


def test_a_dead_process_gives_none() -> None:
    assert dict(run_jobs(describe, [99, 99], (1,), workers=2)) == {0: None, 1: None}


UNGUARDED = """
from fastcnn.training.pool import run_jobs
print(dict(run_jobs(divmod, [7, 8], (b"x" * 1_000_000,), workers=2)))
"""


def test_a_script_that_lacks_its_guard_ends_and_says_why(tmp_path: Path) -> None:
    """Processes that end before they have read anything, not even what a pipe cannot hold."""
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["{0: None, 1: None}"]
    assert "if __name__ == '__main__':" in done.stderr


def test_no_more_workers_than_the_system_can_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows waits for at most 61 processes; with a limit of one, the work is done in this one."""
    monkeypatch.setattr(sys.modules["fastcnn.training.pool"], "MOST_WORKERS", 1)
    results = dict(run_jobs(describe, [1, 2], (10,), workers=70))
    assert results == dict(run_jobs(describe, [1, 2], (10,), workers=1))
