import multiprocessing
import os
import signal
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


def is_blocked(job: int = 0) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no masks of signals")
def test_processes_that_start_are_deaf_to_ctrl_c() -> None:
    assert all(blocked for _, blocked in run_jobs(is_blocked, [1, 2, 3], workers=2))
    assert not is_blocked()


def test_a_dead_process_gives_none() -> None:
    assert dict(run_jobs(describe, [99, 99], (1,), workers=2)) == {0: None, 1: None}


UNGUARDED = """
from fastcnn.training.pool import run_jobs
print(dict(run_jobs(divmod, [7, 8], (b"x" * 1_000_000,), workers=2)))
"""


def test_a_script_that_lacks_its_guard_ends_and_says_why(tmp_path: Path) -> None:
    """Processes that end before they have read anything, not even what exceeds a pipe's buffer."""
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["{0: None, 1: None}"]
    assert "if __name__ == '__main__':" in done.stderr


def test_no_more_workers_than_the_system_can_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows can wait for 61 processes; with a limit of one, the work is done in this process."""
    monkeypatch.setattr(sys.modules["fastcnn.training.pool"], "MOST_WORKERS", 1)
    results = dict(run_jobs(describe, [1, 2], (10,), workers=70))
    assert results == dict(run_jobs(describe, [1, 2], (10,), workers=1))


def mortal(job: int, folder: str) -> int:
    """Kills its own process the first time it is called with 3, and each time with 4."""
    mark = Path(folder) / f"{job}"
    if job == 4 or (job == 3 and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * job


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_job_whose_process_died_is_repeated_once(tmp_path: Path) -> None:
    jobs = [1, 2, 3, 4, 5, 6]
    results = dict(run_jobs(mortal, jobs, (str(tmp_path),), workers=3))
    assert results == {0: 10, 1: 20, 2: 30, 3: None, 4: 50, 5: 60}


class Unsendable(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def awkward(job: int) -> object:
    if job == 1:
        raise Unsendable(1, 2)
    return lambda: None


def test_what_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Unsendable: 1 and 2"):
        list(run_jobs(awkward, [1, 1], workers=2))
    with pytest.raises(Exception, match=r"pickle|local"):
        list(run_jobs(awkward, [2, 2], workers=2))


ENDLESS = """
import threading
from fastcnn.training.pool import run_jobs

def wait(job):
    print("begun", flush=True)
    threading.Event().wait()

if __name__ == "__main__":
    list(run_jobs(wait, [1, 2, 3], workers=2))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_workers_end_with_their_parent(name: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(ENDLESS)
    with subprocess.Popen(
        [sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["begun\n", "begun\n"]
        process.send_signal(getattr(signal, name))
        # The pipe ends when the last process that has it is gone.
        assert process.communicate(timeout=300)[0] == ""
    assert process.returncode == -getattr(signal, name)


def endless(job: int) -> bool:
    if job == 1:
        return True
    while not is_over():
        pass
    return False


def test_leaving_early_ends_the_workers() -> None:
    others = multiprocessing.active_children()  # of an earlier test, which a library keeps
    results = run_jobs(endless, [1, 2, 3], workers=2)
    assert next(results) == (0, True)
    results.close()  # type: ignore[attr-defined]
    assert not set(multiprocessing.active_children()) - set(others)
