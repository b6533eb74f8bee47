"""Training steps with a built-in loss or optimiser, and with the same one in Python, in turns.

``python -m bench.python_loss`` prints processor times of a step on one core, and their ratios: of
whole steps, with what Python's function takes by itself, and without it.
"""

import time
from typing import Any

import numpy as np

from fastcnn import models
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import make_executor
from fastcnn.losses import Loss, MSELoss, PythonLoss
from fastcnn.optim import SGD, Optimizer

STEPS, ROUNDS = 40, 12


def mean_square(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """The built-in loss, and its gradient."""
    error = outputs - targets
    flat = error.reshape(-1)
    return float(flat @ flat) / error.size, error * np.float32(2.0 / error.size)


class Descent:
    """Stochastic gradient descent without momentum."""

    lr, slots = 0.01, ()

    def update(
        self, parameters: np.ndarray, gradient: np.ndarray, slots: Any, lr: float, step: int
    ) -> None:
        """Take a step."""
        parameters -= np.float32(lr) * gradient


def times(batch: int) -> dict[str, float]:
    """Shortest processor times of a step by who computes the loss and the update."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch * STEPS, 1, 28, 28)).astype(np.float32)
    y = generator.standard_normal((len(x), 3)).astype(np.float32)
    runs: dict[str, tuple[Loss, Optimizer | Descent]] = {
        "built-in": (MSELoss(), SGD(0.01)),
        "loss in Python": (PythonLoss(mean_square), SGD(0.01)),
        "update in Python": (MSELoss(), Descent()),
        "both in Python": (PythonLoss(mean_square), Descent()),
    }
    made = {
        name: make_executor(
            models.report_cnn(seed=0),
            loss=loss,
            optimizer=optimizer,  # type: ignore[arg-type]
            batch_size=batch,
            threads=1,
        )
        for name, (loss, optimizer) in runs.items()
    }
    order, rates = np.arange(len(x)), np.full(STEPS, 1e-4)
    best = dict.fromkeys(made, float("inf"))
    for _ in range(ROUNDS):
        for name, executor in made.items():
            began = time.thread_time()
            executor.train_steps(ArrayDataset(x, y), order, rates)
            best[name] = min(best[name], (time.thread_time() - began) / STEPS)
    return best


def main() -> None:
    """Print times and ratios."""
    for batch in (16, 64, 256):
        best = times(batch)
        for name, seconds in best.items():
            ratio = seconds / best["built-in"]
            print(f"batch {batch}, {name}: {1e6 * seconds:.1f} us a step, {ratio:.2f} times")


if __name__ == "__main__":
    main()
