"""Benchmark of single layers, forward and backward, on fastcnn's backends and other libraries."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastcnn.backends.lanes import Unsupported
from fastcnn.benchmark.contest import BASELINE, Compared, Contestant, compete, timed_on_few
from fastcnn.benchmark.layer_cases import (
    BATCH,
    Arrays,
    LayerCase,
    LayerRun,
    convolution,
    relative_difference,
)
from fastcnn.benchmark.layer_runs import alone_run, lanes_run
from fastcnn.benchmark.peer import Peer
from fastcnn.benchmark.pytorch import PEERS
from fastcnn.benchmark.results import Result
from fastcnn.operations import OPERATIONS, elementwise_operations
from fastcnn.timing import PAUSE

#: Largest difference from im2col's results, relative to the largest of these.
TOLERANCE = 1e-4
#: Samples given to the nested loops, and FLOPs per sample up to which they run: about 0.1 s.
REFERENCE_SAMPLES, REFERENCE_FLOPS = 2, 600_000


def cases() -> Iterator[LayerCase]:
    """The layers of the benchmark's networks, and every other kind of layer."""
    yield convolution((1, 28, 28), 4, 3, 1)
    yield convolution((4, 14, 14), 8, 3, 1)
    yield convolution((6, 14, 14), 16, 5, 0)
    yield convolution((16, 32, 32), 16, 3, 1)
    yield convolution((32, 32, 32), 32, 3, 1)
    yield convolution((64, 16, 16), 64, 3, 1)
    yield convolution((64, 8, 8), 128, 3, 1)
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
    algorithms: Sequence[str] = (),
    rounds: int = 5,
    seconds: float = 0.05,
    pause: float = PAUSE,
) -> list[Result]:
    """Time layers on a batch in each contestant's preferred memory layout.

    For ``lanes`` this is the layout between two layers of a network; "lanes, called alone" includes
    packing the batch into lanes and unpacking the result. Those of ``peers`` that are installed are
    included, and ``lanes`` with each of some ``algorithms`` of convolutions.

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
        arrays = case.arrays()
        for direction in case.directions:
            results += compete(
                _contestants(case, arrays, direction == "backward", threads, peers, algorithms),
                scale=1e6 / BATCH,
                flops=case.flops(arrays.y.size) * (2 if direction == "backward" else 1),
                rounds=rounds,
                seconds=seconds,
                pause=pause,
                suite="layer",
                work=f"{case.work}, {direction}",
                batch=BATCH,
                unit="us/sample",
            )
    return results


def _contestants(
    case: LayerCase,
    arrays: Arrays,
    backward: bool,
    threads: Sequence[int],
    peers: Sequence[Peer],
    algorithms: Sequence[str],
) -> Iterator[Contestant]:
    most = max(threads)
    expected = alone_run(case, arrays, BASELINE, backward, most).results()

    def compared(make: Callable[[], LayerRun], is_peer: bool = False) -> Compared:
        try:
            run = make()
        except Unsupported as reason:
            return Compared(None, why=f"not timed: {reason}")
        apart = difference_of(case, arrays, backward, run.results(), expected, is_peer)
        return Compared(apart, run.repeat).within(TOLERANCE)

    def entrant(name: str, count: int, make: Callable[..., LayerRun], *given: Any) -> Contestant:
        return name, count, partial(compared, partial(make, case, arrays, *given, backward, count))

    yield entrant(BASELINE, most, alone_run, BASELINE)
    if case.stands_alone:
        yield entrant("lanes, called alone", most, alone_run, "lanes")
    for count in threads:
        yield entrant("lanes", count, lanes_run)
        for name in algorithms:
            yield entrant(f"lanes, {name}", count, partial(lanes_run, algorithm=name))
    for peer in peers:
        if peer.layer is not None and peer.takes_layer(case, backward) and peer.can_run:
            for count in threads if peer.on_each else (most,):
                make = partial(peer.layer, case, arrays, backward, count)
                yield peer.name, count, partial(compared, make, True)
    if case.flops(arrays.y.size) <= REFERENCE_FLOPS * BATCH:
        yield "reference", 1, partial(_reference, case, arrays, backward)


def _reference(case: LayerCase, arrays: Arrays, backward: bool) -> Compared:
    """The nested loops on few samples, timed once; compared with im2col on the same samples."""
    few = arrays.first(REFERENCE_SAMPLES)
    run, other = (alone_run(case, few, backend, backward, 1) for backend in ("reference", BASELINE))
    made, timing = timed_on_few(run.results, REFERENCE_SAMPLES, BATCH)
    apart = relative_difference(made, other.results())
    return Compared(apart, timing=timing).within(TOLERANCE)


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
