"""Calls per second to one session, from several concurrent Python threads and from one.

Part of ``python -m bench.sessions``; docs/inference.md has what it measured.
"""

import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from bench.markdown import command, number, table
from bench.networks.tasks import network_of
from fastcnn.benchmark.records import Records
from fastcnn.benchmark.work import NETWORKS
from fastcnn.execution.session import InferenceSession
from fastcnn.timing import in_turns, rest

NAME = "callers"
BATCHES = (1, 8, 64)
#: Turns of each, seconds of a turn, and seconds before it in which the callers start.
ROUNDS, TURN, WARM = 4, 0.4, 0.1
#: Maximum seconds that threads of the previous turn may keep running.
PAUSE = 0.5


def rate(session: InferenceSession, x: np.ndarray, callers: int) -> tuple[float, float]:
    """Calls per second of all callers together, and the ratio of the slowest to the fastest."""
    rest(PAUSE)
    expected, calls = session.logits(x), np.zeros(callers, np.int64)
    ready, over = threading.Barrier(callers + 1), threading.Event()
    right = [True] * callers

    def call(caller: int) -> None:
        found, made = expected, 0
        ready.wait()
        while not over.is_set():
            found = session.logits(x)
            made += 1
            calls[caller] = made
        right[caller] = np.array_equal(found, expected)

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    ready.wait()
    counted = []
    for seconds in (WARM, TURN):
        done = calls.sum()
        time.sleep(seconds)
        while calls.sum() == done and any(thread.is_alive() for thread in threads):
            time.sleep(seconds / 10)  # a call may take longer than a turn
        counted.append((time.perf_counter(), calls.copy()))
    over.set()
    for thread in threads:
        thread.join()
    assert all(right), "concurrent callers get other results than a single one"
    (began, before), (ended, after) = counted
    made = after - before
    return made.sum() / (ended - began), made.min() / max(made.max(), 1)


def measure(names: Sequence[str], batches: Sequence[int], threads: int, callers: int) -> list[Any]:
    """A record of each network and batch; one and several callers take turns, the best counts."""
    records: list[dict[str, Any]] = []
    for name in names or NETWORKS:
        session = fastcnn.session(network_of(name), threads=threads)
        assert session.input_shape is not None
        for batch in batches or BATCHES:
            x = np.random.default_rng(0).standard_normal((batch, *session.input_shape))
            calls = {n: partial(rate, session, x.astype(np.float32), n) for n in (1, callers)}
            found = in_turns(calls, ROUNDS)
            alone, together = (max(each for each, _ in turns) for turns in found.values())
            fewest = float(np.median([share for _, share in found[callers]]))
            place = {"network": name, "batch": batch, "threads": threads, "callers": callers}
            rates = {"alone": float(alone), "together": float(together), "fewest": fewest}
            records.append(place | rates)
            print(*place.values(), *map(number, rates.values()), number(together / alone))
    return records


def render_callers(folder: Path) -> str:
    """The table of calls per second for docs/inference.md; empty if there are no results."""
    path = folder / f"{NAME}.json"
    if not path.is_file():
        return ""
    found = Records.read(path)
    first = found.records[0]
    header = ("network", "batch", "one caller", f"{first['callers']} callers", "ratio")
    rows = [
        (
            row["network"],
            str(row["batch"]),
            *(number(row[key]) for key in ("alone", "together")),
            f"{row['together'] / row['alone']:.2f}",
        )
        for row in found.records
    ]
    return "\n".join(
        (
            f"Calls per second to one session on {first['threads']} threads, from one Python "
            f"thread and from {first['callers']} concurrently:",
            "",
            table(header, rows, left=1),
            "",
            command(found.command),
        )
    )
