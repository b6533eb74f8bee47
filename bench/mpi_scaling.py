"""Weak and strong scaling on this machine, next to the model's prediction.

``python -m bench.mpi_scaling`` starts jobs of one and two processes, writes the measurements to
``docs/benchmarks/mpi.json`` and the tables to ``docs/scaling.md``; ``mpiexec`` must be installed
(``pip install 'fastcnn[mpi]'``). Given names of cases, such as ``report_cnn-64``, it measures only
these and keeps the others.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.markdown import fill, table
from fastcnn.benchmark.environment import describe_environment
from fastcnn.benchmark.records import Records
from fastcnn.distributed.scaling import Network, StepCost, predict_scaling
from fastcnn.timing import in_turns

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "docs" / "benchmarks", ROOT / "docs" / "scaling.md"
ROUNDS = 5
#: Network, batch and steps of each timing.
CASES = (
    ("report_cnn", 64, 100),
    ("report_cnn", 256, 100),
    ("lenet5", 64, 100),
    ("vgg_small", 64, 30),
)
JOB = """
import json, sys
from dataclasses import asdict
import numpy as np
import fastcnn
from fastcnn.data.dataset import ArrayDataset
from fastcnn.distributed import join
from fastcnn.distributed.scaling import measure_network, measure_step, measure_together
from fastcnn.execution import make_executor
from fastcnn.timing import measure, repeated

name, batch, threads, repeats = sys.argv[1], *map(int, sys.argv[2:])
world = join()
model = getattr(fastcnn.models, name)(seed=0)
made = {"step": measure_together(model, world, batch, threads, repeats)}
if world.size > 1:
    from mpi4py import MPI

    made["weak"] = measure_together(model, world, world.size * batch, threads, repeats)
    cost = measure_step(model, batch, threads, repeats)
    network, made["sum"] = measure_network(world, cost.gradient_bytes)
    made |= {"cost": asdict(cost), "network": asdict(network)}

    share = batch // world.size
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=fastcnn.optim.SGD(1e-6, momentum=0.9),
        batch_size=share, threads=threads,
    )
    x = np.random.default_rng(0).standard_normal((share, *model.input_shape), np.float32)
    samples, chosen = ArrayDataset(x, np.zeros(share, np.int64)), np.arange(share)
    other = np.ones_like(model.parameter_vector)

    def compute():
        return executor.gradient(samples, chosen)[2]

    def after():
        gradient = compute()
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, gradient)
        executor.update(gradient, 1e-6)

    def buckets():
        gradient = compute()
        for part in np.array_split(gradient, 4):
            MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, part)
        executor.update(gradient, 1e-6)

    def at_once():
        # All of the sum during all of the gradient: more than any order of the layers allows.
        request = MPI.COMM_WORLD.Iallreduce(MPI.IN_PLACE, other)
        gradient = compute()
        request.Wait()
        executor.update(gradient, 1e-6)

    ways = {"after": repeated(after), "buckets": repeated(buckets), "at_once": repeated(at_once)}
    timings = measure(ways, rounds=repeats, most=1, pause=0.0, before=world.wait)
    made["ways"] = {way: world.largest(timing.median) for way, timing in timings.items()}
if world.is_root:
    print(json.dumps(made))
"""


def job(ranks: int, network: str, batch: int, threads: int, repeats: int) -> dict[str, Any]:
    """Run one job and return what its root measured."""
    mpiexec = Path(sys.executable).parent / "mpiexec"
    command = [
        str(mpiexec) if mpiexec.exists() else "mpiexec",
        "-n",
        str(ranks),
        sys.executable,
        "-m",
        "mpi4py",
        "-c",
        JOB,
        network,
        str(batch),
        str(threads),
        str(repeats),
    ]
    environment = {**os.environ, "FASTCNN_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{network}, {batch}: the job of {ranks} processes failed\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(network: str, batch: int, repeats: int) -> dict[str, Any]:
    """Seconds of one case: medians over some rounds, in which all jobs take turns."""
    jobs = {"one": (1, 1), "threads": (1, 2), "two": (2, 1)}
    calls = {
        name: partial(job, ranks, network, batch, threads, repeats)
        for name, (ranks, threads) in jobs.items()
    }
    rounds = in_turns(calls, ROUNDS)
    two = rounds["two"]

    def middle(part: str | None, key: str) -> float:
        return median((made if part is None else made[part])[key] for made in two)

    seconds = {name: median(made["step"] for made in rounds[name]) for name in jobs}
    # A single process has both cores' cache and memory to itself; the model's costs are measured
    # while both cores work.
    cost = StepCost(
        **{key: middle("cost", key) for key in ("fixed", "each")},
        alone=seconds["one"],
        gradient_bytes=two[0]["cost"]["gradient_bytes"],
    )
    link = Network(**{key: middle("network", key) for key in ("latency", "bandwidth")})
    strong, weak = (predict_scaling(cost, link, batch, 2, each) for each in (False, True))
    return {
        "case": f"{network}-{batch}",
        "network": network,
        "batch": batch,
        **seconds,
        "weak": middle(None, "weak"),
        "sum": middle(None, "sum"),
        "predicted": strong.step + strong.communication,
        "predicted_weak": weak.step + weak.communication,
        **{way: middle("ways", way) for way in ("after", "buckets", "at_once")},
        "cost": asdict(cost),
        "link": asdict(link),
        "spread": {name: sorted(made["step"] for made in rounds[name]) for name in jobs},
    }


def render(records: list[dict[str, Any]]) -> str:
    """The tables of docs/scaling.md."""
    columns: tuple[dict[str, Callable[[dict[str, Any]], str]], ...] = (
        {
            "1 process, 1 thread": _time("one"),
            "1 process, 2 threads": _time("threads"),
            "2 processes": _time("two"),
            "predicted": _time("predicted"),
            "sum": _time("sum"),
            "weak, 2 processes": _time("weak"),
            "weak, predicted": _time("predicted_weak"),
        },
        {
            "speed-up by 2 threads": _gain("threads"),
            "by 2 processes, strong": _gain("two"),
            "predicted": _gain("predicted"),
            "by 2 processes, weak": _gain("weak", 2),
            "weak, predicted": _gain("predicted_weak", 2),
        },
        {
            "sum after the gradient": _time("after"),
            "in 4 buckets": _time("buckets"),
            "during the gradient": _time("at_once"),
        },
    )
    tables = []
    for cells in columns:
        rows = [
            (f"{r['network']}, {r['batch']}", *(cell(r) for cell in cells.values()))
            for r in records
        ]
        tables.append(table(("network, batch", *cells), rows, left=1))
    return "\n\n".join(tables)


def _time(key: str) -> Callable[[dict[str, Any]], str]:
    """Microseconds of a record."""
    return lambda record: f"{1e6 * record[key]:,.0f}"


def _gain(key: str, batches: int = 1) -> Callable[[dict[str, Any]], str]:
    """The speed-up over one process, for a number of batches."""
    return lambda record: f"{batches * record['one'] / record[key]:.2f}"


def main() -> None:
    """Measure, and write the results and the page's tables."""
    wanted = sys.argv[1:]
    names = [f"{network}-{batch}" for network, batch, _ in CASES]
    if set(wanted) - set(names):
        sys.exit(f"there are {', '.join(names)}")
    known = {}
    if wanted:
        known = {r["case"]: r for r in Records.read(RESULTS / "mpi.json").records}
    for name, case in zip(names, CASES, strict=True):
        if not wanted or name in wanted:
            known[name] = measure(*case)
    version = (
        subprocess.run(
            [sys.executable, "-c", "from mpi4py import MPI; print(MPI.Get_library_version())"],
            capture_output=True,
            text=True,
            check=True,
        )
        .stdout.strip("\0\n ")
        .splitlines()[0]
    )
    library = " ".join(version.replace("Version:", "").split())
    made = Records(
        "mpi",
        "python -m bench.mpi_scaling",
        [known[name] for name in names if name in known],
        environment=describe_environment() | {"mpi": library},
    )
    made.write(RESULTS)
    fill(PAGE, mpi=render(made.records))
    print(render(made.records))


if __name__ == "__main__":
    main()
