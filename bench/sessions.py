"""Inference sessions next to ONNX Runtime's, in turns: ``python -m bench.sessions``.

Each call is a complete call from Python. Contestants take turns of some milliseconds, and the
shortest call of each counts: that of an otherwise idle machine. ONNX Runtime's threads spin for
some milliseconds after a call, during which no other thread gets their core: a turn begins when no
thread of the process is running any more, and then with untimed calls. On more than one thread ONNX
Runtime is measured twice, with spinning and with sleeping threads, and the better one counts. On
one thread the thread's own CPU time is measured. Outputs are compared before anything is timed.

``--callers 8`` measures something else: calls per second of one session from eight concurrent
Python threads, next to those from one thread.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import fastcnn
from bench import callers as at_once
from bench.networks.tasks import network_of
from bench.shortest import shortest
from fastcnn.backends.lanes import default_threads
from fastcnn.benchmark.inference import onnx_session
from fastcnn.benchmark.records import Records, this_command
from fastcnn.benchmark.work import NETWORKS
from fastcnn.text_table import text_table

BATCHES = (1, 8, 64, 256)
#: Networks of other kinds; larger batches take seconds.
OTHERS = ("strided", "depthwise", "time_series", "resnet18")
FEW_BATCHES = (1, 8, 64)
#: Default seconds of calls for each figure.
SECONDS = 2.0
TOLERANCE = 1e-4
#: Whether ONNX Runtime's threads spin after a call, by its name in the table.
SPINNING = {
    name: {"session.intra_op.allow_spinning": value}
    for name, value in (("spins", "1"), ("sleeps", "0"))
}


def main(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Of the benchmark, the zoo or bench.networks; may be repeated."),
    ] = None,
    batch_size: Annotated[list[int] | None, typer.Option(min=1, help="May be repeated.")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="May be repeated.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help=f"Time for each figure; by default {SECONDS:g} s.")
    ] = None,
    callers: Annotated[
        int | None, typer.Option(min=2, help="Measure this many Python threads next to one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results of --callers.")] = None,
) -> None:
    """Print microseconds per call, and the ratio of ONNX Runtime's time to a session's."""
    if callers is None and out is not None:
        raise typer.BadParameter("--out goes with --callers")
    if callers is not None:
        if seconds is not None:
            raise typer.BadParameter("--seconds has no effect with --callers")
        if len(threads or ()) > 1:
            raise typer.BadParameter("--callers takes one --threads")
        (count,) = threads or [default_threads()]
        records = at_once.measure(model or (), batch_size or (), count, callers)
        if out is not None:
            Records(at_once.NAME, this_command("python -m bench.sessions"), records).write(out)
        return
    rows, lasts = [], SECONDS if seconds is None else seconds
    for name in model or (*NETWORKS, *OTHERS):
        network = network_of(name)
        assert network.input_shape is not None
        generator = np.random.default_rng(0)
        for count in threads or (1, 2):
            session = fastcnn.session(network, threads=count)
            waits = list(SPINNING) if count > 1 else ["spins"]
            others = [onnx_session(network, count, SPINNING[waiting]) for waiting in waits]
            for batch in batch_size or (BATCHES if name in NETWORKS else FEW_BATCHES):
                x = generator.standard_normal((batch, *network.input_shape)).astype(np.float32)
                found, expected = session.logits(x), others[0](x)
                apart = np.abs(found - expected).max() / np.abs(expected).max()
                assert apart < TOLERANCE, f"{name}: outputs differ by {apart:.1e}"
                runs = [partial(run, x) for run in (*others, session.logits)]
                *all_theirs, ours = (1e6 * value for value in shortest(runs, lasts, count))
                theirs = min(all_theirs)
                waiting = waits[all_theirs.index(theirs)] if count > 1 else ""
                cells = (f"{count}", f"{batch}", f"{theirs:.1f}", waiting, f"{ours:.1f}")
                rows.append((name, *cells, f"{theirs / ours:.2f}"))
                print(*rows[-1], flush=True)
    header = ("network", "threads", "batch", "ONNX Runtime us", "", "fastcnn us", "ratio")
    print("\n" + text_table(header, rows, left=1))


if __name__ == "__main__":
    typer.run(main)
