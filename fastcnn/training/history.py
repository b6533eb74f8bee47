"""The records of a training run."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcnn.errors import CheckpointError, ConfigurationError, counted
from fastcnn.files import read_bytes
from fastcnn.notebook import html_table

#: Columns and rows shown in Jupyter.
COLUMNS = (
    *("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
    *("test_loss", "test_accuracy"),
)
SHOWN_EPOCHS = 10
LOSS_UNITS = {"cross_entropy": "cross-entropy (nats)", "mse": "mean squared error"}


class Record(dict[str, Any]):
    """The record of an epoch or a step: a dict whose entries are also attributes.

    >>> Record(epoch=1, train_loss=0.5).train_loss
    0.5
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self)
            raise AttributeError(f"no record of {name!r}: there are {known}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]


class EpochRecord(Record):
    """The record of an epoch."""

    kind: str
    epoch: int
    train_loss: float
    train_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    seconds: float
    samples_per_second: float


class StepRecord(Record):
    """The record of a step."""

    kind: str
    epoch: int
    step: int
    loss: float
    lr: float


@dataclass(frozen=True)
class Finding:
    """A problem found in a run.

    Attributes
    ----------
    kind : str
        "chance", "still", "dead", "saturated", "diverging" or "overfitting".
    epoch : int
    layer : str
        ``""`` if it does not concern a single layer.
    message : str
        What was observed, with numbers.
    advice : str
        What to change.
    """

    kind: str
    epoch: int
    layer: str
    message: str
    advice: str

    def __str__(self) -> str:
        return f"epoch {self.epoch}: {self.message}; {self.advice}"


@dataclass
class History:
    """Records of a training run.

    Attributes
    ----------
    epochs : list of EpochRecord
        One record per epoch: ``kind`` ("epoch"), ``epoch`` (from 1), ``train_loss``,
        ``train_accuracy`` (means over the epoch's batches, each before its update),
        ``validation_loss``, ``validation_accuracy``, ``test_loss``, ``test_accuracy`` (None without
        validation or test data), ``seconds`` (of training only), ``samples_per_second``, and
        metrics such as ``validation_f1``. Accuracies are fractions, and None if targets are not
        classes, or all of an epoch are ignored. Entries are also attributes:
        ``history.final.test_accuracy``.
    steps : list of StepRecord
        One record per step: ``kind`` ("step"), ``epoch``, ``step`` (from 1), ``loss``, ``lr``.
    status : str
        "running", "finished", "interrupted" or "failed".
    stop_reason : str or None
        Why a callback ended training early.
    findings : list of Finding
        Problems found in the run, see :mod:`fastcnn.training.diagnosis`.
    loss : str
        The operation of the loss, such as "cross_entropy" or "mse".
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    status: str = "running"
    stop_reason: str | None = None
    findings: list[Finding] = field(default_factory=list)
    loss: str = "cross_entropy"

    def column(self, name: str) -> list[Any]:
        """One field over all epochs, such as ``"test_accuracy"``.

        Parameters
        ----------
        name : str

        Raises
        ------
        ConfigurationError
            If the records have no such field.
        """
        if self.epochs and name not in self.final:
            raise ConfigurationError(
                f"the records of epochs have {', '.join(self.final)}, not {name!r}"
            )
        return [epoch[name] for epoch in self.epochs]

    @property
    def final(self) -> EpochRecord:
        """The last epoch's record; empty before the end of the first epoch."""
        return self.epochs[-1] if self.epochs else EpochRecord()

    @property
    def loss_unit(self) -> str:
        """The name of the loss with its unit, for figures."""
        return LOSS_UNITS.get(self.loss, self.loss)

    @property
    def has_accuracy(self) -> bool:
        """Whether accuracies are recorded, that is, targets are classes."""
        known = [epoch["train_accuracy"] is not None for epoch in self.epochs]
        return not known or any(known)

    def to_csv(self) -> str:
        """The epochs' records as comma-separated values with a header line."""
        buffer = io.StringIO()
        columns = [name for name in self.final if name != "kind"]
        writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.epochs)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        """Display in Jupyter: a table of the last epochs, and the curves."""
        import base64

        from fastcnn.training.curves import curves_png

        if not self.epochs:
            return f"<p>History: {self.status}, no epoch</p>"
        shown = self.epochs[-SHOWN_EPOCHS:]
        columns = measured(self.final)
        rows = [
            [str(epoch["epoch"])]
            + [cell(epoch[name], name) for name in columns]
            + [f"{epoch['seconds']:.2f}"]
            for epoch in shown
        ]
        caption = f"History: {self.status}, {counted(len(self.epochs), 'epoch')}"
        if self.stop_reason is not None:
            caption += f" ({self.stop_reason})"
        if len(shown) < len(self.epochs):
            caption += f", the last {len(shown)} shown"
        header = ["epoch", *(name.replace("_", " ") for name in columns), "seconds"]
        table = html_table(header, rows, caption=caption, left=0)
        content = curves_png(self)
        if content is None:
            return table
        return (
            f'{table}<img alt="curves" style="max-width:100%;width:720px" '
            f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        )

    def __repr__(self) -> str:
        if not self.epochs:
            return f"History({self.status}, no epoch)"
        shown = ", ".join(f"{name}={self.final[name]:.4f}" for name in measured(self.final))
        return f"History({self.status}, {counted(len(self.epochs), 'epoch')}, {shown})"


def measured(record: Mapping[str, Any]) -> list[str]:
    """Names of the losses, accuracies and metrics in an epoch's record."""
    parts = ("train_", "validation_", "test_")
    others = [name for name in record if name.startswith(parts) and name not in COLUMNS]
    return [name for name in (*COLUMNS, *others) if record[name] is not None]


#: Required fields of each kind of record; further numbers are allowed.
REQUIRED = {
    "step": ("epoch", "step", "loss", "lr"),
    "epoch": ("epoch", *COLUMNS, "seconds", "samples_per_second"),
}
#: Fields that are None without validation or test data, or without classes.
OPTIONAL = tuple(name for name in COLUMNS if name != "train_loss")
#: Larger integers are not exact in every program that reads the file.
LARGEST_COUNT = 2**53
#: Beyond the range of float32.
LARGEST_NUMBER = 1e40


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``, without a last line left unfinished by a killed process.

    Raises
    ------
    OSError
        If the file cannot be read.
    CheckpointError
        If a line is damaged.
    """
    lines = read_bytes(path).split(b"\n")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):  # the last one is unfinished
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not _is_record(record):
            raise CheckpointError(f"{path}: line {number} is damaged")
        records.append(record)
    return records


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or record.get("kind") not in ("step", "epoch"):
        return False
    kind = record["kind"]
    counts = [record.get("epoch"), record.get(kind)]
    return (
        all(name in record for name in REQUIRED[kind])
        and all(type(count) is int and 1 <= count < LARGEST_COUNT for count in counts)
        and all(record[name] is not None for name in REQUIRED[kind] if name not in OPTIONAL)
        # Training stops before it would write infinity.
        and all(
            value is None
            or (type(value) in (int, float) and -LARGEST_NUMBER < value < LARGEST_NUMBER)
            for name, value in record.items()
            if name != "kind"
        )
    )


def cell(value: float | None, name: str) -> str:
    """A value in a table: accuracies in percent, empty for None."""
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if name.endswith("accuracy") else f"{value:.4f}"
