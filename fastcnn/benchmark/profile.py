"""Where a training step's time goes: each row of the engine's program against the machine's roofs.

Nothing is measured inside the hot loop; programs made of some of the rows are timed. *Alone*, a row
is run repeatedly: its data are where it left them, which shows the kernel's own speed. *In the
step*, its time is that of the program up to and including it, minus that of the program before it:
this includes fetching what other rows and other cores wrote. Rows over blocks keep their
depth-first order there, so these times add up to the whole step. A difference of two times is less
exact than either: the measured times are replaced by the nearest ones that never decrease from row
to row (isotonic regression; Barlow, Bartholomew, Bremner and Brunk, 1972), and the largest
correction is reported. The update is a separate row here, after all gradients; in training the
update of a fully connected layer's weights is fused with their gradient.
"""

import copy
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastcnn.backends.lanes import Batches, Cost, Program, Unsupported
from fastcnn.benchmark.measure import Timing, measure
from fastcnn.benchmark.peaks import Peaks, measure_peaks
from fastcnn.benchmark.records import Records
from fastcnn.errors import ConfigurationError
from fastcnn.execution import plan
from fastcnn.execution.assigned import Assigned
from fastcnn.execution.engine_arguments import engine_update, loss_key
from fastcnn.execution.engines import make_engine
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD
from fastcnn.text_table import text_table

#: Batches of images that are gathered in turn, so that they are not always in the cache.
POOL = 16
#: Samples of one call of the engine.
LONGEST_ORDER = 1 << 21
PARTS = ("forward", "backward", "update")
MOMENTUM = 0.9
#: Sum of the rows alone over the whole step above which other processes must have interfered; quiet
#: machines gave 0.6 to 1.1.
DISTURBED = 1.5
#: Tolerance of shares outside 0..1 due to noise: of the peak, and of the step, where a share is the
#: difference of two times (quiet machines gave down to -0.04).
PEAK_NOISE, STEP_NOISE = 0.02, 0.06
BUSY = "these times contradict each other: the machine is busy; measure again when it is quiet"


#: Width of names in a table; with the numbers it has 80 columns.
NAME_COLUMNS = 43


@dataclass(frozen=True)
class ProfiledRow:
    """One row of a program: its work, and how fast it was.

    Attributes
    ----------
    part : str
        forward (with the loss), backward or update.
    phase : int
        From 1; the update has none, 0.
    whole : bool
        Whether the row processes the whole batch, instead of block after block.
    seconds : float
        Time of the row alone for one batch: median over the rounds.
    low, high : float
        First and last decile.
    in_step : float
        Seconds by which the row makes the step longer, 0 if that cannot be measured.
    flops, read, written : int
        For one batch, see :class:`fastcnn.backends.lanes.Cost`.
    """

    name: str
    kernel: str
    sizes: str
    part: str
    phase: int
    whole: bool
    seconds: float
    low: float
    high: float
    in_step: float
    flops: int
    read: int
    written: int

    @property
    def rate(self) -> float:
        """FLOP/s of the row alone."""
        return self.flops / self.seconds

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.read + self.written

    @property
    def bandwidth(self) -> float:
        """Bytes per second of the row alone."""
        return self.bytes / self.seconds

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass
class Profile:
    """A profiled training step.

    Attributes
    ----------
    step : float
        Median seconds of the whole step.
    memory : int
        Bytes of the engine's arena, rows and tables.
    uncertainty : float
        Seconds by which ``in_step`` of a row, or of several adjacent rows, may be wrong: the
        largest correction of a measured time.
    """

    model: str
    batch: int
    threads: int
    parameters: int
    memory: int
    step: float
    rows: list[ProfiledRow]
    peaks: Peaks
    uncertainty: float = 0.0

    def total(self, part: str | None = None) -> float:
        """Sum of the rows' seconds alone, of one part or of all."""
        return sum(row.seconds for row in self._rows(part))

    @property
    def flops(self) -> int:
        """FLOPs of one step."""
        return sum(row.flops for row in self.rows)

    @property
    def is_disturbed(self) -> bool:
        """Whether a share is impossible, or the rows alone take far longer than the step."""
        shares = [share for row in self.rows for share in (self.of_step(row), self.of_peak(row))]
        disturbed = self.uncertainty > STEP_NOISE * self.step
        return disturbed or None in shares or self.total() > DISTURBED * self.step

    def of_step(self, *rows: ProfiledRow) -> float | None:
        """Share of the step that some rows take; None if interference made it impossible."""
        return _possible(sum(row.in_step for row in rows) / self.step, STEP_NOISE)

    def of_peak(self, *rows: ProfiledRow) -> float | None:
        """Share of the peak that some rows alone reach; None if it is impossible."""
        seconds = sum(row.seconds for row in rows)
        return _possible(sum(row.flops for row in rows) / seconds / self.peaks.flops, PEAK_NOISE)

    def table(self) -> str:
        """Times of all rows and their shares as text, 80 columns wide, with a summary.

        Sizes, rates and spreads are in :meth:`as_records`.
        """
        header = ("row", "us", "share", "us alone", "of peak")
        lines = []
        for row in self.rows:
            name, *more = textwrap.wrap(row.name, NAME_COLUMNS, subsequent_indent="  ")
            lines += [(name, *self._line(row)), *((rest, "", "", "", "") for rest in more)]
        lines += [(f"all of {part}", *self._line(*self._rows(part))) for part in PARTS]
        footer = ("sum", *self._line(*self.rows))
        return f"{text_table(header, lines, left=1, footer=footer)}\n\n{self.summary()}"

    def summary(self) -> str:
        """Whole step, sum of the rows and peaks, as sentences."""
        peaks = self.peaks
        rate = self.flops / self.step
        bandwidth = ", ".join(f"{level} {v / 1e9:.0f}" for level, v in peaks.bandwidth.items())
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        of_peak = _possible(rate / peaks.flops, PEAK_NOISE)
        share = "" if of_peak is None else f", {100 * of_peak:.0f} % of the peak"
        sentences = [
            f"{self.model}, batch {self.batch}, {threads}; whole step: {1e6 * self.step:,.1f} us, "
            f"{1e6 * self.step / self.batch:.2f} us a sample, {rate / 1e9:.1f} GFLOP/s{share}",
            f"rows alone: {1e6 * self.total():,.1f} us, {self.total() / self.step:.2f} of the "
            "whole step; rates are of rows alone, whose data are where they left them, while in "
            "the step a row fetches what other rows and cores wrote",
            f"measured peak of {threads}: {peaks.flops / 1e9:.0f} GFLOP/s; GB/s: {bandwidth}",
        ]
        if self.uncertainty:
            sentences.append(
                f"us: of rows in the step, differences of two times; {1e6 * self.uncertainty:.1f} "
                "us of them are noise"
            )
        if self.is_disturbed:
            sentences.append(f"{BUSY} (-: a share below 0 or above 1)")
        return "\n".join(sentences)

    def _rows(self, part: str | None) -> list[ProfiledRow]:
        return [row for row in self.rows if part in (None, row.part)]

    def _line(self, *rows: ProfiledRow) -> tuple[str, ...]:
        """Times and shares of some rows together."""
        return (
            self._in_step(*rows),
            _percent(self.of_step(*rows)),
            _microseconds(sum(row.seconds for row in rows)),
            _percent(self.of_peak(*rows)) if any(row.flops for row in rows) else "",
        )

    def _in_step(self, *rows: ProfiledRow) -> str:
        share = self.of_step(*rows)
        return "-" if share is None else _microseconds(share * self.step)

    def as_records(self, command: str, quick: bool = False) -> Records:
        """The rows as records, everything else as their summary."""
        values = asdict(self)
        return Records(f"profile-{self.model}", command, values.pop("rows"), values, quick)

    @classmethod
    def from_records(cls, records: Records) -> "Profile":
        """The profile that :meth:`as_records` described."""
        values = dict(records.summary)
        peaks = Peaks(**values.pop("peaks"))
        return cls(**values, peaks=peaks, rows=[ProfiledRow(**row) for row in records.records])


def profile(
    model: Model,
    batch_size: int = 64,
    *,
    threads: int | None = None,
    name: str = "",
    rounds: int = 15,
    seconds: float = 0.002,
    peaks: Peaks | None = None,
) -> Profile:
    """Time each row of a training step (SGD with momentum) of a model on the lanes engine.

    The model is not changed.

    Parameters
    ----------
    model : Model
        With a known input shape.
    batch_size : int
    threads : int, optional
        By default as many as the engine would use.
    name : str
        The model's name in the result.
    rounds : int
        Interleaved rounds; each row's time is their median.
    seconds : float
        Minimum duration of one measurement.
    peaks : Peaks, optional
        The roofs for this number of threads; measured if not given.

    Raises
    ------
    ConfigurationError
        If the engine does not support the model.
    ShapeError
        If the model's input shape is not known.
    """
    model = copy.deepcopy(model)
    program = plan(model, batch_size, threads=threads)
    threads = program.workers
    if peaks is None:
        peaks = measure_peaks((threads,))[threads]
    try:
        step = _Step(model, batch_size, threads)
    except Unsupported as reason:
        raise ConfigurationError(f"the lanes engine does not support {reason}") from None
    timings = measure(
        {"call": step.call} | {key: step.job(*job) for key, job in _jobs(program).items()},
        rounds=rounds,
        seconds=seconds,
        pause=0.0,
        before=step.everything,
        most=step.most,
    )
    times = _without_calls(timings)
    costs = program.costs()
    untils = [key for key in times if isinstance(key, tuple) and key[0] == "until"]
    medians = np.array([0.0, *(float(np.median(times[key])) for key in (*untils, "step"))])
    rising = never_falling(medians)
    in_step = np.diff(rising).tolist()
    rows: list[ProfiledRow] = []
    for number, (first, last, whole) in enumerate(program.phases):
        for row in range(first, last):
            part = PARTS[row >= program.forward_rows]
            rows.append(
                ProfiledRow(
                    program.names[row],
                    program.kernel(row),
                    program.sizes(row),
                    part,
                    number + 1,
                    bool(whole),
                    *_spread(times["alone", row]),
                    in_step[len(rows)],
                    **asdict(costs[row]),
                )
            )
    rows.append(
        ProfiledRow(
            "optimizer: SGD with momentum, norm",
            "update",
            str(model.num_parameters),
            "update",
            0,
            True,
            *_spread(times["update"]),
            in_step[-1],
            **asdict(_update_cost(model.num_parameters)),
        )
    )
    return Profile(
        name or type(model).__name__,
        batch_size,
        threads,
        model.num_parameters,
        program.bytes,
        float(np.median(times["step"])),
        rows,
        peaks,
        float((np.maximum.accumulate(medians) - medians).max()),
    )


def never_falling(values: np.ndarray) -> np.ndarray:
    """The non-decreasing sequence nearest to the given one in the least-squares sense."""
    means: list[float] = []
    counts: list[int] = []
    for value in values.tolist():
        means.append(value)
        counts.append(1)
        # Adjacent values that violate the order are pooled.
        while len(means) > 1 and means[-2] > means[-1]:
            mean, count = means.pop(), counts.pop()
            means[-1] += (mean - means[-1]) * count / (counts[-1] + count)
            counts[-1] += count
    return np.repeat(means, counts)


def _jobs(program: Program) -> dict[Any, tuple[np.ndarray, bool]]:
    """Phases and whether to update: the whole step, each row alone, the program up to it."""
    phases = program.phases
    jobs: dict[Any, tuple[np.ndarray, bool]] = {
        "nothing": (phases[:0], False),
        "update": (phases[:0], True),
    }
    for number, (first, last, whole) in enumerate(phases):
        for row in range(first, last):
            alone = np.array([[row, row + 1, whole]], np.int64)
            until = np.concatenate([phases[:number], [[first, row + 1, whole]]])
            jobs["alone", row] = alone, False
            jobs["until", row] = until, False
    jobs["step"] = phases, True
    return jobs


class _Step:
    """A training step on synthetic images; a learning rate of 0 keeps the weights unchanged."""

    def __init__(self, model: Model, batch: int, threads: int) -> None:
        graph = model.graph()
        generator = np.random.default_rng(0)
        size = (POOL * batch, *graph.input_shape)
        self._images = generator.integers(0, 256, size).astype(np.uint8)
        classes = int(np.prod(graph.output_shape))
        self._labels = generator.integers(0, classes, len(self._images))
        self.most = max(1, LONGEST_ORDER // batch)
        self._order = np.resize(generator.permutation(len(self._images)), self.most * batch)
        self._batch = batch
        self._engine = make_engine(
            model, graph, batch, threads, loss=loss_key(CrossEntropyLoss()), training=True
        )
        channels = graph.input_shape[0]
        self._engine.normalise(np.full(channels, 1 / 255), np.zeros(channels))
        assigned = Assigned(model, SGD(momentum=MOMENTUM))
        self._update = engine_update(assigned.parts, assigned.state)

    def everything(self) -> None:
        """Run the step once, so that rows that work in place get valid values again."""
        self._run(self._engine.program.phases, False, 1)

    def call(self, times: int) -> None:
        """Call the engine with an empty step, ``times`` times."""
        for _ in range(times):
            self._run(self._engine.program.phases, False, 0)

    def job(self, phases: np.ndarray, updates: bool) -> Callable[[int], None]:
        """A function that runs phases, optionally with an update, for some steps in one call."""
        return lambda steps: self._run(phases, updates, steps)

    def _run(self, phases: np.ndarray, updates: bool, steps: int) -> None:
        self._engine.run(
            Batches(self._images, self._order[: steps * self._batch], self._labels),
            np.zeros(steps),
            phases=phases,
            update=self._update if updates else None,
        )


def _without_calls(timings: dict[Any, Timing]) -> dict[Any, np.ndarray]:
    """Seconds of one step in each round, minus its share of the call's overhead."""
    # The minimum: an interrupted call could make a short step negative.
    call = timings["call"].times.min()
    times = {key: timing.times - call / timing.repeats for key, timing in timings.items()}
    times["update"] = times["update"] - times["nothing"]
    return {key: np.maximum(samples, 1e-9) for key, samples in times.items()}


def _possible(share: float, noise: float) -> float | None:
    """A share clipped to 0..1 within the noise; None if it is impossible."""
    return min(max(share, 0.0), 1.0) if -noise <= share <= 1 + noise else None


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.{0 if seconds >= 1e-3 else 1}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    """Median, first and last decile."""
    low, middle, high = np.percentile(values, (10, 50, 90))
    return float(middle), float(low), float(high)


def _update_cost(parameters: int) -> Cost:
    """Work of SGD with momentum: the gradient's norm (2), its scale and decay (3), the velocity
    (2) and the step (4); it reads the gradient twice."""
    return Cost(11 * parameters, 4 * 4 * parameters, 2 * 4 * parameters)
