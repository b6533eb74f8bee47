"""Records of measurements: tables on the terminal, JSON and CSV on disk."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fastcnn.benchmark.measure import Timing
from fastcnn.errors import DataError
from fastcnn.files import atomic_write

FORMAT = 1


@dataclass(frozen=True)
class Result:
    """One measured figure.

    Attributes
    ----------
    suite, work, contestant : str
        Where it belongs, what was done, and by whom.
    threads, batch : int
    unit : str
        Of ``median``, ``low`` and ``high`` (first and last decile), which are NaN where nothing
        was measured; ``note`` says why.
    rounds : int
    ratio : float or None
        The baseline's median over this one in the same run: above 1 is faster than the baseline.
    difference : float or None
        Largest difference from the baseline's results, relative to the largest of them.
    cores : float or None
        CPU seconds for each second.
    note : str
        Why something is missing or unusual.
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


def result_of(timing: Timing, scale: float, **names: Any) -> Result:
    """A record of a timing in a unit; ``scale`` is how many of it a second of one call are."""
    return Result(
        median=timing.median * scale, low=timing.low * scale, high=timing.high * scale,
        rounds=timing.rounds, cores=timing.cores, **names,
    )  # fmt: skip


@dataclass(frozen=True)
class Report:
    """All results of one run, and what it was made on."""

    command: str
    date: str
    environment: dict[str, str]
    results: list[Result]

    def write(self, folder: Path, name: str = "bench") -> tuple[Path, Path]:
        """Write ``NAME.json`` and ``NAME.csv`` into a folder; returns their paths.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        record = {"format": FORMAT, **asdict(self)}
        record["results"] = [
            # JSON has no NaN: what was not measured is null.
            {key: None if value != value else value for key, value in result.items()}
            for result in record["results"]
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(Result)])
        writer.writeheader()
        writer.writerows(asdict(result) for result in self.results)
        paths = folder / f"{name}.json", folder / f"{name}.csv"
        atomic_write(paths[0], (json.dumps(record, indent=1) + "\n").encode())
        atomic_write(paths[1], text.getvalue().encode())
        return paths


def read_report(path: Path) -> Report:
    """Read a report's JSON.

    Raises
    ------
    DataError
        If the file is none.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if record.pop("format") != FORMAT:
            raise DataError(f"{path}: written by another version of fastcnn")
        for result in record["results"]:
            for key in ("median", "low", "high"):
                result[key] = float("nan") if result[key] is None else result[key]
        record["results"] = [Result(**result) for result in record["results"]]
        return Report(**record)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise DataError(f"{path}: not a benchmark report ({error})") from error


def table_rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """Cells of a plain table: contestant, threads, time with spread, ratio, difference, note."""
    return [
        (
            result.contestant,
            str(result.threads or ""),
            _spread(result),
            "" if result.ratio is None else f"{_short(result.ratio)}",
            "" if result.difference is None else f"{result.difference:.0e}",
            result.note,
        )
        for result in results
    ]


def _spread(result: Result) -> str:
    middle = _short(result.median)
    if result.rounds < 2:
        return middle if result.rounds else ""
    return f"{middle} ({_short(result.low)} to {_short(result.high)})"


def _short(value: float) -> str:
    """Three digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
