"""Compare the speed of two commits: check both out, and time them in turns.

    .venv/bin/python scripts/compare_commits.py main~5 main
    .venv/bin/python scripts/compare_commits.py v1.0.0 HEAD --model vgg_small --rounds 9
    .venv/bin/python scripts/compare_commits.py main HEAD --program mine.py

Timings stored on another day say little on a shared machine. Here each round times a training step
of one commit and then of the other, in separate processes with this interpreter, so that
interference affects both. Your own program, used instead of the step, imports what it needs from
the commit, and prints seconds as a JSON list, of which the minimum counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
JOB = """
import inspect, json, sys, time
import numpy as np
import fastcnn
from fastcnn.execution import make_executor

name, batch, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3]
model = getattr(fastcnn.models, name)(seed=0)
shape = model.input_shape
generator = np.random.default_rng(0)
x = generator.standard_normal((batch, *shape)).astype(np.float32)
y = generator.integers(0, model.output_shape(shape)[0], batch)
executor = make_executor(
    model, loss=fastcnn.CrossEntropyLoss(), optimizer=fastcnn.optim.SGD(1e-4, momentum=0.9),
    backend=backend, batch_size=batch)
samples = (x, y)
if "samples" in inspect.signature(executor.train_steps).parameters:  # older commits take arrays
    from fastcnn.data.dataset import ArrayDataset

    samples = (ArrayDataset(x, y),)

def steps(count):
    order = np.tile(np.arange(batch), count)
    began = time.perf_counter()
    executor.train_steps(*samples, order, np.full(count, 1e-4))
    return (time.perf_counter() - began) / count

steps(2)
count = max(3, int(0.3 / max(steps(3), 1e-6)))
print(json.dumps([steps(count) for _ in range(3)]))
"""


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git on the repository."""
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )


def check(commits: Sequence[str]) -> None:
    """Stop before anything is timed if a commit does not exist."""
    for name in commits:
        if git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").returncode:
            raise SystemExit(f"no commit {name!r} in {ROOT}")
    if git("status", "--porcelain", "--untracked-files=no").stdout:
        print("changes that are not committed take no part", file=sys.stderr)


def time_commit(folder: Path, commit: str, program: Sequence[str]) -> float:
    """Minimum of the seconds that a program prints in a checkout."""
    done = subprocess.run(
        [sys.executable, *program],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    if done.returncode:
        raise SystemExit(f"{commit} failed:\n{done.stderr[-2000:]}")
    try:
        return float(min(json.loads(done.stdout.splitlines()[-1])))
    except (ValueError, TypeError, IndexError):
        raise SystemExit(f"{commit}: no JSON list of seconds in {done.stdout[-200:]!r}") from None


def time_both(commits: Sequence[str], program: Sequence[str], rounds: int) -> list[list[float]]:
    """Seconds of each commit in each round; the first one alternates between rounds."""
    times: list[list[float]] = [[], []]
    with tempfile.TemporaryDirectory() as parent:
        folders = [Path(parent) / "old", Path(parent) / "new"]
        try:
            for folder, commit in zip(folders, commits, strict=True):
                made = git("worktree", "add", "--quiet", "--detach", str(folder), commit)
                if made.returncode:
                    raise SystemExit(f"{commit} cannot be checked out:\n{made.stderr}")
                time_commit(folder, commit, program)
            for turn in range(rounds):
                for side in (0, 1) if turn % 2 == 0 else (1, 0):
                    times[side].append(time_commit(folders[side], commits[side], program))
        finally:
            for folder in folders:
                git("worktree", "remove", "--force", str(folder))
    return times


def main() -> None:
    """Print both commits' times and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--model", default="report_cnn")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--backend", default="lanes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--program", type=Path, help="a Python file instead of the training step")
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {chosen.rounds}")
    if chosen.program and not chosen.program.is_file():
        parser.error(f"--program: no file {chosen.program}")
    program = ["-c", JOB, chosen.model, str(chosen.batch_size), chosen.backend]
    if chosen.program:
        program = [str(chosen.program.resolve())]
    commits = chosen.old, chosen.new
    check(commits)
    times = time_both(commits, program, chosen.rounds)
    for name, values in zip(commits, times, strict=True):
        spread = f"{1e6 * min(values):,.0f} to {1e6 * max(values):,.0f}"
        print(f"{name:20s} {1e6 * median(values):10,.0f} us a step ({spread})")
    ratios = [old / new for old, new in zip(*times, strict=True)]
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    print(f"{chosen.new} is {median(ratios):.3f} times as fast (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
