"""Where a training step's time goes: each row of the engine's program against the machine's roofs.

*In the step*, clocks around each row's kernel measure real training steps: the time that a thread
spends in the kernel, including fetching what other rows and cores wrote. The rest of the step is
waiting for other threads, and dispatch; so the times add up to the step. A call of a kernel takes
about 40 ns longer than without clocks; half of this counts as the kernel's time. *Alone*, a row is
run repeatedly: its data are where it left them, which shows the kernel's own speed. All are means
over the threads. As in training, the update of a large fully connected layer's weights is in the
row of their gradient.
"""

import copy
import textwrap
from dataclasses import asdict, dataclass, field

import numpy as np

from fastcnn.backends.lanes import Batches, Clocks, Cost, Unsupported
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
#: Ratio of the median round to the shortest above which other processes must have interfered.
DISTURBED = 1.1
#: Tolerance of a share of the peak above 1, due to noise.
PEAK_NOISE = 0.02
#: Minimum repetitions of a row alone; in the first one its data are where another row left them.
FEWEST = 3
BUSY = "these times are disturbed: the machine is busy; measure again when it is quiet"
#: How the time of a row in the step is measured.
METHOD = "us: time in a row's kernel in the step, mean over the threads"
WAITING = "waiting and dispatch"

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
        Seconds of a step in which a thread runs the row's kernel, see ``Profile.method``.
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
        Seconds of a whole step: mean of the shorter half of the rounds, as ``in_step`` of the rows.
    memory : int
        Bytes of the engine's arena, rows and tables.
    rounds : list of float
        Seconds of a step in each round.
    waits : list of float
        Seconds of a step that each thread spends outside of kernels.
    method : str
        What ``in_step`` of a row is.
    """

    model: str
    batch: int
    threads: int
    parameters: int
    memory: int
    step: float
    rows: list[ProfiledRow]
    peaks: Peaks
    rounds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    method: str = METHOD

    def total(self, part: str | None = None) -> float:
        """Sum of the rows' seconds alone, of one part or of all."""
        return sum(row.seconds for row in self._rows(part))

    @property
    def flops(self) -> int:
        """FLOPs of one step."""
        return sum(row.flops for row in self.rows)

    @property
    def waiting(self) -> float:
        """Seconds of the step that are not spent in kernels, mean over the threads."""
        return self.step - sum(row.in_step for row in self.rows)

    @property
    def is_disturbed(self) -> bool:
        """Whether a share of the peak is impossible, or steps differ too much between rounds."""
        varies = bool(self.rounds) and np.median(self.rounds) > DISTURBED * min(self.rounds)
        return bool(varies) or None in map(self.of_peak, self.rows)

    def of_peak(self, *rows: ProfiledRow) -> float | None:
        """Share of the peak that some rows alone reach; None if it is impossible."""
        seconds = sum(row.seconds for row in rows)
        return self._possible(sum(row.flops for row in rows) / seconds)

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
        lines.append((WAITING, *self._times(self.waiting), "", ""))
        footer = ("sum", *self._times(self.step), *self._line(*self.rows)[2:])
        return f"{text_table(header, lines, left=1, footer=footer)}\n\n{self.summary()}"

    def summary(self) -> str:
        """Whole step, sum of the rows and peaks, as sentences."""
        peaks = self.peaks
        rate = self.flops / self.step
        bandwidth = ", ".join(f"{level} {v / 1e9:.0f}" for level, v in peaks.bandwidth.items())
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        of_peak = self._possible(rate)
        share = "" if of_peak is None else f", {100 * of_peak:.0f} % of the peak"
        sentences = [
            f"{self.model}, batch {self.batch}, {threads}; whole step: {1e6 * self.step:,.1f} us, "
            f"{1e6 * self.step / self.batch:.2f} us a sample, {rate / 1e9:.1f} GFLOP/s{share}",
            self.method,
            f"rows alone: {1e6 * self.total():,.1f} us, {self.total() / self.step:.2f} of the "
            "whole step; rates are of rows alone, whose data are where they left them, while in "
            "the step a row fetches what other rows and cores wrote",
            f"measured peak of {threads}: {peaks.flops / 1e9:.0f} GFLOP/s; GB/s: {bandwidth}",
        ]
        if self.rounds:
            least, median, most = (
                f"{1e6 * value:,.1f}" for value in np.quantile(self.rounds, (0, 0.5, 1))
            )
            sentences.append(
                f"rounds: {len(self.rounds)}, steps of {least} to {most} us, median {median}"
            )
        if len(self.waits) > 1:
            waits = ", ".join(map(_microseconds, self.waits))
            sentences.append(f"{WAITING} of each thread: {waits} us")
        if self.is_disturbed:
            sentences.append(f"{BUSY} (-: a share above 1)")
        return "\n".join(sentences)

    def _rows(self, part: str | None) -> list[ProfiledRow]:
        return [row for row in self.rows if part in (None, row.part)]

    def _line(self, *rows: ProfiledRow) -> tuple[str, ...]:
        """Times and shares of some rows together."""
        return (
            *self._times(sum(row.in_step for row in rows)),
            _microseconds(sum(row.seconds for row in rows)),
            _percent(self.of_peak(*rows)) if any(row.flops for row in rows) else "",
        )

    def _times(self, seconds: float) -> tuple[str, str]:
        return _microseconds(seconds), _percent(seconds / self.step)

    def _possible(self, rate: float) -> float | None:
        share = rate / self.peaks.flops
        return min(share, 1.0) if share <= 1 + PEAK_NOISE else None

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
    rounds: int = 11,
    seconds: float = 0.02,
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
        Interleaved rounds of steps and of rows alone.
    seconds : float
        Approximate duration of the steps of one round; a row alone is run for a tenth of it.
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
    try:
        step = _Step(model, batch_size, threads)
    except Unsupported as reason:
        raise ConfigurationError(f"the lanes engine does not support {reason}") from None
    about: list[tuple[int, int, int]] = [
        (row, number, whole)
        for number, (first, last, whole) in enumerate(program.phases.tolist(), start=1)
        for row in range(first, last)
    ]
    phases = np.array([[row, row + 1, whole] for row, _, whole in about])
    step.clocked(1)  # compiles
    if peaks is None:  # after what may be refused
        peaks = measure_peaks((threads,))[threads]
    spans, ticks = step.clocked(1)
    steps = step.times(seconds, spans.mean())
    repeats = [step.times(seconds / 10, row, FEWEST) for row in ticks.mean(0)]
    alone = np.repeat(phases, repeats[:-1], axis=0)
    within, rows_alone = [], []
    for _ in range(rounds):
        spans, ticks = step.clocked(steps)
        within.append(np.column_stack([spans, ticks]) / steps)
        updates = step.clocked(repeats[-1], phases[:0])[1][:, -1:]
        each = np.hstack([step.clocked(1, alone)[1][:, :-1], updates])
        rows_alone.append(each.mean(0) / repeats)
    half = (rounds + 1) // 2
    tick = step.clocks.tick
    every = tick * np.array(within)
    lengths = every[:, :, 0].mean(1)
    threads_in_step = every[np.argsort(lengths)[:half]].mean(0)
    length, *in_step = threads_in_step.mean(0).tolist()
    waits = threads_in_step[:, 0] - threads_in_step[:, 1:].sum(1)
    # A row may take less than a tick.
    alone_seconds = np.maximum(tick * np.array(rows_alone), 1e-9)
    spreads = np.percentile(alone_seconds, (50, 10, 90), axis=0).T.tolist()
    costs, names, updated = program.costs(), list(program.names), step.clocks.updated
    for row, count in updated.items():
        names[row] += " + update"
        costs[row] += _update_cost(count, fused=True)
    rest = model.num_parameters - sum(updated.values())
    what = [
        (
            names[row],
            program.kernel(row),
            program.sizes(row),
            PARTS[row >= program.forward_rows],
            number,
            bool(whole),
        )
        for row, number, whole in about
    ]
    if rest:
        what.append(("optimizer: SGD with momentum, norm", "update", str(rest), "update", 0, True))
        costs.append(_update_cost(rest))
    together = [rows for _, rows in program.operations()] + [[len(about)]] * bool(rest)
    rows = []
    for first, *more in together:
        numbers = np.array([[*spreads[row], in_step[row]] for row in (first, *more)]).sum(0)
        cost = sum((costs[row] for row in more), costs[first])
        rows.append(ProfiledRow(*what[first], *numbers.tolist(), **asdict(cost)))
    return Profile(
        name or type(model).__name__,
        batch_size,
        threads,
        model.num_parameters,
        program.bytes,
        length,
        rows,
        peaks,
        lengths.tolist(),
        waits.tolist(),
    )


class _Step:
    """A training step on synthetic images; a learning rate of 0 keeps the weights unchanged."""

    def __init__(self, model: Model, batch: int, threads: int) -> None:
        graph = model.graph()
        generator = np.random.default_rng(0)
        size = (POOL * batch, *graph.input_shape)
        self._images = generator.integers(0, 256, size).astype(np.uint8)
        classes, *each = graph.output_shape
        self._labels = generator.integers(0, classes, (len(self._images), *each)).reshape(-1)
        self._most = max(1, LONGEST_ORDER // batch)
        self._order = np.resize(generator.permutation(len(self._images)), self._most * batch)
        self._batch = batch
        self._engine = make_engine(
            model, graph, batch, threads, loss=loss_key(CrossEntropyLoss()), training=True
        )
        channels = graph.input_shape[0]
        self._engine.normalise(np.full(channels, 1 / 255), np.zeros(channels))
        assigned = Assigned(model, SGD(momentum=MOMENTUM))
        self._update = engine_update(assigned.parts, assigned.state)
        self._weights = self._engine.parameters.copy()
        self.clocks = Clocks(self._engine)

    def times(self, seconds: float, ticks: float, least: int = 1) -> int:
        """How often to repeat what takes some ticks, so that it takes some seconds."""
        return min(self._most, max(least, int(seconds / max(ticks * self.clocks.tick, 1e-9))))

    def clocked(
        self, steps: int, phases: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run steps, or only some phases of them, with clocks; see :class:`Clocks`."""
        order = self._order[: steps * self._batch]
        batches = Batches(self._images, order, self._labels)
        found = self.clocks.run(batches, np.zeros(steps), self._update, phases)
        # A row that works in place, when repeated, may make everything infinite.
        self._engine.parameters[...] = self._weights
        self._update.state[...] = 0.0
        return found


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.{0 if seconds >= 1e-3 else 1}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _update_cost(parameters: int, fused: bool = False) -> Cost:
    """Work of SGD with momentum: the gradient's norm (2), its scale and decay (3), the velocity
    (2) and the step (4); it reads the gradient twice, unless that stays in registers or cache."""
    reads, writes = (2, 1) if fused else (4, 2)
    return Cost(11 * parameters, 4 * reads * parameters, 4 * writes * parameters)
