"""The data of a run, loaded again."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastcnn.data import Dataset
    from fastcnn.training import Run


def run_data(run: "Run", data: str | None, data_dir: Path | None) -> "tuple[Dataset, Dataset]":
    """Training and test set that were asked for, or those of the run.

    Raises
    ------
    ConfigurationError
        If the run's data cannot be loaded again.
    """
    from fastcnn.data import load
    from fastcnn.data.loading import NAMES
    from fastcnn.errors import ConfigurationError
    from fastcnn.training.run import checksum

    described, pictures = run.config["data"], run.normalisation.pictures
    if data is not None:
        return load(data, data_dir=data_dir, pictures=pictures)
    source, name = described.get("source"), described["name"]
    if source is None and name not in NAMES:
        raise ConfigurationError(
            f"{run.folder}: trained in Python on {name}, which cannot be loaded again: give the "
            "data with --data"
        )
    train, test = load(source or name, data_dir=data_dir, pictures=pictures)
    kept = described.get("test_checksum")
    same = checksum(test) == kept if kept is not None else checksum(train) == described["checksum"]
    if source is None and not same:
        raise ConfigurationError(
            f"{run.folder}: trained in Python on {name}, and the data set of that name has other "
            "images: give the data with --data"
        )
    return train, test
