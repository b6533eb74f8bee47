"""The results of ``fastcnn bench`` and ``python -m bench``, read for the pages."""

from dataclasses import dataclass
from pathlib import Path

from fastcnn.benchmark.records import Records
from fastcnn.benchmark.results import Result
from fastcnn.errors import DataError


@dataclass(frozen=True)
class Report:
    """All results of one run, its environment, and its duration in seconds."""

    command: str
    date: str
    environment: dict[str, str]
    results: list[Result]
    quick: bool = False
    seconds: float = 0.0


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
