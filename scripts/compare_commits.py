"""Compare the speed of two commits: check both out, and let them take turns.

    .venv/bin/python scripts/compare_commits.py main~5 main
    .venv/bin/python scripts/compare_commits.py v0.1.0 HEAD --network vgg_small --rounds 9

Stored timings of another day say little on a shared machine. Here each round times a training step
of one commit and then of the other, in processes of their own with this interpreter, so that what
slows the machine down meets both.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
JOB = """
import json, sys, time
import numpy as np
import fastcnn
from fastcnn.data import Normalisation
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
same = Normalisation((0.0,) * shape[0], (1.0,) * shape[0])

def steps(count):
    order = np.tile(np.arange(batch), count)
    began = time.perf_counter()
    executor.train_steps(x, y, order, np.full(count, 1e-4), same)
    return (time.perf_counter() - began) / count

steps(2)
count = max(3, int(0.3 / max(steps(3), 1e-6)))
print(json.dumps([steps(count) for _ in range(3)]))
"""


def time_commit(folder: Path, network: str, batch: int, backend: str) -> float:
    """Seconds of a training step of a checked-out commit."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", JOB, network, str(batch), backend],
        capture_output=True, text=True, env=environment, cwd=folder, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{folder.name} failed:\n{done.stderr[-2000:]}")
    return min(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print both commits' times and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--network", default="report_cnn")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--backend", default="lanes")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folders = [Path(parent) / "old", Path(parent) / "new"]
        try:
            for folder, commit in zip(folders, (chosen.old, chosen.new), strict=True):
                subprocess.run(
                    ["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach",
                     str(folder), commit], check=True,
                )  # fmt: skip
                time_commit(folder, chosen.network, chosen.batch_size, chosen.backend)
            times: list[list[float]] = [[], []]
            for turn in range(chosen.rounds):
                for side in (0, 1) if turn % 2 == 0 else (1, 0):
                    times[side].append(
                        time_commit(
                            folders[side], chosen.network, chosen.batch_size, chosen.backend
                        )
                    )
        finally:
            for folder in folders:
                subprocess.run(
                    ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(folder)],
                    check=False, capture_output=True,
                )  # fmt: skip
    for name, values in zip((chosen.old, chosen.new), times, strict=True):
        spread = f"{1e6 * min(values):,.0f} to {1e6 * max(values):,.0f}"
        print(f"{name:20s} {1e6 * median(values):10,.0f} us a step ({spread})")
    ratios = [old / new for old, new in zip(*times, strict=True)]
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    print(f"{chosen.new} is {median(ratios):.3f} times as fast (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
