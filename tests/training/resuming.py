"""Shared by tests of stopped and resumed runs: a small network, its settings, its records."""

from pathlib import Path
from typing import Any

from fastcnn import data
from fastcnn.layers import Dropout, Flatten, Linear, ReLU, Sequential
from fastcnn.optim import Adam, Cosine
from fastcnn.training import EarlyStopping, ReduceLROnPlateau
from fastcnn.training.run import Run

TRAIN, TEST = data.digits_dataset(400, 100, classes=(0, 1, 2))


def network() -> Sequential:
    return Sequential(
        Flatten(), Dropout(0.2), Linear(784, 12, seed=0), ReLU(), Linear(12, 3, seed=1),
        input_shape=(1, 28, 28),
    )  # fmt: skip


def settings(**changes: Any) -> dict[str, Any]:
    chosen = {
        "epochs": 4, "batch_size": 32, "optimizer": Adam(lr=0.01), "schedule": Cosine(),
        "ema_decay": 0.9, "clip_norm": 1.0, "seed": 5,
        "validation": TEST,
        "callbacks": [EarlyStopping(patience=9), ReduceLROnPlateau(patience=0)],
    }  # fmt: skip
    return chosen | changes


def records(folder: Path) -> list[Any]:
    """Everything that a run recorded, except times."""
    run = Run.open(folder)
    timeless = [
        {k: v for k, v in record.items() if k not in ("seconds", "samples_per_second")}
        for record in run.metrics("epoch")
    ]
    return [timeless, run.metrics("step"), (folder / "model.safetensors").read_bytes()]
