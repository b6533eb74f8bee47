"""Accuracies and times of recipes, from the file that ``python -m bench records`` writes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from fastcnn.errors import DataError, cause
from fastcnn.files import expanded

FILE = Path(__file__).parent / "records.json"
#: Incremented whenever a reader of older files would misread newer ones.
FORMAT = 1


@dataclass(frozen=True)
class Record:
    """Trainings with one recipe and several seeds.

    Attributes
    ----------
    recipe : str
    contestant : str
        ``"fastcnn"``, or another library with the same recipe.
    accuracies : list of float
        Accuracy of each seed, in percent of the test data.
    seconds : list of float
        From the data in memory to the trained model, without compilation and tests; for the timed
        seeds, which need not be all.
    evaluation_seconds : float
        Median seconds of one test.
    threads : int
    machine : str
    date : str
    command : str
    data : str
        Training data, if not the recipe's own data set.
    note : str
        Anything unusual, such as a busy machine.
    """

    recipe: str
    contestant: str
    accuracies: list[float]
    seconds: list[float]
    evaluation_seconds: float
    threads: int
    machine: str
    date: str
    command: str
    data: str = ""
    note: str = ""

    @property
    def accuracy(self) -> float:
        """Mean over the seeds, in percent."""
        return fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0

    @property
    def time(self) -> float:
        """Mean seconds of a training run; NaN if none was timed."""
        return fmean(self.seconds) if self.seconds else nan


def records(path: Path = FILE) -> list[Record]:
    """All records of a file, by default those of the package.

    Parameters
    ----------
    path : path

    Raises
    ------
    DataError
        If it is not a file of records.
    """
    path = expanded(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return [_record(entry) for entry in content["records"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a file of recipe records ({cause(error)})") from None


def _record(entry: Mapping[str, Any]) -> Record:
    if set(entry) != {each.name for each in fields(Record)}:
        raise ValueError(f"a record has {', '.join(entry)}")
    return Record(**entry)
