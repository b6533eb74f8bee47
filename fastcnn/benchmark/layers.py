"""Single layers, forward and backward, of fastcnn's fast backends and of PyTorch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn import functional as F
from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.functions import Operation
from fastcnn.benchmark.environment import installed
from fastcnn.benchmark.measure import measure
from fastcnn.benchmark.peaks import measured_flops
from fastcnn.benchmark.results import Result, not_timed, result_of
from fastcnn.training.blas import blas_threads

BATCH = 64
#: Largest difference from im2col's results, relative to the largest of them.
TOLERANCE = 1e-4
#: Rows that bring a batch into lanes and results out of them.
OUTSIDE = (L.K_INPUT, L.K_OUTPUT)
Run = Callable[[int], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class LayerCase:
    """One layer on a batch.

    Attributes
    ----------
    operation : str
        A function of :mod:`fastcnn.functional`.
    shape : tuple of int
        Of one sample.
    weight : tuple of int, optional
    arguments : dict
        As the backends take them, after the weight.
    """

    operation: str
    shape: tuple[int, ...]
    weight: tuple[int, ...] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> str:
        """The layer in words."""
        size = " x ".join(map(str, self.shape))
        kernel = f", weight {' x '.join(map(str, self.weight))}" if self.weight else ""
        return f"{self.operation} {size}{kernel}"

    def flops(self, outputs: int) -> int:
        """Floating-point operations of a forward pass by definition; 0 where none are counted."""
        return 2 * int(np.prod(self.weight[1:])) * outputs if self.weight else 0


def _conv(shape: tuple[int, ...], outputs: int, kernel: int, padding: int) -> LayerCase:
    pairs = ((padding, padding), (padding, padding))
    arguments = {"stride": (1, 1), "padding": pairs, "dilation": (1, 1), "groups": 1}
    return LayerCase("conv2d", shape, (outputs, shape[0], kernel, kernel), arguments)


def cases() -> Iterator[LayerCase]:
    """The layers of the benchmark's networks."""
    yield _conv((1, 28, 28), 4, 3, 1)
    yield _conv((4, 14, 14), 8, 3, 1)
    yield _conv((6, 14, 14), 16, 5, 0)
    yield _conv((16, 32, 32), 16, 3, 1)
    yield _conv((32, 32, 32), 32, 3, 1)
    yield _conv((64, 16, 16), 64, 3, 1)
    yield _conv((64, 8, 8), 128, 3, 1)
    yield LayerCase("linear", (392,), (128, 392))
    yield LayerCase("linear", (2048,), (256, 2048))
    pool = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    for shape in ((8, 14, 14), (32, 32, 32)):
        yield LayerCase("max_pool2d", shape, None, pool)
    yield LayerCase("avg_pool2d", (32, 32, 32), None, pool | {"count_include_pad": True})
    for operation in ("relu", "sigmoid", "tanh", "gelu"):
        arguments = {"approximate": "none"} if operation == "gelu" else {}
        yield LayerCase(operation, (32, 16, 16), None, arguments)


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
        of the rate of fused multiply-adds that as many threads reached in this process.
    """
    results: list[Result] = []
    for case in cases() if chosen is None else chosen:
        results += _bench(case, threads, peers, rounds, seconds, pause)
    return results


def _bench(
    case: LayerCase, threads: Sequence[int], peers: bool, rounds: int, seconds: float, pause: float
) -> list[Result]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((BATCH, *case.shape)).astype(np.float32)
    given = []
    if case.weight is not None:
        scale = np.sqrt(np.prod(case.weight[1:]))
        given = [(generator.standard_normal(case.weight) / scale).astype(np.float32)]
    y = _forward(case, x, given, "im2col")
    grad = generator.standard_normal(y.shape).astype(np.float32)
    most = max(threads)
    peak = measured_flops(tuple(threads)) if case.weight else {}
    results: list[Result] = []
    for direction in ("forward", "backward"):
        backward = direction == "backward"
        runs: dict[tuple[str, int], Run] = {
            ("im2col", most): _alone(case, x, given, grad, "im2col", backward, most),
            ("lanes, called alone", most): _alone(case, x, given, grad, "lanes", backward, most),
        }
        expected = runs["im2col", most](1)
        for count in threads:
            runs["lanes", count] = _in_lanes(case, x, given, grad, backward, count)
            if peers and installed("torch"):
                from fastcnn.benchmark.peers.pytorch import layer_run

                for channels_last in (False, True) if len(case.shape) == 3 else (False,):
                    name = "PyTorch channels_last" if channels_last else "PyTorch eager"
                    runs[name, count] = layer_run(
                        case.operation, case.arguments, x, given, grad, backward, channels_last,
                        count,
                    )  # fmt: skip
        apart = {key: _difference(run(1), expected) for key, run in runs.items()}
        right = {key: run for key, run in runs.items() if apart[key] <= TOLERANCE}
        timings = measure(right, rounds=rounds, seconds=seconds, pause=pause)
        peer = [timings[key].median for key in right if key[0].startswith("PyTorch")]
        base = min(peer, default=timings["im2col", most].median)
        flops = case.flops(y.size) * (2 if backward else 1)
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
    return results


def _rate(flops: float, peak: float) -> str:
    return f"{flops / 1e9:.0f} GFLOP/s, {flops / peak:.0%} of peak"


def _difference(got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> float:
    return max(
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
        for a, b in zip(got, expected, strict=True)
    )


def _simple(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as :mod:`fastcnn.functional` takes them: equal padding on both sides."""
    padding = arguments.get("padding")
    if padding and isinstance(padding[0], tuple):
        return arguments | {"padding": tuple(before for before, _ in padding)}
    return arguments


def _forward(case: LayerCase, x: np.ndarray, given: list[np.ndarray], backend: str) -> np.ndarray:
    y: np.ndarray = getattr(F, case.operation)(
        x, *given, **_simple(case.arguments), backend=backend
    )
    return y


def _alone(
    case: LayerCase, x: np.ndarray, given: list[np.ndarray], grad: np.ndarray, backend: str,
    backward: bool, threads: int,
) -> Run:  # fmt: skip
    """The functional call."""
    function = getattr(F, f"{case.operation}_backward")

    def run(times: int) -> tuple[np.ndarray, ...]:
        with blas_threads(threads):
            for _ in range(times):
                if backward:
                    made = function(grad, x, *given, **_simple(case.arguments), backend=backend)
                else:
                    made = _forward(case, x, given, backend)
        return _gradients(made, given)

    return run


def _gradients(made: Any, given: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """An output; or the gradients of the input and the weights, without that of the biases."""
    return made[: 1 + len(given)] if isinstance(made, tuple) else (made,)


def _in_lanes(
    case: LayerCase, x: np.ndarray, given: list[np.ndarray], grad: np.ndarray, backward: bool,
    threads: int,
) -> Run:  # fmt: skip
    """The rows of the engine's program between two layers of a network."""
    elementwise = not case.weight and "pool" not in case.operation
    shape = (int(np.prod(case.shape)),) if elementwise else case.shape
    output = (grad[0].size,) if elementwise else grad.shape[1:]
    parameters = (("weight", case.weight),) if case.weight else ()
    operation = Operation(
        case.operation, shape, output, BATCH, tuple(case.arguments.items()), parameters, backward,
        threads,
    )  # fmt: skip
    engine, program = operation.engine, operation.engine.program
    if given:
        engine.parameters[:] = given[0].ravel()
    order = np.arange(BATCH)
    if backward:
        assert program.output_gradient is not None
        engine.write(program.output_gradient, grad.reshape(BATCH, *output))
    y = np.empty((BATCH, *output), np.float32)
    engine.run(x, order, np.zeros(1), outputs=y.reshape(-1))
    chosen = operation.backward_phases if backward else program.phases
    if backward and not given:
        # Behind a forward pass, whose outputs stand where it left them.
        chosen = program.phases[program.first_backward :]
    inside = [
        [index, index + 1, whole]
        for first, last, whole in chosen
        for index in range(first, last)
        if program.rows[index, L.KERNEL] not in OUTSIDE
    ]
    phases = np.array(_joined(inside), np.int64).reshape(-1, 3)

    def run(times: int) -> tuple[np.ndarray, ...]:
        engine.run(x, np.tile(order, times), np.zeros(times), phases=phases)
        if not backward:
            return (y.reshape(grad.shape),)
        assert program.input_gradient is not None
        grad_x = engine.read(program.input_gradient, BATCH).reshape(x.shape)
        return grad_x, *(engine.gradient.reshape(weight.shape).copy() for weight in given)

    return run


def _joined(rows: list[list[int]]) -> list[list[int]]:
    """Neighbouring rows of one kind as one phase: blocks pass through them without a barrier."""
    phases: list[list[int]] = []
    for first, last, whole in rows:
        if phases and phases[-1][1] == first and phases[-1][2] == whole == 0:
            phases[-1][1] = last
        else:
            phases.append([first, last, whole])
    return phases
