"""Results of measurements, as plain values and as tables."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from fastcnn.text_table import text_table


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


def as_records(results: Iterable[Result]) -> list[dict[str, Any]]:
    """The results as plain values; JSON has no NaN: None means not measured."""
    return [
        {key: None if value != value else value for key, value in asdict(result).items()}
        for result in results
    ]


def table_of(title: str, unit: str, results: Iterable[Result]) -> str:
    """A table with one line per contestant, the fastest first, those not timed last."""
    timed = sorted((row for row in results if row.rounds), key=lambda row: row.median)
    header = ("contestant", "threads", unit, "ratio", "apart", "peak", "")
    lines = [
        (
            row.contestant,
            str(row.threads or ""),
            _spread(row),
            "" if row.ratio is None else short(row.ratio),
            "" if row.difference is None else f"{row.difference:.0e}",
            "" if row.share is None else f"{row.share:.0%}",
            row.note,
        )
        for row in timed
    ]
    kept = [k for k in range(len(header)) if any(line[k] for line in lines)]
    cells = [[line[k] for k in kept] for line in lines]
    notes = dict.fromkeys(
        f"{row.contestant}: {row.note}" for row in results if not row.rounds and row.note
    )
    return "\n".join([title, text_table([header[k] for k in kept], cells, left=1), *notes])


def _spread(row: Result) -> str:
    middle = short(row.median)
    return middle if row.rounds < 2 else f"{middle} ({short(row.low)}-{short(row.high)})"


def short(value: float) -> str:
    """Three significant digits, or one for numbers below 0.01."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.01 else f"{value:.1g}"
