"""Benchmark of single layers, forward and backward, on fastcnn's backends and other libraries."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastcnn.benchmark.layer_cases import BATCH, Arrays, LayerCase, LayerRun, relative_difference
from fastcnn.benchmark.layer_runs import alone_run, lanes_run
from fastcnn.benchmark.peaks import measured_flops
from fastcnn.benchmark.peer import Peer
from fastcnn.benchmark.pytorch import PEERS
from fastcnn.benchmark.results import Result, not_timed, result_of, timed
from fastcnn.operations import OPERATIONS, elementwise_operations
from fastcnn.timing import PAUSE, Timing, measure
from fastcnn.timing import timed as timed_call

log = logging.getLogger("fastcnn.bench")

#: Largest difference from im2col's results, relative to the largest of these.
TOLERANCE = 1e-4
BASELINE = "im2col"
#: Samples given to the nested loops, and FLOPs per sample up to which they run: about 0.1 s.
REFERENCE_SAMPLES, REFERENCE_FLOPS = 2, 600_000


def _conv(shape: tuple[int, ...], outputs: int, kernel: int, padding: int) -> LayerCase:
    pairs = ((padding, padding), (padding, padding))
    arguments = {"stride": (1, 1), "padding": pairs, "dilation": (1, 1), "groups": 1}
    return LayerCase("conv2d", shape, (outputs, shape[0], kernel, kernel), arguments)


def cases() -> Iterator[LayerCase]:
    """The layers of the benchmark's networks, and every other kind of layer."""
    yield _conv((1, 28, 28), 4, 3, 1)
    yield _conv((4, 14, 14), 8, 3, 1)
    yield _conv((6, 14, 14), 16, 5, 0)
    yield _conv((16, 32, 32), 16, 3, 1)
    yield _conv((32, 32, 32), 32, 3, 1)
    yield _conv((64, 16, 16), 64, 3, 1)
    yield _conv((64, 8, 8), 128, 3, 1)
    yield LayerCase(
        "conv_transpose2d",
        (16, 16, 16),
        (16, 8, 4, 4),
        {
            "stride": (2, 2),
            "padding": ((1, 1), (1, 1)),
            "output_padding": (0, 0),
            "dilation": (1, 1),
            "groups": 1,
        },
    )
    yield LayerCase("linear", (392,), (128, 392))
    yield LayerCase("linear", (2048,), (256, 2048))
    for record in OPERATIONS.values():
        for shape, arguments in record.timed:
            yield LayerCase(record.name, shape, None, dict(arguments))
    for record in elementwise_operations():
        yield LayerCase(record.name, (32, 16, 16), None, record.checked(record.name, {}))


def bench_layers(
    *,
    threads: Sequence[int],
    peers: Sequence[Peer] = PEERS,
    chosen: Sequence[LayerCase] | None = None,
    rounds: int = 5,
    seconds: float = 0.05,
    pause: float = PAUSE,
) -> list[Result]:
    """Time layers on a batch in each contestant's preferred memory layout.

    For ``lanes`` this is the layout between two layers of a network; "lanes, called alone" includes
    packing the batch into lanes and unpacking the result. Those of ``peers`` that are installed are
    included.

    Returns
    -------
    list of Result
        In microseconds per sample; the ratio is to the best of PyTorch, or without it to im2col.
        The note of a layer with weights has its rate, of operations by definition, and its share of
        the multiply-add rate measured in this process on as many threads. The nested loops are
        included for small layers, on few samples.
    """
    results: list[Result] = []
    for case in cases() if chosen is None else chosen:
        results += _bench(case, threads, peers, rounds, seconds, pause)
    return results


def _bench(
    case: LayerCase,
    threads: Sequence[int],
    peers: Sequence[Peer],
    rounds: int,
    seconds: float,
    pause: float,
) -> list[Result]:
    arrays = case.arrays()
    most = max(threads)
    peak = measured_flops(tuple(threads)) if case.weight else {}
    results: list[Result] = []
    for direction in case.directions:
        backward = direction == "backward"
        names: dict[str, Any] = {
            "suite": "layer",
            "work": f"{case.work}, {direction}",
            "batch": BATCH,
            "unit": "us/sample",
        }
        expected = alone_run(case, arrays, BASELINE, backward, most).results()
        runs: dict[tuple[str, int], LayerRun] = {}
        apart: dict[tuple[str, int], float] = {}
        refused: list[Result] = []
        for name, count, make in _contestants(case, arrays, backward, threads, peers):
            try:
                run = make()
                made = run.results()
            except Exception as error:  # a peer's failure is a result, not the benchmark's end
                note = f"failed: {' '.join(str(error).split())[:80]}"
                log.warning("%s: %s", name, error)
                refused.append(not_timed(note, contestant=name, threads=count, **names))
                continue
            is_peer = name in {peer.name for peer in peers}
            difference = difference_of(case, arrays, backward, made, expected, is_peer)
            if not difference <= TOLERANCE:
                note = f"not timed: differs by {difference:.1e}"
                refused.append(not_timed(note, contestant=name, threads=count, **names))
                continue
            runs[name, count], apart[name, count] = run, difference
        timings = measure(
            {key: run.repeat for key, run in runs.items()},
            rounds=rounds,
            seconds=seconds,
            pause=pause,
        )
        peer = [timing.median for key, timing in timings.items() if key[0].startswith("PyTorch")]
        base = min(peer, default=timings[BASELINE, most].median)
        flops = case.flops(arrays.y.size) * (2 if backward else 1)
        results += timed(timings, apart, base, 1e6 / BATCH, flops=flops, peak=peak, **names)
        results += refused
        if case.flops(arrays.y.size) <= REFERENCE_FLOPS * BATCH:
            results.append(_reference(case, arrays, backward, base * 1e6 / BATCH, names))
    return results


def _contestants(
    case: LayerCase, arrays: Arrays, backward: bool, threads: Sequence[int], peers: Sequence[Peer]
) -> Iterator[tuple[str, int, Callable[[], LayerRun]]]:
    """Name, threads and maker of each contestant."""
    most = max(threads)
    yield BASELINE, most, partial(alone_run, case, arrays, BASELINE, backward, most)
    if case.stands_alone:
        alone = partial(alone_run, case, arrays, "lanes", backward, most)
        yield "lanes, called alone", most, alone
    for count in threads:
        yield "lanes", count, partial(lanes_run, case, arrays, backward, count)
    for peer in peers:
        if peer.layer is not None and peer.takes_layer(case, backward) and peer.can_run:
            for count in threads if peer.on_each else (most,):
                yield peer.name, count, partial(peer.layer, case, arrays, backward, count)


def _reference(
    case: LayerCase, arrays: Arrays, backward: bool, base: float, names: dict[str, Any]
) -> Result:
    """The nested loops on few samples, run once; compared with im2col on the same samples."""
    few = arrays.first(REFERENCE_SAMPLES)
    run, other = (alone_run(case, few, backend, backward, 1) for backend in ("reference", "im2col"))
    made, seconds = timed_call(run.results)
    timing = Timing([seconds])
    apart = relative_difference(made, other.results())
    names = names | {"contestant": "reference", "threads": 1}
    if not apart <= TOLERANCE:
        return not_timed(f"not timed: differs by {apart:.1e}", **names)
    per_sample = 1e6 / REFERENCE_SAMPLES
    return result_of(
        timing, per_sample, ratio=base / (timing.median * per_sample), difference=apart, **names
    )


def difference_of(
    case: LayerCase,
    arrays: Arrays,
    backward: bool,
    made: tuple[np.ndarray, ...],
    expected: tuple[np.ndarray, ...],
    own_mask: bool,
) -> float:
    """Largest difference from the expected results, relative to the largest of them.

    If a layer drew another mask than the baseline, only the elements that it keeps are compared.
    """
    if case.is_random and own_mask:
        kept = (arrays.grad if backward else arrays.x) / (1.0 - case.arguments["p"])
        expected = (np.where(made[0] == 0.0, 0.0, kept),)
    return relative_difference(made, expected)
