"""A training step on the engine with a given convolution algorithm, for tests that compare them."""

import numpy as np

from fastcnn.backends.lanes.convolution.algorithms import forced
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.execution.workers import workers
from fastcnn.layers import Model
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD


def take_step(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    algorithm: str | None,
    threads: int,
    momentum: float = 0.0,
    lr: float = 0.5,
) -> None:
    """Train ``model`` by one step of all samples; ``algorithm`` None lets the engine choose."""
    with forced(algorithm), workers(threads):
        executor = make_executor(
            model,
            loss=CrossEntropyLoss(),
            optimizer=SGD(lr, momentum),
            backend="lanes",
            batch_size=len(x),
            threads=threads,
        )
        executor.train_steps(ArrayDataset(x, y), np.arange(len(x)), np.array([lr]))
