"""Results of measurements: tables, and JSON and CSV on disk."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fastcnn.benchmark.records import Records
from fastcnn.errors import DataError
from fastcnn.text_table import text_table
from fastcnn.timing import Timing


@dataclass(frozen=True)
class Result:
    """One measured figure.

    Attributes
    ----------
    suite, work, contestant : str
        Suite, work and contestant of the measurement.
    threads, batch : int
    unit : str
        Of ``median``, ``low`` and ``high`` (first and last decile), which are NaN if nothing was
        measured; ``note`` says why.
    rounds : int
    ratio : float or None
        The baseline's median over this one in the same run: above 1 is faster than the baseline.
    difference : float or None
        Largest difference from the baseline's results, relative to the largest of them.
    cores : float or None
        CPU seconds per second.
    note : str
        Why something is missing or unusual.
    rate : float or None
        Floating-point operations per second, by definition of the layers; see ``share``.
    share : float or None
        The rate over the multiply-add peak measured on as many threads.
    state : str
        The machine before and after: see :func:`~fastcnn.benchmark.exchange.machine_state`.
    """

    suite: str
    work: str
    contestant: str
    threads: int
    batch: int
    unit: str
    median: float
    low: float
    high: float
    rounds: int
    ratio: float | None = None
    difference: float | None = None
    cores: float | None = None
    note: str = ""
    rate: float | None = None
    share: float | None = None
    state: str = ""


def result_of(timing: Timing, scale: float, **names: Any) -> Result:
    """A record of a timing in a unit; ``scale`` is the number of units in a second."""
    return Result(
        median=timing.median * scale,
        low=timing.low * scale,
        high=timing.high * scale,
        rounds=timing.rounds,
        cores=timing.cores,
        **names,
    )


def timed(
    timings: Mapping[tuple[str, int], Timing],
    apart: Mapping[tuple[str, int], float],
    base: float,
    scale: float,
    *,
    flops: float = 0.0,
    peak: Mapping[int, float] = MappingProxyType({}),
    **names: Any,
) -> list[Result]:
    """Records of contestants by name and threads; ``base`` is the baseline's seconds per call.

    Rates are computed from ``flops``, if given, and shares from the peak of as many threads.
    """
    return [
        result_of(
            timing,
            scale,
            contestant=name,
            threads=count,
            ratio=base / timing.median,
            difference=apart[name, count],
            rate=flops / timing.median if flops else None,
            share=flops / timing.median / peak[count] if flops else None,
            **names,
        )
        for (name, count), timing in timings.items()
    ]


def not_timed(note: str, **names: Any) -> Result:
    """A record of a measurement that was not done, and why."""
    nothing = float("nan")
    return Result(median=nothing, low=nothing, high=nothing, rounds=0, note=note, **names)


@dataclass(frozen=True)
class Report:
    """All results of one run, its environment, and its duration in seconds."""

    command: str
    date: str
    environment: dict[str, str]
    results: list[Result]
    quick: bool = False
    seconds: float = 0.0

    def write(self, folder: Path, name: str = "bench") -> tuple[Path, Path]:
        """Write ``NAME.json`` and ``NAME.csv`` into a folder; returns their paths.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        # JSON has no NaN: null means not measured.
        records = [
            {key: None if value != value else value for key, value in asdict(result).items()}
            for result in self.results
        ]
        return Records(
            name,
            self.command,
            records,
            {"seconds": round(self.seconds, 1)},
            date=self.date,
            environment=self.environment,
            quick=self.quick,
        ).write(folder)


def read_report(path: Path) -> Report:
    """Read a report's JSON.

    Raises
    ------
    DataError
        If the file is not a report.
    """
    read = Records.read(path)
    try:
        for record in read.records:
            for key in ("median", "low", "high"):
                record[key] = float("nan") if record[key] is None else record[key]
        results = [Result(**record) for record in read.records]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a benchmark report ({error})") from None
    seconds = read.summary.get("seconds", 0.0)
    return Report(read.command, read.date, read.environment, results, read.quick, seconds)


def table_rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """Cells: contestant, threads, time with spread, ratio, difference, share, note."""
    return [
        (
            result.contestant,
            str(result.threads or ""),
            _spread(result),
            "" if result.ratio is None else short(result.ratio),
            "" if result.difference is None else f"{result.difference:.0e}",
            "" if result.share is None else f"{result.share:.0%}",
            result.note,
        )
        for result in results
    ]


def contestants_table(title: str, unit: str, results: Iterable[Result]) -> str:
    """A table with one line per contestant, the fastest first, those not timed last."""
    timed = sorted((row for row in results if row.rounds), key=lambda row: row.median)
    header = ("contestant", "threads", unit, "ratio", "apart", "peak", "")
    lines = table_rows(timed)
    kept = [k for k in range(len(header)) if any(line[k] for line in lines)]
    cells = [[line[k] for k in kept] for line in lines]
    notes = dict.fromkeys(
        f"{row.contestant}: {row.note}" for row in results if not row.rounds and row.note
    )
    return "\n".join([title, text_table([header[k] for k in kept], cells, left=1), *notes])


def _spread(result: Result) -> str:
    middle = short(result.median)
    if result.rounds < 2:
        return middle if result.rounds else ""
    return f"{middle} ({short(result.low)}-{short(result.high)})"


def short(value: float) -> str:
    """Three significant digits, or one for numbers below 0.01."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.01 else f"{value:.1g}"
