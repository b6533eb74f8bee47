"""scripts/compare_commits.py: both commits are really checked out, and bad input is reported."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "compare_commits.py"
PROGRAM = """
import json
import speed
with open(speed.LOG, "a") as log:
    log.write(speed.NAME)
print("warming up")
print(json.dumps([9.0, speed.SECONDS]))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/compare_commits.py", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The script in a repository with two commits that report different speeds."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "repository"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "scripts")
    (tmp_path / "program.py").write_text(PROGRAM)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for name, seconds in (("o", 0.003), ("n", 0.002)):
        text = f"NAME, SECONDS, LOG = {name!r}, {seconds}, {str(tmp_path / 'log')!r}\n"
        (folder / "speed.py").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", name)
    return folder


def test_two_commits_take_turns(repository: Path) -> None:
    program = str(repository.parent / "program.py")
    done = run(repository, "main~1", "main", "--rounds", "3", "--program", program)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "main~1                    3,000 us a step (3,000 to 3,000)",
        "main                      2,000 us a step (2,000 to 2,000)",
        "main is 1.500 times as fast (quartiles 1.500 to 1.500)",
    ]
    # Each once as a warm-up, then in turns.
    assert (repository.parent / "log").read_text() == "on" + "on" + "no" + "on"
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_changes_that_are_not_committed_are_not_measured(repository: Path) -> None:
    (repository / "speed.py").write_text("raise RuntimeError\n")
    program = str(repository.parent / "program.py")
    done = run(repository, "main", "main", "--rounds", "1", "--program", program)
    assert done.stderr == "changes that are not committed take no part\n"
    assert done.stdout.endswith("main is 1.000 times as fast (quartiles 1.000 to 1.000)\n")


def test_bad_input(repository: Path) -> None:
    done = run(repository, "main", "nowhere")
    assert done.returncode == 1
    assert done.stderr == f"no commit 'nowhere' in {repository}\n"
    done = run(repository, "main", "main", "--rounds", "0")
    assert "--rounds must be at least 1, got 0" in done.stderr
    done = run(repository, "main", "main", "--program", "missing.py")
    assert "--program: no file missing.py" in done.stderr
    program = repository.parent / "program.py"
    program.write_text("import speed, no_such_module\n")
    done = run(repository, "main~1", "main", "--program", str(program))
    assert done.stderr.startswith("main~1 failed:\n")
    assert "ModuleNotFoundError" in done.stderr
    program.write_text("print('fast')\n")
    done = run(repository, "main~1", "main", "--program", str(program))
    assert done.stderr == "main~1: no JSON list of seconds in 'fast\\n'\n"
    assert len(git(repository, "worktree", "list").splitlines()) == 1
