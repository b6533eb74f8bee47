"""Single layers, forward and backward, of fastcnn's backends and of PyTorch."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastcnn.benchmark.environment import installed
from fastcnn.benchmark.layer_cases import BATCH, Arrays, LayerCase
from fastcnn.benchmark.layer_runs import Run, alone_run, lanes_run
from fastcnn.benchmark.measure import measure
from fastcnn.benchmark.peaks import measured_flops
from fastcnn.benchmark.results import Result, not_timed, result_of

#: Largest difference from im2col's results, relative to the largest of them.
TOLERANCE = 1e-4
#: Samples that the nested loops take, and FLOPs of one up to which they take part: some 0.1 s.
REFERENCE_SAMPLES, REFERENCE_FLOPS = 2, 600_000


def _conv(shape: tuple[int, ...], outputs: int, kernel: int, padding: int) -> LayerCase:
    pairs = ((padding, padding), (padding, padding))
    arguments = {"stride": (1, 1), "padding": pairs, "dilation": (1, 1), "groups": 1}
    return LayerCase("conv2d", shape, (outputs, shape[0], kernel, kernel), arguments)


def cases() -> Iterator[LayerCase]:
    """The layers of the benchmark's networks, and every other kind that there is."""
    yield _conv((1, 28, 28), 4, 3, 1)
    yield _conv((4, 14, 14), 8, 3, 1)
    yield _conv((6, 14, 14), 16, 5, 0)
    yield _conv((16, 32, 32), 16, 3, 1)
    yield _conv((32, 32, 32), 32, 3, 1)
    yield _conv((64, 16, 16), 64, 3, 1)
    yield _conv((64, 8, 8), 128, 3, 1)
    yield LayerCase(
        "conv_transpose2d", (16, 16, 16), (16, 8, 4, 4),
        {"stride": (2, 2), "padding": ((1, 1), (1, 1)), "output_padding": (0, 0),
         "dilation": (1, 1), "groups": 1},
    )  # fmt: skip
    yield LayerCase("linear", (392,), (128, 392))
    yield LayerCase("linear", (2048,), (256, 2048))
    pool = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    for shape in ((8, 14, 14), (32, 32, 32)):
        yield LayerCase("max_pool2d", shape, None, pool)
    yield LayerCase("avg_pool2d", (32, 32, 32), None, pool | {"count_include_pad": True})
    for size, output in ((32, (4, 4)), (8, (1, 1))):
        yield LayerCase("adaptive_avg_pool2d", (64, size, size), None, {"output_size": output})
    yield LayerCase("batch_norm", (16, 32, 32), None, {"eps": 1e-5})
    yield LayerCase("batch_norm", (256,), None, {"eps": 1e-5})
    own: dict[str, dict[str, Any]] = {
        "leaky_relu": {"negative_slope": 0.01},
        "elu": {"alpha": 1.0},
        "gelu": {"approximate": "none"},
        "softplus": {"beta": 1.0, "threshold": 20.0},
        "dropout": {"p": 0.5},
        "dropout2d": {"p": 0.25},
    }
    for operation in ("relu", "leaky_relu", "sigmoid", "tanh", "elu", "gelu", "silu", "softplus",
                      "dropout", "dropout2d", "add"):  # fmt: skip
        yield LayerCase(operation, (32, 16, 16), None, own.get(operation, {}))


def bench_layers(
    *,
    threads: Sequence[int],
    peers: bool = True,
    chosen: Sequence[LayerCase] | None = None,
    rounds: int = 5,
    seconds: float = 0.05,
    pause: float = 0.1,
) -> list[Result]:
    """Time layers on a batch that lies in memory as each contestant likes it.

    For ``lanes`` that is in lanes, as it lies between two layers of a network; "lanes, called
    alone" brings the batch into lanes and the result out of them.

    Returns
    -------
    list of Result
        In microseconds a sample; the ratio is to the best of PyTorch, or without it to im2col.
        The note of a layer with weights has its rate, of operations by definition, and its share
        of the rate of fused multiply-adds that as many threads reached in this process. The nested
        loops take part in small layers, on few samples.
    """
    results: list[Result] = []
    for case in cases() if chosen is None else chosen:
        results += _bench(case, threads, peers, rounds, seconds, pause)
    return results


def _bench(
    case: LayerCase, threads: Sequence[int], peers: bool, rounds: int, seconds: float, pause: float
) -> list[Result]:
    arrays = case.arrays()
    most = max(threads)
    peak = measured_flops(tuple(threads)) if case.weight else {}
    results: list[Result] = []
    for direction in case.directions:
        backward = direction == "backward"
        runs: dict[tuple[str, int], Run] = {
            ("im2col", most): alone_run(case, arrays, "im2col", backward, most)
        }
        if case.stands_alone:
            runs["lanes, called alone", most] = alone_run(case, arrays, "lanes", backward, most)
        expected = runs["im2col", most](1)
        for count in threads:
            runs["lanes", count] = lanes_run(case, arrays, backward, count)
            if peers and installed("torch"):
                from fastcnn.benchmark.peers.pytorch import layer_run

                for channels_last in (False, True) if len(case.shape) == 3 else (False,):
                    name = "PyTorch channels_last" if channels_last else "PyTorch eager"
                    runs[name, count] = layer_run(case, arrays, backward, channels_last, count)
        apart = {}
        for key, run in runs.items():
            made, wanted = run(1), expected
            if case.is_random and key[0].startswith("PyTorch"):
                # Its mask is another one: what it keeps must have the right value.
                kept = (arrays.grad if backward else arrays.x) / (1.0 - case.arguments["p"])
                wanted = (np.where(made[0] == 0.0, 0.0, kept),)
            apart[key] = _difference(made, wanted)
        right = {key: run for key, run in runs.items() if apart[key] <= TOLERANCE}
        timings = measure(right, rounds=rounds, seconds=seconds, pause=pause)
        peer = [timings[key].median for key in right if key[0].startswith("PyTorch")]
        base = min(peer, default=timings["im2col", most].median)
        flops = case.flops(arrays.y.size) * (2 if backward else 1)
        for key in runs:
            names = {"suite": "layer", "work": f"{case.work}, {direction}", "contestant": key[0],
                     "threads": key[1], "batch": BATCH, "unit": "us/sample"}  # fmt: skip
            if key not in right:
                results.append(not_timed(f"not timed: differs by {apart[key]:.1e}", **names))
                continue
            timing = timings[key]
            rate = _rate(flops / timing.median, peak[key[1]]) if flops else ""
            results.append(result_of(timing, 1e6 / BATCH, ratio=base / timing.median,
                                     difference=apart[key], note=rate, **names))  # fmt: skip
        if case.flops(arrays.y.size) <= REFERENCE_FLOPS * BATCH:
            results.append(_reference(case, arrays, direction, base * 1e6 / BATCH))
    return results


def _reference(case: LayerCase, arrays: Arrays, direction: str, base: float) -> Result:
    """The nested loops on few samples, once; compared with im2col on the same."""
    few = arrays.first(REFERENCE_SAMPLES)
    run, other = (
        alone_run(case, few, backend, direction == "backward", 1)
        for backend in ("reference", "im2col")
    )
    apart = _difference(run(1), other(1))
    names = {"suite": "layer", "work": f"{case.work}, {direction}", "contestant": "reference",
             "threads": 1, "batch": BATCH, "unit": "us/sample"}  # fmt: skip
    if not apart <= TOLERANCE:
        return not_timed(f"not timed: differs by {apart:.1e}", **names)
    timing = measure({"reference": run}, rounds=1, seconds=1e-9, pause=0.0)["reference"]
    per_sample = 1e6 / REFERENCE_SAMPLES
    return result_of(timing, per_sample, ratio=base / (timing.median * per_sample),
                     difference=apart, **names)  # fmt: skip


def _rate(flops: float, peak: float) -> str:
    return f"{flops / 1e9:.0f} GFLOP/s, {flops / peak:.0%} of peak"


def _difference(got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> float:
    return max(
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
        for a, b in zip(got, expected, strict=True)
    )
