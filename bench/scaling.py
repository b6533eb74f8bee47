"""How the cost of a step grows along batch size, threads, image size, channels and depth.

For each axis a training step is timed and its cost is divided by the work, so that the curve should
be flat or fall; a point that rises, also in two further measurements, is flagged and explained by
what changed in the program's shape. Memory is the maximum allocated at any time for the engine and
one step.
"""

import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from bench.scaling_causes import Case, OtherPrograms, explain
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ConfigurationError
from fastcnn.execution import Executor, make_executor
from fastcnn.layers import Conv2d, Flatten, Layer, Linear, MaxPool2d, Model, ReLU, Sequential
from fastcnn.losses import CrossEntropyLoss
from fastcnn.models import report_cnn, vgg_small
from fastcnn.optim import SGD
from fastcnn.text_table import text_table
from fastcnn.timing import measure

#: Maximum relative cost above the lowest previous one that does not count as rising.
TOLERANCE = 0.1
#: Number of further measurements of a rising point.
AGAIN = 2
#: Steps after which an executor has chosen the number of threads for the network.
SETTLED = 128


@dataclass(frozen=True)
class Axis:
    """A quantity that is varied.

    Attributes
    ----------
    unit : str
        The unit of the cost: a sample, or a sample and a number of operations.
    values, quick : tuple of int
        All values, and those of a quick run.
    """

    name: str
    title: str
    unit: str
    values: tuple[int, ...]
    quick: tuple[int, ...]
    case: Callable[[int], Case]


@dataclass(frozen=True)
class ScalingPoint:
    """One measured point.

    Attributes
    ----------
    seconds : float
        Duration of one training step: median over the rounds.
    low, high : float
        First and last decile.
    per_sample : float
        Seconds per sample.
    cost : float
        ``per_sample`` per unit of the axis's work; for threads, times their number.
    memory : int
        Maximum bytes allocated at any time for engine and step, beyond the data.
    flagged : bool
        Whether the cost exceeds the lowest previous one by more than the tolerance.
    explanation : str
        For a flagged point, what changed in the program's shape.
    """

    value: int
    seconds: float
    low: float
    high: float
    per_sample: float
    cost: float
    memory: int
    flagged: bool = False
    explanation: str = ""


@dataclass
class ScalingResult:
    """All points of one axis."""

    axis: str
    title: str
    unit: str
    backend: str
    points: list[ScalingPoint] = field(default_factory=list)

    def table(self) -> str:
        """The points as text, with the explanations below."""
        lines = [
            (
                f"{point.value:,}",
                f"{1e6 * point.seconds:,.1f}",
                f"{5e5 * (point.high - point.low):,.1f}",
                f"{1e6 * point.per_sample:,.2f}",
                f"{1e9 * point.cost:,.3f}",
                f"{point.memory / 2**20:,.2f}",
                "RISES" if point.flagged else "",
            )
            for point in self.points
        ]
        header = (self.axis, "us a step", "+-", "us a sample", f"ns a {self.unit}", "MiB", "")
        notes = [
            f"{self.axis} {point.value}: {point.explanation}"
            for point in self.points
            if point.flagged
        ]
        return "\n".join(
            [f"{self.title} ({self.backend})", text_table(header, lines, left=0), *notes]
        )

    def as_records(self) -> list[dict[str, Any]]:
        """One record per point, including its axis."""
        axis = {"axis": self.axis, "title": self.title, "unit": self.unit, "backend": self.backend}
        return [axis | asdict(point) for point in self.points]


def results_of(records: Iterable[dict[str, Any]]) -> list[ScalingResult]:
    """The results whose points were written as records, in order."""
    found: dict[tuple[str, str], ScalingResult] = {}
    for record in records:
        axis = [record[key] for key in ("axis", "title", "unit", "backend")]
        result = found.setdefault((axis[0], axis[3]), ScalingResult(*axis))
        names = [item.name for item in fields(ScalingPoint)]
        result.points.append(ScalingPoint(**{name: record[name] for name in names}))
    return list(found.values())


def _small_network(channels: int, size: int, depth: int) -> Sequential:
    """``depth`` 3x3 convolutions of some channels on a square image, one pooling, 10 classes."""
    layers: list[Layer] = []
    for index in range(depth):
        layers += [Conv2d(channels if index else 3, channels, 3, padding=1, seed=index), ReLU()]
    layers += [MaxPool2d(2), Flatten(), Linear(channels * (size // 2) ** 2, 10, seed=depth)]
    return Sequential(*layers, input_shape=(3, size, size))


def _by_flops(model: Model, batch: int = 32) -> Case:
    """A case whose cost is per thousand FLOPs of the forward pass."""
    assert model.input_shape is not None
    return Case(model, batch, work=model.flops(model.input_shape) / 1e3)


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4 and so on, and the number of cores itself."""
    powers = [1 << k for k in range(cores.bit_length()) if 1 << k <= cores]
    return tuple(sorted({*powers, cores}))


def axes(cores: int) -> dict[str, Axis]:
    """All axes by name, for a machine with this many cores."""
    threads = thread_counts(cores)
    powers = tuple(1 << k for k in range(11))
    return {
        axis.name: axis
        for axis in (
            Axis(
                "batch",
                "Batch size, the report's network",
                "sample",
                powers,
                (1, 16, 64, 256),
                lambda n: Case(report_cnn(seed=0), n),
            ),
            Axis(
                "threads",
                "Threads, the report's network at batch 64",
                "sample and thread",
                threads,
                threads,
                lambda n: Case(report_cnn(seed=0), 64, 1 / n, n),
            ),
            Axis(
                "threads-vgg",
                "Threads, vgg_small at batch 64",
                "sample and thread",
                threads,
                threads,
                lambda n: Case(vgg_small(seed=0), 64, 1 / n, n),
            ),
            Axis(
                "image-size",
                "Image size, three convolutions of 16 channels, batch 32",
                "sample and pixel",
                (8, 16, 32, 64, 128),
                (8, 32),
                lambda n: Case(_small_network(16, n, 3), 32, n * n),
            ),
            Axis(
                "channels",
                "Channels, three convolutions at 16x16, batch 32",
                "sample and kFLOP",
                (4, 8, 16, 32, 64, 128, 256),
                (4, 32),
                lambda n: _by_flops(_small_network(n, 16, 3)),
            ),
            Axis(
                "depth",
                "Depth, convolutions of 32 channels at 16x16, batch 32",
                "sample and kFLOP",
                (1, 2, 4, 8, 16),
                (1, 4),
                lambda n: _by_flops(_small_network(32, 16, n)),
            ),
        )
    }


def scale(
    axis: Axis,
    *,
    backend: str = "lanes",
    values: Iterable[int] | None = None,
    rounds: int = 7,
    seconds: float = 0.03,
) -> ScalingResult:
    """Measure training steps (SGD with momentum) along an axis, in interleaved rounds.

    Parameters
    ----------
    values : iterable of int, optional
        By default all of the axis.
    seconds : float
        Minimum duration of one measurement; at least one step.

    Raises
    ------
    ConfigurationError
        If a value is not positive.
    """
    chosen = tuple(axis.values if values is None else values)
    if not chosen or min(chosen) < 1:
        raise ConfigurationError(f"{axis.name}: values must be positive, got {chosen}")
    cases = [axis.case(value) for value in chosen]
    _Trial(cases[0], backend)  # modules and kernels that it loads are not part of a case's cost
    trials = [_Trial(case, backend) for case in cases]
    for trial in trials:
        trial.settle()
    runs = {value: trial.run for value, trial in zip(chosen, trials, strict=True)}
    others = OtherPrograms()
    timings = measure(runs, rounds=rounds, seconds=seconds, pause=0.0)

    def points() -> list[ScalingPoint]:
        found = []
        for case, trial, (value, timing) in zip(cases, trials, timings.items(), strict=True):
            sample = timing.median / case.batch
            found.append(
                ScalingPoint(
                    value,
                    timing.median,
                    timing.low,
                    timing.high,
                    sample,
                    sample / case.work,
                    trial.memory,
                )
            )
        return _flag(found, cases, backend, others.cores())

    # Rising points are measured again: interference makes a point slower, never faster.
    for _ in range(AGAIN):
        rising = {point.value: runs[point.value] for point in points() if point.flagged}
        for value, again in measure(rising, rounds=rounds, seconds=seconds, pause=0.0).items():
            timings[value] = min(timings[value], again, key=lambda timing: timing.median)
    return ScalingResult(axis.name, axis.title, axis.unit, backend, points())


class _Trial:
    """One case with its executor and synthetic images; a learning rate of 0 keeps the weights."""

    def __init__(self, case: Case, backend: str) -> None:
        graph = case.model.graph()
        generator = np.random.default_rng(0)
        self._case = case
        count = case.batch * max(1, 256 // case.batch)
        images = generator.integers(0, 256, (count, *graph.input_shape)).astype(np.uint8)
        self._samples = ArrayDataset(images, generator.integers(0, graph.output_shape[0], count))
        self._executor: Executor | None = None
        tracemalloc.start()
        try:
            self._executor = make_executor(
                case.model,
                loss=CrossEntropyLoss(),
                optimizer=SGD(lr=0.0, momentum=0.9),
                backend=backend,
                batch_size=case.batch,
                threads=case.threads,
            )
            self.run(1)
            self.memory = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def settle(self) -> None:
        """Run until the executor has chosen the number of threads for the network."""
        began = time.perf_counter()
        self.run(1)
        if (time.perf_counter() - began) * SETTLED < 1.0:
            self.run(SETTLED)

    def run(self, steps: int) -> None:
        """Run some training steps in one call."""
        assert self._executor is not None
        order = np.resize(np.arange(len(self._samples)), steps * self._case.batch)
        self._executor.train_steps(self._samples, order, np.zeros(steps))


def _flag(
    points: list[ScalingPoint], cases: list[Case], backend: str, others: float
) -> list[ScalingPoint]:
    """Flag rising points, with the changes since the lowest previous one."""
    flagged = []
    best = 0
    for index, point in enumerate(points):
        least = point.cost * point.low / point.seconds
        rises = least > (1 + TOLERANCE) * points[best].cost
        text = explain(cases[index], cases[best], backend, others) if rises else ""
        flagged.append(replace(point, flagged=rises, explanation=text))
        if point.cost < points[best].cost:
            best = index
    return flagged
