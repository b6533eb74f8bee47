"""Weak and strong scaling on this machine, beside the model's prediction.

``.venv/bin/python scripts/mpi_scaling.py`` starts jobs of one and two processes; ``mpiexec`` must
be installed (``pip install 'fastcnn[mpi]'``).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

STEPS, ROUNDS = 150, 5
JOB = """
import json, sys, time
import numpy as np
import fastcnn
from fastcnn.distributed import World
from fastcnn.distributed.executor import make_distributed
from fastcnn.execution import make_executor
from fastcnn.data import Normalisation

name, plain = sys.argv[1], sys.argv[4] == "plain"
batch, threads, steps = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[5])
world = World()
model = getattr(fastcnn.models, name)(seed=0)
shape = model.input_shape
generator = np.random.default_rng(0)
x = generator.standard_normal((batch, *shape)).astype(np.float32)
y = generator.integers(0, model.output_shape(shape)[0], batch)
same = Normalisation((0.0,) * shape[0], (1.0,) * shape[0])
settings = dict(loss=fastcnn.CrossEntropyLoss(), optimizer=fastcnn.optim.SGD(1e-4, momentum=0.9),
                batch_size=batch, threads=threads)
if plain:
    executor = make_executor(model, **settings)
else:
    executor = make_distributed(model, world, seed=0, clip_norm=None, **settings)
order = np.tile(np.arange(batch), steps)
executor.train_steps(x, y, order[: 5 * batch], np.full(5, 1e-4), same)
times = []
for _ in range(3):
    began = time.perf_counter()
    executor.train_steps(x, y, order, np.full(steps, 1e-4), same)
    times.append((time.perf_counter() - began) / steps)
sums = []
gradient = np.ones_like(model.parameter_vector)
for _ in range(100):
    began = time.perf_counter()
    world.add(gradient)
    gradient[...] = 1.0
    sums.append(time.perf_counter() - began)
if world.is_root:
    print(json.dumps({"step": min(times), "sum": sorted(sums)[50], "bytes": gradient.nbytes}))
"""


def job(
    ranks: int, network: str, batch: int, threads: int, kind: str, steps: int
) -> dict[str, float]:
    """Run one job and return what its root measured."""
    mpiexec = Path(sys.executable).parent / "mpiexec"
    command = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", str(ranks), sys.executable,
               "-m", "mpi4py", "-c", JOB, network, str(batch), str(threads), kind,
               str(steps)]  # fmt: skip
    environment = {**os.environ, "FASTCNN_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Print both tables."""
    print("network      batch  1x1 us   1x2 us   2x1 us  (sum us)  2x1 strong  2x1 weak  1x2")
    for network, batch, steps in (("report_cnn", 64, STEPS), ("lenet5", 64, STEPS),
                                  ("vgg_small", 64, 6), ("report_cnn", 256, STEPS)):  # fmt: skip
        rounds: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, arguments in {
                "1x1": (1, network, batch, 1, "plain"), "1x2": (1, network, batch, 2, "plain"),
                "2x1": (2, network, batch, 1, "mpi"), "weak": (2, network, 2 * batch, 1, "mpi"),
            }.items():  # fmt: skip
                made = job(*arguments, steps)
                rounds.setdefault(name, []).append(made["step"])
                if name == "2x1":
                    rounds.setdefault("sum", []).append(made["sum"])
        best = {name: 1e6 * median(values) for name, values in rounds.items()}
        print(
            f"{network:12s} {batch:5d} {best['1x1']:8.0f} {best['1x2']:8.0f} {best['2x1']:8.0f} "
            f"{best['sum']:9.0f} {best['1x1'] / best['2x1']:11.2f} "
            f"{2 * best['1x1'] / best['weak']:9.2f} {best['1x1'] / best['1x2']:4.2f}"
        )


if __name__ == "__main__":
    main()
