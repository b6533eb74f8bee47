"""What a training run recorded."""

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcnn.files import read_bytes
from fastcnn.notebook import html_table
from fastcnn.training.finding import Finding

#: Columns and rows that Jupyter shows.
COLUMNS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
SHOWN_EPOCHS = 10
LOSS_UNITS = {"cross_entropy": "cross-entropy (nats)", "mse": "mean squared error"}


@dataclass
class History:
    """Records of a training run.

    Attributes
    ----------
    epochs : list of dict
        One record an epoch: ``kind`` ("epoch"), ``epoch`` (from 1), ``train_loss``,
        ``train_accuracy`` (means over the epoch's batches, each before its update), ``test_loss``,
        ``test_accuracy`` (None without test data), ``seconds`` (training alone),
        ``samples_per_second``. Accuracies are fractions, and None where targets are not classes.
    steps : list of dict
        One record a step: ``kind`` ("step"), ``epoch``, ``step`` (from 1), ``loss``, ``lr``.
    status : str
        "running", "finished", "interrupted" or "failed".
    stop_reason : str or None
        Why a callback ended the training before its last epoch.
    findings : list of Finding
        What seems to be wrong with the run, see :mod:`fastcnn.training.diagnosis`.
    loss : str
        The operation of the loss, such as "cross_entropy" or "mse".
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    status: str = "running"
    stop_reason: str | None = None
    findings: list[Finding] = field(default_factory=list)
    loss: str = "cross_entropy"

    def column(self, name: str) -> list[Any]:
        """One field of all epochs, such as ``"test_accuracy"``."""
        return [epoch[name] for epoch in self.epochs]

    @property
    def final(self) -> dict[str, Any]:
        """The last epoch's record; empty before the first epoch ended."""
        return self.epochs[-1] if self.epochs else {}

    @property
    def loss_unit(self) -> str:
        """What the loss is, in words, for figures."""
        return LOSS_UNITS.get(self.loss, self.loss)

    @property
    def has_accuracy(self) -> bool:
        """Whether there is one: the targets are classes."""
        return not self.epochs or self.final["train_accuracy"] is not None

    def to_csv(self) -> str:
        """The epochs' records as comma-separated values with a header line."""
        buffer = io.StringIO()
        columns = [name for name in self.final if name != "kind"]
        writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.epochs)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        """What Jupyter shows: a table of the last epochs and the curves."""
        import base64

        from fastcnn.training.curves import curves_figure, png

        if not self.epochs:
            return f"<p>History: {self.status}, no epoch</p>"
        shown = self.epochs[-SHOWN_EPOCHS:]
        columns = [name for name in COLUMNS if self.has_accuracy or name.endswith("loss")]
        rows = [
            [str(epoch["epoch"])]
            + [_cell(epoch[name], name) for name in columns]
            + [f"{epoch['seconds']:.2f}"]
            for epoch in shown
        ]
        caption = f"History: {self.status}, {len(self.epochs)} epochs"
        if self.stop_reason is not None:
            caption += f" ({self.stop_reason})"
        if len(shown) < len(self.epochs):
            caption += f", the last {len(shown)} shown"
        header = ["epoch", *(name.replace("_", " ") for name in columns), "seconds"]
        picture = base64.b64encode(png(curves_figure(self))).decode()
        return (
            html_table(header, rows, caption=caption, left=0)
            + f'<img alt="curves" style="max-width:100%;width:720px" '
            f'src="data:image/png;base64,{picture}">'
        )

    def __repr__(self) -> str:
        if not self.epochs:
            return f"History({self.status}, no epoch)"
        shown = ", ".join(
            f"{name}={self.final[name]:.4f}"
            for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
            if self.final[name] is not None
        )
        return f"History({self.status}, {len(self.epochs)} epochs, {shown})"


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``, up to the line that a killed process was writing.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    records: list[dict[str, Any]] = []
    for line in read_bytes(path).splitlines():
        try:
            record = json.loads(line)
            number = record[record["kind"]]
        except (ValueError, KeyError, TypeError):
            break
        if not isinstance(number, int) or not isinstance(record.get("epoch"), int):
            break
        records.append(record)
    return records


def _cell(value: float | None, name: str) -> str:
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if name.endswith("accuracy") else f"{value:.4f}"
