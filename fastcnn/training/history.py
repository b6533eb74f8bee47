"""What a training run recorded."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """Records of a training run.

    Attributes
    ----------
    epochs : list of dict
        One record an epoch: ``kind`` ("epoch"), ``epoch`` (from 1), ``train_loss``,
        ``train_accuracy`` (means over the epoch's batches, each before its update), ``test_loss``,
        ``test_accuracy`` (None without test data), ``seconds`` (training alone),
        ``samples_per_second``. Accuracies are fractions.
    steps : list of dict
        One record a step: ``kind`` ("step"), ``epoch``, ``step`` (from 1), ``loss``, ``lr``.
    status : str
        "running", "finished", "interrupted" or "failed".
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    status: str = "running"

    def column(self, name: str) -> list[Any]:
        """One field of all epochs, such as ``"test_accuracy"``."""
        return [epoch[name] for epoch in self.epochs]

    @property
    def final(self) -> dict[str, Any]:
        """The last epoch's record; empty before the first epoch ended."""
        return self.epochs[-1] if self.epochs else {}

    def __repr__(self) -> str:
        if not self.epochs:
            return f"History({self.status}, no epoch)"
        shown = ", ".join(
            f"{name}={self.final[name]:.4f}"
            for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
            if self.final[name] is not None
        )
        return f"History({self.status}, {len(self.epochs)} epochs, {shown})"
