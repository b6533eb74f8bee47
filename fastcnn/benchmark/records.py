"""Records of a measurement on disk: one JSON file, and the same records as CSV."""

import csv
import io
import json
import shlex
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastcnn.benchmark.environment import describe_environment
from fastcnn.errors import DataError, cause
from fastcnn.files import atomic_write

#: Incremented whenever a reader of older files would misunderstand newer ones.
FORMAT = 1


@dataclass
class Records:
    """The results of one suite.

    Attributes
    ----------
    suite : str
        Its name, also the name of its files.
    command : str
        The command that repeats the measurement.
    records : list of dict
        Plain values; nested ones are left out of the CSV.
    summary : dict
        Values common to all records.
    quick : bool
        Whether it was a trial run, whose numbers mean little.
    date : str
        When it was run, in UTC.
    environment : dict of str to str
        The environment of the measurement.
    """

    suite: str
    command: str
    records: list[dict[str, Any]]
    summary: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat("T", "seconds"))
    environment: dict[str, str] = field(default_factory=describe_environment)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``SUITE.json`` and ``SUITE.csv`` into a folder; returns their paths.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        paths = folder / f"{self.suite}.json", folder / f"{self.suite}.csv"
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)
        atomic_write(paths[0], (text + "\n").encode())
        atomic_write(paths[1], self.as_csv().encode())
        return paths

    def as_csv(self) -> str:
        """The records' plain values, one line each; columns in order of first appearance."""
        flat = [
            {key: value for key, value in record.items() if not isinstance(value, (dict, list))}
            for record in self.records
        ]
        columns = list(dict.fromkeys(key for record in flat for key in record))
        stream = io.StringIO()
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return stream.getvalue()

    @classmethod
    def read(cls, path: Path) -> "Records":
        """Read a suite's JSON file.

        Raises
        ------
        DataError
            If it is missing, not a record file, or of another format.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a benchmark's records ({cause(error)})") from None
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise DataError(f"{path}: not a benchmark's records of format {FORMAT}")
        try:
            return cls(**content)
        except TypeError as error:
            raise DataError(f"{path}: not a benchmark's records ({error})") from None


def this_command(program: str = "fastcnn") -> str:
    """The command line of this process, with absolute paths reduced to their last part.

    It is published with the results, and the folders of this machine mean nothing elsewhere.
    """
    return " ".join([program, shlex.join(map(_without_folders, sys.argv[1:]))])


def _without_folders(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return option + equals + Path(value).name if Path(value).is_absolute() else argument
